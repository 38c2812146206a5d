"""Augmentation of images of other bands than three."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from segadapt.data.colour_transfer import lab_statistics, transfer_colours
from segadapt.data.photometric import color_jitter, gaussian_blur
from segadapt.data.strong import OPERATIONS, StrongAugmentation, strong_view

ALL_BANDS = (1, 2, 3, 4, 6)


@pytest.mark.parametrize("bands", ALL_BANDS)
def test_jitter_takes_any_bands(bands: int) -> None:
    images = torch.rand(2, bands, 8, 8)
    changed = color_jitter(images, torch.tensor([0.5, 0.0]), torch.rand(2, 4))
    assert changed.shape == images.shape
    assert not torch.equal(changed[0], images[0])
    assert torch.equal(changed[1], images[1])


def test_the_first_three_bands_are_jittered_as_rgb() -> None:
    images, strength, draws = torch.rand(1, 5, 8, 8), torch.tensor([0.5]), torch.rand(1, 4)
    alone = color_jitter(images[:, :3], strength, draws)
    torch.testing.assert_close(color_jitter(images, strength, draws)[:, :3], alone)


@pytest.mark.parametrize("bands", ALL_BANDS)
def test_every_strong_operation_takes_any_bands(bands: int) -> None:
    for operation in OPERATIONS:
        options = StrongAugmentation(operations=(operation,), probability=1.0, blur=1.0, jitter=0.5)
        draws = np.random.default_rng(0).random((2, options.numbers), np.float32)
        images = torch.rand(2, bands, 16, 16)
        assert strong_view(images, draws, options).images.shape == images.shape
    assert gaussian_blur(images, torch.ones(2)).shape == images.shape


@pytest.mark.parametrize("bands", [b for b in ALL_BANDS if b != 3])
def test_colours_move_band_by_band(bands: int) -> None:
    rng = np.random.default_rng(0)
    own, wanted = (rng.integers(low, low + 60, (32, 32, bands), np.uint8) for low in (40, 150))
    statistics = [torch.from_numpy(lab_statistics(image))[None] for image in (own, wanted)]
    batch = torch.from_numpy(own).permute(2, 0, 1)[None].float() / 255
    moved = (transfer_colours(batch, *statistics)[0] * 255).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(moved.mean((0, 1)), wanted.mean((0, 1)), atol=0.5)
    np.testing.assert_allclose(moved.std((0, 1)), wanted.std((0, 1)), atol=0.5)
