"""Margins without pseudo labels: counted rows, and masks cut like the labels they belong to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from segadapt.data.augment import Window, crop_labels, draw_window
from segadapt.pieces.margins import Margins, crop_margins, image_margins

CPU = torch.device("cpu")
DAFORMER_CROP = Margins(top=15 / 512, bottom=120 / 512)
"""15 rows at the top and 120 at the bottom of a crop of 512 (DAFormer, on all of its targets)."""
HRDA_CITYSCAPES = Margins(top=30 / 1024, bottom=240 / 1024, left=30 / 2048, right=30 / 2048)
"""30 rows at the top, 240 at the bottom and 30 columns at both sides of an image of 1024 x 2048 (HRDA, MIC)."""


def whole_mask(height: int, width: int, top: int, bottom: int, left: int, right: int) -> torch.Tensor:
    """Mark wanted pixels with 1; margins are counted in pixels, as the authors do."""
    mask = torch.ones(height, width, dtype=torch.uint8)
    mask[:top] = 0
    mask[height - bottom :] = 0
    mask[:, :left] = 0
    mask[:, width - right :] = 0
    return mask


@pytest.mark.parametrize(("size", "top", "bottom"), [(512, 15, 120), (1024, 30, 240), (256, 8, 60)])
def test_rows_of_a_crop(size: int, top: int, bottom: int) -> None:
    mask = crop_margins((size, size + 7), DAFORMER_CROP)
    assert mask.shape == (size, size + 7)
    assert mask.dtype == torch.bool
    expected = torch.zeros(size, dtype=torch.bool)
    # 15/512 of 256 rows are 7.5: the centre of row 7 lies on the border, and counts as inside.
    expected[(7 if size == 256 else top) : size - bottom] = True
    assert torch.equal(mask, expected[:, None].expand_as(mask))


def test_published_margins_of_an_image_in_every_whole_crop() -> None:
    full = whole_mask(1024, 2048, 30, 240, 30, 30)
    windows = [
        Window(0, 0, 1024, 1024),
        Window(0, 1024, 1024, 1024),
        Window(0, 0, 1024, 1024, True),
        Window(0, 517, 1024, 1024, True),
    ]
    got = image_margins(windows, [(1024, 2048)] * 4, (1024, 1024), HRDA_CITYSCAPES, CPU)
    for mask, window in zip(got, windows, strict=True):
        left = int(window.left)
        expected = full[:, left : left + 1024].bool()
        assert torch.equal(mask, expected.flip(1) if window.flip else expected)


def test_margins_follow_any_window_like_a_label_map() -> None:
    rng = np.random.default_rng(0)
    sizes = [(100, 200), (90, 200), (100, 160)] * 4
    windows = [draw_window(rng, size, (64, 80), (0.5, 1.7), True) for size in sizes]
    margins = Margins(0.1, 0.2, 0.05, 0.15)
    got = image_margins(windows, sizes, (64, 80), margins, CPU)
    assert got.shape == (12, 64, 80)
    labels = []
    for h, w in sizes:
        counted = [round(share * n) for share, n in zip(margins, (h, h, w, w), strict=True)]
        labels.append(whole_mask(h, w, *counted).byte().numpy())
    assert torch.equal(got, crop_labels(labels, windows, (64, 80)) == 1)
    assert 0.2 < got.double().mean() < 0.8


def test_without_margins_the_image_alone_counts() -> None:
    windows = [Window(-10, -20, 40, 60), Window(0, 0, 20, 30, True)]
    got = image_margins(windows, [(20, 30)] * 2, (40, 60), Margins(), CPU)
    expected = torch.zeros(40, 60, dtype=torch.bool)
    expected[10:30, 20:50] = True
    assert torch.equal(got[0], expected)
    assert got[1].all()
    assert crop_margins((8, 9), Margins()).all()


def test_sizes_of_image_and_crop_do_not_matter() -> None:
    def kept(size: tuple[int, int], output: tuple[int, int]) -> float:
        window = Window(0, 0, size[0], size[1])
        return float(image_margins([window], [size], output, HRDA_CITYSCAPES, CPU).double().mean())

    exact = (1 - 270 / 1024) * (1 - 60 / 2048)
    assert kept((1024, 2048), (1024, 2048)) == pytest.approx(exact, abs=1e-12)
    assert kept((512, 1024), (128, 256)) == pytest.approx(exact, abs=0.01)
    assert kept((540, 960), (384, 512)) == pytest.approx(exact, abs=0.01)
