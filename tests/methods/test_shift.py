"""What a method is for: on a small shift every one of them beats the model it started from."""

from __future__ import annotations

from pathlib import Path

import pytest

from segadapt.methods.registry import METHODS
from segadapt.runs.config import build_config
from segadapt.runs.run import Run
from tests.tiny import LIGHT_ENCODER, ONLINE, raw_config, write_folder

ADAPTING = [name for name in METHODS if name not in ("source_only", "oracle", "given")]
CLASSES, SIZE = 4, (48, 64)
TRAINING = {"batch_size": 4, "augmentation": {"crop": list(SIZE)}, "checkpoint_every": 1000}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders with a shift of colours and noise; the source model in them is trained once."""
    folder = tmp_path_factory.mktemp("shift")
    write_folder(folder / "source", 24, CLASSES, SIZE, 0.0, 0)
    write_folder(folder / "target", 16, CLASSES, SIZE, 0.6, 100, labels=False)
    write_folder(folder / "test", 16, CLASSES, SIZE, 0.6, 200)
    return folder


@pytest.mark.parametrize("method", ADAPTING)
def test_beats_source_only(environment: Path, method: str) -> None:
    raw = raw_config(environment, method, classes=CLASSES, size=SIZE, encoder=LIGHT_ENCODER)
    raw["stages"]["source"].update(
        **TRAINING, steps=120, norm="train", optimiser={"name": "adamw", "lr": 3e-3, "weight_decay": 0.01}
    )
    raw["stages"]["adapt"].update(
        **TRAINING,
        steps=60,
        optimiser={"name": "adamw", "lr": 1e-3, "weight_decay": 0.01},
        schedule={"name": "constant", "warmup": 0},
    )
    if method in ONLINE:  # one stage, from the network's initial weights
        raw["stages"]["adapt"].update(
            steps=120, norm="train", optimiser=raw["stages"]["source"]["optimiser"], teacher_momentum=0.99
        )
    if method == "best":
        raw["stages"]["adapt"]["source_share"] = 0.2  # of so few steps from the network's initial weights
    results = Run.open(build_config(raw, "shift"), environment / method, quiet=True, reuse=(environment,)).execute(
        pictures=False
    )
    source, adapted = (row["scores"]["miou"] for row in results["rows"])
    assert source > 60
    assert adapted > source + 2
