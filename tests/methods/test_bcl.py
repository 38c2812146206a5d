"""BCL against a restatement that goes pair by pair and class by class."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segadapt.data.loader import Samples
from segadapt.labels import IGNORE
from segadapt.methods.bcl import BCL
from segadapt.methods.environment import Prediction
from segadapt.pieces.prototypes import ClassMeans
from tests.methods.small import D, K, Pointwise, backward, gradients, make, samples
from tests.methods.test_proda import OneProcess

H, W = 12, 16


def bcl(**settings: Any) -> BCL:
    method = make("bcl", Pointwise(), **{"batch_size": 2, "features": "network", **settings})
    assert isinstance(method, BCL)
    rng = torch.Generator().manual_seed(3)
    method.mu.copy_(torch.randn(2, K, D, generator=rng) * 0.3)
    method.seen.copy_(torch.tensor([[True] * K, [True, True, False, True, True]]))
    return method.train()  # type: ignore[return-value]


def batches() -> dict[str, Samples]:
    target = samples(2, 2, H, W, 1, True)
    static = target.labels.clone()
    static[:, :, ::3] = IGNORE
    return {"source": samples(1, 2, H, W, 0, True), "target": target._replace(labels=static)}


def cosine(features: Tensor, vector: Tensor) -> Tensor:
    return F.cosine_similarity(features, vector[:, None, None], dim=0)


def means(features: Tensor, labels: Tensor, enough: float) -> dict[int, Tensor]:
    return {c: features[:, labels == c].mean(1) for c in range(K) if int((labels == c).sum()) >= max(1, enough)}


def contrast(features: Tensor, labels: Tensor, rho: dict[int, Tensor], temperature: float) -> list[Tensor]:
    classes = sorted(rho)
    log_p = (torch.stack([cosine(features, rho[c]) for c in classes]) / temperature).log_softmax(0)
    return [-log_p[i][labels == c] for i, c in enumerate(classes)]


def padded_batches() -> dict[str, Samples]:
    """The same crops, of which the target's reach beyond their image: their last columns are padding."""
    batch = batches()
    target = batch["target"]
    labels = target.labels.clone()
    labels[..., W - 4 :] = IGNORE
    return {**batch, "target": target._replace(labels=labels, sizes=[(H, W - 4)] * 2)}


@pytest.mark.parametrize("dynamic", ["calibrated", "plain", "running", "none"])
@pytest.mark.parametrize(
    "settings",
    [
        {"confidence": "cosine", "threshold": 0.6, "least": 0.0},
        {"confidence": "softmax", "threshold": 0.5, "target_labels": "hybrid", "least": 0.15},
        {"confidence": "softmax", "threshold": 0.5, "bias_from": "static", "temperature": 0.2},
    ],
    ids=["cosine", "hybrid", "static bias"],
)
@pytest.mark.parametrize("padding", [False, True])
def test_a_step_is_that_of_the_box(dynamic: str, settings: dict[str, Any], padding: bool) -> None:
    method = bcl(dynamic=dynamic, prototype_momentum=0.75, **settings)
    batch = padded_batches() if padding else batches()
    twin, c = copy.deepcopy(method), method.config
    values = backward(method.step(batch))
    s, t = batch["source"], batch["target"]
    source, target = twin.model(s.images), twin.model(t.images)
    columns = (W - 4) // 2 if padding else W // 2
    forward, back, learnt_labels = [], [], []
    rho: list[tuple[dict[int, Tensor], dict[int, Tensor]]] = []
    for i in range(2):
        y_s, y_f = s.labels[i, ::2, ::2], t.labels[i, ::2, ::2]
        rho_s = means(source.features[i], y_s, c.least * H * W / 4)
        bias = {k: twin.mu[1, k] - twin.mu[0, k] if bool(twin.seen[:, k].all()) else 0 for k in range(K)}
        moved = {
            "plain": rho_s,
            "calibrated": {k: v + bias[k] for k, v in rho_s.items()},
            "running": {k: twin.mu[0, k] for k in range(K)},
            "none": {},
        }[dynamic]
        y_d = torch.full_like(y_f, IGNORE)
        if dynamic != "none":
            classes = sorted(moved)
            similar = torch.stack([cosine(target.features[i], moved[k]) for k in classes])
            best, place = (similar if c.confidence == "cosine" else (similar / c.temperature).softmax(0)).max(0)
            y_d = torch.where(best > c.threshold, torch.tensor(classes)[place], IGNORE)
            y_d[:, columns:] = IGNORE
            assert 0 < int((y_d != IGNORE).sum()) < y_d.numel()
        y_t = torch.where(y_d != IGNORE, y_d, y_f)
        enough = c.least * H * columns / 2
        rho_t = means(target.features[i], y_t, enough)
        rho.append((rho_s, rho_t if c.bias_from == "hybrid" else means(target.features[i], y_f, enough)))
        forward += contrast(target.features[i], y_t, rho_s, c.temperature)
        back += contrast(source.features[i], y_s, rho_t, c.temperature)
        fine = y_d.repeat_interleave(2, 0).repeat_interleave(2, 1)
        hybrid = torch.where(fine != IGNORE, fine, t.labels[i])
        learnt_labels.append(hybrid if c.target_labels == "hybrid" else t.labels[i])
    full = [F.interpolate(out.logits, (H, W), mode="bilinear") for out in (source, target)]
    h_s, h_t = (-(z.softmax(1) * z.log_softmax(1)).sum(1) for z in full)
    h_s, h_t = h_s.mean(), h_t[..., : 2 * columns].mean()
    expected = {
        "source": F.cross_entropy(full[0], s.labels, ignore_index=IGNORE),
        "source entropy": c.source_entropy * h_s,
        "target": 0.3 * F.cross_entropy(full[1], torch.stack(learnt_labels), ignore_index=IGNORE),
        "target entropy": c.target_entropy * h_t,
        "forward contrast": 0.2 * torch.cat(forward).mean(),
        "backward contrast": 0.2 * torch.cat(back).mean(),
    }
    assert values == {name: pytest.approx(value.item(), rel=1e-4) for name, value in expected.items()}
    torch.stack(list(expected.values())).sum().backward()
    for got, wanted in zip(gradients(method.model), gradients(twin.model), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-6)

    method.after_step(OneProcess())  # type: ignore[arg-type]
    for domain in (0, 1):
        mu, seen = twin.mu[domain].clone(), twin.seen[domain].clone()
        for pair in rho:
            for c, vector in pair[domain].items():
                mu[c] = 0.75 * mu[c] + 0.25 * vector.detach() if seen[c] else vector.detach()
                seen[c] = True
        torch.testing.assert_close(method.mu[domain], mu)
        assert torch.equal(method.seen[domain], seen)


