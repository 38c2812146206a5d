"""Stored soft labels: size, error, damage."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segadapt.errors import RequestError
from segadapt.pieces.soft_store import BUDGET, FLOOR, STEPS, decode, encode


def prediction(cells: int, sharpness: float, size: tuple[int, int] = (129, 257)) -> Tensor:
    """Make log-probabilities of 19 classes that change every ``cells`` places."""
    rng = torch.Generator().manual_seed(cells)
    coarse = torch.randn(1, 19, size[0] // cells + 1, size[1] // cells + 1, generator=rng) * sharpness
    return F.interpolate(coarse, size, mode="bilinear")[0].log_softmax(0)


@pytest.mark.parametrize(("cells", "sharpness"), [(1, 4.0), (1, 0.5), (4, 4.0), (16, 8.0)])
def test_within_budget_and_within_half_a_step(cells: int, sharpness: float) -> None:
    log_p = prediction(cells, sharpness)
    packed = encode(log_p)
    assert len(packed) <= BUDGET
    got = torch.from_numpy(decode(packed)).float()
    step = STEPS[packed[0]]
    assert got.shape == log_p.shape
    assert (got - log_p.clamp(min=FLOOR)).abs().max() <= step / 2 + 0.01


def test_a_small_map_is_kept_in_the_finest_steps() -> None:
    log_p = prediction(4, 3.0, (23, 31))
    packed = encode(log_p)
    assert packed[0] == 0
    got = torch.from_numpy(decode(packed)).float().softmax(0)
    assert (got - log_p.exp()).abs().max() < 0.02
    assert (got.argmax(0) == log_p.argmax(0)).float().mean() > 0.98


def test_larger_maps_have_a_larger_budget() -> None:
    log_p = prediction(1, 4.0, (160, 300))
    assert len(encode(log_p)) <= BUDGET * log_p.numel() / (19 * 129 * 257)


def test_damaged_bytes_are_named() -> None:
    packed = encode(prediction(4, 2.0, (9, 9)))
    for content in (b"", packed[:20], packed[:8] + b"rubbish", b"\x63" + packed[1:]):
        with pytest.raises(RequestError, match="damaged"):
            decode(content)
