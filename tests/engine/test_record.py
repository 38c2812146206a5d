"""The record of a run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

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
