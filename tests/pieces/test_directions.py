"""Vectors of length one, and their gradient."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from segadapt.pieces import unit_vectors


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_the_gradient_is_that_of_the_function(dim: int) -> None:
    x = torch.randn(3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(unit_vectors, (x, dim))


def test_it_is_what_torch_has_also_at_zero() -> None:
    x = torch.randn(50, 8, generator=torch.Generator().manual_seed(1))
    x[3] = 0
    x[4] *= 1e-20
    kept = []
    for scaled in (lambda v: unit_vectors(v, 1), lambda v: F.normalize(v, dim=1)):
        given = x.clone().requires_grad_()
        made = scaled(given)
        (made * torch.linspace(-1, 1, 8)).sum().backward()
        kept.append((made.detach(), given.grad))
    assert torch.equal(kept[0][0][3], torch.zeros(8))
    torch.testing.assert_close(kept[0], kept[1])
