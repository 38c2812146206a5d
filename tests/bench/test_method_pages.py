"""Generated parts of the pages of methods and of the overviews."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from benchmarks.method_pages import TASKS, blocks, costs, results
from benchmarks.overviews import headline, methods, recipes

from tests.bench.test_render import ORACLE, ROOT, SOURCE, ablation, row, table

CONTROL = row("control", 40, 42, control=True)
MIC, HOST = row("mic", 44, 47), row("daformer", 43, 45)


def three(*rows: dict[str, Any], ablations: Iterable[dict[str, Any]] = ()) -> dict[str, dict[str, Any]]:
    """Return the same table for every task."""
    return {task: {**table(SOURCE, CONTROL, *rows, ORACLE), "ablations": list(ablations)} for task in TASKS}


def lines_of(text: str, start: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(start)]


def test_scores_stand_beside_bounds_and_control() -> None:
    tables = three(HOST, MIC)
    tables["camvid_idd"]["rows"].remove(MIC)
    text = results(tables, ["mic"])
    assert [line.split("|")[1].strip() for line in lines_of(text, "| ")[1:]] == [
        "SOURCE_ONLY",
        "CONTROL",
        "MIC",
        "ORACLE",
    ]
    assert lines_of(text, "| MIC") == ["| MIC | 45.5 ± 2.1 (+4.5) | 45.5 ± 2.1 (+4.5) |  |"]
    assert lines_of(text, "| SOURCE_ONLY")[0].count("39.0 ± 1.4 |") == 3
    assert "](../../benchmarks/toy_camvid.md)" in text
    assert results(tables, ["nothing"]) == ""


def test_parts_of_a_method_and_its_host_are_compared_by_seed() -> None:
    text = results(three(HOST, MIC, ablations=[ablation("mic_a", "+", "+", 3.0, 0.02)]), ["mic:daformer"])
    assert lines_of(text, "| MIC, against DAFORMER |")[0].startswith("| MIC, against DAFORMER | +1.5 (+1.0, +2.0): + |")
    assert lines_of(text, "| part of mic_a |")[0].startswith("| part of mic_a | +1.5 (+3.0, 0.0): + |")
    assert "against DAFORMER" not in results(three(HOST, MIC), ["mic"])


def test_labels_have_their_quality() -> None:
    kinds = {"teacher": {"accuracy": 0.871, "density": 1.0, "miou": 0.4712}}
    text = results(three(row("mic", 44, 46, labels=kinds)), ["mic"])
    assert lines_of(text, "| MIC: teacher |") == ["| MIC: teacher |" + " 87%, 100%, 47.1 |" * 3]


def test_costs_are_those_of_the_methods_named() -> None:
    kept = {name: json.loads((ROOT / f"benchmarks/measured/{name}.json").read_text()) for name in ("step", "step_gpu")}
    text = costs(kept, ["mic"])
    assert [line.split("|")[1].strip() for line in lines_of(text, "| ") if "lite" in line] == ["mic"]
    assert "(mic)" in text
    assert costs(kept, ["nothing"]) == ""


def test_a_page_that_names_nothing_measured_is_refused() -> None:
    for kind in ("results", "cost"):
        with pytest.raises(SystemExit, match=r"page\.md: .* but nothing of that name was measured"):
            blocks({Path("page.md"): f"<!-- begin {kind} cbts -->"}, ROOT / "benchmarks")


def test_the_headline_names_the_best_published_method_and_no_control() -> None:
    strong = row("strong", 60, 62, control=True)
    text = headline(three(strong, HOST, MIC, row("best", 48, 50)))
    assert lines_of(text, "| best published")[0].count("MIC: 45.5 ± 2.1 (+4.5)") == 3
    assert "61.0 ± 1.4 (+20.0)" in lines_of(text, "| the same with strong colours")[0]
    assert "49.0 ± 1.4 (+8.0)" in lines_of(text, "| **`best`")[0]


def test_every_method_and_recipe_is_listed() -> None:
    assert lines_of(methods(), "| `cbst` |")[0].startswith("| `cbst` | [CBST](cbst.md) | ")
    assert "`cbst_sp_mst_resnet38`" in lines_of(recipes(), "| `gta5_cityscapes` |")[0]