def test_rows_of_the_ablation() -> None:
    base = {"forward_contrast": 0, "backward_contrast": 0, "dynamic": "none"}
    common = {"source", "source entropy", "target", "target entropy"}
    assert set(backward(bcl(**base).step(batches()))) == common
    assert set(backward(bcl(**{**base, "forward_contrast": 0.2}).step(batches()))) == common | {"forward contrast"}
    assert set(backward(bcl(source_entropy=0, target_entropy=0).step(batches()))) == {
        "source",
        "target",
        "forward contrast",
        "backward contrast",
    }
    usual, more = backward(bcl().step(batches())), backward(bcl(source_weight=3, target_weight=0.6).step(batches()))
    wanted = {**usual, "source": 3 * usual["source"], "target": 2 * usual["target"]}
    assert more == pytest.approx(wanted, rel=1e-5)
    method = bcl(dynamic="none")
    backward(method.step(batches()))
    assert method.online is not None
    assert torch.equal(method.online.sets["hybrid"], method.online.sets["static"])
    assert not torch.equal(*method.online.alternatives().values())


class Environment:
    def __init__(self) -> None:
        rng = torch.Generator().manual_seed(0)
        self.maps = [torch.randn(K, H, W, generator=rng).softmax(0) for _ in range(3)]
        self.labels: dict[int, Tensor] = {}
        self.reported: dict[str, Any] = {}

    def predict_target(self, model: Any, inference: Any) -> Any:
        return [Prediction(i, p) for i, p in enumerate(self.maps)]

    def sum(self, tensors: Any) -> None:
        pass

    def report(self, values: dict[str, Any]) -> None:
        self.reported = values

    def keep_label(self, index: int, label: Tensor, confidence: Tensor) -> None:
        self.labels[index] = label


@pytest.mark.parametrize("static", ["cbst", "official"])
def test_static_labels(static: str) -> None:
    method, environment = bcl(static=static, portion=0.2), Environment()
    method.prepare(0, environment)  # type: ignore[arg-type]
    p = torch.stack(environment.maps)
    confidence, predicted = p.max(1)
    for c in range(K):
        ranked = confidence[predicted == c].sort(descending=True).values
        assert method.thresholds[c] == pytest.approx(float(ranked[int(0.2 * len(ranked)) - 1]))
    chosen = torch.stack([environment.labels[i] for i in range(3)])
    wanted = (p >= method.thresholds[:, None, None]).any(1)
    if static == "official":
        limits = confidence.flatten(1).sort(1, descending=True).values[:, int(0.2 * H * W) - 1]
        wanted |= confidence > limits[:, None, None]
        assert torch.equal(chosen[wanted], predicted[wanted].to(torch.uint8))
    assert torch.equal(chosen != IGNORE, wanted)


def test_prototypes_of_classes_never_seen_are_not_calibrated() -> None:
    method = bcl()
    method.seen.zero_()
    batch = batches()
    rho = ClassMeans(torch.randn(2, K, D), torch.ones(2, K, dtype=torch.bool))
    method._labels(batch["target"], method.model(batch["target"].images).features, rho)
    assert method.online is not None
    assert list(method.online.sets) == ["static", "dynamic", "hybrid"]
    assert torch.equal(method.online.sets["dynamic"], method.online.alternatives()["dynamic, not calibrated"])


def test_running_prototypes_label_nothing_before_they_are_seen() -> None:
    method = bcl(dynamic="running", confidence="cosine", threshold=-1)
    backward(method.step(batches()))
    assert method.online is not None
    assert list(method.online.sets) == ["static", "dynamic, running", "hybrid"]
    assert bool((method.online.sets["dynamic, running"] != IGNORE).any())
    assert set(method.online.alternatives()) == {"dynamic", "dynamic, not calibrated"}
    method.seen.zero_()
    backward(method.step(batches()))
    assert torch.equal(method.online.sets["hybrid"], method.online.sets["static"])


def test_a_probability_is_no_negative_threshold() -> None:
    assert bcl(confidence="cosine", threshold=-0.5).config.threshold == -0.5
    with pytest.raises(ValueError, match=r"threshold is -0\.5.*softmax.*\[0, 1\)"):
        bcl(threshold=-0.5)
