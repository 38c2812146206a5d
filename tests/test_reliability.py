"""The page of promises: every test and command that it names is there, and its tables come from what was measured."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from benchmarks import reliability

from segadapt.bench.faults.drawing import KINDS
from segadapt.bench.faults.judging import VERDICTS
from segadapt.cli import BENCH_COMMANDS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")


def test_each_promise_names_tests_that_exist() -> None:
    promises = PAGE.partition("## Promises")[2].partition("\n## ")[0]
    rows = [line for line in promises.splitlines() if line.startswith("| ")][2:]
    assert len(rows) >= 15
    missing = []
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert named, f"no test keeps: {row}"
        for file, name in named:
            tree = ast.parse((ROOT / file).read_text(encoding="utf-8")) if (ROOT / file).is_file() else ast.parse("")
            if name not in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}:
                missing.append(f"{file}::{name}")
    assert missing == []


def test_the_page_names_commands_kinds_and_verdicts_that_exist() -> None:
    assert set(re.findall(r"segadapt bench (\w+)", PAGE)) <= set(BENCH_COMMANDS)
    bench = PAGE.partition("## The fault bench")[2].partition("<!-- begin")[0]
    assert re.findall(r"(?m)^\| `(\w+)` \|", bench) == list(KINDS)
    assert [word for word in re.findall(r"(?m)^\| (\w+) \|", bench) if word in VERDICTS] == list(VERDICTS)


def test_tables_of_what_was_measured() -> None:
    counts = {"tried": 3, **dict.fromkeys(VERDICTS, 0), "equal": 2, "lost": 1}
    machine = {"torch": "2.9", "python": "3.12", "system": "Linux", "cpu": "a processor"}
    signals = {"count": 2, "most": 0.44, "median": 0.2}
    by = {"by_kind": {"kill": counts}, "by_method": {"cbst": counts}, "by_phase": {"steps": counts}}
    summary = {"seed": 0, "tried": 3, "failed": 1, "machine": machine, "signals": signals, "left": 0, **by}
    text = reliability.faults(summary)
    assert "3 faults of seed 0, 1 of which ended badly" in text
    assert "| `kill` | 3 | 2 | 0 | 1 | 0 | 0 | 0 |" in text
    assert "2 signals were answered within 0.4 s" in text
    found = {
        "seed": 1,
        "findings": [],
        "readers": {"images": {"tried": 9, "refused": 9}, "masks": {"tried": 1, "refused": 0}},
    }
    text = reliability.fuzz(found)
    assert "10 damaged files of seed 1, none with a finding" in text
    assert "| `masks` | 1 | 0 |" in text
