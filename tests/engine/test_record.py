"""The record of a run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from segadapt.core.files import read_events
from segadapt.engine.record import Record


def test_events_and_curves_are_written_by_an_active_record_alone(tmp_path: Path) -> None:
    for active in (True, False):
        folder = tmp_path / str(active)
        record = Record(folder, active, quiet=True)
        record.event("step", loss=0.5)
        record.scalars("loss", {"total": 0.5}, 1)
        record.close()
        assert folder.exists() == active
    event = json.loads((tmp_path / "True/log.jsonl").read_text())
    assert {key: event[key] for key in ("event", "loss")} == {"event": "step", "loss": 0.5}
    assert any((tmp_path / "True/tensorboard").iterdir())


def test_the_module_imports_fast() -> None:
    """Commands that only show progress do not wait for TensorBoard or torch."""
    code = "import sys, segadapt.engine.record; print({'torch', 'tensorboard'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_curves_are_what_tensorboard_reads(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    record = Record(tmp_path, active=True, quiet=True)
    for position in (1, 2):
        record.scalars("loss", {"total": 0.5 * position}, position)
    record.close()
    (file,) = (tmp_path / "tensorboard").iterdir()
    points = [(e.step, e.summary.value[0].tag) for e in EventFileLoader(str(file)).Load() if e.HasField("summary")]
    assert points == [(1, "loss/total"), (2, "loss/total")]


def test_a_line_follows_one_that_was_cut_off(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"event": "whole"}\n{"event": "cut o')
    record = Record(tmp_path, active=True, quiet=True)
    record.event("next")
    record.event("last")
    assert [event["event"] for event in read_events(tmp_path / "log.jsonl")] == ["whole", "next", "last"]
