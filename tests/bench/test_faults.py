"""The bench of faults: a sample of it ends well, it notices a library that is spoilt, and it covers what it names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from segadapt.bench.faults.bench import counted, result_of, summary_of, table_of
from segadapt.bench.faults.drawing import KINDS, draw, moment_of
from segadapt.bench.faults.forked import Ended
from segadapt.bench.faults.hostile import TRICKS
from segadapt.bench.faults.judging import FAILURES, failure_of
from segadapt.bench.faults.pointing import JUDGES
from segadapt.bench.faults.reading import differences, litter, numbers, saved_steps
from segadapt.bench.faults.world import methods
from segadapt.core.files import write_json
from segadapt.methods.registry import METHODS

ROOT = Path(__file__).parents[2]
SAMPLE = (6, 7, 22, 57, 100, 158, 242, 276)
STOPPED = 242
"""A point that stops a run of ``source_only`` among its steps."""

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the bench forks")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Do the sample, and one point again with each spoilt library."""
    words = [str(tmp_path_factory.mktemp("faults")), ",".join(map(str, SAMPLE)), str(STOPPED)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.bench.sabotage", *words]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


@needs_fork
def test_a_sample_of_faults_ends_well(done: dict[str, Any]) -> None:
    sample = done["sample"]
    assert [point["number"] for point in sample["points"]] == sorted(SAMPLE)
    assert [point for point in sample["points"] if point["verdict"] in FAILURES] == []
    assert len({point["kind"] for point in sample["points"]}) >= 6
    assert sample["machine"]["torch"] == torch.__version__


@needs_fork
@pytest.mark.parametrize(
    ("spoilt", "verdict"),
    [("forgets", "lost"), ("learns_slower", "silent"), ("breaks", "traceback"), ("sleeps", "hang")],
)
def test_a_spoilt_library_is_noticed(done: dict[str, Any], spoilt: str, verdict: str) -> None:
    (point,) = (point for point in done[spoilt] if point["number"] == STOPPED)
    assert point["verdict"] == verdict, point


def test_a_thousand_points_cover_kinds_methods_and_tricks() -> None:
    points = [draw(0, number, methods()) for number in range(1000)]
    assert points == [draw(0, number, methods()) for number in range(1000)]
    assert points != [draw(1, number, methods()) for number in range(1000)]
    assert {(point.kind, point.method) for point in points} >= {
        (kind, method) for kind in ("kill", "stop", "power", "disk", "damage") for method in methods()
    }
    assert {point.kind for point in points} == set(KINDS) == set(JUDGES)
    hostile = [point.turn for point in points if point.kind == "hostile"]
    assert hostile == list(range(len(hostile)))
    assert len(hostile) >= len(TRICKS)
    assert {info.method for name, info in METHODS.items() if name not in ("oracle", "given")} == {
        METHODS[name].method for name in methods()
    }


def test_short_phases_are_drawn_as_often_as_long_ones() -> None:
    moments = [{"phase": "long", "number": n} for n in range(98)] + [{"phase": "short", "number": n} for n in (98, 99)]
    drawn = Counter(moment_of(draw(0, n, ("a",)).generator, moments)["phase"] for n in range(400))
    assert 150 < drawn["short"] < 250


@pytest.mark.parametrize(
    ("ended", "verdict"),
    [
        (Ended(code=0), None),
        (Ended(code=-9), None),
        (Ended(code=2, complained="warning: a\nsegadapt: it is not there; make it\n"), None),
        (Ended(code=1), "silent"),
        (Ended(code=2, complained="segadapt: one\nand\ntwo\n"), "traceback"),
        (Ended(code=0, complained="Exception in thread\nTraceback (most recent call last):\n  ...\n"), "traceback"),
        (Ended(code=-11), "traceback"),
        (Ended(hung=True, code=-9), "hang"),
    ],
)
def test_ends_that_none_may_have(ended: Ended, verdict: str | None) -> None:
    found = failure_of(ended)
    assert (found[0] if found else None) == verdict


def run_folder(out: Path, weight: float = 1.0, seconds: float = 1.0) -> Path:
    folder = out / "stages" / "source"
    (folder / "round0" / "labels").mkdir(parents=True)
    (folder / "round0" / "labels" / "a.png").write_bytes(b"label")
    save_file({"weight": torch.full((2,), weight)}, str(folder / "model.safetensors"), {"a": "1", "b": "2"})
    write_json(folder / "done.json", {})
    write_json(out / "results.json", {"rows": [{"stage": "source", "seconds": seconds, "scores": {"miou": weight}}]})
    (out / "report.html").write_text("x" * 2000)
    return out


def test_every_bit_of_weights_labels_and_results_is_compared(tmp_path: Path) -> None:
    whole = numbers(run_folder(tmp_path / "whole"))
    assert differences(whole, numbers(run_folder(tmp_path / "slower", seconds=9.0))) == []
    other = numbers(run_folder(tmp_path / "other", weight=1.0000001))
    assert differences(whole, other) == ["stages/source/model.safetensors", "results.json"]
    (tmp_path / "slower/stages/source/round0/labels/a.png").write_bytes(b"LABEL")
    (tmp_path / "slower/report.html").unlink()
    assert differences(whole, numbers(tmp_path / "slower")) == ["stages/source/round0/labels/a.png", "report.html"]


def test_finished_work_is_counted_from_the_files(tmp_path: Path) -> None:
    lengths = {"source": (4, 1), "adapt": (3, 2)}
    out = run_folder(tmp_path)
    checkpoints = out / "stages" / "adapt" / "checkpoints"
    checkpoints.mkdir(parents=True)
    for position in (2, 10_000_001):
        (checkpoints / f"checkpoint-{position:09d}.pt").write_bytes(b"state")
    assert saved_steps(out, lengths) == 4 + 3 + 1
    assert saved_steps(out, lengths, checkpoints / "checkpoint-010000001.pt") == 4 + 2
    assert saved_steps(out, lengths, out / "stages/source/done.json") == 3 + 1
    write_json(checkpoints / "checkpoints.json", [{"file": "checkpoint-000000002.pt"}])
    assert saved_steps(out, lengths) == 4 + 2, "the kill came before the manifest"
    (out / "stages/source/.model.safetensors.x.part.safetensors").write_bytes(b"half")
    assert len(litter(out)) == 2


def test_counts_and_table() -> None:
    ends = (("kill", "equal", None), ("stop", "lost", 0.4), ("stop", "equal", 0.2))
    points = [
        {"number": n, "kind": kind, "method": "cbst", "phase": "steps", "verdict": verdict, "late": late, "left": []}
        for n, (kind, verdict, late) in enumerate(ends)
    ]
    result = result_of(3, points)
    assert (result["tried"], result["failed"]) == (3, 1)
    assert counted(points, "kind")["stop"] == {
        "tried": 2,
        "equal": 1,
        "refused": 0,
        "lost": 1,
        "silent": 0,
        "traceback": 0,
        "hang": 0,
    }
    summary = summary_of(result)
    assert summary["signals"] == {"count": 2, "most": 0.4, "median": 0.4}
    assert [point["number"] for point in summary["failures"]] == [1]
    table = table_of(result)
    assert "3 faults, 1 ended badly" in table
    assert "0.4 s at most" in table
