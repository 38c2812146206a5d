"""The weights of `lite` are in the right places: a drawn traffic light is recognised."""

from __future__ import annotations

import argparse
import collections
import io
import math
import os
import pickle
import types
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import _weights_only_unpickler

from segadapt.errors import RequestError
from segadapt.models.build import build_segmenter
from segadapt.models.timm_net import LITE_ENCODER
from segadapt.models.weights import _load_file, _numpy_numbers, in_order, lite_imagenet, read_tensors

TRAFFIC_LIGHT = 920


def drawn_traffic_light() -> np.ndarray:
    """A dark housing with a red, an amber and a green lamp before a blue sky."""
    image = np.zeros((224, 224, 3), np.uint8)
    image[:] = (150, 190, 235)
    image += (np.linspace(0, 20, 224)[:, None, None]).astype(np.uint8)
    cv2.rectangle(image, (107, 190), (117, 224), (60, 60, 60), -1)
    cv2.rectangle(image, (78, 20), (146, 192), (25, 28, 25), -1)
    for y, color in ((50, (235, 40, 30)), (106, (90, 70, 20)), (162, (20, 80, 40))):
        cv2.circle(image, (112, y), 24, color, -1, cv2.LINE_AA)
        cv2.ellipse(image, (112, y), (27, 27), 0, 180, 360, (5, 5, 5), 5, cv2.LINE_AA)
    image = cv2.GaussianBlur(image, (5, 5), 1)
    noise = np.random.default_rng(0).normal(0, 5, image.shape)
    return (image + noise).clip(0, 255).astype(np.uint8)


def rank_of_traffic_light(tensors: list[torch.Tensor]) -> int:
    net = timm.create_model(LITE_ENCODER).eval()
    net.load_state_dict(in_order(net.state_dict(), tensors))
    image = torch.from_numpy(drawn_traffic_light()).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        scores = net((image - 0.5) / 0.5)[0]
    return int((scores > scores[TRAFFIC_LIGHT]).sum())


def test_a_traffic_light_is_one() -> None:
    assert rank_of_traffic_light(lite_imagenet()) < 5


def test_tensors_in_another_order_do_not_see_it() -> None:
    """The check above can fail: two convolutions of the same shape are swapped."""
    tensors = lite_imagenet()
    shapes = [t.shape for t in tensors]
    pairs = [
        (i, j)
        for i in range(len(shapes))
        for j in range(i + 1, len(shapes))
        if shapes[i] == shapes[j] and len(shapes[i]) == 4 and math.prod(shapes[i]) > 10_000
    ]
    for i, j in pairs:
        tensors[i], tensors[j] = tensors[j], tensors[i]
    assert pairs
    assert rank_of_traffic_light(tensors) >= 5


def test_the_encoder_of_lite_holds_them() -> None:
    model = build_segmenter("lite", 3, weights="imagenet")
    for own, stored in zip(model.encoder.state_dict().values(), lite_imagenet(), strict=False):
        assert torch.equal(own, stored)
    with pytest.raises(ValueError, match="has shape"):
        in_order(model.encoder.state_dict(), lite_imagenet()[1:])


def test_weights_from_files(tmp_path: Path) -> None:
    donor = build_segmenter("timm:resnet10t", 3, width=16)
    state = {k: v.clone() for k, v in donor.state_dict().items()}
    save_file(state, str(tmp_path / "whole.safetensors"))
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in donor.encoder.state_dict().items()}}, tmp_path / "encoder.pt"
    )
    whole = build_segmenter("timm:resnet10t", 3, width=16, weights=str(tmp_path / "whole.safetensors"))
    assert all(torch.equal(v, state[k]) for k, v in whole.state_dict().items())
    part = build_segmenter("timm:resnet10t", 5, width=16, weights=str(tmp_path / "encoder.pt"))
    assert all(torch.equal(v, donor.encoder.state_dict()[k]) for k, v in part.encoder.state_dict().items())


@pytest.mark.parametrize(
    ("content", "answer"),
    [(b"junk", "cannot be read"), (None, "no weights file")],
)
def test_weights_that_cannot_be_used(tmp_path: Path, content: bytes | None, answer: str) -> None:
    path = tmp_path / "w.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RequestError, match=answer):
        build_segmenter("timm:resnet10t", 3, weights=str(path))
    save_file({"x": torch.zeros(3)}, str(tmp_path / "other.safetensors"))
    with pytest.raises(RequestError, match="fit neither"):
        build_segmenter("timm:resnet10t", 3, weights=str(tmp_path / "other.safetensors"))
    with pytest.raises(RequestError, match="no ImageNet weights are published"):
        build_segmenter("resnet38", 3, weights="imagenet")


