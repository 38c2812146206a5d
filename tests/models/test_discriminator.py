"""Discriminators: agreement with the public implementations, sizes, loading."""

from __future__ import annotations

import pytest
import torch

from segadapt.errors import RequestError
from segadapt.models.discriminator import Discriminator, Kind, discriminator_from, is_discriminator
from tests.models.golden import golden_model


@pytest.mark.parametrize(
    ("name", "kind"), [("adaptsegnet_discriminator", "adaptsegnet"), ("proda_discriminator", "proda")]
)
def test_agrees_with_the_public_implementation(name: str, kind: Kind) -> None:
    golden = golden_model(name)
    model = Discriminator(19, kind)
    assert list(model.state_dict()) == list(golden.state), "names and order of the public file"
    model.load_state_dict(golden.state)
    with torch.no_grad():
        score = model(golden.input.softmax(1))
    golden.assert_close("score", score)
    other = Discriminator(19, kind)
    other.load_state_dict(golden.state)
    other.slopes = (0.0, 0.0, 0.0, 0.0) if kind == "adaptsegnet" else (0.2, 0.2, 0.2, 0.2)
    with pytest.raises(AssertionError, match="are off"), torch.no_grad():
        golden.assert_close("score", other(golden.input.softmax(1)))
    again = discriminator_from(golden.state)
    assert again.kind == kind
    assert torch.equal(again(golden.input.softmax(1)), score)


@pytest.mark.parametrize(
    ("kind", "pixels", "cells"),
    [
        ("adaptsegnet", (512, 1024), (16, 32)),
        ("adaptsegnet", (720, 1280), (22, 40)),
        ("proda", (512, 896), (32, 56)),
    ],
)
def test_sizes_of_the_published_settings(kind: Kind, pixels: tuple[int, int], cells: tuple[int, int]) -> None:
    with torch.device("meta"):
        assert Discriminator(19, kind)(torch.empty(2, 19, *pixels)).shape == (2, 1, *cells)


@pytest.mark.parametrize("kind", ["adaptsegnet", "proda"])
def test_it_learns_to_tell_two_domains_apart(kind: Kind) -> None:
    torch.manual_seed(0)
    model = Discriminator(5, kind, width=8)
    optimiser = torch.optim.Adam(model.parameters(), 2e-3)
    sure, unsure = (10 * torch.randn(2, 5, 64, 64)).softmax(1), torch.randn(2, 5, 64, 64).softmax(1)
    for _ in range(40):
        loss = (model(sure) ** 2).mean() + ((model(unsure) - 1) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.1
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    sure.requires_grad_()
    model(sure).sum().backward()
    assert sure.grad is not None, "the gradient reaches the segmentation network"
    assert sure.grad.abs().sum() > 0


def test_other_networks_are_no_discriminators() -> None:
    state = Discriminator(3, width=4).state_dict()
    assert is_discriminator(state)
    assert not is_discriminator({**state, "conv5.weight": torch.zeros(1)})
    with pytest.raises(RequestError, match="not the weights of a discriminator"):
        discriminator_from({"conv1.weight": torch.zeros(1)})
    with pytest.raises(RequestError, match="not the weights of a discriminator"):
        discriminator_from({**state, "conv4.weight": torch.zeros(5, 5, 4, 4)})
    with pytest.raises(RequestError, match="kind is 'pix2pix'; choose one of adaptsegnet, proda"):
        Discriminator(3, "pix2pix")  # type: ignore[arg-type]
