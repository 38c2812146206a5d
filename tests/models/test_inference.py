"""Inference: against direct formulas, and under the symmetries it must have."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

from segadapt.models.inference import (
    InferenceConfig,
    evaluation_mode,
    predict_labels,
    resize_images,
    scores,
    window_positions,
)
from segadapt.pieces.resizing import upsample
from tests.evaluation.tiny import GreyLevels, TinySegmenter, probabilities

FULL = InferenceConfig(scales=(0.5, 1.0, 1.5), flip=True)


def images(batch: int, height: int, width: int, seed: int = 0) -> Tensor:
    coarse = torch.rand(batch, 3, 5, 7, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)


@pytest.fixture
def model() -> TinySegmenter:
    net = TinySegmenter(5)
    net.train()
    with torch.no_grad():
        net(images(4, 32, 32, seed=9))
    return net


@torch.no_grad()
def logits_of(model: TinySegmenter, batch: Tensor) -> Tensor:
    with evaluation_mode(model):
        return model(batch).logits


def test_single_view_is_softmax_of_enlarged_logits(model: TinySegmenter) -> None:
    batch = images(2, 33, 47)
    expected = F.interpolate(logits_of(model, batch), (40, 61), mode="bilinear").softmax(1)
    torch.testing.assert_close(probabilities(model, batch, (40, 61), InferenceConfig()), expected)
    corners = F.interpolate(logits_of(model, batch), (40, 61), mode="bilinear", align_corners=True).softmax(1)
    got = probabilities(model, batch, (40, 61), InferenceConfig(align_corners=True))
    torch.testing.assert_close(got, corners)
    assert (corners - expected).abs().max() > 1e-3


def test_scores_are_log_probabilities_on_the_networks_grid(model: TinySegmenter) -> None:
    batch = images(2, 33, 47)
    got = scores(model, batch, FULL)
    assert got.dtype == torch.float32
    assert got.shape == logits_of(model, batch).shape
    torch.testing.assert_close(got.exp().sum(1), torch.ones(2, *got.shape[2:]))


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_scales_and_flip_restated(model: TinySegmenter, average: str) -> None:
    batch = images(1, 32, 48)
    grid = logits_of(model, batch).shape[-2:]
    total = torch.zeros(())
    for size in ((16, 24), (32, 48), (48, 72)):
        scaled = resize_images(batch, size)
        for mirrored in (False, True):
            view = logits_of(model, scaled.flip(3) if mirrored else scaled)
            view = F.interpolate(view.flip(3) if mirrored else view, grid, mode="bilinear")
            total = total + (view.softmax(1) if average == "probabilities" else view) / 6
    expected = total if average == "probabilities" else total.softmax(1)
    config = FULL.model_copy(update={"average": average})
    torch.testing.assert_close(scores(model, batch, config).exp(), expected)


def test_grid_without_scale_one_is_still_that_of_scale_one(model: TinySegmenter) -> None:
    batch = images(1, 64, 96)
    got = scores(model, batch, InferenceConfig(scales=(0.5, 2.0)))
    assert got.shape == logits_of(model, batch).shape


@pytest.mark.parametrize(("window", "at"), [(None, "grid"), ((16, 20), "grid"), ((16, 20), "pixels")])
def test_mirrored_image_gives_mirrored_result(model: TinySegmenter, window: tuple[int, int] | None, at: str) -> None:
    batch = images(2, 37, 53)
    config = FULL.model_copy(update={"window": window, "windows_at": at})
    torch.testing.assert_close(scores(model, batch.flip(3), config), scores(model, batch, config).flip(3))
    plain = config.model_copy(update={"flip": False})
    assert (scores(model, batch.flip(3), plain) - scores(model, batch, plain).flip(3)).abs().max() > 1e-3


def test_batch_equals_single_images(model: TinySegmenter) -> None:
    batch = images(3, 32, 40)
    config = FULL.model_copy(update={"window": (16, 16)})
    alone = torch.cat([scores(model, batch[i : i + 1], config) for i in range(3)])
    torch.testing.assert_close(scores(model, batch, config), alone)


# ---- windows ----


@pytest.mark.parametrize("length", [1, 7, 64, 65, 100])
@pytest.mark.parametrize("window", [1, 8, 30, 64])
@pytest.mark.parametrize("overlap", [0.0, 1 / 3, 0.9])
@pytest.mark.parametrize("stride", [1, 8])
def test_windows_cover_everything(length: int, window: int, overlap: float, stride: int) -> None:
    starts = window_positions(length, window, overlap, stride)
    size = min(window, length)
    assert starts[0] == 0
    assert starts[-1] + size == length
    steps = [b - a for a, b in pairwise(starts)]
    assert all(0 < step <= size for step in steps)
    assert all(step % stride == 0 for step in steps[:-1]) or window < stride
    if window >= 2 * stride:
        assert all(step <= max(stride, window * (1 - overlap)) for step in steps)


@pytest.mark.parametrize("window", [(24, 32), (16, 200), (100, 20), (24, 28)])
@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_windows_of_a_blockwise_network_equal_the_whole_image(window: tuple[int, int], average: str) -> None:
    """The network sees 4x4 blocks only, so with aligned windows there is nothing to lose at their edges."""
    model = GreyLevels(4)
    batch = images(2, 64, 96)
    whole = scores(model, batch, InferenceConfig())
    config = InferenceConfig(window=window, average=average)  # type: ignore[arg-type]
    got = scores(model, batch, config)
    torch.testing.assert_close(got.exp(), whole.exp(), atol=2e-5, rtol=1e-4)


def test_window_not_smaller_than_the_image_is_the_whole_image(model: TinySegmenter) -> None:
    batch = images(1, 33, 47)
    whole = scores(model, batch, InferenceConfig())
    for window in ((33, 47), (64, 64)):
        assert torch.equal(scores(model, batch, InferenceConfig(window=window)), whole)


@pytest.mark.parametrize("average", ["probabilities", "logits"])
@pytest.mark.parametrize("corners", [False, True])
def test_windows_enlarged_before_they_are_averaged_restated(model: TinySegmenter, average: str, corners: bool) -> None:
    """As the code of HRDA does: each window at its pixels, then the mean of those that show a pixel."""
    batch, window = images(2, 48, 64), (32, 32)
    total, count = torch.zeros(2, 5, 48, 64), torch.zeros(48, 64)
    for top in (0, 16):
        for left in (0, 16, 32):
            crop = batch[..., top : top + 32, left : left + 32]
            found = F.interpolate(logits_of(model, crop), window, mode="bilinear", align_corners=corners)
            total[..., top : top + 32, left : left + 32] += found.softmax(1) if average == "probabilities" else found
            count[top : top + 32, left : left + 32] += 1
    expected = total / count if average == "probabilities" else (total / count).softmax(1)
    options = {"window": window, "overlap": 0.5, "average": average, "align_corners": corners}
    got = scores(model, batch, InferenceConfig(**options, windows_at="pixels"))  # type: ignore[arg-type]
    torch.testing.assert_close(got.exp(), expected)
    compact = upsample(scores(model, batch, InferenceConfig(**options)), (48, 64), corners)  # type: ignore[arg-type]
    assert (compact.softmax(1) - expected).abs().max() > 1e-3
    whole = InferenceConfig(windows_at="pixels")
    assert torch.equal(scores(model, batch, whole), scores(model, batch, InferenceConfig()))


@pytest.mark.parametrize("window", [(27, 35), (30, 38), (64, 50)])
def test_unaligned_windows_stay_close_to_the_whole_image(window: tuple[int, int]) -> None:
    """Windows that do not fit the stride: less than half a cell may be lost."""
    model = GreyLevels(4, sharpness=20.0)
    batch = images(1, 64, 84)
    whole = probabilities(model, batch, (64, 84), InferenceConfig())
    got = probabilities(model, batch, (64, 84), InferenceConfig(window=window, overlap=0.5))
    one_cell = (whole - whole.roll(4, 3)).abs().mean()
    assert (got - whole).abs().mean() < one_cell / 2


def test_overlapping_windows_are_averaged(model: TinySegmenter) -> None:
    """Two windows over three blocks: the middle one is the mean of both."""
    batch = images(1, 8, 12)
    left, right = logits_of(model, batch[..., :8]).softmax(1), logits_of(model, batch[..., 4:]).softmax(1)
    got = scores(model, batch, InferenceConfig(window=(8, 8), overlap=0.5)).exp()
    expected = torch.cat([left[..., :1], (left[..., 1:] + right[..., :1]) / 2, right[..., 1:]], dim=3)
    torch.testing.assert_close(got, expected)


def test_windows_with_aligned_corners_copy_the_cells() -> None:
    """A grid whose corner cells sit on the corner pixels: 4 n + 1 pixels, stride 4."""

    class Corners(GreyLevels):
        def network(self, x: Tensor):  # type: ignore[no-untyped-def]
            return super().network(F.avg_pool2d(x, 1, 4).repeat_interleave(4, 2).repeat_interleave(4, 3))

    model = Corners(3)
    batch = images(1, 33, 49)
    whole = scores(model, batch, InferenceConfig(align_corners=True))
    got = scores(model, batch, InferenceConfig(window=(17, 25), align_corners=True))
    assert whole.shape[-2:] == (9, 13)
    torch.testing.assert_close(got.exp(), whole.exp(), atol=2e-4, rtol=1e-3)


# ---- labels, sizes, state ----


@pytest.mark.parametrize("size", [(33, 47), (300, 41), (1, 1)])
def test_labels_and_confidence_are_the_maximum(model: TinySegmenter, size: tuple[int, int]) -> None:
    batch = images(2, 33, 47)
    full = probabilities(model, batch, size, FULL)
    labels, confidence = predict_labels(model, batch, size, FULL)
    assert labels.dtype == torch.uint8
    assert confidence.dtype == torch.float32
    torch.testing.assert_close(confidence, full.amax(1))
    assert torch.equal(labels.long(), full.argmax(1))


def test_working_size(model: TinySegmenter) -> None:
    batch = images(1, 64, 96)
    got = scores(model, batch, InferenceConfig(size=(32, 40)))
    torch.testing.assert_close(got, scores(model, resize_images(batch, (32, 40)), InferenceConfig()))
    assert probabilities(model, batch, (64, 96), InferenceConfig(size=(32, 40))).shape == (1, 5, 64, 96)


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (1, 40)])
def test_tiny_images(model: TinySegmenter, shape: tuple[int, int]) -> None:
    labels, confidence = predict_labels(model, images(1, *shape), shape, FULL)
    assert labels.shape == (1, *shape)
    assert confidence.isfinite().all()


def test_training_flags_come_back_one_by_one(model: TinySegmenter) -> None:
    model.train()
    model.norm.eval()
    before = model.norm.running_mean.clone()
    scores(model, images(1, 16, 16), InferenceConfig())
    assert model.training
    assert model.drop.training
    assert not model.norm.training
    assert torch.equal(model.norm.running_mean, before)

    def broken(_: Tensor) -> Tensor:
        raise RuntimeError("no")

    model.network = broken  # type: ignore[method-assign, assignment]
    with pytest.raises(RuntimeError):
        scores(model, images(1, 16, 16), InferenceConfig())
    assert model.drop.training


def test_results_may_be_constants_of_a_graph(model: TinySegmenter) -> None:
    batch = images(1, 16, 16)
    weight = torch.ones((), requires_grad=True)
    constant = scores(model, batch, FULL) + probabilities(model, batch, (4, 4), FULL)
    (weight * constant).sum().backward()
    assert weight.grad is not None
    assert not constant.requires_grad


def test_bf16_autocast_is_close(model: TinySegmenter) -> None:
    batch = images(1, 32, 32)
    exact = scores(model, batch, FULL)
    with torch.autocast("cpu", torch.bfloat16):
        rough = scores(model, batch, FULL)
        assert upsample(rough, (40, 40)).dtype == torch.float32
    assert rough.dtype == torch.float32
    assert (rough.exp() - exact.exp()).abs().max() < 0.05


def test_certain_predictions_stay_finite() -> None:
    model = GreyLevels(3, sharpness=1e5)
    got = scores(model, images(1, 16, 16), FULL)
    assert got.isfinite().all()


@pytest.mark.parametrize(
    "bad",
    [
        {"scales": ()},
        {"scales": (0.0,)},
        {"scales": (1.0, 1.0)},
        {"overlap": 1.0},
        {"window": (0, 4)},
        {"size": (4, -1)},
        {"average": "max"},
        {"scale": 1.0},
    ],
)
def test_bad_settings_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        InferenceConfig.model_validate(bad)
