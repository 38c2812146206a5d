"""Write the tables of the README and the pages, and the pictures: from measured numbers, and from settings classes.

``TASK.json`` holds, under ``table``, the ``table.json`` of ``segadapt bench study`` or ``segadapt bench table``; its
other keys hold numbers of the page's text. From the table come ``docs/images/TASK.svg`` and, where there are ablations,
``TASK_parts.svg``, the block of everything measured in ``benchmarks/TASK.md``, and the block of results in
``README.md`` where there is one. Blocks of a task whose ``TASK.json`` is not there yet stay as they are. The tables of
settings in ``docs`` stand between lines ``<!-- begin settings METHOD -->`` and ``<!-- end settings METHOD -->``, see
:mod:`benchmarks.settings`; scores and costs on the pages of methods, see :mod:`benchmarks.method_pages`::

    make tables                                            # write all of them again
    make tables TABLE="runs/study/camvid_day_dusk/table.json runs/study/toy_camvid/table.json"  # take in new ones first
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import label_curve, ledger_page, method_pages, no_source_table, overviews, reliability
from benchmarks.chart import chart, effects, results
from benchmarks.criteria_chart import changes, correlations
from benchmarks.settings import settings_blocks
from segadapt.bench.agreement import agreement_table, guard_table
from segadapt.bench.pages import control_of, counted, gain, score, source_of, tables
from segadapt.bench.steps import table as step_table
from segadapt.recipes.ledger import ledger

ROOT = Path(__file__).parents[1]
CRITERIA = "criteria"
"""Name of the study that ``segadapt bench criteria`` measures, in place of a task."""
STEPS = ("step", "step_gpu")
"""Measurements of 'segadapt bench step --out', one for each machine."""
NEEDED = {"method", "title", "network", "role", "control", "result", "seeds", "miou", "spread", "mpa", "iou"} | {
    *("steps", "minutes", "peak_memory_mb", "label_accuracy", "q", "labels", "prototypes", "predicted", "truth"),
}


def rendered(root: Path = ROOT) -> dict[Path, str]:
    """Return the text of every generated file, and of every file with a generated block."""
    made: dict[Path, str] = {}
    readme = root / "README.md"
    made[readme] = readme.read_text(encoding="utf-8")
    tables_of_tasks = [path for path in sorted((root / "benchmarks").glob("*.json")) if path.stem != CRITERIA]
    for path in tables_of_tasks:
        task, page = path.stem, path.with_suffix(".md")
        table = checked(json.loads(path.read_text(encoding="utf-8")).get("table"), path)
        text = page.read_text(encoding="utf-8")
        heading = text.partition("\n")[0].lstrip("# ")
        figure = f"docs/images/{task}.svg"
        made[root / figure] = chart(table, heading)
        picture = f"![{alternative(table, heading)}]"
        pictures = f"{picture}(../{figure})"
        if table.get("ablations"):
            parts = f"docs/images/{task}_parts.svg"
            made[root / parts] = effects(table["ablations"], heading)
            pictures += f"\n\n![{heading}, effects of parts of the methods](../{parts})"
        made[page] = with_block(text, page.name, task, f"{pictures}\n\n{tables(table)}")
        if begin(task) in made[readme]:
            body = f"{picture}({figure})\n\n{summary(table)}"
            made[readme] = with_block(made[readme], readme.name, task, body)
    for name, written in (("few_labels", label_curve), ("no_source", no_source_table)):
        measured, page = root / f"benchmarks/measured/{name}.json", root / f"docs/{name}.md"
        if measured.is_file():
            body = written.section(json.loads(measured.read_text(encoding="utf-8")))
            text = page.read_text(encoding="utf-8")
            made[page] = between(text, page.name, written.BEGIN, written.END, body)
    made |= step_page(root)
    made |= criteria_page(root)
    made |= reliability_page(root)
    made |= page_of_ledger(root)
    for page, (name, body) in overviews.blocks(root).items():
        text = page.read_text(encoding="utf-8")
        made[page] = between(text, page.name, f"<!-- begin {name} -->", f"<!-- end {name} -->", body)
    pages = {page: page.read_text(encoding="utf-8") for page in sorted((root / "docs").rglob("*.md"))}
    for (page, kind), (opening, body) in method_pages.blocks(pages, root / "benchmarks").items():
        made[page] = between(made.get(page, pages[page]), page.name, opening, f"<!-- end {kind} -->", body)
    for (page, name), (opening, body) in settings_blocks(pages).items():
        end = f"<!-- end settings {name} -->"
        made[page] = between(made.get(page, pages[page]), page.name, opening, end, body)
    return made


def step_page(root: Path) -> dict[Path, str]:
    """Return the page of the steps of all methods, with the tables of the machines that were measured."""
    page = root / "benchmarks" / "step.md"
    held = [path for path in (root / "benchmarks/measured" / f"{name}.json" for name in STEPS) if path.is_file()]
    text = page.read_text(encoding="utf-8") if held else ""
    for path in held:
        body = step_table(json.loads(path.read_text(encoding="utf-8")))
        text = between(text, page.name, f"<!-- begin {path.stem} -->", f"<!-- end {path.stem} -->", body)
    return {page: text} if held else {}


def criteria_page(root: Path) -> dict[Path, str]:
    """Return the page of the study of criteria without labels with its tables, and its pictures."""
    held, page = root / "benchmarks" / f"{CRITERIA}.json", root / "docs" / "knowing_without_labels.md"
    if not held.exists():
        return {}
    measured = json.loads(held.read_text(encoding="utf-8"))
    models, images = measured["models"], root / "docs" / "images"
    text = page.read_text(encoding="utf-8")
    for name, body in (("agreement", agreement_table(models)), ("guard", guard_table(models))):
        text = between(text, page.name, f"<!-- begin {name} -->", f"<!-- end {name} -->", body)
    return {
        page: text,
        images / "criteria_correlations.svg": correlations(models),
        images / "criteria_changes.svg": changes(models),
    }


def reliability_page(root: Path) -> dict[Path, str]:
    """Return the page of promises with the tables of the fault bench and of fuzzing, as far as they were run."""
    page = root / "docs" / "reliability.md"
    made: dict[Path, str] = {}
    for name, section in reliability.KEPT.items():
        held = root / "benchmarks/measured" / f"{name}.json"
        if held.is_file():
            body = section(json.loads(held.read_text(encoding="utf-8")))
            text = made.get(page) or page.read_text(encoding="utf-8")
            made[page] = between(text, page.name, f"<!-- begin {name} -->", f"<!-- end {name} -->", body)
    return made


def page_of_ledger(root: Path) -> dict[Path, str]:
    """Return the page of the published rows."""
    page = root / "docs" / "ledger.md"
    if not page.is_file():
        return {}
    text = page.read_text(encoding="utf-8")
    return {page: between(text, page.name, ledger_page.BEGIN, ledger_page.END, ledger_page.section(ledger()))}


def checked(table: Mapping[str, Any] | None, path: Path) -> Mapping[str, Any]:
    """Return the table of a file; exit with one line if another version of segadapt made it."""
    if table is None or not {"task", "seeds", "rows", "machine"} <= table.keys():
        sys.exit(f"{path}: needs the table.json of 'segadapt bench study' or 'segadapt bench table' under 'table'")
    missing = sorted(NEEDED - set.intersection(*(set(row) for row in table["rows"]))) if table["rows"] else []
    if missing:
        sys.exit(f"{path}: rows without {', '.join(missing)}; run the command that made it again with the same --out")
    return table


def begin(task: str) -> str:
    """Return the line before a generated block."""
    return f"<!-- begin table {task} -->"


def with_block(text: str, where: str, task: str, body: str) -> str:
    """Replace everything between the two markers of a task in ``text``."""
    return between(text, where, begin(task), f"<!-- end table {task} -->", body)


def between(text: str, where: str, opening: str, end: str, body: str) -> str:
    """Replace everything between two lines in ``text``."""
    if text.count(opening) != 1 or text.count(end) != 1 or text.index(end) < text.index(opening):
        sys.exit(f"{where}: needs the lines '{opening}' and '{end}', once and in this order")
    before, _, rest = text.partition(opening)
    return f"{before}{opening}\n\n{body.strip()}\n\n{end}{rest.partition(end)[2]}"


def summary(table: Mapping[str, Any]) -> str:
    """Write the short table: the result of every recipe beside source only and the control; the best are bold."""
    rows = results(table)
    bases = {"control": control_of(table), "source only": source_of(table)}
    known = {name: base for name, base in bases.items() if base is not None}
    best = best_of(rows)
    head = ["method", "network", "mIoU", *(f"against {name}" for name in known)]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        bold = "**" if row in best else ""
        fewer = f" ({counted(row['seeds'])})" if len(row["seeds"]) < len(table["seeds"]) else ""
        gains = [None if row is base else gain(row, base) for base in known.values()]
        cells = [f"{bold}{row['title']}{bold}", f"`{row['network']}`", f"{bold}{score(row)}{bold}{fewer}"]
        lines.append([*cells, *("" if points is None else f"{points:+.1f}" for points in gains)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def best_of(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the adapted rows, without controls, that have the highest score, as rounded in tables."""
    adapted = [row for row in rows if row["role"] == "adapted" and not row["control"]]
    highest = max((round(row["miou"], 1) for row in adapted), default=None)
    return [row for row in adapted if round(row["miou"], 1) == highest]


