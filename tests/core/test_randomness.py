"""Random numbers depend on the place alone, and on nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from segadapt.core.randomness import Purpose, generator_for, seed_step


def test_values_of_the_purposes_are_part_of_every_result() -> None:
    """Another value would change the numbers of runs that exist."""
    assert {purpose.name: int(purpose) for purpose in Purpose} == {
        "SOURCE_SUBSET": 3,
        "PREPARATION": 7,
        "STEP": 8,
        "NETWORK": 9,
    }
    expected = np.random.default_rng([5, 3, 2]).permutation(20)
    assert generator_for(5, Purpose.SOURCE_SUBSET, 2).permutation(20).tolist() == expected.tolist()


@pytest.mark.parametrize("place", [(), (1,), (1, 2, 0)])
def test_seeding_a_step(place: tuple[int, ...]) -> None:
    seed_step(5, Purpose.STEP, *place)
    drawn = torch.rand(4)
    torch.manual_seed(int(np.random.default_rng([5, 8, *place]).integers(2**62)))
    assert torch.equal(drawn, torch.rand(4))
    seed_step(5, Purpose.PREPARATION, *place)
    assert not torch.equal(drawn, torch.rand(4))
