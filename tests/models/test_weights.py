"""The weights of `lite` are in the right places: a drawn traffic light is recognised."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from segadapt.errors import RequestError
from segadapt.models.build import build_segmenter
from segadapt.models.timm_net import LITE_ENCODER
from segadapt.models.weights import in_order, lite_imagenet

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
    """The check above can fail: two convolutions of equal shape change places."""
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
