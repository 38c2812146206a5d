"""DAFormer and BCL draw source images with rare classes more often, as their settings say."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tests.methods.small import K, Pointwise, make
from tests.methods.test_self_training import FakeEnvironment

SHARES = torch.rand(40, K, generator=torch.Generator().manual_seed(1)) * torch.tensor([8.0, 4.0, 2.0, 0.5, 0.1])
SHARES = torch.where(SHARES < 0.04, 0.0, SHARES) / 15
F = (SHARES.sum(0) / SHARES.sum()).double()


class Environment(FakeEnvironment):
    """Forty source images of known class shares."""

    def source_shares(self) -> Tensor:
        return SHARES


def asked(temperature: float) -> Tensor:
    """With which probability a class is drawn (DAFormer eq. 11)."""
    return ((1 - F) / temperature).softmax(0)


def test_daformer_draws_a_class_then_an_image_then_a_crop() -> None:
    settings = {"rare_temperature": 0.2, "rare_share": 0.06, "rare_crop_share": 0.25}
    made = make("daformer", Pointwise(), feature_classes="all", **settings)
    streams = made.streams(0, Environment())  # type: ignore[arg-type]
    rare = streams["source"].parts[0].rare
    assert rare is not None
    np.testing.assert_allclose(rare.probabilities, asked(0.2).numpy(), rtol=1e-6)
    for c in range(K):
        much = (SHARES[:, c] > 0.06).nonzero().flatten().tolist() or SHARES[:, c].nonzero().flatten().tolist()
        assert rare.images[c].tolist() == much
    assert rare.crop_share == 0.25
    assert streams["target"].parts[0].rare is None
    alike = make("daformer", Pointwise(), feature_classes="all", rare_temperature=None)
    assert alike.streams(0, Environment())["source"].parts[0].rare is None  # type: ignore[arg-type]


def test_bcl_draws_any_image_that_has_the_class() -> None:
    streams = make("bcl", Pointwise(), rare_sampling=0.3).streams(0, Environment())  # type: ignore[arg-type]
    has = (SHARES > 0).double()
    np.testing.assert_allclose(streams["source"].parts[0].weights, has / has.sum(0) @ asked(0.3), rtol=1e-6)  # type: ignore[arg-type]
    assert streams["target"].parts[0].weights is None
    alike = make("bcl", Pointwise(), rare_sampling=None).streams(0, Environment())  # type: ignore[arg-type]
    assert alike["source"].parts[0].weights is None