class Foreign:
    """An object whose unpickling would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_reading_runs_no_code_and_says_what_was_asked(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    for name, new in (("new.pt", True), ("old.pt", False)):
        file = tmp_path / name
        torch.save({"a": torch.zeros(2), "b": Foreign(trap)}, file, _use_new_zipfile_serialization=new)
        with pytest.raises(RequestError, match=r"asks for '\w+.mkdir'; only tensors and numbers are read"):
            read_tensors(file)
        assert not trap.exists()
        torch.load(file, weights_only=False)
        assert trap.exists(), "the trap works"
        trap.rmdir()
    torch.save({"args": argparse.Namespace(lr=1)}, tmp_path / "args.pt")
    with pytest.raises(RequestError, match=r"asks for 'argparse.Namespace'"):
        read_tensors(tmp_path / "args.pt")


def test_numpy_numbers_are_numbers(tmp_path: Path) -> None:
    best = {"iou": np.float64(0.575), "half": np.float32(0.5), "iter": np.int64(7)}
    torch.save({"a": torch.zeros(2), "best": best}, tmp_path / "new.pt")
    assert read_tensors(tmp_path / "new.pt")["best"] == best
    # NumPy 1 pickled the same under another name.
    text = pickle.dumps(best, 2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert b"numpy.core.multiarray" in text
    with torch.serialization.safe_globals(_numpy_numbers()):
        assert _weights_only_unpickler.Unpickler(io.BytesIO(text), encoding="utf-8").load() == best
    torch.save({"a": np.zeros(3)}, tmp_path / "array.pt")
    with pytest.raises(RequestError, match="_reconstruct"):
        read_tensors(tmp_path / "array.pt")


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9])
def test_damaged_files_are_refused_in_one_line(tmp_path: Path, new: bool, kept: float) -> None:
    path = tmp_path / "w.pt"
    torch.save({"a": torch.zeros(500), "b": torch.zeros(500)}, path, _use_new_zipfile_serialization=new)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(RequestError, match=r"w.pt' cannot be read as weights: ") as refusal:
        read_tensors(path)
    assert "\n" not in str(refusal.value)


def test_a_plain_pickle_is_not_recommended_for_execution(tmp_path: Path) -> None:
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"a": 1}, 4))
    with pytest.raises(RequestError, match=r"not a file of torch.save, or it is damaged"):
        read_tensors(tmp_path / "w.pkl")


def test_a_deeplab_takes_a_whole_state_or_exactly_its_encoder(tmp_path: Path) -> None:
    donor = build_segmenter("deeplabv2_resnet50", 3)
    state = donor.state_dict()
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "whole.pt")
    whole = build_segmenter("deeplabv2_resnet50", 3, weights=str(tmp_path / "whole.pt"))
    assert all(torch.equal(v, state[k]) for k, v in whole.state_dict().items())
    # With another number of classes only the encoder is loaded; an incomplete encoder is reported.
    _load_file(other := build_segmenter("deeplabv2_resnet50", 2), tmp_path / "whole.pt")
    assert torch.equal(other.layer4[2].conv3.weight, donor.layer4[2].conv3.weight)
    torch.save({k: v for k, v in state.items() if k != "layer2.0.conv1.weight"}, tmp_path / "part.pt")
    with pytest.raises(RequestError, match=r"part.pt': .*ResNet-50: 1 entries .*'layer2.0.conv1.weight'"):
        _load_file(other, tmp_path / "part.pt")
    torch.save({"ResNet101": {"model_state": state}}, tmp_path / "nested.pt")
    with pytest.raises(RequestError, match="segadapt import"):
        _load_file(other, tmp_path / "nested.pt")


class Python2Pickler(pickle._Pickler):  # type: ignore[name-defined]
    """Writes texts as Python 2 did: as bytes without an encoding."""

    def save_str(self, text: str) -> None:
        self.write(pickle.SHORT_BINSTRING + bytes([len(text)]) + text.encode("ascii"))
        self.memoize(text)

    dispatch: ClassVar = {**pickle._Pickler.dispatch, str: save_str}  # type: ignore[attr-defined]


def test_files_of_python_2(tmp_path: Path) -> None:
    module = types.ModuleType("pickle2")
    module.Pickler = Python2Pickler  # type: ignore[attr-defined]
    module.dump = lambda value, file, protocol: Python2Pickler(file, protocol).dump(value)  # type: ignore[attr-defined]
    state = collections.OrderedDict({"conv1.weight": torch.rand(2, 3), "bn1.bias": torch.rand(2)})
    path = tmp_path / "old.pth"
    torch.save(state, path, pickle_module=module, _use_new_zipfile_serialization=False)
    assert b"U\x0cconv1.weight" in path.read_bytes()
    read = read_tensors(path)
    assert all(torch.equal(read[key], value) for key, value in state.items())
