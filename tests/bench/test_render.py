"""README, pages and pictures agree with the measured numbers, for any set of rows."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from benchmarks import ledger_page
from benchmarks.chart import ABOVE, BELOW, chart, effects
from benchmarks.render import ROOT, alternative, begin, main, rendered, summary, with_block
from benchmarks.settings import OPENING, settings_blocks

from segadapt.methods.registry import METHODS
from segadapt.recipes.ledger import ledger
from segadapt.runs.settings import GROUPS, own_settings, settings_of, shared_settings

SVG = "{http://www.w3.org/2000/svg}"


def row(method: str, *scores: float, role: str = "adapted", result: bool = True, **changes: Any) -> dict[str, Any]:
    """Make a row as ``segadapt bench table`` writes it."""
    return {
        "method": method,
        "stage": "adapt",
        "title": method.upper(),
        "role": role,
        "control": False,
        "network": "lite",
        "result": result,
        "seeds": {str(seed): score for seed, score in enumerate(scores)},
        "miou": statistics.mean(scores),
        "spread": statistics.stdev(scores) if len(scores) > 1 else None,
        "mpa": 50.0,
        "iou": {"sky": 40.0, "road": None},
        "steps": 1000,
        "minutes": 2.0,
        "peak_memory_mb": 900,
        "label_accuracy": None,
        "q": None,
        "labels": {},
        "prototypes": {},
        "predicted": {},
        "truth": {},
        **changes,
    }


SOURCE, ORACLE = row("source_only", 38, 40, role="source"), row("oracle", 50, 52, role="oracle")


def table(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"task": "task", "seeds": [0, 1], "rows": list(rows), "machine": {}}


def ablation(name: str, sign: str, paper: str, *scores: float) -> dict[str, Any]:
    """Make an ablation as ``segadapt bench study`` writes it."""
    made = row(name, *scores)
    return {
        "row": name,
        "of": "mic",
        "part": f"part of {name}",
        "paper": paper,
        "settings": ["adapt.a=1", "adapt.b=2"],
        "miou": 30.0,
        "effects": made["seeds"],
        "mean": made["miou"],
        "spread": made["spread"],
        "sign": sign,
    }


def repository(root: Path, made: dict[str, Any]) -> Path:
    """Write a repository with one page, one README and the numbers of one task."""
    (root / "benchmarks").mkdir()
    block = f"{begin('task')}\nold\n<!-- end table task -->"
    (root / "README.md").write_text(f"# Library\n\n{block}\n\nafter\n")
    (root / "benchmarks/task.md").write_text(f"# From here to there\n\nbefore\n\n{block}\nafter\n")
    (root / "benchmarks/task.json").write_text(json.dumps({"ablations": {"a": 1}, "table": made}))
    return root


# ---- this repository ----


def test_everything_is_up_to_date() -> None:
    made = rendered()
    old = [str(path.relative_to(ROOT)) for path, text in made.items() if not path.exists() or path.read_text() != text]
    assert not old, f"{', '.join(old)} out of date: run make tables"
    assert ROOT / "docs/images/camvid_day_dusk.svg" in made
    assert begin("camvid_day_dusk") in made[ROOT / "README.md"]


def test_kept_means_are_those_of_the_seeds() -> None:
    for path in (ROOT / "benchmarks").glob("*.json"):
        for kept in json.loads(path.read_text()).get("table", {"rows": []})["rows"]:
            scores = list(kept["seeds"].values())
            assert kept["miou"] == pytest.approx(statistics.mean(scores))
            assert kept["spread"] == (pytest.approx(statistics.stdev(scores)) if len(scores) > 1 else None)


def test_every_method_and_group_has_its_settings_on_one_page() -> None:
    pages = {page: page.read_text() for page in (ROOT / "docs").rglob("*.md")}
    names = [match[1] for text in pages.values() for match in OPENING.finditer(text)]
    assert sorted(names) == sorted([*METHODS, *GROUPS, "stage"])
    shown = "".join(body for _, body in settings_blocks(pages).values())
    wanted = [*shared_settings(), *(s for name in METHODS for s in own_settings(name))]
    wanted += [s for name in GROUPS for s in settings_of(name)]
    twice = ("network.", "data.target.", "data.oracle.", "data.test.")  # as listed under model and data.source
    missing = {s.name for s in wanted if f"| `{s.name}` |" not in shown and not s.name.startswith(twice)}
    assert missing == set()


# ---- the ledger ----


def test_the_page_of_the_ledger_has_every_row_with_its_recipe_and_its_contradictions() -> None:
    lines = ledger_page.section(ledger()).splitlines()
    assert lines[0].startswith(f"{len(ledger())} rows: ")
    assert sum(line.startswith("| ") and not line.startswith(("| method", "| ---")) for line in lines) == len(ledger())
    st = next(line for line in lines if "`gta5_cityscapes/st_resnet38`" in line)
    assert st.startswith("| ST | ResNet-38 | `gta5_cityscapes/st_resnet38` | 41.5 (classes: 48.4) | 90.1 | 56.8 |")
    ablation = next(line for line in lines if "w/o CB" in line)
    assert "`gta5_cityscapes/cpsl stage1.sampling=uniform stage1.partition=equal`, stage1" in ablation
    mpcl = next(i for i, line in enumerate(lines) if "`gta5_cityscapes/mpcl_mic_hrda`" in line and "76.8" in line)
    header = next(line for line in reversed(lines[:mpcl]) if line.startswith("| method"))
    assert "road" not in header  # no row of that table has classes


# ---- tables ----


def test_the_short_table_has_results_alone_and_the_best_is_bold() -> None:
    way = row("proda", 90, 92, result=False)
    lines = summary(table(SOURCE, way, row("st", 35, 35.5), row("cbst", 41), ORACLE)).splitlines()
    assert lines == [
        "| method | network | mIoU | against source only |",
        "| --- | --- | --- | --- |",
        "| SOURCE_ONLY | `lite` | 39.0 ± 1.4 |  |",
        "| ST | `lite` | 35.2 ± 0.4 | -3.8 |",
        "| **CBST** | `lite` | **41.0** (one seed) | +3.0 |",
        "| ORACLE | `lite` | 51.0 ± 1.4 | +12.0 |",
    ]


def test_a_control_is_what_methods_are_compared_with_and_never_the_best() -> None:
    control, strong = row("control", 42, 44, control=True), row("strong", 50, 50, control=True)
    lines = summary(table(SOURCE, control, strong, row("cbst", 41, 47), ORACLE)).splitlines()
    assert lines[0] == "| method | network | mIoU | against control | against source only |"
    assert lines[2:] == [
        "| SOURCE_ONLY | `lite` | 39.0 ± 1.4 | -4.0 |  |",
        "| CONTROL | `lite` | 43.0 ± 1.4 |  | +4.0 |",
        "| STRONG | `lite` | 50.0 ± 0.0 | +7.0 | +11.0 |",
        "| **CBST** | `lite` | **44.0 ± 4.2** | +1.0 | +5.0 |",
        "| ORACLE | `lite` | 51.0 ± 1.4 | +8.0 | +12.0 |",
    ]
    words = alternative(table(SOURCE, control, strong, row("cbst", 41, 47), ORACLE), "x")
    assert words == "x, mIoU: 1 method, best CBST 44.0; SOURCE_ONLY 39.0; CONTROL 43.0; STRONG 50.0; ORACLE 51.0"


def test_equal_to_the_decimal_shown_is_equally_good() -> None:
    lines = summary(table(SOURCE, row("cbst", 41), row("bcl", 41.04), row("st", 40.9), ORACLE)).splitlines()
    assert [line.split("|")[1].strip() for line in lines if "**" in line] == ["**CBST**", "**BCL**"]
    assert "3 methods, best CBST, BCL 41.0" in alternative(
        table(SOURCE, row("cbst", 41), row("bcl", 41.04), row("st", 3)), "x"
    )


def test_blocks_and_picture_are_written_and_the_text_around_them_stays(tmp_path: Path) -> None:
    way = row("proda", 30, 32, result=False, title="PRODA 1")
    root = repository(tmp_path, table(SOURCE, way, row("proda", 41, 42), ORACLE))
    main([], root)
    readme, page = (root / "README.md").read_text(), (root / "benchmarks/task.md").read_text()
    assert readme.startswith("# Library\n\n<!-- begin")
    assert readme.endswith("<!-- end table task -->\n\nafter\n")
    assert "old" not in readme + page
    assert "](docs/images/task.svg)" in readme
    assert "| PRODA 1 |" not in readme
    assert "](../docs/images/task.svg)" in page
    assert "| PRODA 1 | `lite` | 1000 | 31.0 ± 1.4 | 30.0 | 32.0 | 50.0 | - | 2.0 | 900 |" in page
    assert "| PRODA 1 | 40.0 | - | - |" in page
    assert "From here to there" in (root / "docs/images/task.svg").read_text()
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.*")}
    main([], root)
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*.*")}


def test_a_new_table_takes_the_place_of_the_kept_one(tmp_path: Path) -> None:
    root = repository(tmp_path, table(SOURCE))
    new = table(SOURCE, row("st", 44, 45))
    (tmp_path / "table.json").write_text(json.dumps(new))
    main([str(tmp_path / "table.json")], root)
    kept = json.loads((root / "benchmarks/task.json").read_text())
    assert kept == {"ablations": {"a": 1}, "table": new}
    assert "| **ST** | `lite` | **44.5 ± 0.7** | +5.5 |" in (root / "README.md").read_text()


def test_several_tables_are_taken_in_and_a_task_without_one_keeps_its_blocks(tmp_path: Path) -> None:
    root = repository(tmp_path, table(SOURCE))
    empty = f"{begin('later')}\n<!-- end table later -->"
    readme, page = root / "README.md", root / "benchmarks/later.md"
    readme.write_text(f"{readme.read_text()}{empty}\n")
    page.write_text(f"# Later\n\n{empty}\n")
    main([], root)
    assert page.read_text() == f"# Later\n\n{empty}\n"
    assert readme.read_text().endswith(f"{empty}\n")
    paths = []
    for task, miou in (("task", 44), ("later", 55)):
        paths.append(tmp_path / f"{task}.json")
        paths[-1].write_text(json.dumps({**table(SOURCE, row("st", miou)), "task": task}))
    main([str(path) for path in paths], root)
    assert "**44.0**" in readme.read_text()
    assert "**55.0**" in readme.read_text()
    assert "| ST | `lite` | 1000 | 55.0 |" in page.read_text()
    assert (root / "docs/images/later.svg").is_file()


def test_a_table_that_lacks_what_is_kept_is_refused(tmp_path: Path) -> None:
    root = repository(tmp_path, table(SOURCE, row("st", 40)))
    made = tmp_path / "table.json"
    before = (root / "benchmarks/task.json").read_text()
    for new, message in ((table(SOURCE), "no rows of st"), ({**table(SOURCE), "task": "new"}, r"new\.md: missing")):
        made.write_text(json.dumps(new))
        with pytest.raises(SystemExit, match=message):
            main([str(made)], root)
    with pytest.raises(SystemExit, match="no such table"):
        main([str(tmp_path / "elsewhere.json")], root)
    assert (root / "benchmarks/task.json").read_text() == before


def test_tables_of_another_layout_and_pages_without_markers_are_refused(tmp_path: Path) -> None:
    root = repository(tmp_path, table({k: v for k, v in SOURCE.items() if k != "role"}))
    with pytest.raises(SystemExit, match=r"rows without role; run the command that made it again"):
        rendered(root)
    with pytest.raises(SystemExit, match=r"page\.md: needs the lines '<!-- begin table task -->'"):
        with_block("text", "page.md", "task", "body")


def test_the_page_of_steps_has_the_tables_of_the_machines_that_were_measured(tmp_path: Path) -> None:
    root, page = repository(tmp_path, table(SOURCE)), tmp_path / "benchmarks/step.md"
    page.write_text("# Steps\n<!-- begin step_gpu -->\n<!-- end step_gpu -->\n")
    measured = root / "benchmarks/measured"
    measured.mkdir()
    machine = {"segadapt": "1", "torch": "2", "cpu": "a CPU", "device": "a GPU"}
    rows = [{"name": "mic", "method": "mic", "network": "lite", "problem": "no memory"}]
    (measured / "step_gpu.json").write_text(json.dumps({"machine": machine, "rows": rows}))
    text = rendered(root)[page]
    assert "| mic | `lite` | no memory |" in text
    assert "segadapt 1, torch 2, a GPU." in text


# ---- settings ----


def settings_page(root: Path, *names: str) -> str:
    """Render a page that asks for the settings of ``names``."""
    (root / "README.md").write_text("")
    (root / "docs").mkdir(exist_ok=True)
    page = root / "docs/page.md"
    page.write_text("\n".join(f"<!-- begin settings {n} -->\n<!-- end settings {n.split()[0]} -->" for n in names))
    return rendered(root)[page]


def test_a_table_of_settings_has_four_columns_and_escaped_types(tmp_path: Path) -> None:
    text = settings_page(tmp_path, "cbst", "st_sp like cbst", "daformer", "hrda like daformer")
    assert "| `policy` | `class_balanced \\| global` | `class_balanced` | thresholds are" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.replace("\\|", "").count("|") == 5 for line in rows)
    _, _, second = text.partition("<!-- begin settings st_sp like cbst -->")
    second, _, _ = second.partition("<!-- end settings st_sp -->")
    assert [line.split("`")[1] for line in second.splitlines() if line.startswith("| `")] == ["policy", "spatial_prior"]
    assert "`mpcl.kind`" not in text, "what is inside a group that is null is listed where the group is set"
    assert "| `batch_size` |" not in text, "settings of every stage are on their own page"


@pytest.mark.parametrize(
    ("names", "message"),
    [(["cbts"], "'<!-- begin settings cbts -->' names no method"), (["st like cbst"], "no page has a block")],
)
def test_wrong_names_of_settings_are_refused(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        settings_page(tmp_path, *names)


# ---- picture ----


def drawn(*rows: dict[str, Any]) -> ElementTree.Element:
    """Draw and parse the picture; it is the same each time."""
    text = chart(table(*rows), "From <here> & there")
    assert text == chart(table(*rows), "From <here> & there")
    return ElementTree.fromstring(text)


def test_places_and_colours_follow_the_scores() -> None:
    picture = drawn(SOURCE, row("low", 30, 31), row("high", 44, 46), row("middle", 40), ORACLE)
    dots = [c for c in picture.iter(f"{SVG}circle") if c.get("r") == "5"][:3]
    low, high, middle = (float(dot.get("cx", "0")) for dot in dots)
    assert [dot.get("fill") for dot in dots] == [BELOW, ABOVE, ABOVE]
    source, oracle = (float(x.get("x1", "0")) for x in picture.iter(f"{SVG}line") if x.get("stroke-dasharray"))
    assert low < source < middle < high < oracle
    for x, miou in ((low, 30.5), (high, 45.0), (source, 39.0), (oracle, 51.0)):  # the scale is linear
        assert x == pytest.approx(middle + (miou - 40) * (oracle - middle) / 11, abs=0.2)
    rings = [c for c in picture.iter(f"{SVG}circle") if c.find(f"{SVG}title") is not None]
    assert len(rings) == 5
    words = [t.text for t in picture.iter(f"{SVG}text")]
    assert {"LOW", "30.5 ± 0.7", "-8.5", "From <here> & there"} <= set(words)


def test_beside_a_control_everything_but_the_oracle_has_a_line() -> None:
    control, strong = row("control", 42, control=True), row("strong", 45, control=True)
    picture = drawn(SOURCE, control, strong, row("st", 41), ORACLE)
    words = [t.text for t in picture.iter(f"{SVG}text")]
    assert {"SOURCE_ONLY", "STRONG", "ST", "CONTROL 42.0", "above the control", "-4.0", "+3.0", "-1.0"} <= set(words)
    assert "CONTROL" not in words
    assert "ORACLE" not in words


def test_effects_stand_on_both_sides_of_nothing(tmp_path: Path) -> None:
    gains, loses = ablation("a", "+", "+", 3.0, 5.0), ablation("b", "-", "", -2.0, -1.0)
    picture = ElementTree.fromstring(effects([gains, loses], "From here"))
    up, down = [float(c.get("cx", "0")) for c in picture.iter(f"{SVG}circle") if c.get("r") == "5"][:2]
    (middle,) = (float(x.get("x1", "0")) for x in picture.iter(f"{SVG}line") if x.get("stroke-width") == "1.5")
    assert (up - middle) / 4 == pytest.approx((middle - down) / 1.5, rel=0.01)
    words = [t.text for t in picture.iter(f"{SVG}text")]
    assert {"mic: part of a", "4.0 ± 1.4", "+ | +", "- |  "} <= set(words)
    root = repository(tmp_path, {**table(SOURCE), "ablations": [gains]})
    main([], root)
    assert "](../docs/images/task_parts.svg)" in (root / "benchmarks/task.md").read_text()
    assert "part of a" in (root / "docs/images/task_parts.svg").read_text()


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [SOURCE],
        [row("st", 40)],
        [row("st", 40, 40), row("a very long title & more of it", 0, 99)],
        [SOURCE, row("st", 30), row("source_like", 39.5, role="oracle")],
        [SOURCE, row("control", 41, control=True), row("other", 50, seeds={"7": 50}), ORACLE],
    ],
)
def test_any_set_of_rows_can_be_drawn(rows: list[dict[str, Any]]) -> None:
    picture = drawn(*rows)
    width = float(picture.get("width", "0"))
    for element in picture.iter():
        for name in ("x", "cx", "x1"):
            assert 0 <= float(element.get(name, "0")) <= width
