"""CPSL: golden vectors of its code, one complete official step, and a restatement of ours."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segadapt.data.augment import Window
from segadapt.data.loader import Samples
from segadapt.data.strong import in_cutout, warp
from segadapt.errors import RequestError
from segadapt.labels import IGNORE
from segadapt.methods.cpsl import CPSL
from segadapt.pieces.cutmix import half_box, in_box, paste, paste_labels
from segadapt.pieces.denoising import hard_labels, rectified, symmetric_cross_entropy
from segadapt.pieces.losses import cross_entropy, log_probabilities, soft_negative_log_likelihood
from segadapt.pieces.optimal_transport import sinkhorn
from segadapt.pieces.prototypes import cosines
from segadapt.pieces.self_labelling import Sampled
from segadapt.pieces.structure import prototypical_consistency, symmetric_divergence
from segadapt.pieces.windows import in_windows
from tests.golden_vectors import golden_op
from tests.methods.small import D, K, Pointwise, backward, gradients, make, samples
from tests.methods.test_proda import FewImages, H, NoImages, OneProcess, W, batches

TAU = 0.08


def gradient(loss: Tensor, of: Tensor) -> Tensor:
    return torch.autograd.grad(loss, of, retain_graph=True)[0]


# ---- golden vectors ----


def test_rectification() -> None:
    golden = golden_op("cpsl_rectification")
    weight = (cosines(golden.tensor("feat"), golden.tensor("prototypes")) / golden.params["temperature"]).softmax(1)
    golden.assert_close("weight", weight)
    soft = rectified(golden.tensor("soft"), weight)
    golden.assert_close("rectified", soft)
    golden.assert_close("label", hard_labels(soft))


def self_label(z: Tensor, prototypes: Tensor, q: Tensor) -> Tensor:
    """Cross entropy of assignments [M, K] with the head's classes."""
    logits = z @ F.normalize(prototypes, dim=1).T / TAU
    return soft_negative_log_likelihood(logits.log_softmax(1).T[None], q.T[None]).mean()


def test_self_labelling() -> None:
    golden = golden_op("cpsl_self_labelling")
    z, prototypes = golden.tensor("z"), golden.tensor("prototypes").requires_grad_()
    losses = [self_label(z, prototypes, golden.tensor(f"q_{name}")) for name in ("features", "outputs")]
    golden.assert_close("loss_features", losses[0])
    golden.assert_close("loss_outputs", losses[1])
    golden.assert_close("self_label", losses[0] + losses[1])
    golden.assert_close("grad_prototypes", gradient(losses[0] + losses[1], prototypes))


