"""Criteria without labels against independent restatements, their ranges, and cases with a known answer."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from segadapt.pieces import (
    classes_kept,
    dispersity,
    entropies,
    information,
    neighbourhood_density,
    share_divergence,
)


@pytest.fixture
def p() -> torch.Tensor:
    return (2 * torch.randn(60, 5, generator=torch.Generator().manual_seed(3))).softmax(1)


def entropy(row: np.ndarray) -> float:
    return -sum(float(x) * math.log(x) for x in row if x > 0)


def test_entropy_and_information(p: torch.Tensor) -> None:
    rows = [entropy(row) for row in p.double().numpy()]
    assert entropies(p).tolist() == pytest.approx(rows, abs=1e-5)
    assert information(p) == pytest.approx(entropy(p.double().mean(0).numpy()) - sum(rows) / 60, abs=1e-5)
    assert 0 < information(p) < math.log(5)


def test_a_model_that_says_the_same_everywhere_has_no_information() -> None:
    assert information(torch.tensor([[0.0, 1.0, 0.0]] * 7)) == 0.0
    assert information(torch.tensor([[0.2, 0.5, 0.3]] * 7)) == pytest.approx(0, abs=1e-6)
    assert information(torch.eye(4)) == pytest.approx(math.log(4))


@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_neighbourhood_density_pixel_by_pixel(p: torch.Tensor, temperature: float) -> None:
    x = p.double().numpy()
    found = []
    for i in range(60):
        cosines = [x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j]) for j in range(60) if j != i]
        weights = np.exp(np.array(cosines) / temperature)
        found.append(entropy(weights / weights.sum()))
    assert neighbourhood_density(p, temperature) == pytest.approx(np.mean(found), abs=1e-4)


def test_neighbourhoods_are_denser_where_pixels_gather() -> None:
    apart, together = torch.eye(8).repeat(2, 1), torch.eye(2).repeat(8, 1)
    assert neighbourhood_density(apart) == pytest.approx(0, abs=1e-3)  # each has one near neighbour
    assert neighbourhood_density(together) == pytest.approx(math.log(7), abs=1e-3)


def test_dispersity_is_the_nuclear_norm(p: torch.Tensor) -> None:
    wanted = np.linalg.svd(p.double().numpy(), compute_uv=False).sum() / math.sqrt(60 * 5)
    assert dispersity(p) == pytest.approx(wanted, abs=1e-6)
    assert dispersity(p[:3]) == pytest.approx(np.linalg.svd(p[:3].double().numpy())[1].sum() / 3, abs=1e-6)
    assert dispersity(torch.eye(5).repeat(4, 1)) == pytest.approx(1.0)


def test_divergence_of_shares() -> None:
    s, w = np.array([1.0, 2.0, 7.0]) / 10, np.array([3.0, 3.0, 4.0]) / 10
    wanted = float((w * np.log(w / s)).sum())
    assert share_divergence(torch.tensor([10.0, 20.0, 70.0]), torch.tensor([3.0, 3.0, 4.0])) == pytest.approx(wanted)
    assert share_divergence(torch.tensor([1, 2]), torch.tensor([2, 4])) == 0.0
    lost = share_divergence(torch.tensor([1.0, 0.0]), torch.tensor([0.9, 0.1]))
    assert 0.9 < lost < 0.1 * math.log(0.1 / 1e-6) + 0.01


def test_classes_that_vanish() -> None:
    before = torch.tensor([0.5, 0.3, 0.1995, 0.0005, 0.0])
    assert classes_kept(before, before) == 1.0
    assert classes_kept(torch.tensor([0.9, 0.029, 0.071, 0.0, 0.0]), before) == pytest.approx(2 / 3)
    assert classes_kept(before, torch.zeros(5)) == 1.0
