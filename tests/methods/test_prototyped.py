"""How MPCL joins every method of the house: which pixels of which pass take part, and that nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segadapt.data.loader import Samples
from segadapt.labels import IGNORE
from segadapt.methods.daformer import DAFormer
from segadapt.methods.prototyped import Prototyped, PrototypedConfig, labelled
from segadapt.methods.registry import METHODS
from segadapt.models.multires import MultiRes
from segadapt.models.segmenter import Output
from segadapt.pieces.losses import nearest_labels
from tests.methods.small import STRIDE, Pointwise, backward, gradients, make, samples
from tests.methods.test_adaptseg import batches as adversarial_batches
from tests.methods.test_bcl import batches as static_batches
from tests.methods.test_bcl import bcl
from tests.methods.test_cpsl import cpsl
from tests.methods.test_proda import OneProcess, proda
from tests.methods.test_proda import batches as soft_batches

Batch = dict[str, Samples]
B = 2
PROTOTYPES = {"channels": 4, "bank": 600, "start": 5, "warmup": 0, "prototypes": 2}


@pytest.mark.parametrize("name", ["mpcl", "mic"])
def test_joins_its_hosts(name: str) -> None:
    settings = {"channels": 4, "bank": 50, "start": 5, "warmup": 0, "prototypes": 2}
    more = {"block": 4} if name == "mic" else {}
    made = make(name, Pointwise(seed=3), feature_classes="all", mpcl=settings, threshold=0.2, **more)
    assert isinstance(made, DAFormer)
    assert set(made.trained()) == {"model", "mpcl"}
    assert made.trained()["mpcl"].optimiser.lr == pytest.approx(6e-4)
    made.train()
    data = {"source": samples(0, B, 16, 16, 0, labelled=True), "target": samples(1, B, 16, 16, 1, labelled=False)}
    first = backward(made.step(data))
    assert first["prototype contrast/low"] == 0
    made.after_step(OneProcess())  # type: ignore[arg-type]
    second = backward(made.step(data))
    assert second["prototype contrast/low"] > 0
    assert second["prototype classes/low"] > 0
    assert gradients(made.mpcl)  # type: ignore[arg-type]


class Host(NamedTuple):
    """A method that can be joined.

    Attributes:
        make: it, by settings.
        batch: of a step.
        passes: by name, the stream whose pixels it sees, and the labels that it learns of them, where these are
            made in the step.
    """

    make: Callable[..., Any]
    batch: Callable[[], Any]
    passes: dict[str, tuple[str, str]]


def small(name: str, *others: int, **settings: Any) -> Any:
    """A method on a small network of its own; ``others`` are the seeds of further ones."""
    networks = (Pointwise(auxiliary=name == "adaptseg"), *(Pointwise(seed=i) for i in others))
    return make(name, *networks, batch_size=B, **settings)


def pool() -> Batch:
    return {"pool": samples(0, B, 16, 16, 0, labelled=True)._replace(domain=torch.tensor([0, 1]))}


def student_batches() -> Batch:
    batch = soft_batches()
    return {**batch, "target": batch["target"]._replace(labels=samples(3, B, 24, 32, 1, labelled=True).labels)}


POOL = {"": ("pool", "")}
SOURCE = {"": ("source", "")}
HOSTS: dict[str, Host] = {
    **{name: Host(partial(small, name), pool, POOL) for name in ("cbst", "crst_mrkld", "crst_lrent")},
    "source_only": Host(partial(small, "source_only"), lambda: {"labelled": pool()["pool"]}, {"": ("labelled", "")}),
    "adaptseg": Host(partial(small, "adaptseg"), adversarial_batches, SOURCE),
    "adaptseg_mic": Host(partial(small, "adaptseg_mic", block=8), adversarial_batches, SOURCE),
    "proda": Host(proda, soft_batches, {"source": ("source", ""), "target": ("target", "rectified")}),
    "proda, soft": Host(
        partial(proda, hard=False, threshold=0.3),
        soft_batches,
        {"source": ("source", ""), "target": ("target", "rectified")},
    ),
    "cpsl": Host(cpsl, soft_batches, {"source": ("source", ""), "target": ("target", "rectified")}),
    "bcl": Host(bcl, static_batches, {"source": ("source", ""), "target": ("target", "hybrid")}),
    "distill": Host(
        partial(small, "distill", 4),
        student_batches,
        {"source": ("source", ""), "target": ("target", "mirrored")},
    ),
}


def step(method: Any, batch: Batch) -> dict[str, float]:
    torch.manual_seed(0)  # CPSL draws pixels
    return backward(method.step(batch))


def learnt(method: Any, batch: Batch, stream: str, labels: str) -> Tensor:
    """Labels [B, h, w] of a pass on the grid of the features."""
    x = batch[stream]
    size = (x.images.shape[-2] // STRIDE, x.images.shape[-1] // STRIDE)
    if labels == "mirrored":
        small = x.labels[:, ::4, ::4].flip(2)
        small[-1, : small.shape[1] // 2] = IGNORE  # the cut-out
    else:
        small = method.online.sets[labels] if labels else x.labels
    return nearest_labels(small, size)


@pytest.mark.parametrize("name", HOSTS)
def test_joins_every_method(name: str) -> None:
    """Labels of all passes take part alike; the method's own losses and state stay what they are."""
    host = HOSTS[name]
    batch = host.batch()
    plain = host.make().train()
    made = host.make(mpcl=PROTOTYPES).train()
    assert isinstance(made, Prototyped)
    assert made.mpcl is not None
    made.load_state_dict({**made.state_dict(), **plain.state_dict()})
    wanted, first = step(plain, batch), step(made, batch)
    assert {key: first[key] for key in wanted} == pytest.approx(wanted)
    seen = dict(made.mpcl._seen["low"])
    for method in (plain, made):
        method.after_step(OneProcess())
    names = {f"{of} prototype {kind}/low".lstrip() for of in host.passes for kind in ("contrast", "classes")}
    assert set(first) == {*wanted, *names}
    own = {key: value for key, value in made.state_dict().items() if not key.startswith("mpcl.")}
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(own[key], value)

    for of, (stream, labels) in host.passes.items():
        expected = learnt(made, batch, stream, labels)
        assert (expected != IGNORE).any()
        assert torch.equal(seen[of].labels, expected.flatten(1)), of
    bank: Any = made.mpcl.banks["low"]
    assert int(bank.filled.sum()) == sum(int((x.labels != IGNORE).sum()) for x in seen.values())
    assert made.mpcl.active.any()
    assert not made.mpcl._seen["low"]

    made.zero_grad()
    second = step(made, batch)
    assert all(second[key] > 0 for key in names)
    assert all(gradient.abs().sum() > 0 for gradient in gradients(made.mpcl))