def test_a_complete_step_of_the_published_code() -> None:
    """Everything but the contrastive term, whose labels are those of other pixels; it has gradients of its own."""
    golden = golden_op("cpsl_stage1_step")
    p = golden.params
    quarter = (p["crop_size"][0] // 4, p["crop_size"][1] // 4)

    def small(x: Tensor) -> Tensor:
        return F.interpolate(x, quarter, mode="bilinear", align_corners=True)

    source = golden.tensor("source_logits")
    truth = golden.tensor("source_labels")
    loss = cross_entropy(source, truth.masked_fill(truth == 250, IGNORE), p["crop_size"], align_corners=True)
    golden.assert_close("loss_source", loss.mean())

    windows = [
        Window(y1 // 4, x1 // 4, (y2 - y1) // 4, (x2 - x1) // 4, bool(flip))
        for (y1, y2, x1, x2), flip in zip(p["crop_y1y2x1x2"], p["flip"], strict=True)
    ]
    sizes = [(h // 4, w // 4) for h, w in p["resize_hw"]]
    slow = golden.tensor("prototypes_ema")
    teacher = in_windows(golden.tensor("teacher_feat"), windows, sizes, quarter, align_corners=True)
    assigned = (cosines(teacher, slow) / TAU).softmax(1)
    stored = F.interpolate(golden.tensor("soft_labels"), scale_factor=0.25, mode="bilinear", align_corners=True)
    labels = hard_labels(rectified(stored, assigned))
    golden.assert_close("rectified_labels", labels)
    logits, strong = golden.tensor("target_logits").requires_grad_(), golden.tensor("strong_feat").requires_grad_()
    terms = symmetric_cross_entropy(log_probabilities(small(logits)), labels, p["rce_alpha"], p["rce_beta"])
    golden.assert_close("ce", terms["ce"].mean() / p["rce_alpha"])
    golden.assert_close("rce", terms["rce"].mean())
    target = terms["ce"].mean() + terms["rce"].mean()
    golden.assert_close("loss_target", target)
    golden.assert_close("grad_target_logits", gradient(target, logits))

    theta = torch.stack([torch.diag(torch.tensor([-1.0 if f else 1.0, 1.0, 1.0]))[:2] for f in p["strong_Hflip"]])
    share = torch.tensor([quarter[0], quarter[1]] * 2)
    squares = torch.tensor(
        [(y0 // 4, x0 // 4, y1 // 4, x1 // 4) for x0, y0, x1, y1 in p["strong_CutoutAbs_x0_y0_x1_y1"]]
    )
    valid = ~in_cutout(squares / share, *quarter)
    similar = cosines(small(strong), slow)
    consistency = prototypical_consistency(-similar, warp(assigned, theta, "nearest"), valid, 1 / TAU).mean()
    golden.assert_close("consistency", consistency)
    golden.assert_close("grad_strong_feat", gradient(p["proto_consistW"] * consistency, strong))

    # One image after the other; the first one's pixels are in the bank of the second.
    raw = golden.tensor("prototypes").requires_grad_()
    bank, bank_out = golden.tensor("queue"), golden.tensor("queue_out")
    chosen = golden.tensor("perm")[: p["fbs"]]
    r, by_features, by_outputs, losses = golden.tensor("distribution"), [], [], []
    for i in range(len(teacher)):
        z = F.normalize(golden.tensor("teacher_feat")[i].flatten(1)[:, chosen].T, dim=1)
        outputs = F.normalize(golden.tensor("teacher_logits")[i].flatten(1)[:, chosen].T, dim=1)
        with torch.no_grad():
            scores = torch.cat([bank @ raw.T, z @ F.normalize(raw, dim=1).T])
            by_features.append(sinkhorn(scores, r)[-len(z) :])
            by_outputs.append(sinkhorn(torch.cat([bank_out, outputs]), r)[-len(z) :])
        losses += [self_label(z, raw, q) for q in (by_features[-1], by_outputs[-1])]
        bank, bank_out = (torch.cat([new, old[: -len(z)]]) for new, old in ((z, bank), (outputs, bank_out)))
    golden.assert_close("q_features", torch.stack(by_features))
    golden.assert_close("q_outputs", torch.stack(by_outputs))
    golden.assert_close("queue_after", bank)
    golden.assert_close("queue_out_after", bank_out)
    features, outputs_loss = torch.stack(losses[::2]).mean(), torch.stack(losses[1::2]).mean()
    golden.assert_close("self_label_features", features)
    golden.assert_close("self_label_outputs", outputs_loss)
    golden.assert_close("self_label", features + outputs_loss)
    golden.assert_close("grad_prototypes", gradient(p["SL_lambda"] * (features + outputs_loss), raw))
    total = target + p["proto_consistW"] * consistency + p["SL_lambda"] * (features + outputs_loss)
    golden.assert_close("loss", total + p["contrast_lambda"] * golden.tensor("contrast"))


# ---- our step ----


def cpsl(**settings: Any) -> CPSL:
    method = make("cpsl", Pointwise(), **{"batch_size": 2, "cutmix": 0.0, "samples": 10, "bank": 50, **settings})
    assert isinstance(method, CPSL)
    rng = torch.Generator().manual_seed(6)
    method.head.weight.data.copy_(torch.randn(K, D, generator=rng))
    method.slow_head.weight.data.copy_(torch.randn(K, D, generator=rng))
    assert method.teacher is not None
    method.teacher.load_state_dict(Pointwise(seed=3).state_dict())
    return method.train()  # type: ignore[return-value]


OFFICIAL = {"consistency_of": "assignment", "sampling": "uniform", "output_term": True, "partition": "fixed"}


@pytest.mark.parametrize("terms", [{}, OFFICIAL], ids=["paper", "official"])
def test_a_step_is_that_of_the_box(terms: dict[str, Any]) -> None:
    official = bool(terms)
    method, batch = cpsl(stride=2, share_momentum=0.9, teacher_momentum=0.5, bank=0, **terms), batches()
    before = copy.deepcopy(method)
    torch.manual_seed(2)
    values = backward(method.step(batch))
    s, t = batch["source"], batch["target"]
    assert before.teacher is not None
    assert t.scores is not None
    assert t.strong is not None
    with torch.no_grad():
        seen = before.teacher(t.images)
        z = F.normalize(seen.features, dim=1)
        c_slow = F.normalize(before.slow_head.weight, dim=1)
        p_sl = (torch.einsum("bdhw,kd->bkhw", z, c_slow) / TAU).softmax(1)
        y = (p_sl * t.scores.float().softmax(1)).argmax(1)
    logits = before.model(t.images).logits
    assert values["ce"] == pytest.approx(F.cross_entropy(logits, y).item(), rel=1e-4)
    strong = before.model(t.strong.images)
    if official:
        cosine = torch.einsum("bdhw,kd->bkhw", F.normalize(strong.features, dim=1), c_slow)
        p_w, p_s = p_sl.flip(3), (cosine / TAU).softmax(1)
        divergence = (p_w * (p_w / p_s).log()).mean(1)
    else:
        p_w, p_s = seen.logits.softmax(1).flip(3), strong.logits.softmax(1)
        divergence = (p_w * (p_w / p_s).log() + p_s * (p_s / p_w).log()).mean(1)
    keep = torch.ones_like(y, dtype=torch.bool)
    keep[-1, : keep.shape[1] // 2] = False
    assert values["consistency"] == pytest.approx(5 * divergence[keep].mean().item(), rel=1e-3)

    sampled = method._sampled
    assert sampled is not None
    flat = z.flatten(2).transpose(1, 2)
    place = (sampled.features[:, :, None] - flat[:, None]).norm(dim=3).argmin(2)
    torch.testing.assert_close(flat.gather(1, place[..., None].expand(-1, -1, D)), sampled.features)
    outputs = F.normalize(seen.logits, dim=1).flatten(2).transpose(1, 2)
    torch.testing.assert_close(outputs.gather(1, place[..., None].expand(-1, -1, K)), sampled.outputs)
    shares = torch.stack([torch.bincount(image.flatten(), minlength=K) / image.numel() for image in y])
    torch.testing.assert_close(sampled.shares, shares)
    if official:
        torch.manual_seed(2)
        torch.rand(())  # whether a box is pasted
        assert torch.equal(place, torch.rand(y.flatten(1).shape).topk(10, 1).indices)
    else:
        found = torch.stack([torch.bincount(c, minlength=K) for c in y.flatten(1).gather(1, place)])
        assert (found >= torch.floor(10 * shares)).all()

    head = F.normalize(before.head.weight, dim=1)
    losses = []
    for features, of_teacher in zip(sampled.features, sampled.outputs, strict=True):
        scores = features @ head.T
        q = sinkhorn(scores.detach(), before.shares, 0.05, 3)
        if official:
            q = q + sinkhorn(of_teacher, before.shares, 0.05, 3)
        losses.append(-(q * (scores / TAU).log_softmax(1)).sum(1).mean())
    loss = 0.1 * torch.stack(losses).mean()
    assert values["self-labelling"] == pytest.approx(loss.item(), rel=1e-4)
    (wanted,) = torch.autograd.grad(loss, before.head.weight)
    torch.testing.assert_close(gradients(method.head)[0], wanted, rtol=1e-3, atol=1e-6)
    assert method.slow_head.weight.grad is None

    method.after_step(OneProcess())  # type: ignore[arg-type]
    torch.testing.assert_close(method.slow_head.weight, 0.5 * (before.slow_head.weight + method.head.weight))
    r = before.shares
    for share in () if official else shares:
        r = 0.9 * r + 0.1 * share
    torch.testing.assert_close(method.shares, r)
    full = F.interpolate(before.model(s.images).logits, (H, W), mode="bilinear")
    source = F.cross_entropy(full, s.labels, ignore_index=IGNORE)
    assert values["source"] == pytest.approx(source.item(), rel=1e-4)


def test_the_bank_takes_part_in_the_assignment() -> None:
    method, batch = cpsl(), batches()
    backward(method.step(batch))
    alone = method._sampled
    assert alone is not None
    method.after_step(OneProcess())  # type: ignore[arg-type]
    assert int(method.bank.filled) == 20
    scores = torch.randn(2, 10, K)
    bank = method.bank.rows[:, D:]
    q = method._assigned(scores, bank)
    for i in range(2):
        both = torch.cat([bank[:20], scores[i]])
        torch.testing.assert_close(q[i], sinkhorn(both, method.shares)[20:])


def test_self_labelling_reaches_the_head_alone() -> None:
    method = cpsl()
    rng = torch.Generator().manual_seed(1)
    rows = [F.normalize(torch.randn(2, 10, n, generator=rng), dim=2) for n in (D, K)]
    method._self_labelling(Sampled(*rows, torch.ones(2, K) / K)).mean().backward()
    assert gradients(method.head)
    assert not gradients(method.model)


def test_the_head_has_an_optimiser_of_its_own() -> None:
    method = cpsl(head_optimiser={"name": "adamw", "lr": 0.25})
    trained = method.trained()
    assert trained["head"].network is method.head
    assert (trained["head"].optimiser.name, trained["head"].optimiser.lr) == ("adamw", 0.25)
    assert trained["model"].optimiser == method.config.optimiser


def test_ablations() -> None:
    def labels_of(**settings: Any) -> Tensor:
        method = cpsl(**settings)
        torch.manual_seed(0)
        backward(method.step(batches()))
        assert method.online is not None
        return method.online.sets["rectified"]

    whole = labels_of()
    assert not torch.equal(labels_of(weights="none"), whole)
    assert not torch.equal(labels_of(labels="none"), whole)
    assert set(backward(cpsl(consistency=0, self_labelling=0).step(batches()))) == {"source", "ce"}
    plain, scaled = (backward(cpsl(published_classes=n).step(batches())) for n in (None, 10))
    assert scaled["consistency"] == pytest.approx(plain["consistency"] * len(cpsl().space) / 10, rel=1e-5)
    official = make("cpsl_official", Pointwise(), samples=10, bank=50, batch_size=2)
    torch.manual_seed(1)
    assert set(backward(official.train().step(batches()))) == {"source", "ce", "rce", "consistency", "self-labelling"}
    with pytest.raises(ValueError, match="nothing is left to make pseudo labels of"):
        cpsl(labels="none", weights="none")


def test_strong_views_are_made_for_the_consistency_alone() -> None:
    for consistency in (0.0, 5.0):
        streams = cpsl(consistency=consistency).streams(0, NoImages())  # type: ignore[arg-type]
        assert (streams["target"].strong is not None) == (consistency > 0)
        assert streams["target"].whole


@pytest.mark.parametrize("partition", ["aligned", "fixed", "equal"])
@pytest.mark.parametrize("initial", ["prototypes", "random"])
@torch.no_grad()
def test_preparation(partition: str, initial: str) -> None:
    method, environment = cpsl(partition=partition, head_initial=initial), FewImages()
    before = method.head.weight.clone()
    method.eval()
    method.prepare(0, environment)  # type: ignore[arg-type]
    features, classes = [], []
    for _, image in environment.target_images():
        out = method.model(image)
        features.append(F.normalize(out.features, dim=1)[0].flatten(1).T)
        classes.append(out.logits.argmax(1).flatten())
    z, k = torch.cat(features), torch.cat(classes)
    if initial == "prototypes":
        for c in range(K):
            mean = z[k == c].sum(0)
            wanted = F.normalize(mean, dim=0) if (k == c).any() else before[c]  # never predicted: as it was
            torch.testing.assert_close(method.head.weight[c], wanted, rtol=1e-4, atol=1e-5)
        assert not all((k == c).any() for c in range(K))
    else:
        assert torch.equal(method.head.weight, before)
    assert torch.equal(method.head.weight, method.slow_head.weight)
    shares = torch.bincount(k, minlength=K) / len(k) if partition != "equal" else torch.full((K,), 1 / K)
    torch.testing.assert_close(method.shares, shares, rtol=1e-4, atol=2e-6)
    assert method.shares.min() > 0
    assert torch.equal(environment.reported["masses"], method.shares)


@pytest.mark.parametrize("labels", [{}, {"labels": "none"}, {"weights": "none"}])
@torch.no_grad()
def test_first_masses_from_rectified_labels(labels: dict[str, str]) -> None:
    """The labels are made as in training, also where one of their two halves is left out."""
    method, environment = cpsl(shares_from="rectified", **labels), FewImages()
    method.eval()
    method.prepare(0, environment)  # type: ignore[arg-type]
    classes = []
    for _, image in environment.target_images():
        out = method.model(image)
        p = torch.ones_like(out.logits) if "labels" in labels else out.logits.softmax(1)
        cosine = torch.einsum("bdhw,kd->bkhw", F.normalize(out.features, dim=1), F.normalize(method.head.weight, dim=1))
        classes.append((p if "weights" in labels else p * (cosine / TAU).softmax(1)).argmax(1).flatten())
    wanted = torch.bincount(torch.cat(classes), minlength=K).float()
    torch.testing.assert_close(method.shares, wanted / wanted.sum(), rtol=1e-4, atol=2e-6)
    predicted, other = cpsl(**labels), FewImages()
    predicted.eval().prepare(0, other)  # type: ignore[arg-type]
    assert torch.allclose(predicted.shares, method.shares, atol=1e-3) == ("weights" in labels)
    with pytest.raises(ValueError, match="with partition=equal all are equal"):
        cpsl(shares_from="rectified", partition="equal")


def test_masses_are_shown_for_the_record() -> None:
    method = cpsl()
    backward(method.step(batches()))
    assert method.online is not None
    assert method.online.masses["r"] is method.shares


# ---- CutMix ----


def test_a_box_is_half_of_the_picture() -> None:
    torch.manual_seed(0)
    for _ in range(50):
        top, left, bottom, right = half_box(torch.rand(3)).tolist()
        assert (bottom - top) * (right - left) == pytest.approx(0.5, rel=1e-5)
        assert 0 <= top < bottom <= 1 + 1e-6
        assert 0 <= left < right <= 1 + 1e-6


def test_labels_follow_the_pasted_pixels() -> None:
    box = torch.tensor([0.0, 0.25, 0.5, 0.75])
    images, others = torch.zeros(2, 3, 8, 16), torch.ones(2, 3, 8, 16)
    mixed = paste(images, others, box)
    inside = in_box(box, 8, 16)
    assert torch.equal(mixed[0, 0] == 1, inside)
    truth = torch.randint(0, K, (2, 8, 16))
    truth[:, 0] = IGNORE
    labels = torch.full((2, 4, 8), 3)
    got = paste_labels(labels, truth, box, K)
    small = in_box(box, 4, 8)
    assert torch.equal(got[:, small], truth[:, ::2, ::2][:, small])
    assert (got[:, ~small] == 3).all()
    soft = paste_labels(F.one_hot(labels, K).movedim(3, 1).float(), truth, box, K)
    assert torch.equal(torch.where(soft.amax(1) > 0, soft.argmax(1), IGNORE), got)


def test_cutmix_needs_crops_of_one_size() -> None:
    method = cpsl(cutmix=1.0)
    batch = batches()
    mixed = {**batch, "source": samples(1, 2, H + 8, W, 0, True)}
    with pytest.raises(RequestError, match=r"set augmentation\.crop, or cutmix=0"):
        backward(method.step(mixed))
    assert isinstance(batch["source"], Samples)
    backward(method.step(batch))


def test_symmetric_divergence() -> None:
    rng = torch.Generator().manual_seed(0)
    p, q = (torch.randn(1, 4, 2, 3, generator=rng).softmax(1) for _ in range(2))
    valid = torch.tensor([[[True, True, False], [True, False, True]]])
    both = (p * (p / q).log() + q * (q / p).log()).sum(1)
    got = symmetric_divergence(p.log(), q.log(), valid).mean().item()
    assert got == pytest.approx(both[valid].mean().item() / 4, rel=1e-5)
