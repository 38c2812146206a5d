"""Steps of CPSL, BCL, MIC and MPCL on batches that real data have at times, in float32 and under bfloat16 autocast."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from segadapt.data.loader import Samples
from segadapt.labels import IGNORE
from tests.methods.small import K, gradients
from tests.methods.test_bcl import batches as bcl_batches
from tests.methods.test_bcl import bcl
from tests.methods.test_cpsl import cpsl
from tests.methods.test_daformer import batch as online_batch
from tests.methods.test_daformer import method as online
from tests.methods.test_proda import OneProcess
from tests.methods.test_proda import batches as cpsl_batches

Batch = dict[str, Samples]


def unlabelled(batch: Batch) -> Batch:
    return {name: x._replace(labels=torch.full_like(x.labels, IGNORE)) for name, x in batch.items()}


def one_class(batch: Batch) -> Batch:
    def only(labels: Tensor) -> Tensor:
        return torch.where(labels == IGNORE, IGNORE, 3)

    return {name: x._replace(labels=only(x.labels)) for name, x in batch.items()}


def absent_classes(batch: Batch) -> Batch:
    return {name: x._replace(labels=torch.where(x.labels < 2, x.labels, IGNORE)) for name, x in batch.items()}


def beside_the_image(batch: Batch) -> Batch:
    """Crops that show one pixel of their image."""
    return {name: x._replace(sizes=[(1, 1)] * len(x.sizes)) for name, x in batch.items()}


def as_it_is(batch: Batch) -> Batch:
    return batch


PROTOTYPES = {"channels": 4, "prototypes": 3, "bank": 50, "start": 5, "warmup": 0}
CASES = [as_it_is, unlabelled, one_class, absent_classes, beside_the_image]
MAKERS: dict[str, tuple[Callable[..., Any], Callable[[], Batch]]] = {
    "cpsl": (cpsl, cpsl_batches),
    "bcl": (bcl, bcl_batches),
    "mic": (partial(online, "mic", block=4), online_batch),
    **{
        f"mpcl, {kind}": (partial(online, "mic", block=4, mpcl={**PROTOTYPES, "kind": kind}), online_batch)
        for kind in ("centroid", "gaussian", "full")
    },
}


def step(method: Any, batch: Batch, half: bool) -> dict[str, Tensor]:
    """Take one step as the engine does."""
    torch.manual_seed(0)
    values: dict[str, Tensor] = {}
    generator = method.step(batch)
    while True:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            terms = next(generator, None)
        if terms is None:
            break
        means = {name: term.mean() for name, term in terms.items()}
        torch.stack([m.float() for m in means.values()]).sum().backward()
        values.update({name: mean.detach() for name, mean in means.items()})
    method.after_step(OneProcess())
    return values


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", MAKERS)
def test_everything_stays_finite(name: str, case: Callable[[Batch], Batch], half: bool) -> None:
    """Two steps in a row: with an empty bank and with a filled one, with prototypes not yet seen and with all."""
    make, batches = MAKERS[name]
    method = make()
    for _ in range(2):
        values = step(method, case(batches()), half)
        assert values
        assert all(value.isfinite() for value in values.values()), values
        assert all(gradient.isfinite().all() for gradient in gradients(method))
    assert all(buffer.isfinite().all() for buffer in method.buffers() if buffer.is_floating_point())


@pytest.mark.parametrize("name", MAKERS)
def test_half_precision_changes_little(name: str) -> None:
    make, batches = MAKERS[name]
    exact, rough = (step(make(), batches(), half) for half in (False, True))
    for key, value in exact.items():
        assert rough[key].item() == pytest.approx(value.item(), rel=0.1, abs=0.02), key


def test_classes_of_bcl_may_be_renamed() -> None:
    """Losses equal the losses of the same network with its classes in another order."""
    order = torch.tensor([3, 0, 4, 1, 2])  # new class i is old class order[i]
    place = order.argsort()
    method = bcl()
    renamed = copy.deepcopy(method)
    with torch.no_grad():
        renamed.model.classifier.weight.copy_(method.model.classifier.weight[order])  # type: ignore[union-attr]
        renamed.model.classifier.bias.copy_(method.model.classifier.bias[order])  # type: ignore[union-attr]
        renamed.mu.copy_(method.mu[:, order])
        renamed.seen.copy_(method.seen[:, order])
    batch = bcl_batches()

    def moved(labels: Tensor) -> Tensor:
        return torch.where(labels == IGNORE, IGNORE, place[torch.where(labels == IGNORE, 0, labels)])

    other = {name: x._replace(labels=moved(x.labels)) for name, x in batch.items()}
    a, b = step(method, batch, False), step(renamed, other, False)
    assert {k: v.item() for k, v in a.items()} == pytest.approx({k: v.item() for k, v in b.items()}, rel=1e-4)
    torch.testing.assert_close(method.mu[:, order], renamed.mu)
    assert len(order) == K