def test_the_pasted_box_of_cpsl_is_source() -> None:
    """With CutMix the target's pass holds pixels of both domains."""
    counts = {}
    for domains in ("source", "target", "both"):
        made = cpsl(cutmix=1.0, mpcl={**PROTOTYPES, "domains": domains})
        torch.manual_seed(0)
        backward(made.step(soft_batches()))
        assert made.mpcl is not None
        counts[domains] = int((made.mpcl._seen["low"]["target"].labels != IGNORE).sum())
    assert 0 < counts["source"] < counts["both"]
    assert counts["source"] + counts["target"] == counts["both"]


def test_every_method_can_be_joined() -> None:
    for name, info in METHODS.items():
        assert issubclass(info.method, Prototyped), name
        assert issubclass(info.method.Config, PrototypedConfig), name


def test_labels_made_in_a_step() -> None:
    """Of any resolution, hard or soft; where a distribution is all zeros there is none."""
    x = samples(0, B, 8, 8, 1, labelled=True)
    hard = torch.randint(0, 5, (B, 4, 4))
    hard[0, 0] = IGNORE
    soft = 0.6 * F.one_hot(torch.where(hard == IGNORE, 0, hard), 5).movedim(3, 1) * (hard != IGNORE)[:, None]
    for labels in (hard, soft):
        got = labelled(x, labels)
        assert torch.equal(got.labels, hard.repeat_interleave(2, 1).repeat_interleave(2, 2))
        assert not got.pasted.any()
        assert got.sure.all()
        assert bool((got.weights == 1).all())
    assert torch.equal(labelled(x).labels, x.labels)
    assert labelled(x._replace(domain=torch.tensor([0, 1]))).pasted.flatten(1).all(1).tolist() == [True, False]


def test_joins_two_resolutions() -> None:
    torch.manual_seed(0)
    network = MultiRes(Pointwise(seed=3), divisor=4)
    settings = {"channels": 4, "bank": 50, "start": 5, "warmup": 0, "prototypes": 2}
    made = make("hrda", network, feature_classes="all", mpcl=settings).train()
    data = {"source": samples(0, B, 16, 16, 0, labelled=True), "target": samples(1, B, 16, 16, 1, labelled=False)}
    got = backward(made.step(data))  # type: ignore[attr-defined]
    assert {"mixed/detail", "prototype contrast/low", "prototype contrast/high"} <= set(got)


def test_labels_made_in_a_step_meet_the_detail_crop() -> None:
    """Labels of a quarter of the resolution reach the detail's features at its own places."""
    torch.manual_seed(0)
    made = make("distill", MultiRes(Pointwise(seed=3), divisor=4), Pointwise(seed=4), batch_size=B, mpcl=PROTOTYPES)
    assert isinstance(made, Prototyped)
    seen: dict[str, Output] = {}
    made.train()
    made.model.register_forward_hook(lambda _, __, out: seen.__setitem__("last", out))
    batch = student_batches()
    backward(made.step(batch))
    assert made.mpcl is not None
    detail = seen["last"].detail
    assert detail is not None
    top, left, bottom, right = detail.box
    small = batch["target"].labels[:, ::4, ::4].flip(2)
    small[-1, : small.shape[1] // 2] = IGNORE
    whole = small.repeat_interleave(4, 1).repeat_interleave(4, 2)
    expected = nearest_labels(whole[:, top:bottom, left:right], detail.features.shape[-2:])
    assert torch.equal(made.mpcl._seen["high"]["target"].labels, expected.flatten(1))
