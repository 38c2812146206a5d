"""AdaptSeg against a restatement with plain PyTorch losses."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segadapt.data.augment import Window
from segadapt.errors import RequestError
from segadapt.labels import IGNORE
from segadapt.methods.adaptseg import AdaptSeg
from tests.methods.small import Pointwise, backward, gradients, make, samples

SIZE = (48, 64)


def batches() -> dict[str, object]:
    return {"source": samples(1, 2, *SIZE, 0, True), "target": samples(2, 2, *SIZE, 1, False)}


@pytest.mark.parametrize(("name", "gan"), [("adaptseg", "vanilla"), ("adaptseg_ls", "ls")])
@pytest.mark.parametrize("auxiliary", [False, True])
def test_each_network_gets_its_own_gradient(name: str, gan: str, auxiliary: bool) -> None:
    method = make(name, Pointwise(auxiliary), aux_weight=0.1, discriminator_weight=0.5)
    assert isinstance(method, AdaptSeg)
    twin = copy.deepcopy(method)
    batch = batches()
    backward(method.step(batch))  # type: ignore[arg-type]

    def loss(scores: Tensor, domain: float) -> Tensor:
        wanted = torch.full_like(scores, domain)
        if gan == "ls":
            return (scores - wanted).square().mean()
        return F.binary_cross_entropy_with_logits(scores, wanted)

    def maps(images: Tensor) -> dict[str, Tensor]:
        out = twin.model(images)
        given = {"main": out.logits} | ({"aux": out.aux} if auxiliary else {})
        return {i: F.interpolate(z, SIZE, mode="bilinear") for i, z in given.items()}

    s, t = batch["source"], batch["target"]
    weights, adversarial = {"main": 1.0, "aux": 0.1}, twin.adversarial
    assert adversarial == ({"main": 1e-3, "aux": 2e-4} if gan == "vanilla" else {"main": 1e-2, "aux": 2e-3})
    source, target = maps(s.images), maps(t.images)  # type: ignore[attr-defined]
    total = torch.zeros(())
    for i in source:
        total = total + weights[i] * F.cross_entropy(source[i], s.labels, ignore_index=IGNORE)  # type: ignore[attr-defined]
        total = total + adversarial[i] * loss(twin.discriminators[i](target[i].softmax(1)), 0.0)
    wanted = torch.autograd.grad(total, list(twin.model.parameters()), allow_unused=True)
    for got, expected in zip(gradients(method.model), [g for g in wanted if g is not None], strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-7)
    for i, discriminator in twin.discriminators.items():
        seen = [x[i].detach().softmax(1) for x in (source, target)]
        total = 0.5 * loss(discriminator(seen[0]), 0.0) + 0.5 * loss(discriminator(seen[1]), 1.0)
        wanted = torch.autograd.grad(total, list(discriminator.parameters()))
        for got, expected in zip(gradients(method.discriminators[i]), wanted, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-7)


def test_every_network_has_an_optimiser_of_its_own() -> None:
    trained = make("adaptseg", Pointwise(True)).trained()
    assert list(trained) == ["model", "discriminator/main", "discriminator/aux"]
    assert trained["discriminator/main"].optimiser.betas == (0.9, 0.99)
    assert trained["discriminator/main"].optimiser.weight_decay == 0
    assert list(make("adaptseg", Pointwise()).trained()) == ["model", "discriminator/main"]
    changed = make("adaptseg", Pointwise(True), discriminator_optimiser={"lr": 0.25}).trained()
    assert [changed[f"discriminator/{i}"].optimiser.lr for i in ("main", "aux")] == [0.25, 0.25]
    assert changed["model"].optimiser.lr != 0.25


def test_a_small_crop_is_refused() -> None:
    method = make("adaptseg", Pointwise(), augmentation={"crop": (16, 64)})
    with pytest.raises(RequestError, match="too small for the discriminator"):
        method.streams(0, None)  # type: ignore[arg-type]


def test_windows_do_not_matter_to_it() -> None:
    """Target crops may reach beyond the image; they hold no labels."""
    method = make("adaptseg", Pointwise())
    batch = batches()
    shifted = batch["target"]._replace(windows=[Window(-5, -5, 60, 60)] * 2)  # type: ignore[attr-defined]
    assert backward(method.step({**batch, "target": shifted})) == backward(method.step(batch))  # type: ignore[arg-type]
