"""Methods on foundation encoders: whole runs of a few steps on random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from segadapt.models.build import build_segmenter
from segadapt.models.store import load_model
from segadapt.runs.config import build_config
from segadapt.runs.run import Run
from tests.tiny import raw_config

VIT = {"name": "foundation:test_vit", "weights": None}
TWICE = {"name": "hrda:foundation:test_vit", "weights": None}
LORA = {"name": "foundation:test_vit", "weights": None, "arguments": {"lora": {"rank": 2}, "patch": 14, "maps": 4}}
CONVNEXT = {"name": "foundation:test_convnext", "weights": None, "arguments": {"frozen": 1}}


@pytest.mark.parametrize(
    ("method", "model"),
    [
        ("cbst", VIT),
        ("proda", VIT),
        ("cpsl", VIT),
        ("bcl", VIT),
        ("daformer", VIT),
        ("hrda", TWICE),
        ("mic", LORA),
        ("mpcl", VIT),
        ("dacs", CONVNEXT),
    ],
)
def test_a_run(tmp_path: Path, method: str, model: dict[str, Any]) -> None:
    """What is to learn has learnt, what is frozen is as it was."""
    raw = {**raw_config(tmp_path, method, test=False), "model": model}
    Run.open(build_config(raw, "tiny"), tmp_path / "run", quiet=True).execute(pictures=False)
    before, after = (
        load_model(tmp_path / f"run/stages/{name}/model.safetensors").model for name in ("source", "adapt")
    )
    old = before.state_dict()
    learning = {name for name, p in after.named_parameters() if p.requires_grad}
    for name, p in after.named_parameters():
        changed = not torch.equal(p.detach(), old[name])
        if name in learning and name.endswith(("weight", "up")):
            assert changed, name
        if name not in learning:
            assert not changed, name


def test_weights_of_a_file_and_their_licence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file is read, rates decay by layer, and command and model say whose weights they were."""
    file = tmp_path / "mine.safetensors"
    one: Any = build_segmenter("foundation:test_vit", 3)
    save_file(one.encoder.state_dict(), file)
    raw = raw_config(tmp_path, "source_only", test=False)
    raw["model"] = {**VIT, "weights": str(file), "arguments": {"frozen": "all"}}
    raw["stages"]["source"]["optimiser"]["layer_decay"] = 0.9
    Run.open(build_config(raw, "tiny"), tmp_path / "run").execute(pictures=False)
    loaded = load_model(tmp_path / "run/stages/source/model.safetensors")
    said = f"weights of the file '{file}'; those of test_vit.r160_in1k of timm have the licence apache-2.0"
    assert loaded.provenance["weights"] == said
    assert " ".join(capsys.readouterr().err.split()).count(said) == 1
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(loaded.model.deep_features(x), one.eval().deep_features(x))
