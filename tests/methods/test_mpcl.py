"""MPCL restated class by class, its banks and first clusterings, and prediction by its prototypes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segadapt.errors import RequestError
from segadapt.labels import IGNORE
from segadapt.methods.daformer import DAFormer
from segadapt.methods.mpcl import MPCL
from segadapt.methods.mpcl_config import MPCLConfig
from segadapt.models.build import build_segmenter
from segadapt.models.segmenter import Detail, Output
from segadapt.models.store import load_model, load_prototypes, save_model, save_prototypes
from segadapt.pieces.classmix import Mixed
from segadapt.pieces.multi_prototypes import Prototypes, similarity
from segadapt.pieces.optimal_transport import greenkhorn
from segadapt.pieces.terms import Term
from tests.golden_vectors import golden_op
from tests.methods.small import SPACE, K, Pointwise, make

B, H, W, CHANNELS, D, PARTS = 2, 8, 12, 6, 4, 3


class OneProcess:
    """As much of an environment as prototypes ask for."""

    def gather(self, tensor: Tensor, samples: int) -> Tensor:
        assert len(tensor) == samples
        return tensor


class OneOfTwo:
    """One of two processes, each with a sample of the batch; gathers its tensors with those of the other."""

    def __init__(self, rank: int, other: MPCL) -> None:
        self.rank = rank
        self.theirs = iter([x.clone() for seen in other._seen.values() for x in seen])

    def gather(self, tensor: Tensor, samples: int) -> Tensor:
        parts = [tensor, next(self.theirs)]
        assert sum(map(len, parts)) == samples
        return torch.cat(parts if self.rank == 0 else parts[::-1])


def plugin(scales: int = 1, seed: int = 0, **settings: Any) -> MPCL:
    """With prototypes of four of the five classes, as after some steps."""
    torch.manual_seed(seed)
    config = MPCLConfig(
        channels=D, prototypes=PARTS, **{"bank": 50, "start": 10, "warmup": 0, "least_pixels": 1, **settings}
    )
    made = MPCL(config, K, nn.Conv2d(CHANNELS, D, 1), scales)
    means = torch.randn(K, PARTS, D)
    made.memory.means.copy_(F.normalize(means, dim=2) if config.kind == "centroid" else means)
    variances = torch.rand(K, PARTS, D) + 0.1
    made.memory.variances.copy_(torch.diag_embed(variances) if config.kind == "full" else variances)
    for begun in (made.memory.active, made.memory.clustered):
        begun.copy_(torch.tensor([True, True, False, True, True]))
    return made


def not_begun(made: MPCL) -> MPCL:
    """As before the first step."""
    made.memory.active.zero_()
    made.memory.clustered.zero_()
    return made


def mixed(seed: int = 0, height: int = H, width: int = W) -> Mixed:
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, K, (B, height, width), generator=rng)
    labels[:, :1] = IGNORE
    pasted = torch.rand(B, height, width, generator=rng) < 0.5
    weights = torch.where(pasted, 1.0, 0.4)
    return Mixed(labels, weights, pasted, pasted | (torch.rand(B, height, width, generator=rng) < 0.5))


def features(seed: int = 1) -> Tensor:
    return torch.randn(B, CHANNELS, H, W, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def output(seed: int = 1) -> Output:
    return Output(torch.zeros(B, K, H, W), features(seed))


def restated(made: MPCL, f: Tensor, seen: Mixed) -> tuple[Tensor, Tensor]:
    """L_con and L_pce, pixel by pixel and prototype by prototype."""
    c = made.config
    rows, labels, weights = [], [], []
    for b in range(B):
        for y in range(H):
            for x in range(W):
                label = int(seen.labels[b, y, x])
                domain = {"source": bool(seen.pasted[b, y, x]), "target": not seen.pasted[b, y, x]}.get(c.domains, True)
                if label != IGNORE and bool(made.memory.active[label]) and domain and seen.weights[b, y, x] > 0:
                    z = made.projection.weight[:, :, 0, 0] @ f[b, :, y, x] + made.projection.bias
                    rows.append(z / z.norm() if c.unit else z)
                    labels.append(label)
                    weights.append(float(seen.weights[b, y, x]))
    s = torch.full((len(rows), K, PARTS), -math.inf)
    for i, row in enumerate(rows):
        for k in range(K):
            for p in range(PARTS):
                if made.memory.active[k]:
                    mu, var = made.memory.means[k, p], made.memory.variances[k, p]
                    if c.kind == "centroid":
                        s[i, k, p] = -(row - mu).square().sum()
                    else:
                        sd = ((var.diagonal() if c.kind == "full" else var) + c.floor / D).sqrt()
                        s[i, k, p] = torch.distributions.Normal(mu, sd).log_prob(row).sum()
                        if c.per_dimension:
                            s[i, k, p] = s[i, k, p] / D
    part = [0] * len(rows)
    for k in range(K):  # equal shares, by plain Sinkhorn iterations
        mine = [i for i, label in enumerate(labels) if label == k]
        own = s[mine, k].detach()
        if c.solver == "nearest" or len(mine) < c.least_pixels * PARTS:
            chosen = own.argmax(1).tolist()
        elif c.solver == "greenkhorn":
            chosen = greenkhorn(own, torch.zeros(len(mine), dtype=torch.int64), 1, c.epsilon, c.iterations)
            chosen = chosen.argmax(1).tolist()
        else:
            q = ((own - own.max()) / c.epsilon).double().exp()
            for _ in range(c.iterations):
                q = q / q.sum(0) / PARTS
                q = q / q.sum(1, keepdim=True) / len(mine)
            chosen = q.argmax(1).tolist()
        for i, a in zip(mine, chosen, strict=True):
            part[i] = a
    contrast, classes = torch.zeros(()), torch.zeros(())
    for i, label in enumerate(labels):
        scores = s[i] / c.temperature
        positive = scores[label, part[i]]
        others = [scores[k].flatten() for k in range(K) if k != label]
        rivals = scores.flatten() if c.in_class else torch.cat([*others, positive[None]])
        contrast = contrast + weights[i] * (rivals.logsumexp(0) - positive)
        best = scores.amax(1)
        classes = classes + (weights[i] if c.weighted else 1) * (best.logsumexp(0) - best[label])
    return contrast / len(rows), classes / len(rows)


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "centroid"},
        {"kind": "gaussian"},
        {"kind": "full"},
        {"kind": "gaussian", "solver": "nearest", "in_class": False, "weighted": False, "unit": False},
        {"kind": "centroid", "domains": "source"},
        {"kind": "centroid", "least_pixels": 12},
        {"kind": "centroid", "domains": "target", "epsilon": 0.5},
        {"kind": "gaussian", "solver": "greenkhorn", "iterations": 30, "per_dimension": False, "floor": 2.0},
    ],
)
def test_losses_restated(settings: dict[str, Any]) -> None:
    made, seen, out = plugin(**settings), mixed(), output()
    rare = (seen.labels == 4).nonzero()[: PARTS - 1]  # a class with fewer pixels than prototypes
    labels = torch.where(seen.labels == 4, 0, seen.labels)
    labels[tuple(rare.T)] = 4
    weights = seen.weights.clone()
    weights[:, 3:5] = 0  # as in margins
    weights[tuple(rare.T)] = 1
    seen = seen._replace(labels=labels, weights=weights)
    terms = made.terms(out, seen)
    contrast, classes = restated(made, out.features, seen)
    torch.testing.assert_close(terms["prototype contrast/low"].mean(), 0.1 * contrast, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(terms["prototype classes/low"].mean(), 0.1 * classes, rtol=1e-4, atol=1e-6)
    total = terms["prototype contrast/low"].mean() + terms["prototype classes/low"].mean()
    got = torch.autograd.grad(total, [out.features, made.projection.weight], retain_graph=True)
    wanted = torch.autograd.grad(0.1 * (contrast + classes), [out.features, made.projection.weight])
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)


def test_total_golden() -> None:
    """Equations 18 and 19: the weights of losses and resolutions."""
    golden = golden_op("mpcl_total")
    p = golden.params
    low, high = golden.tensor("terms").view(2, 2)

    def total(scales: int, **values: Tensor) -> Tensor:
        made = plugin(scales=scales, contrast=p["l1"], cross_entropy=p["l2"])
        out, detail = output(), Detail(torch.zeros(B, K, H, W), features(), (0, 0, H, W), p["ld"])

        def losses(seen: Output | Detail, _: Mixed) -> tuple[Any, ...]:
            found = values["low" if isinstance(seen, Output) else "high"]
            return *(Term(v, torch.ones(())) for v in found), None

        made._losses = losses  # type: ignore[method-assign]
        terms = made.terms(out._replace(detail=detail if scales == 2 else None), mixed())
        return torch.stack([term.mean() for term in terms.values()]).sum()

    golden.assert_close("proto_lr", total(1, low=low))
    golden.assert_close("proto_hr", total(1, low=high))
    golden.assert_close("total_multi_resolution", total(2, low=low, high=high))


def test_losses_do_not_depend_on_the_order_of_classes_or_prototypes() -> None:
    made, again, seen, out = plugin(), plugin(), mixed(), output()
    new_class, new_place = torch.tensor([2, 0, 4, 1, 3]), torch.tensor([1, 2, 0])
    again.memory.means[new_class[:, None], new_place] = made.memory.means
    again.memory.variances[new_class[:, None], new_place] = made.memory.variances
    again.memory.active[new_class] = made.memory.active
    valid = seen.labels != IGNORE
    renamed = seen._replace(labels=torch.where(valid, new_class[torch.where(valid, seen.labels, 0)], IGNORE))
    for name, term in made.terms(out, seen).items():
        torch.testing.assert_close(again.terms(out, renamed)[name].mean(), term.mean())


def test_losses_under_autocast_are_nearly_the_same() -> None:
    made, seen, out = plugin(), mixed(), output()
    exact = sum(term.mean() for term in made.terms(out, seen).values())
    with torch.autocast("cpu", torch.bfloat16):
        rough = sum(term.mean() for term in made.terms(out, seen).values())
    assert abs(rough.item() - exact.item()) < 0.05 * exact.item()


def test_before_any_class_has_begun_there_is_no_loss() -> None:
    made, seen, out = not_begun(plugin()), mixed(), output()
    terms = made.terms(out, seen)
    assert all(term.mean().item() == 0 for term in terms.values())
    gradient = torch.autograd.grad(sum(term.total for term in terms.values()), out.features)[0]
    assert not gradient.any()


def test_means_over_all_pixels() -> None:
    seen, out = mixed(), output()
    valid, everything = (plugin(over=over).terms(out, seen)["prototype contrast/low"] for over in ("valid", "all"))
    torch.testing.assert_close(everything.mean(), valid.mean() * valid.count / (B * H * W))


def test_two_resolutions_share_the_weight() -> None:
    made, seen = plugin(scales=2), mixed(height=2 * H, width=2 * W)
    box = (0, 2, H, 2 + W)
    detail = Detail(torch.zeros(B, K, H, W), features(2), box, 0.25)
    terms = made.terms(output()._replace(detail=detail), seen)
    crop = Mixed(*(x[:, 0:H, 2 : 2 + W] for x in seen))
    context = Mixed(*(x[:, 1::2, 1::2] for x in seen))
    for name, share, view, f in (("low", 0.75, context, features(1)), ("high", 0.25, crop, features(2))):
        alone = plugin().terms(Output(torch.zeros(()), f), view)
        for loss in ("contrast", "classes"):
            expected = share * alone[f"prototype {loss}/low"].mean()
            torch.testing.assert_close(terms[f"prototype {loss}/{name}"].mean(), expected)
    weightless = made.terms(output()._replace(detail=detail._replace(weight=0.0)), seen)
    assert weightless["prototype contrast/high"].mean() == 0
    assert weightless["prototype contrast/low"].mean() > 0
    assert list(plugin(scales=2, resolutions="high").memory.banks) == ["high"]
    alone = plugin(scales=2, resolutions="high").terms(output()._replace(detail=detail), seen)
    torch.testing.assert_close(alone["prototype contrast/high"].mean(), 4 * terms["prototype contrast/high"].mean())


def test_classes_begin_when_their_banks_are_full_enough() -> None:
    made = not_begun(plugin(start=30, warmup=2))
    seen = mixed()
    seen = seen._replace(labels=torch.where(seen.labels == 4, 0, seen.labels))  # class 4 never occurs
    for step in range(4):
        made.terms(output(step), seen)
        made.follow(OneProcess(), B)  # type: ignore[arg-type]
        assert bool(made.memory.active.any()) == (step >= 2)
    assert made.memory.active.tolist() == [True, True, True, True, False]
    assert int(made.memory.steps) == 4
    bank: Any = made.memory.banks["low"]
    assert bank.moments().counts[:4].sum(1).tolist() == bank.filled[:4].tolist()
    assert made.memory.variances[:4].min() >= 0


def test_a_bank_shorter_than_the_start_is_not_lengthened() -> None:
    made, seen = not_begun(plugin(bank=8, start=30)), mixed()
    made.terms(output(), seen)
    made.follow(OneProcess(), B)  # type: ignore[arg-type]
    bank: Any = made.memory.banks["low"]
    assert bank.length == 8
    assert bank.filled.max() == 8
    assert made.memory.active.all()


def test_unsure_pixels_do_not_enter_the_bank() -> None:
    for confident in (True, False):
        made, seen = plugin(confident=confident, bank=500), mixed()
        made.terms(output(), seen)
        made.follow(OneProcess(), B)  # type: ignore[arg-type]
        kept = (seen.labels != IGNORE) & (seen.sure if confident else torch.ones_like(seen.sure))
        bank: Any = made.memory.banks["low"]
        assert int(bank.filled.sum()) == int(kept.sum())


def test_no_more_pixels_of_a_class_enter_the_bank_in_a_step_than_asked_for() -> None:
    made, seen = plugin(insert=7, bank=500, confident=False), mixed()
    made.terms(output(), seen)
    made.follow(OneProcess(), B)  # type: ignore[arg-type]
    bank: Any = made.memory.banks["low"]
    assert bank.filled.tolist() == [7] * K


@pytest.mark.parametrize("bank", [0, 500])
def test_prototypes_follow_what_was_seen(bank: int) -> None:
    made, seen = plugin(kind="gaussian", bank=bank, momentum=0.9, confident=False), mixed()
    before = made.memory.means.clone(), made.memory.variances.clone()
    out = output()
    made.terms(out, seen)
    rows, assigned = (x.flatten(0, 1) for x in made._seen["low"][::2])
    made.follow(OneProcess(), B)  # type: ignore[arg-type]
    labels = seen.labels.flatten()
    for k in range(K):
        for p in range(PARTS):
            mine = rows[(labels == k) & (assigned == p)]
            changed = bool(made.memory.active[k]) and len(mine) > 0 and k != 2
            mean = 0.9 * before[0][k, p] + 0.1 * mine.mean(0) if changed else before[0][k, p]
            var = 0.9 * before[1][k, p] + 0.1 * mine.var(0, correction=0) if changed else before[1][k, p]
            if k != 2:  # begins in this step
                torch.testing.assert_close(made.memory.means[k, p], mean, atol=1e-3, rtol=1e-3)
                torch.testing.assert_close(made.memory.variances[k, p], var, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("bank", [0, 30])
def test_prototypes_of_two_processes_are_those_of_one(bank: int) -> None:
    """All pixels enter every bank; the nearest prototypes know nothing of the pixels of other processes."""
    whole, *parts = (plugin(solver="nearest", bank=bank, start=5, insert=7, momentum=0.5) for _ in range(3))
    for made in (whole, *parts):
        made.memory.active[0] = made.memory.clustered[0] = False  # begins by its own clustering
    for number in range(3):
        out, seen = output(number), mixed(number)
        whole.terms(out, seen)
        for rank, part in enumerate(parts):
            mine = slice(rank, rank + 1)
            part.terms(
                out._replace(logits=out.logits[mine], features=out.features[mine]), Mixed(*(x[mine] for x in seen))
            )
        lent = [OneOfTwo(rank, parts[1 - rank]) for rank in range(2)]
        whole.follow(OneProcess(), B)  # type: ignore[arg-type]
        for part, environment in zip(parts, lent, strict=True):
            part.follow(environment, B)  # type: ignore[arg-type]
    assert whole.memory.active[0]
    for part in parts:
        for key, value in whole.memory.state_dict().items():
            torch.testing.assert_close(part.memory.state_dict()[key], value)


@pytest.mark.parametrize("kind", ["centroid", "gaussian", "full"])
def test_prediction_by_prototypes(kind: str, tmp_path: Path) -> None:
    """A pixel gets the class of the best of all prototypes (eq. 10), also from a model file."""
    settings = {"kind": kind, "channels": D, "prototypes": PARTS, "predict": "prototypes"}
    torch.manual_seed(0)
    network = build_segmenter("timm:resnet10t", K, width=16)
    made = make("mpcl", network, feature_classes="all", mpcl=settings)
    assert isinstance(made, DAFormer)
    assert made.mpcl is not None
    trained = plugin(kind=kind)
    made.mpcl.memory.means.copy_(trained.memory.means)
    made.mpcl.memory.variances.copy_(trained.memory.variances)
    made.mpcl.memory.active.copy_(trained.memory.active)
    result = made.eval().result().eval()
    images = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        features = network(images).features
        known = Prototypes(
            trained.memory.means, None if kind == "centroid" else trained.memory.variances, trained.memory.active
        )
        rows = F.normalize(made.mpcl.projection(features).movedim(1, 3).flatten(0, 2), dim=1)
        best = similarity(rows, known).flatten(1).argmax(1) // PARTS
        assert torch.equal(result(images).logits.argmax(1).flatten(), best)
        save_model(tmp_path / "m.safetensors", result, SPACE, {})
        again = load_model(tmp_path / "m.safetensors").model.eval()
        torch.testing.assert_close(again(images).logits, result(images).logits)
    usual = make("mpcl", network, feature_classes="all", mpcl={"channels": D})
    assert usual.result() is network


# ---- starting, and starting again ----


def watched(made: MPCL, steps: int, seen: Mixed | None = None) -> list[dict[str, Any]]:
    """Return after each step: features in the bank, active and clustered classes, and the means."""
    found = []
    for step in range(steps):
        made.terms(output(step), seen or mixed(step))
        made.follow(OneProcess(), B)  # type: ignore[arg-type]
        memory = made.memory
        state = {"filled": memory.banks["low"].filled, "active": memory.active, "clustered": memory.clustered}  # type: ignore[union-attr]
        found.append({name: x.clone() for name, x in {**state, "means": memory.means}.items()})  # type: ignore[operator]
    return found


def test_banks_hold_nothing_from_long_before_the_start() -> None:
    found = watched(not_begun(plugin(warmup=4, collect=2, bank=500, start=5, confident=False)), 5)
    assert [int(step["filled"].sum()) > 0 for step in found] == [False, False, True, True, True]
    assert [bool(step["active"].any()) for step in found] == [False, False, False, False, True]


def test_classes_are_clustered_anew_from_new_features() -> None:
    """Banks are emptied before the restart; each class goes on with its prototypes until it is clustered again."""
    made = not_begun(plugin(warmup=0, collect=2, restart=30, bank=500, start=20, insert=15, momentum=1.0))
    rare = mixed()
    rare = rare._replace(labels=torch.where(rare.labels == 4, 0, rare.labels))
    found = watched(made, 1) + watched(made, 27) + watched(made, 3, rare)
    before, emptied, again = found[27], found[28], found[30]
    assert before["active"].all()
    assert (before["filled"] > 100).all()
    assert emptied["filled"].max() <= 15
    assert emptied["active"].all()
    assert torch.equal(emptied["means"], before["means"])
    assert again["clustered"].tolist() == [True] * 4 + [False]
    assert again["active"].all()
    assert (again["means"][:4] != before["means"][:4]).any(2).all()
    assert torch.equal(again["means"][4], before["means"][4])
    later = watched(made, 25)  # the last class comes back, and is looked at 25 steps after the restart
    assert [bool(step["clustered"].all()) for step in later] == [False] * 24 + [True]
    assert not torch.equal(later[-1]["means"][4], before["means"][4])
    bank: Any = made.memory.banks["low"]
    assert bank.moments().counts.sum(1).tolist() == bank.filled.tolist()


def test_every_bank_follows_the_new_clusters() -> None:
    made = not_begun(plugin(scales=2, warmup=1, collect=1, bank=500, start=10, confident=False))
    detail = Detail(torch.zeros(B, K, H, W), features(2), (0, 2, H, 2 + W), 0.25)
    for step in range(2):
        made.terms(output(step)._replace(detail=detail), mixed(height=2 * H, width=2 * W))
        made.follow(OneProcess(), B)  # type: ignore[arg-type]
    for name in ("low", "high"):
        bank: Any = made.memory.banks[name]
        assert (bank.filled > 0).all()
        assert bank.moments().counts.sum(1).tolist() == bank.filled.tolist()


def test_a_resumed_run_starts_again_at_the_same_step() -> None:
    settings = {"warmup": 2, "collect": 1, "restart": 5, "bank": 100, "start": 10, "momentum": 0.5}
    whole, first, second = (not_begun(plugin(**settings)) for _ in range(3))

    def steps(made: MPCL, numbers: range) -> None:
        for step in numbers:
            made.terms(output(step), mixed(step))
            made.follow(OneProcess(), B)  # type: ignore[arg-type]

    steps(whole, range(8))
    steps(first, range(4))
    second.load_state_dict(first.state_dict())
    steps(second, range(4, 8))
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(second.state_dict()[key], value)


def test_a_restart_before_the_start_is_refused() -> None:
    with pytest.raises(ValueError, match="give a step above warmup"):
        MPCLConfig(warmup=500, collect=50, restart=550)
    assert MPCLConfig(warmup=500, collect=50, restart=551).restart == 551


# ---- source images, another branch, the record ----


def test_contrast_of_source_images_restated() -> None:
    """Equation 15: weight one, no prototype prediction; nothing of it enters a bank."""
    made, seen, out = plugin(domains="target"), mixed(), output()
    terms = made.source_terms(out, seen.labels)
    known = torch.ones_like(seen.pasted)
    contrast, _ = restated(plugin(domains="both"), out.features, Mixed(seen.labels, known.float(), known, known))
    assert list(terms) == ["prototype contrast of source/low"]
    torch.testing.assert_close(terms["prototype contrast of source/low"].mean(), 0.1 * contrast, rtol=1e-4, atol=1e-6)
    assert not made._seen


def test_labels_are_taken_at_the_centres_of_cells() -> None:
    seen = mixed(height=4 * H, width=4 * W)
    small = plugin().taking_part(seen, (H, W))
    assert torch.equal(small.labels, seen.labels[:, 2::4, 2::4])
    assert torch.equal(small.pasted, seen.pasted[:, 2::4, 2::4])


@pytest.mark.parametrize("name", ["timm:resnet10t", "daformer:resnet10t", "hrda:timm:resnet10t"])
def test_a_branch_of_its_own_reads_the_maps_of_the_encoder(name: str, tmp_path: Path) -> None:
    """Losses reach the encoder through the branch alone, and prototypes predict through it."""
    torch.manual_seed(0)
    inner = {"base": {"width": 16}} if name.startswith("hrda") else {"width": 16}
    network = build_segmenter(name, K, **inner)
    settings = {"channels": D, "prototypes": PARTS, "branch": "fusion", "predict": "prototypes"}
    made = make("mpcl", network, feature_classes="all", mpcl=settings)
    assert isinstance(made, DAFormer)
    assert made.mpcl is not None
    trained = plugin()
    for own, found in zip(made.mpcl.memory.prototypes, trained.memory.prototypes, strict=True):
        own.copy_(found)
    output = network.train()(torch.rand(B, 3, 64, 64))
    height, width = output.features.shape[-2:]
    seen = Mixed(*(torch.ones(B, 64, 64, dtype=t) for t in (torch.int64, torch.float32, torch.bool, torch.bool)))
    terms = made.mpcl.terms(output, seen)
    assert len(terms) == (4 if name.startswith("hrda") else 2)
    assert made.mpcl._seen["low"].features.shape == (B, height * width, D)
    sum(term.mean() for term in terms.values()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in made.mpcl.projection.parameters())
    body = network.base if name.startswith("hrda") else network
    assert next(body.encoder.parameters()).grad is not None  # type: ignore[union-attr]
    assert all(p.grad is None for head in body.head_modules() for p in head.parameters())  # type: ignore[union-attr, operator]
    result, images = made.eval().result().eval(), torch.rand(1, 3, 40, 56)
    save_model(tmp_path / "m.safetensors", result, SPACE, {})
    with torch.no_grad():
        again = load_model(tmp_path / "m.safetensors").model.eval()(images).logits
        torch.testing.assert_close(again, result(images).logits)
        save_prototypes(tmp_path / "p.safetensors", made.mpcl.around(network))
        beside = load_prototypes(tmp_path / "p.safetensors", network)(images).logits
        torch.testing.assert_close(beside, result(images).logits)


def test_a_network_without_named_maps_refuses_a_branch_of_its_own() -> None:
    with pytest.raises(RequestError, match=r"mpcl\.branch=projection"):
        make("mpcl", Pointwise(), feature_classes="all", mpcl={"channels": D, "branch": "fusion"})


def test_the_record_says_how_prototypes_are_used() -> None:
    made = not_begun(plugin(warmup=1, bank=500, start=10, confident=False))
    numbers = []
    for step in range(2):
        made.terms(output(step), mixed(step))
        made.follow(OneProcess(), B)  # type: ignore[arg-type]
        numbers.append(made.memory.measured())
    assert all(math.isnan(float(v)) for name, v in numbers[0].items() if name != "classes with prototypes")
    assert [int(n["classes with prototypes"]) for n in numbers] == [0, K]
    bank: Any = made.memory.banks["low"]
    shares = bank.moments().counts / bank.moments().counts.sum(1, keepdim=True)
    entropy = -(shares * shares.clamp(min=1e-9).log()).sum(1).mean() / math.log(PARTS)
    assert float(numbers[1]["prototype use"]) == pytest.approx(float(entropy), rel=1e-4)
    means = made.memory.means
    own = [
        min(float((means[k, p] - means[k, q]).norm()) for q in range(PARTS) if q != p)
        for k in range(K)
        for p in range(PARTS)
    ]
    assert float(numbers[1]["prototype distance, own class"]) == pytest.approx(sum(own) / len(own), rel=1e-3)
