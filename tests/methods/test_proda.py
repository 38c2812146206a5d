"""ProDA's first stage and the distillation, against restatements that spell everything out."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segadapt.data.loader import Samples
from segadapt.data.strong import Strong
from segadapt.labels import IGNORE
from segadapt.methods.distill import Distill, strong_labels
from segadapt.methods.environment import Prediction
from segadapt.methods.proda import ProDA
from tests.methods.small import D, K, Pointwise, backward, gradients, make, samples

H, W = 24, 32
SMALL = (H // 4, W // 4)


def mirrored(images: Tensor, cut: bool = False) -> Strong:
    """Strong views that are mirror images, the upper half of the last one cut out."""
    theta = torch.tensor([[-1.0, 0, 0], [0, 1, 0]]).expand(len(images), 2, 3)
    cutout = torch.zeros(len(images), 4)
    if cut:
        cutout[-1] = torch.tensor([0.0, 0.0, 0.5, 1.0])
    return Strong(images.flip(3), theta, cutout)


def batches(cut: bool = True) -> dict[str, Samples]:
    rng = torch.Generator().manual_seed(5)
    scores = torch.randn(2, K, H // 2, W // 2, generator=rng).log_softmax(1).half()
    target = samples(2, 2, H, W, 1, False, scores=scores, whole=True)
    return {"source": samples(1, 2, H, W, 0, True), "target": target._replace(strong=mirrored(target.images, cut))}


def proda(**settings: Any) -> ProDA:
    method = make("proda", Pointwise(), batch_size=2, **settings)
    assert isinstance(method, ProDA)
    rng = torch.Generator().manual_seed(6)
    method.prototypes.copy_(torch.randn(K, D, generator=rng))
    assert method.teacher is not None
    method.teacher.load_state_dict(Pointwise(seed=3).state_dict())
    return method.train()


class Restated:
    """The lines of the algorithm box, pixel maps written out."""

    def __init__(self, method: ProDA, batch: dict[str, Samples]):
        c = method.config
        s, t = batch["source"], batch["target"]
        full = F.interpolate(method.model(s.images).logits, (H, W), mode="bilinear")
        self.source = F.cross_entropy(full, s.labels, ignore_index=IGNORE)
        with torch.no_grad():
            assert method.teacher is not None
            self.seen = method.teacher(t.images)
            near = F.interpolate(self.seen.features, SMALL, mode="bilinear")
            self.z = (-self.distance(near, method.prototypes) * method.temperature).softmax(1)
            assert t.scores is not None
            p0 = F.interpolate(t.scores.float(), SMALL, mode="bilinear").softmax(1)
            self.labels = (p0 * self.z).argmax(1)
        o = F.interpolate(method.model(t.images).logits, SMALL, mode="bilinear")
        p = o.softmax(1)
        self.ce = F.cross_entropy(o, self.labels)
        onehot = F.one_hot(self.labels, K).permute(0, 3, 1, 2).float().clamp(1e-4, 1)
        self.rce = -(p.clamp(1e-7, 1) * onehot.log()).sum(1).mean()
        self.reg = -o.log_softmax(1).mean()
        assert t.strong is not None
        f = F.interpolate(method.model(t.strong.images).features, SMALL, mode="bilinear")
        log_s = (-self.distance(f, method.prototypes) * method.temperature).log_softmax(1)
        z = self.z.flip(3)
        kl = z * (z.log() - log_s)
        keep = torch.ones_like(kl, dtype=torch.bool)
        keep[-1, :, : SMALL[0] // 2] = False
        self.kl = kl[keep].mean()
        self.total = (
            self.source + c.alpha * self.ce + c.beta * self.rce + c.regulariser * self.reg + c.structure * self.kl
        )

    @staticmethod
    def distance(features: Tensor, prototypes: Tensor) -> Tensor:
        return torch.stack([(features - e[:, None, None]).norm(dim=1) for e in prototypes], 1)


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_a_step_is_that_of_the_box(temperature: float) -> None:
    method, batch = proda(temperature=temperature, prototype_momentum=0.9, teacher_momentum=0.5), batches()
    expected = Restated(copy.deepcopy(method), batch)
    values = backward(method.step(batch))
    assert values["source"] == pytest.approx(expected.source.item(), rel=1e-5)
    assert values["ce"] == pytest.approx(0.1 * expected.ce.item(), rel=1e-4)
    assert values["rce"] == pytest.approx(expected.rce.item(), rel=1e-4)
    assert values["regulariser"] == pytest.approx(0.1 * expected.reg.item(), rel=1e-4)
    assert values["structure"] == pytest.approx(10 * expected.kl.item(), rel=1e-3)
    assert method.online is not None
    assert torch.equal(method.online.sets["rectified"], expected.labels)

    assert method.temperature.item() == pytest.approx(temperature)
    twin = proda(temperature=temperature)
    Restated(twin, batch).total.backward()
    for got, wanted in zip(gradients(method.model), gradients(twin.model), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-5)
    assert method.teacher is not None
    assert not gradients(method.teacher)


class OneProcess:
    def gather(self, tensor: Tensor, samples: int) -> Tensor:
        assert len(tensor) == samples
        return tensor


@pytest.mark.parametrize("update", ["step", "image"])
def test_teacher_and_prototypes_follow(update: str) -> None:
    settings = {"prototype_momentum": 0.9, "teacher_momentum": 0.75, "least_pixels": 3, "prototype_update": update}
    method, batch = proda(**settings), batches()
    expected = Restated(copy.deepcopy(method), batch)
    before, teacher = method.prototypes.clone(), copy.deepcopy(method.teacher)
    assert teacher is not None
    backward(method.step(batch))
    method.after_step(OneProcess())  # type: ignore[arg-type]
    features, logits = expected.seen.features.flatten(2), expected.seen.logits.flatten(2)
    if update == "step":  # both images as one
        features, logits = (x.transpose(0, 1).flatten(1)[None] for x in (features, logits))
    e = before.clone()
    for f, out in zip(features, logits, strict=True):
        for k in range(K):
            members = f[:, out.argmax(0) == k]
            if members.shape[1] >= 3:
                e[k] = 0.9 * e[k] + 0.1 * members.mean(1)
    torch.testing.assert_close(method.prototypes, e)
    assert not torch.equal(e, before)
    assert method.teacher is not None
    for old, new, student in zip(
        teacher.parameters(), method.teacher.parameters(), method.model.parameters(), strict=True
    ):
        torch.testing.assert_close(new, 0.75 * old + 0.25 * student)


def labels_of(**settings: Any) -> Tensor:
    method = proda(**settings)
    backward(method.step(batches()))
    assert method.online is not None
    return method.online.sets["rectified"]


def test_every_ablation_changes_the_labels_or_the_terms() -> None:
    whole = labels_of()
    assert not torch.equal(labels_of(weights="none"), whole)
    assert not torch.equal(labels_of(weights="prediction"), whole)
    assert not torch.equal(labels_of(labels="predicted"), whole)
    assert (labels_of(threshold=0.9) == IGNORE).any()
    method = proda(weights="none")
    backward(method.step(batches()))
    assert method.online is not None
    assert torch.equal(method.online.sets["rectified"], method.online.sets["before rectification"])
    assert set(backward(proda(structure=0).step(batches()))) == {"source", "ce", "rce", "regulariser"}
    assert set(backward(proda(regulariser=0, beta=0, alpha=1).step(batches()))) == {"source", "ce", "structure"}
    hard, soft = backward(proda().step(batches())), backward(proda(hard=False).step(batches()))
    assert hard["ce"] != soft["ce"]
    assert hard["structure"] == soft["structure"]


@pytest.mark.parametrize("published", [None, 19, 5])
def test_the_consistency_weighs_as_much_per_class_as_in_the_published_run(published: int | None) -> None:
    made = proda(published_classes=published)
    plain, scaled = backward(proda().step(batches())), backward(made.step(batches()))
    factor = 1.0 if published is None else len(made.space) / published
    assert scaled["structure"] == pytest.approx(plain["structure"] * factor, rel=1e-5)
    assert {k: v for k, v in scaled.items() if k != "structure"} == {k: v for k, v in plain.items() if k != "structure"}


def test_no_teacher_where_nothing_asks_for_one() -> None:
    method = make("proda", Pointwise(), weights="none", structure=0)
    assert isinstance(method, ProDA)
    assert method.teacher is None
    assert not any(key.startswith("teacher") for key in method.state_dict())
    batch = batches()
    batch["target"] = batch["target"]._replace(whole=None, strong=None)
    assert all(math.isfinite(value) for value in backward(method.step(batch)).values())
    method.after_step(OneProcess())  # type: ignore[arg-type]


class NoImages:
    """As much of an environment as streams ask for."""

    has_source = True
    source: tuple[()] = ()
    target: tuple[()] = ()
    source_size = target_size = None

    def soft_label(self, index: int) -> None: ...


@pytest.mark.parametrize(("structure", "weights"), [(0.0, "none"), (0.0, "prototypes"), (10.0, "none")])
def test_streams_hold_only_what_a_step_uses(structure: float, weights: str) -> None:
    method = make("proda", Pointwise(), weights=weights, structure=structure)
    target = method.streams(0, NoImages())["target"]  # type: ignore[arg-type]
    assert (target.strong is not None) == (structure > 0)
    assert target.whole == (structure > 0 or weights == "prototypes")
    assert target.parts[0].scores is not None


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_mode_of_the_teacher(mode: str) -> None:
    method = make("proda", Pointwise(), teacher_mode=mode)
    assert isinstance(method, ProDA)
    assert method.train().teacher.training == (mode == "train")  # type: ignore[union-attr]
    assert not method.eval().teacher.training  # type: ignore[union-attr]


def test_places_beside_the_image_teach_nothing() -> None:
    """A crop larger than its image: labels there are ignored, in the weak and in the strong view."""
    method, batch = proda(), batches(cut=False)
    wide = [w._replace(width=2 * W) for w in batch["target"].windows]
    batch["target"] = batch["target"]._replace(windows=wide)
    backward(method.step(batch))
    assert method.online is not None
    labels = method.online.sets["rectified"]
    assert (labels[..., SMALL[1] // 2 :] == IGNORE).all()
    assert (labels[..., : SMALL[1] // 2] != IGNORE).all()


class FewImages:
    """Target and source sets of three images; keeps what it is given."""

    def __init__(self) -> None:
        rng = torch.Generator().manual_seed(9)
        self.images = torch.rand(3, 1, 3, H, W, generator=rng)
        self.truth = torch.randint(0, K, (3, 1, H, W), generator=rng)
        self.soft: dict[int, Tensor] = {}
        self.labels: dict[int, Tensor] = {}
        self.reported: dict[str, Any] = {}

    def target_images(self) -> Any:
        yield from enumerate(self.images)

    def source_images(self) -> Any:
        yield from zip(self.images, self.truth, strict=True)

    def keep_soft_label(self, index: int, log_p: Tensor) -> None:
        self.soft[index] = log_p

    def keep_label(self, index: int, label: Tensor, confidence: Tensor) -> None:
        self.labels[index] = label
        assert confidence.shape == label.shape == (H, W)

    def sum(self, tensors: Any) -> None:
        pass

    def report(self, values: dict[str, Any]) -> None:
        self.reported.update(values)


@pytest.mark.parametrize("mean", ["pixels", "images"])
@pytest.mark.parametrize("initial", ["target", "source", "source_right"])
@torch.no_grad()
def test_preparation(initial: str, mean: str) -> None:
    """First prototypes: which pixels count, and whether every pixel or every image counts alike."""
    method, environment = proda(prototype_initial=initial, prototype_mean=mean, least_pixels=2), FewImages()
    method.eval()
    method.prepare(0, environment)  # type: ignore[arg-type]
    members: list[list[Tensor]] = [[] for _ in range(K)]
    for index, image in environment.target_images():
        out = method.model(image)
        torch.testing.assert_close(environment.soft[index], out.logits[0].log_softmax(0))
        predicted, known = out.logits.argmax(1)[0], environment.truth[index][0, ::2, ::2]
        classes = predicted if initial == "target" else known
        right = (predicted == known) | (initial != "source_right")
        for k in range(K):
            members[k].append(out.features[0][:, (classes == k) & right])
    for k in range(K):
        if mean == "pixels":
            wanted = torch.cat(members[k], 1).mean(1).nan_to_num()
        else:
            means = [m.mean(1) for m in members[k] if m.shape[1] >= 2]
            wanted = torch.stack(means).mean(0) if means else torch.zeros(D)
        torch.testing.assert_close(method.prototypes[k], wanted)
    assert len(environment.labels) == 3
    assert method.temperature.item() == 1


@torch.no_grad()
def test_the_temperature_follows_the_scale_of_the_features() -> None:
    """Features that are s times as large have distances s times as large; the weights then are the same."""
    assignments = []
    for scale in (1.0, 3.0):
        method, environment = proda(temperature=2.0, temperature_at=256.0), FewImages()
        network = method.eval().model.forward

        def scaled(images: Tensor, network: Any = network, scale: float = scale) -> Any:
            out = network(images)
            return out._replace(features=out.features * scale)

        method.model.forward = scaled  # type: ignore[method-assign]
        method.prepare(0, environment)  # type: ignore[arg-type]
        features = torch.cat([method.model(image).features for _, image in environment.target_images()])
        variance = features.transpose(0, 1).flatten(1).var(1, correction=0).sum()
        assert method.temperature.item() == pytest.approx(2 * math.sqrt(256 / variance.item()), rel=1e-4)
        measured = environment.reported["measured"]
        assert measured["feature_variance"] == pytest.approx(variance.item(), rel=1e-4)
        assert measured["temperature"] == pytest.approx(method.temperature.item())
        assert "temperature" in method.state_dict()  # a resumed run goes on with it
        assignments.append((-Restated.distance(features, method.prototypes) * method.temperature).softmax(1))
    torch.testing.assert_close(*assignments, rtol=1e-3, atol=1e-5)
    plain, environment = proda(temperature=2.0), FewImages()
    plain.eval().prepare(0, environment)  # type: ignore[arg-type]
    assert plain.temperature.item() == 2
    assert environment.reported["measured"]["feature_variance"] > 0


# ---- distillation ----


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_a_step_of_the_distillation(variant: str) -> None:
    student, teacher = Pointwise(), Pointwise(seed=4)
    method = make("distill", student, teacher, variant=variant, weight=0.5).train()
    batch = batches()
    rng = torch.Generator().manual_seed(8)
    target = batch["target"]._replace(labels=torch.randint(0, K, (2, H, W), generator=rng))
    values = backward(method.step({**batch, "target": target}))
    assert target.strong is not None
    labels = target.labels[:, ::4, ::4].flip(2)
    labels[-1, : SMALL[0] // 2] = IGNORE
    logits = F.interpolate(student(target.strong.images).logits, SMALL, mode="bilinear")
    p, q = (
        F.interpolate(m(target.strong.images).logits, SMALL, mode="bilinear").softmax(1) for m in (teacher, student)
    )
    assert values["target"] == pytest.approx(F.cross_entropy(logits, labels, ignore_index=IGNORE).item(), rel=1e-5)
    divergence = (p * (p.log() - (q.log() if variant == "paper" else q))).sum(1).mean()
    per = 1 if variant == "paper" else K
    assert values["distillation"] == pytest.approx(0.5 * divergence.item() / per, rel=1e-4)
    assert not gradients(teacher)
    assert not teacher.training


def test_labels_of_strong_views() -> None:
    labels = torch.randint(0, K, (2, 8, 12))
    labels[0, 0, 0] = IGNORE
    shift = torch.tensor([[1.0, 0, 2 * 3 / 12], [0, 1, 0]]).expand(2, 2, 3)  # three columns further right
    moved = strong_labels(labels, Strong(torch.zeros(2, 3, 8, 12), shift, torch.zeros(2, 4)), (8, 12))
    assert torch.equal(moved[:, :, :9], labels[:, :, 3:])
    assert (moved[:, :, 9:] == IGNORE).all()
    moved = strong_labels(labels, mirrored(torch.zeros(2, 3, 8, 12)), (8, 12))
    assert moved[0, 0, -1] == IGNORE
    assert torch.equal(moved, labels.flip(2))


class Predicting:
    def __init__(self) -> None:
        self.labels: dict[int, Tensor] = {}
        self.asked: Any = None

    def predict_target(self, model: Any, inference: Any) -> Any:
        self.asked = (model, inference)
        p = torch.full((K, 2, 2), 0.02)
        p[3] = torch.tensor([[0.96, 0.95], [0.94, 0.2]])
        return [Prediction(0, p)]

    def keep_label(self, index: int, label: Tensor, confidence: Tensor) -> None:
        self.labels[index] = label


def test_confident_labels_of_the_teacher() -> None:
    teacher = Pointwise(seed=4)
    method = make("distill", Pointwise(), teacher)
    assert isinstance(method, Distill)
    environment = Predicting()
    method.prepare(0, environment)  # type: ignore[arg-type]
    assert environment.asked[0] is teacher
    assert environment.asked[1].flip
    assert environment.labels[0].tolist() == [[3, IGNORE], [IGNORE, IGNORE]]
