"""Spatial priors: normalisation, resolution, and smoothing against a plain convolution."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from segadapt.pieces.priors import PAPER_WINDOW, apply_prior, gaussian_window, spatial_prior


def test_sum_is_one_for_seen_classes_and_zero_for_others():
    frequencies = torch.randint(0, 50, (4, 40, 60))
    frequencies[2] = 0
    prior = spatial_prior(frequencies, window=0.2)
    assert prior.dtype == torch.float32
    torch.testing.assert_close(prior.sum((1, 2)), torch.tensor([1.0, 1.0, 0.0, 1.0]))
    assert (prior[2] == 0).all()
    assert (prior >= 0).all()


def test_smoothing_is_a_two_dimensional_gaussian():
    """Compare with one dense 2-D convolution, divided by the part of the window inside the image."""
    frequencies = torch.rand(2, 30, 45)
    weights = gaussian_window(30, 0.25)
    dense = torch.outer(weights, weights)[None, None]
    radius = len(weights) // 2
    smooth = F.conv2d(frequencies[:, None], dense, padding=radius)[:, 0]
    smooth = smooth / F.conv2d(torch.ones(1, 1, 30, 45), dense, padding=radius)[0]
    torch.testing.assert_close(spatial_prior(frequencies, 0.25), smooth / smooth.sum((1, 2), keepdim=True))
    torch.testing.assert_close(spatial_prior(frequencies, 0.25, "place"), smooth / smooth.sum(0))


def test_classes_at_one_place_sum_to_one_where_a_label_is_near():
    frequencies = torch.randint(0, 50, (3, 40, 60))
    frequencies[1] = 0
    frequencies[:, 20:] = 0
    prior = spatial_prior(frequencies, window=0.2, scale="place")
    torch.testing.assert_close(prior.sum(0)[:20], torch.ones(20, 60))
    assert (prior[:, 30:] == 0).all()
    assert (prior[1] == 0).all()


def test_only_the_prior_of_places_keeps_the_sizes_of_the_classes():
    """A class three times as frequent everywhere: P(class | place) says so, P(place | class) does not."""
    frequencies = torch.tensor([3.0, 1.0])[:, None, None].expand(2, 10, 12)
    small, large = spatial_prior(frequencies, 0.3)
    torch.testing.assert_close(small, large)
    small, large = spatial_prior(frequencies, 0.3, "place")
    torch.testing.assert_close(small, 3 * large)


def test_even_frequencies_stay_even_up_to_the_border():
    prior = spatial_prior(torch.full((1, 20, 30), 7), window=0.5)
    torch.testing.assert_close(prior, torch.full_like(prior, 1 / 600))


def test_window_follows_the_height_of_the_image():
    assert len(gaussian_window(1024)) == 71
    assert len(gaussian_window(512)) == 37
    assert gaussian_window(10).tolist() == [1]
    weights = gaussian_window(1024)
    assert float(weights.sum()) == pytest.approx(1)
    assert torch.equal(weights, weights.flip(0))
    spread = float((weights * torch.arange(-35.0, 36.0) ** 2).sum().sqrt())
    assert spread == pytest.approx(35 / 3, rel=0.03)
    assert pytest.approx(70 / 1024) == PAPER_WINDOW


def test_prior_hardly_depends_on_the_resolution():
    coarse = torch.rand(3, 8, 16)
    small = spatial_prior(F.interpolate(coarse[None], (64, 128), mode="bilinear")[0], window=0.25)
    large = spatial_prior(F.interpolate(coarse[None], (128, 256), mode="bilinear")[0], window=0.25)
    torch.testing.assert_close(F.avg_pool2d(large, 2) * 4, small, rtol=0.02, atol=0)


def test_order_of_classes_does_not_matter():
    frequencies = torch.rand(5, 20, 20)
    order = torch.tensor([3, 1, 4, 0, 2])
    assert torch.equal(spatial_prior(frequencies[order]), spatial_prior(frequencies)[order])


def test_prior_multiplies_and_is_not_normalised_again():
    probabilities, prior = torch.rand(2, 3, 8, 10), torch.rand(3, 8, 10)
    assert torch.equal(apply_prior(probabilities, prior), probabilities * prior)
    flat = torch.full((3, 4, 5), 0.01)
    torch.testing.assert_close(apply_prior(probabilities, flat), probabilities * 0.01)
