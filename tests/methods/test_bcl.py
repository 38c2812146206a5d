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


def means(features: Tensor, labels: Tensor) -> dict[int, Tensor]:
    return {c: features[:, labels == c].mean(1) for c in range(K) if bool((labels == c).any())}


def contrast(features: Tensor, labels: Tensor, rho: dict[int, Tensor]) -> list[Tensor]:
    classes = sorted(rho)
    log_p = (torch.stack([cosine(features, rho[c]) for c in classes]) / 0.1).log_softmax(0)
    return [-log_p[i][labels == c] for i, c in enumerate(classes)]


@pytest.mark.parametrize("dynamic", ["calibrated", "plain", "none"])
@pytest.mark.parametrize("learnt", ["hybrid", "static"])
def test_a_step_is_that_of_the_box(dynamic: str, learnt: str) -> None:
    method, batch = bcl(dynamic=dynamic, target_labels=learnt, threshold=0.6, prototype_momentum=0.75), batches()
    twin = copy.deepcopy(method)
    values = backward(method.step(batch))
    s, t = batch["source"], batch["target"]
    source, target = twin.model(s.images), twin.model(t.images)
    forward, back, learnt_labels = [], [], []
    rho: list[tuple[dict[int, Tensor], dict[int, Tensor]]] = []
    for i in range(2):
        y_s, y_f = s.labels[i, ::2, ::2], t.labels[i, ::2, ::2]
        rho_s = means(source.features[i], y_s)
        bias = {c: twin.mu[1, c] - twin.mu[0, c] if bool(twin.seen[:, c].all()) else 0 for c in range(K)}
        moved = {c: v + (bias[c] if dynamic == "calibrated" else 0) for c, v in rho_s.items()}
        y_d = torch.full_like(y_f, IGNORE)
        if dynamic != "none":
            classes = sorted(moved)
            best, place = torch.stack([cosine(target.features[i], moved[c]) for c in classes]).max(0)
            y_d = torch.where(best > 0.6, torch.tensor(classes)[place], IGNORE)
            assert 0 < int((y_d != IGNORE).sum()) < y_d.numel()
        y_t = torch.where(y_d != IGNORE, y_d, y_f)
        rho_t = means(target.features[i], y_t)
        rho.append((rho_s, rho_t))
        forward += contrast(target.features[i], y_t, rho_s)
        back += contrast(source.features[i], y_s, rho_t)
        fine = y_d.repeat_interleave(2, 0).repeat_interleave(2, 1)
        learnt_labels.append(torch.where(fine != IGNORE, fine, t.labels[i]) if learnt == "hybrid" else t.labels[i])
    full = [F.interpolate(out.logits, (H, W), mode="bilinear") for out in (source, target)]
    h_s, h_t = (-(z.softmax(1) * z.log_softmax(1)).sum(1).mean() for z in full)
    expected = {
        "source": F.cross_entropy(full[0], s.labels, ignore_index=IGNORE),
        "source entropy": 0.4 * h_s,
        "target": 0.3 * F.cross_entropy(full[1], torch.stack(learnt_labels), ignore_index=IGNORE),
        "target entropy": 0.12 * h_t,
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
