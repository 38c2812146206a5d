"""How MPCL joins DACS, DAFormer, HRDA and MIC: which pixels take part, and that nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from segadapt.core.settings import checked
from segadapt.data.loader import Samples
from segadapt.errors import RequestError
from segadapt.labels import IGNORE
from segadapt.methods.daformer import DAFormer
from segadapt.methods.mpcl import on_grid
from segadapt.methods.registry import METHODS, stage_settings
from segadapt.models.multires import MultiRes
from segadapt.models.segmenter import Output, Segmenter
from segadapt.pieces.classmix import Mixed
from segadapt.pieces.losses import nearest_labels
from tests.methods.small import STRIDE, Pointwise, backward, gradients, make, samples
from tests.methods.test_proda import OneProcess

Batch = dict[str, Samples]
B = 2
PROTOTYPES = {"channels": 4, "bank": 600, "start": 5, "warmup": 0, "prototypes": 2, "confident": False}
HOSTS = ("dacs", "daformer", "hrda", "mic")


def batch(seed: int = 0) -> Batch:
    source, target = samples(seed, B, 16, 16, 0, labelled=True), samples(seed + 1, B, 16, 16, 1, labelled=False)
    return {"source": source, "target": target}


def host(name: str, **settings: Any) -> DAFormer:
    """Make a host on a network of its own kind that is sure of some pixels."""
    torch.manual_seed(0)
    network: Segmenter = Pointwise(seed=3)
    if name == "hrda":
        network = MultiRes(network, divisor=4)
    more: dict[str, Any] = {"mic": {"block": 4}}.get(name, {})
    if name != "dacs":
        more["feature_classes"] = "all"
    made = make(name, network, threshold=0.2, batch_size=B, **{**more, **settings})
    assert isinstance(made, DAFormer)
    return made.train()


def step(method: DAFormer, seed: int = 0) -> tuple[dict[str, float], Mixed]:
    """Return the terms of a step, and the mixed pixels that it learnt from."""
    seen: list[Mixed] = []
    plain = method.mixed_terms

    def noted(images: Tensor, mixed: Mixed) -> Any:
        seen.append(mixed)
        return plain(images, mixed)

    method.mixed_terms = noted  # type: ignore[method-assign]
    torch.manual_seed(0)
    values = backward(method.step(batch(seed)))
    del method.mixed_terms  # type: ignore[misc]
    return values, seen[0]


@pytest.mark.parametrize("name", HOSTS)
def test_joins_its_hosts(name: str) -> None:
    """Mixed pixels of both domains take part; the host's own losses and state stay what they are."""
    plain, made = host(name), host(name, mpcl=PROTOTYPES)
    assert plain.mpcl is None
    assert plain.prototype_view() is None
    assert made.mpcl is not None
    made.load_state_dict({**made.state_dict(), **plain.state_dict()})
    (wanted, _), (first, mixed) = step(plain), step(made)
    assert {key: first[key] for key in wanted} == pytest.approx(wanted)
    resolutions = ("low", "high") if name == "hrda" else ("low",)
    names = {f"prototype {kind}/{r}" for kind in ("contrast", "classes") for r in resolutions}
    assert set(first) == {*wanted, *names}
    assert first["prototype contrast/low"] == 0  # no class has begun
    seen = dict(made.mpcl._seen)
    for method in (plain, made):
        method.after_step(OneProcess())  # type: ignore[arg-type]
    own = {key: value for key, value in made.state_dict().items() if not key.startswith("mpcl.")}
    assert set(own) == set(plain.state_dict())
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(own[key], value)

    assert (mixed.pasted & (mixed.labels != IGNORE)).any()
    assert (~mixed.pasted & (mixed.weights > 0)).any()
    if name != "hrda":  # its context is smaller than the images
        size = (16 // STRIDE, 16 // STRIDE)
        small = on_grid(mixed, size)
        labels = torch.where(small.weights > 0, small.labels, IGNORE)
        assert torch.equal(seen["low"].labels, labels.flatten(1))
    for r in resolutions:
        bank: Any = made.mpcl.memory.banks[r]
        assert int(bank.filled.sum()) == int((seen[r].labels != IGNORE).sum())
    assert made.mpcl.memory.active.any()
    assert not made.mpcl._seen

    made.zero_grad()
    second, _ = step(made)
    assert all(second[key] > 0 for key in names)
    assert all(gradient.abs().sum() > 0 for gradient in gradients(made.mpcl))


@pytest.mark.parametrize("name", HOSTS)
def test_the_source_pass_is_contrasted_if_asked_for(name: str) -> None:
    """Equation 15 beside equation 17: the other terms stay what they are."""
    plain, made = (host(name, mpcl={**PROTOTYPES, "source_pass": on}) for on in (False, True))
    for method in (plain, made):
        method.load_state_dict(plain.state_dict())
        step(method)
        method.after_step(OneProcess())  # type: ignore[arg-type]
    made.load_state_dict(plain.state_dict())
    (wanted, _), (found, _) = step(plain, 3), step(made, 3)
    resolutions = ("low", "high") if name == "hrda" else ("low",)
    names = {f"prototype contrast of source/{r}" for r in resolutions}
    assert set(found) == {*wanted, *names}
    assert all(found[key] > 0 for key in names)
    assert {key: found[key] for key in wanted} == pytest.approx(wanted)


@pytest.mark.parametrize("name", HOSTS)
def test_the_projection_learns_at_the_rate_of_a_head(name: str) -> None:
    trained = host(name, mpcl=PROTOTYPES).trained()
    assert set(trained) == {"model", "mpcl"}
    assert trained["mpcl"].optimiser.lr == pytest.approx(6e-4)
    assert set(host(name).trained()) == {"model"}


def test_both_resolutions_move_the_same_prototypes() -> None:
    """Each has its bank, and both banks move the one set of prototypes."""
    made = host("hrda", mpcl={**PROTOTYPES, "momentum": 0.5})
    assert made.mpcl is not None
    step(made)
    made.after_step(OneProcess())  # type: ignore[arg-type]
    moved = {}
    for left_out in ("low", "high", ""):
        again = host("hrda", mpcl={**PROTOTYPES, "momentum": 0.5})
        assert again.mpcl is not None
        again.load_state_dict(made.state_dict())
        step(again, seed=7)
        again.mpcl._seen.pop(left_out, None)
        again.after_step(OneProcess())  # type: ignore[arg-type]
        moved[left_out] = again.mpcl.memory.means.clone()
    assert not torch.equal(moved["low"], made.mpcl.memory.means)
    assert not torch.equal(moved["high"], made.mpcl.memory.means)
    assert not torch.equal(moved[""], moved["low"])
    assert not torch.equal(moved[""], moved["high"])


def test_mixed_labels_meet_the_detail_crop() -> None:
    """The detail's features learn the labels of its own places."""
    made = host("hrda", mpcl=PROTOTYPES)
    assert made.mpcl is not None
    seen: dict[str, Output] = {}
    made.model.register_forward_hook(lambda _, __, out: seen.__setitem__("last", out))
    _, mixed = step(made)
    detail = seen["last"].detail
    assert detail is not None
    top, left, bottom, right = detail.box
    labels = torch.where(mixed.weights > 0, mixed.labels, IGNORE)[:, top:bottom, left:right]
    expected = nearest_labels(labels, detail.features.shape[-2:], at="centre")
    assert (expected != IGNORE).any()
    assert torch.equal(made.mpcl._seen["high"].labels, expected.flatten(1))


@pytest.mark.parametrize("name", [name for name, info in METHODS.items() if not issubclass(info.method, DAFormer)])
def test_other_methods_refuse_it(name: str) -> None:
    """A recipe that asks for prototypes where the paper has none is told so."""
    cls, values = stage_settings("adapt", {"method": name, "mpcl": {}})
    with pytest.raises(RequestError, match="stage 'adapt': unknown key 'mpcl'"):
        checked(cls, values, "stage 'adapt'")
    assert set(HOSTS) < {name for name, info in METHODS.items() if issubclass(info.method, DAFormer)}
