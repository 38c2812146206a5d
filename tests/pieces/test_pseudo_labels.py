"""Pseudo labels: golden numbers, selection rules, compact storage, windows."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F

from segadapt.errors import RequestError
from segadapt.labels import IGNORE
from segadapt.pieces import pseudo_labels
from segadapt.pieces.priors import apply_prior
from segadapt.pieces.pseudo_labels import (
    confidence_and_prediction,
    encode_scores,
    probabilities_from_scores,
    probabilities_in_window,
    select,
    soft_labels,
)
from tests.golden_vectors import golden_op


class Window(NamedTuple):
    top: float
    left: float
    height: float
    width: float
    flip: bool = False


@pytest.fixture(params=["whole", "bands"])
def _bands(request, monkeypatch):
    """Small inputs would never be split; make the bands one or two rows high."""
    if request.param == "bands":
        monkeypatch.setattr(pseudo_labels, "_BAND_ELEMENTS", 19 * 40)


def random_probabilities(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.softmax(3 * torch.randn(*shape, generator=generator), 1)


@pytest.mark.usefixtures("_bands")
@pytest.mark.parametrize("portion", ["p20", "p50"])
def test_reference_selection(portion):
    gold = golden_op("cbst_selection")
    labels = select(gold.tensor("prob").permute(0, 3, 1, 2), gold.tensor(f"thresh_{portion}"))
    assert labels.dtype == torch.uint8
    gold.assert_close(f"label_{portion}", labels)


@pytest.mark.usefixtures("_bands")
@pytest.mark.parametrize("portion", ["p20", "p50"])
def test_reference_selection_with_spatial_prior(portion):
    gold = golden_op("cbst_spatial_prior_selection")
    thresholds = gold.tensor(f"thresh_{portion}")
    thresholds[thresholds == 0] = 1  # how the reference writes "no pixel"
    gold.assert_close(f"label_{portion}", select(apply_prior(gold.tensor("prob"), gold.tensor("prior")), thresholds))


@pytest.mark.usefixtures("_bands")
def test_reference_soft_labels():
    gold = golden_op("crst_lrent_soft_labels")
    probabilities, thresholds = gold.tensor("prob").permute(0, 3, 1, 2), gold.tensor("thresh")
    soft, kept = soft_labels(probabilities, thresholds, gold.params["alpha"])
    gold.assert_close("soft", torch.where(kept[..., None], soft.permute(0, 2, 3, 1), gold.tensor("soft")))
    assert not (soft * ~kept[:, None]).any()
    gold.assert_close("label", torch.where(kept, soft.argmax(1), IGNORE))
    assert torch.equal(kept, gold.tensor("Z") > 1)


def test_selection_by_hand():
    """Quotients P / lambda: (0.8, 1.2), (1.0, 0), (0.9, 0.6), (1.125, 1.1)."""
    thresholds = torch.tensor([0.8, 0.3])
    first = torch.tensor([0.64, 0.8, 0.72, 0.9])
    second = torch.tensor([0.36, 0.0, 0.18, 0.33])
    probabilities = torch.stack([first, second])[None, :, None]
    assert select(probabilities, thresholds).tolist() == [[[1, 0, IGNORE, 0]]]


def test_one_threshold_selects_by_confidence():
    """Equation 5: the most likely class where it is likely enough."""
    probabilities = random_probabilities(2, 7, 20, 30)
    confidence, predicted = confidence_and_prediction(probabilities)
    threshold = confidence[0, 3, 4]
    expected = torch.where(confidence >= threshold, predicted, IGNORE)
    got = select(probabilities, threshold.expand(7))
    assert torch.equal(got, expected.to(torch.uint8))
    assert got[0, 3, 4] == predicted[0, 3, 4]


def test_next_smaller_float_is_not_selected():
    values = torch.rand(1000) * 0.9 + 0.05
    below = torch.nextafter(values, torch.zeros(()))
    for value, under in zip(values[:200], below, strict=False):
        pair = torch.stack([value, under]).view(1, 1, 1, 2)
        assert select(pair, value[None]).tolist() == [[[0, IGNORE]]]


def test_threshold_of_zero_selects_what_is_above_zero():
    probabilities = torch.tensor([[0.0, 0.2]]).view(1, 1, 1, 2)
    assert select(probabilities, torch.zeros(1)).tolist() == [[[IGNORE, 0]]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    probabilities = random_probabilities(1, 5, 8, 9).to(dtype)
    thresholds = torch.full((5,), 0.4)
    assert torch.equal(select(probabilities, thresholds), select(probabilities.float(), thresholds))
    for got, expected in zip(
        soft_labels(probabilities, thresholds, 0.25), soft_labels(probabilities.float(), thresholds, 0.25), strict=True
    ):
        torch.testing.assert_close(got, expected)


def test_soft_labels_of_extreme_probabilities_are_finite():
    """Fourth powers of 1e-12 and quotients of 1e6 leave the range of float16 and strain float32."""
    probabilities = torch.tensor([[1.0, 0.0, 1e-12], [1e-12, 1e-12, 1.0], [0.0, 0.0, 0.0]]).T.view(1, 3, 1, 3)
    for dtype, near in ((torch.float32, 1e-4), (torch.bfloat16, 0.02)):
        soft, kept = soft_labels(probabilities.to(dtype), torch.tensor([0.9, 1e-6, 1e-12]), 0.05)
        assert torch.isfinite(soft).all()
        assert kept.tolist() == [[[True, True, False]]]
        assert soft[..., 0].flatten().tolist() == pytest.approx([0.8916, 0, 0.1084], abs=near)


def test_soft_labels_sum_to_one_or_zero_and_sharpen_with_alpha():
    probabilities, thresholds = random_probabilities(2, 6, 10, 12), torch.linspace(0.4, 0.9, 6)
    soft, kept = soft_labels(probabilities, thresholds, 0.25)
    torch.testing.assert_close(soft.sum(1), kept.float())
    sharp, few = soft_labels(probabilities, thresholds, 0.005)
    hard = select(probabilities, thresholds)
    assert torch.equal(torch.where(few, sharp.argmax(1), IGNORE).to(torch.uint8), hard)
    with pytest.raises(RequestError, match="alpha"):
        soft_labels(probabilities, thresholds, 0.0)


@pytest.mark.usefixtures("_bands")
def test_confidence_and_prediction():
    probabilities, prior = random_probabilities(2, 5, 11, 13), torch.rand(5, 11, 13)
    confidence, predicted = confidence_and_prediction(probabilities)
    assert torch.equal(confidence, probabilities.amax(1))
    assert torch.equal(predicted.long(), probabilities.argmax(1))
    confidence, predicted = confidence_and_prediction(probabilities, prior)
    assert torch.equal(confidence, (probabilities * prior).amax(1))
    assert torch.equal(predicted.long(), (probabilities * prior).argmax(1))


def test_order_of_classes_does_not_matter():
    probabilities, thresholds = random_probabilities(1, 7, 20, 20), torch.linspace(0.3, 0.9, 7)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    table = torch.full((256,), IGNORE)
    table[torch.arange(7)] = order
    renamed = table[select(probabilities[:, order], thresholds[order]).long()]
    assert torch.equal(renamed, select(probabilities, thresholds).long())


def test_stored_scores_of_a_large_image_keep_the_budget():
    """1.3 MB for 2048 x 1024 pixels and 19 classes, at whatever stride the network works."""
    for size in [(128, 256), (129, 257), (256, 512), (513, 1025), (1024, 2048)]:
        stored = encode_scores(torch.zeros(19, *size))
        assert stored.dtype == torch.float16
        assert stored.nbytes <= 1.3e6
        assert stored.shape[1] >= 127
        assert stored.shape[2] >= 255
    assert encode_scores(torch.zeros(19, 129, 257)).shape == (19, 129, 257)
    assert encode_scores(torch.zeros(19, 1024, 2048)).shape == (19, 128, 256)


def test_scores_are_averaged_down_in_blocks():
    scores = torch.arange(16.0).view(1, 4, 4)
    assert encode_scores(scores, positions=4).tolist() == [[[2.5, 4.5], [10.5, 12.5]]]


def test_stored_scores_are_finite_and_on_the_way_back_close():
    logits = 4 * torch.randn(1, 19, 16, 32, generator=torch.Generator().manual_seed(0))
    logits[0, 3, 2] = -1e4
    scores = encode_scores(F.log_softmax(logits, 1)[0].bfloat16().float())[None]
    assert torch.isfinite(scores).all()
    exact = torch.softmax(F.interpolate(logits, (64, 128), mode="bilinear"), 1)
    back = probabilities_from_scores(scores, (64, 128))
    assert back.dtype == torch.float32
    torch.testing.assert_close(back.sum(1), torch.ones(1, 64, 128))
    assert float((back - exact).abs().mean()) < 1e-3


@pytest.mark.parametrize("align_corners", [False, True])
def test_scores_resize_as_logits_do(align_corners):
    """The normalisation that log-softmax takes off is the same for all classes of a pixel, resized or not."""
    logits = 3 * torch.randn(2, 7, 9, 12)
    resized = F.interpolate(logits, (35, 50), mode="bilinear", align_corners=align_corners)
    got = probabilities_from_scores(F.log_softmax(logits, 1), (35, 50), align_corners=align_corners)
    torch.testing.assert_close(got, torch.softmax(resized, 1), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("align_corners", [False, True])
def test_window_is_cut_out_of_the_full_map(align_corners):
    scores, size = F.log_softmax(3 * torch.randn(3, 5, 8, 13), 1).half(), (61, 97)
    full = probabilities_from_scores(scores, size, align_corners)
    windows = [Window(0, 0, 20, 30), Window(41, 67, 20, 30), Window(13, 22, 20, 30, flip=True)]
    got = probabilities_in_window(scores, windows, [size] * 3, (20, 30), align_corners)
    for i, w in enumerate(windows):
        cut = full[i, :, int(w.top) : int(w.top) + 20, int(w.left) : int(w.left) + 30]
        torch.testing.assert_close(got[i], cut.flip(-1) if w.flip else cut, atol=1e-5, rtol=1e-4)


def test_windows_of_different_images_and_scales():
    scores = F.log_softmax(3 * torch.randn(2, 4, 6, 8), 1)
    sizes = [(48, 64), (60, 60)]
    windows = [Window(0, 0, 48, 64), Window(10, 20, 30, 40)]
    got = probabilities_in_window(scores, windows, sizes, (24, 32))
    torch.testing.assert_close(got[:1], probabilities_from_scores(scores[:1], (24, 32)), atol=1e-5, rtol=1e-4)
    # 24 samples over 30 rows are 48 over all 60: the window is a part of the image resized to 48 x 48.
    whole = probabilities_from_scores(scores[1:], (48, 48))
    torch.testing.assert_close(got[1], whole[0, :, 8:32, 16:48], atol=1e-5, rtol=1e-4)


def test_places_outside_the_image_repeat_its_border():
    scores = F.log_softmax(torch.randn(1, 3, 4, 4), 1)
    got = probabilities_in_window(scores, [Window(-8, -8, 16, 16)], [(16, 16)], (16, 16))
    assert torch.equal(got[0, :, 0, 0], got[0, :, 8, 8])


def test_results_carry_no_graph():
    scores = torch.randn(1, 3, 4, 4, requires_grad=True)
    probabilities = probabilities_from_scores(scores, (8, 8))
    assert not probabilities.requires_grad
    soft, _ = soft_labels(torch.softmax(scores, 1), torch.ones(3), 0.5)
    assert not soft.requires_grad