def alternative(table: Mapping[str, Any], heading: str) -> str:
    """Describe the picture in words."""
    rows = results(table)
    best = best_of(rows)
    others = [row for row in rows if row["role"] != "adapted" or row["control"]]
    words = [f"{row['title']} {row['miou']:.1f}" for row in others]
    if best:
        names = ", ".join(row["title"] for row in best)
        count = len(rows) - len(others)
        words.insert(0, f"{count} method{'s' * (count > 1)}, best {names} {best[0]['miou']:.1f}")
    return f"{heading}, mIoU: {'; '.join(words)}"


def take(path: Path, root: Path = ROOT) -> None:
    """Replace the stored table by a newly measured one."""
    if not path.is_file():
        sys.exit(f"{path}: no such table; 'segadapt bench study' and 'segadapt bench table' write one")
    table = checked(json.loads(path.read_text(encoding="utf-8")), path)
    kept = root / "benchmarks" / f"{Path(table['task']).name}.json"
    if not kept.with_suffix(".md").exists():
        sys.exit(f"{kept.with_suffix('.md')}: missing; write a heading and the two lines around the generated block")
    rest = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    before = {row["method"] for row in rest.get("table", {}).get("rows", [])}
    lost = sorted(before - {row["method"] for row in table["rows"]})
    if lost:
        there = f"no rows of {', '.join(lost)}, but {kept.name} has them"
        sys.exit(f"{path}: {there}; run them with the same --out, or remove {kept.name} first")
    kept.write_text(json.dumps({**rest, "table": table}, indent=1) + "\n", encoding="utf-8")


def main(arguments: Sequence[str], root: Path = ROOT) -> None:
    """Take in the named tables, then write all files that are out of date."""
    for name in arguments:
        take(Path(name), root)
    for path, text in rendered(root).items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"written {path.relative_to(root)}")


if __name__ == "__main__":
    main(sys.argv[1:])
