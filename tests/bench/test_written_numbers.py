"""Numbers that a person wrote into pages are those of the committed measurements."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterable, Iterator, Mapping
from itertools import permutations
from typing import Any

import pytest
from benchmarks.method_pages import TASKS, points

from tests.bench.test_render import ROOT

GENERATED = re.compile(r"<!-- begin (.*?) -->.*?<!-- end .*? -->", re.DOTALL)
WITHOUT_SOURCE = {"docs/methods/best.md"}
"""Pages with scores of studies whose tables were not kept."""
FIRST_RUN = "first run, 1000 steps at rate 3.79e-4, seed 0"
PARITY = json.loads((ROOT / "benchmarks/parity/numbers.json").read_text())


def measured(tables: Iterable[Mapping[str, Any]]) -> Iterator[list[float]]:
    """Yield the scores by seed of every row and of every method without a part, and all differences of two."""
    for one in tables:
        rows = [row["seeds"] for row in one["rows"]]
        known = {row["method"]: row["seeds"] for row in one["rows"] if row["result"]}
        for part in one["ablations"]:
            yield list(part["effects"].values())
        for seeds in rows:
            yield list(seeds.values())
        for first, second in permutations([*rows, *without_parts(one["ablations"], known)], 2):
            yield [miou - second[seed] for seed, miou in first.items() if seed in second]


def without_parts(ablations: Iterable[Mapping[str, Any]], known: Mapping[str, Any]) -> list[dict[str, float]]:
    """Return the scores of methods without a part."""
    return [
        {seed: known[part["of"]][seed] - effect for seed, effect in part["effects"].items()}
        for part in ablations
        if part["of"] in known
    ]


def test_scores_and_effects_in_sentences_are_those_that_were_measured() -> None:
    tables = [json.loads((ROOT / f"benchmarks/{task}.json").read_text())["table"] for task in TASKS]
    found = list(measured(tables))
    means = {f"{statistics.mean(v):.1f} ± {statistics.stdev(v):.1f}" for v in found if len(v) > 1}
    effects = {", ".join(map(points, values)) for values in found}
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")]
    wrong, seen = [], 0
    for page in pages:
        text = re.sub(r"\s+", " ", GENERATED.sub("", page.read_text()))
        scores = (
            re.findall(r"\d+\.\d ± \d+\.\d", text) if page.relative_to(ROOT).as_posix() not in WITHOUT_SOURCE else []
        )
        by_seed = re.findall(r"\(([+-]\d+\.\d, [+-]?\d+\.\d, [+-]?\d+\.\d)\)", text)
        wrong += [f"{page.name}: {one}" for one in scores if one not in means]
        wrong += [f"{page.name}: {one}" for one in by_seed if one not in effects]
        seen += len(by_seed)
    assert wrong == []
    assert seen > 5


def test_the_tables_of_parity_are_those_that_were_measured() -> None:
    text = (ROOT / "benchmarks/parity/README.md").read_text()
    known = {f"{one['miou']:.2f} ± {one['miou_sd']:.2f}" for one in PARITY["summary"] if one["miou_sd"]}
    scores = re.findall(r"\d+\.\d\d ± \d+\.\d\d", text)
    assert set(scores) <= known
    assert len(scores) > 15
    by_seed = {", ".join(f"{d:+.2f}" for d in one["miou_difference"]) for one in PARITY["segadapt_minus_official"]}
    effects = re.findall(r"[+-]\d\.\d\d, [+-]\d\.\d\d, [+-]\d\.\d\d", text)
    assert set(effects) <= by_seed
    assert len(effects) == 4


@pytest.mark.parametrize("method", ["ProDA", "CPSL", "BCL"])
def test_the_page_of_a_method_says_how_far_it_is_from_the_official_code(method: str) -> None:
    text = (ROOT / f"docs/methods/{method.lower()}.md").read_text()
    (said,) = re.findall(r"after 300 steps mIoU differs by ([+-]\d\.\d+) points over three seeds", text)
    (measured,) = (
        one["mean"]
        for one in PARITY["segadapt_minus_official"]
        if (one["method"], one["variant"], one["step"]) == (method, "official settings", 300)
    )
    assert float(said) == pytest.approx(measured, abs=0.5 * 10 ** -len(said.partition(".")[2]))


def test_the_tables_of_passes_are_what_was_measured() -> None:
    kept = json.loads((ROOT / "benchmarks/measured/passes.json").read_text())
    text = (ROOT / "benchmarks/passes.md").read_text()
    for digits, now in ((1, kept["alone"]), (0, kept["after"])):
        for name, one in now["passes"].items():
            cells = [] if digits else [f"{kept['before']['passes'][name]['ms']:.0f} ms"]
            cells.append(f"{one['ms']:.{digits}f} ms")
            if calls := one["network_ms"]:
                cells += [f"{calls:.{digits}f} ms", f"{one['ms'] / calls:.2f}", f"{one['ratio']:.2f}"]
            row = rf"^\| {name}[^|]*\| {re.escape(' | '.join(cells))} \|"
            assert re.search(row, text, re.MULTILINE), (name, cells)


def test_numbers_of_earlier_recipes_are_those_that_were_kept() -> None:
    dusk, toy = (
        json.loads((ROOT / f"benchmarks/{task}.json").read_text()) for task in ("camvid_day_dusk", "toy_camvid")
    )
    mpcl = toy["earlier recipes: mpcl on daformer, seed 0"].values()
    _, _, section = (ROOT / "docs/methods/mpcl.md").read_text().partition("in 300 steps and therefore smaller")
    rows = re.findall(r"^\| .* \| (\d+\.\d) \| (\d\.\d\d) \|$", section, re.MULTILINE)
    assert sorted(rows) == sorted((f"{one['miou']:.1f}", f"{one['separation']:.2f}") for one in mpcl)
    text = " ".join((ROOT / "docs/methods/cpsl.md").read_text().split())
    first = [{row: one["miou"] for row, one in kept[FIRST_RUN].items()} for kept in (dusk, toy)]
    lifted = [f"from {run['source_only']:.1f} to {run['lab']:.1f}" for run in first]
    assert f"lifted the dusk {lifted[0]} and the toy world {lifted[1]} in a first run" in text
    assert f"then {first[0]['control']:.1f} and {first[1]['control']:.1f} without it" in text
    cpsl = dusk["earlier recipes: ablations"]["cpsl stage1 seed 0"]
    lost = {name: cpsl["all"] - miou for name, miou in cpsl.items()}
    assert f"initial class vectors it lost {lost['without Init']:.1f} points" in text
    assert f"the balance of classes {lost['without CB']:.1f}" in text
    assert f"without self-labelling it gained {-lost['without SL']:.1f}" in text
