"""Model files: everything inside, no code run, one line per problem."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from segadapt.errors import RequestError
from segadapt.labels import CAMVID
from segadapt.models.build import build_segmenter
from segadapt.models.store import load_model, save_model


def saved(path: Path) -> Path:
    torch.manual_seed(1)
    model = build_segmenter("timm:resnet10t", len(CAMVID), width=16).to(memory_format=torch.channels_last)
    save_model(path, model, CAMVID, {"run": "test", "seed": 3})
    return path


def test_round_trip(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = build_segmenter("timm:resnet10t", len(CAMVID), width=16)
    loaded = load_model(saved(tmp_path / "model.safetensors"))
    assert loaded.space == CAMVID
    assert loaded.provenance == {"run": "test", "seed": 3}
    assert not loaded.model.training
    for (name, a), (_, b) in zip(model.state_dict().items(), loaded.model.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("damage", ["truncated", "text", "foreign", "missing"])
def test_what_is_no_model_file(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "model.safetensors"
    if damage == "truncated":
        content = saved(path).read_bytes()
        path.write_bytes(content[: len(content) // 2])
    elif damage == "text":
        path.write_text("hello")
    elif damage == "foreign":
        save_file({"a": torch.zeros(1)}, str(path))
    with pytest.raises(RequestError, match=r"model\.safetensors") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
