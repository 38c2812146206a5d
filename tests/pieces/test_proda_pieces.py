"""Prototypes, denoising, structure, distillation, teacher, windows: golden vectors of ProDA's code, and properties."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segadapt.data.strong import in_cutout, warp
from segadapt.labels import IGNORE
from segadapt.pieces.adversarial import SOURCE, TARGET, domain_loss
from segadapt.pieces.denoising import hard_labels, rectified, reverse_cross_entropy, symmetric_cross_entropy
from segadapt.pieces.losses import divergence_from_uniform, log_probabilities, negative_log_likelihood
from segadapt.pieces.prototypes import (
    ClassMeans,
    assignment,
    class_means,
    cosines,
    distances,
    moving_average,
    running_mean,
)
from segadapt.pieces.structure import distillation, prototypical_consistency
from segadapt.pieces.teacher import follow, frozen_copy
from segadapt.pieces.windows import in_windows, inside, window_grid
from tests.golden_vectors import golden_op


def labels_of(golden: Tensor) -> Tensor:
    """Read labels of the reference, which ignores 250."""
    return golden.long().masked_fill(golden.long() == 250, IGNORE)


def gradient(loss: Tensor, of: Tensor) -> Tensor:
    return torch.autograd.grad(loss, of, retain_graph=True)[0]


# ---- prototypes ----


def test_cosines_pixel_by_pixel() -> None:
    """Compare with torch's cosine, and both gradients; a zero vector is similar to nothing."""
    rng = torch.Generator().manual_seed(0)
    f = torch.randn(2, 6, 3, 4, generator=rng, dtype=torch.float64).requires_grad_()
    e = torch.randn(5, 6, generator=rng, dtype=torch.float64).requires_grad_()
    expected = F.cosine_similarity(f[:, None], e[None, :, :, None, None], dim=2)
    found, weights = cosines(f, e), torch.randn(expected.shape, generator=rng, dtype=torch.float64)
    torch.testing.assert_close(found, expected)
    for of in (f, e):
        torch.testing.assert_close(gradient((found * weights).sum(), of), gradient((expected * weights).sum(), of))
    nothing = torch.zeros(1, 6, 1, 2, requires_grad=True)
    similar = cosines(nothing, e.detach())
    assert (similar == 0).all()
    assert torch.isfinite(gradient(similar.sum(), nothing)).all()


def test_distances_and_weights() -> None:
    golden = golden_op("proda_prototype_weights")
    distance = distances(golden.tensor("feat"), golden.tensor("prototypes"))
    golden.assert_close("distance", distance)
    golden.assert_close("weight_T1", assignment(distance))
    golden.assert_close("weight_T05", assignment(distance, 0.5))


def test_distances_far_from_the_origin_keep_their_digits() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 256, 5, 7, generator=generator) + 100
    prototypes = torch.randn(19, 256, generator=generator) + 100
    exact = (features.double()[:, None] - prototypes.double()[None, :, :, None, None]).norm(dim=2)
    assert (distances(features, prototypes) - exact).abs().max() < 1e-3


def test_gradient_of_a_distance_of_zero_is_finite() -> None:
    prototypes = torch.zeros(3, 4)
    features = torch.zeros(1, 4, 2, 2, requires_grad=True)
    distances(features, prototypes).sum().backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()


@pytest.mark.parametrize("kind", ["pred", "pred_and_label", "conf"])
def test_class_means(kind: str) -> None:
    golden = golden_op("proda_prototype_means")
    features, logits = golden.tensor("feat"), golden.tensor("logits")
    confidence, labels = logits.softmax(1).max(1)
    if kind == "pred_and_label":
        given = golden.tensor("labels")[:, 0].long()
        labels = torch.where(labels == given, labels, IGNORE)
    means = class_means(features, labels, 19)
    if kind == "conf":
        # In the reference the least number counts all pixels of a class, the mean only the confident ones.
        least = means.present
        means = class_means(features, labels.masked_fill(confidence < golden.params["confidence"], IGNORE), 19, least=1)
        means = ClassMeans(means.vectors, means.present & least)
    image, class_ = means.present.nonzero(as_tuple=True)
    golden.assert_close(f"ids_{kind}", class_)
    golden.assert_close(f"vectors_{kind}", means.vectors[image, class_])


def one_by_one(golden_ids: Tensor, vectors: Tensor) -> list[ClassMeans]:
    """Turn every golden update into the class means of one image; the reference skips vectors of sum zero."""
    means = []
    for class_, vector in zip(golden_ids.tolist(), vectors, strict=True):
        full = torch.zeros(1, 19, vectors.shape[1])
        full[0, class_] = vector
        present = torch.zeros(1, 19, dtype=torch.bool)
        present[0, class_] = bool(vector.sum() != 0)
        means.append(ClassMeans(full, present))
    return means


def test_prototype_updates() -> None:
    golden = golden_op("proda_prototype_update")
    updates = one_by_one(golden.tensor("ids"), golden.tensor("vectors"))
    rate = golden.params["proto_momentum"]
    mean, counts = golden.tensor("start"), golden.tensor("num")
    moving, started, started_counts = mean, mean, counts
    for means in updates:
        mean, counts = running_mean(mean, counts, means)
        moving = moving_average(moving, means, rate)
        averaged, after = running_mean(started, started_counts, means)
        started = torch.where(started_counts[:, None] < 100, averaged, moving_average(started, means, rate))
        started_counts = after
    golden.assert_close("vectors_mean", mean)
    golden.assert_close("num_mean", counts)
    golden.assert_close("vectors_moving", moving)
    golden.assert_close("vectors_moving_start_mean", started)
    golden.assert_close("num_moving_start_mean", started_counts)


def test_a_class_in_two_images_moves_twice() -> None:
    vectors = torch.tensor([[[2.0], [0.0]], [[4.0], [0.0]]])
    means = ClassMeans(vectors, torch.tensor([[True, False], [True, False]]))
    moved = moving_average(torch.zeros(2, 1), means, 0.5)
    assert moved.tolist() == [[2.5], [0.0]]


# ---- denoising ----


def test_rectified_labels() -> None:
    golden = golden_op("proda_rectified_labels")
    down = F.interpolate(golden.tensor("soft"), scale_factor=0.25, mode="bilinear", align_corners=True)
    golden.assert_close("soft_down", down)
    soft = rectified(down, golden.tensor("weight"))
    golden.assert_close("rectified", soft)
    for name, threshold in (("label_thr0", 0.0), ("label_thr025", 0.25)):
        labels = hard_labels(soft, threshold)
        golden.assert_close(name, labels.masked_fill(labels == IGNORE, golden.params["ignore"]))


def test_symmetric_cross_entropy() -> None:
    golden = golden_op("proda_symmetric_ce")
    logits, labels = golden.tensor("logits").requires_grad_(), labels_of(golden.tensor("labels"))
    log_p = log_probabilities(logits)
    ce, rce = negative_log_likelihood(log_p, labels).mean(), reverse_cross_entropy(log_p, labels).mean()
    golden.assert_close("ce", ce)
    golden.assert_close("rce", rce)
    golden.assert_close("grad_ce", gradient(ce, logits))
    golden.assert_close("grad_rce", gradient(rce, logits))
    terms = symmetric_cross_entropy(log_p, labels, golden.params["rce_alpha"], golden.params["rce_beta"])
    total = torch.stack([term.mean() for term in terms.values()]).sum()
    golden.assert_close("total", total)
    extreme = golden.tensor("logits_extreme").requires_grad_()
    rce = reverse_cross_entropy(log_probabilities(extreme), labels).mean()
    golden.assert_close("rce_extreme", rce)
    golden.assert_close("grad_rce_extreme", gradient(rce, extreme))
    nothing = reverse_cross_entropy(log_p, torch.full_like(labels, IGNORE)).mean()
    golden.assert_close("rce_all_ignored", nothing)


def test_a_weight_of_zero_leaves_the_term_out() -> None:
    log_p = log_probabilities(torch.randn(1, 3, 2, 2))
    labels = torch.zeros(1, 2, 2, dtype=torch.long)
    assert list(symmetric_cross_entropy(log_p, labels, 1.0, 0.0)) == ["ce"]
    assert list(symmetric_cross_entropy(log_p, labels, 0.0, 1.0)) == ["rce"]


def test_regulariser() -> None:
    golden = golden_op("proda_regulariser")
    logits = golden.tensor("logits").requires_grad_()
    log_p = log_probabilities(logits)
    value = divergence_from_uniform(log_p, torch.ones_like(log_p[:, 0], dtype=torch.bool)).mean()
    golden.assert_close("MRKLD", value)
    golden.assert_close("grad_MRKLD", gradient(value, logits))


# ---- structure and distillation ----


def test_consistency() -> None:
    golden = golden_op("proda_consistency")
    features = golden.tensor("student_feat").requires_grad_()
    teacher = golden.tensor("teacher_distance")
    valid = teacher[:, 0] != golden.params["padding"]
    target = assignment(teacher)
    golden.assert_close("teacher_prob", target)
    distance = distances(features, golden.tensor("prototypes"))
    loss = prototypical_consistency(distance, target, valid).mean()
    golden.assert_close("loss", loss)
    golden.assert_close("grad_student_feat", gradient(loss, features))


@pytest.mark.parametrize(("variant", "name"), [("official", "as_coded"), ("paper", "paper")])
def test_distillation(variant: str, name: str) -> None:
    golden = golden_op("proda_distillation")
    logits, teacher = golden.tensor("student_logits").requires_grad_(), golden.tensor("teacher_logits")
    kd = distillation(logits, teacher, variant).mean()  # type: ignore[arg-type]
    golden.assert_close(f"kd_{name}", kd)
    golden.assert_close(f"grad_kd_{name}", gradient(kd, logits))
    if variant == "official":
        down = F.interpolate(golden.tensor("labels")[:, None].float(), scale_factor=0.25, mode="nearest")[:, 0].long()
        golden.assert_close("labels_down", down)
        ce = negative_log_likelihood(log_probabilities(logits), labels_of(down)).mean()
        golden.assert_close("ce", ce)
        golden.assert_close("total_as_coded", ce + kd)
        golden.assert_close("grad_total_as_coded", gradient(ce + kd, logits))


# ---- teacher ----


class Twin(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)


def test_teacher_follows() -> None:
    golden = golden_op("proda_ema")
    student, teacher = Twin(), frozen_copy(Twin())
    for name, network in (("student", student), ("teacher", teacher)):
        network.load_state_dict({key: golden.tensor(f"{name}.{key}") for key in network.state_dict()})
    follow(teacher, student, golden.params["alpha"])
    for key, value in teacher.state_dict().items():
        golden.assert_close(f"new.{key}", value)
    assert not any(p.requires_grad for p in teacher.parameters())
    assert all(p.requires_grad for p in student.parameters())


# ---- geometry ----


def window(top: float, left: float, height: float, width: float, flip: bool = False) -> SimpleNamespace:
    return SimpleNamespace(top=top, left=left, height=height, width=width, flip=flip)


def test_windows_of_teacher_maps() -> None:
    """The reference enlarges the map to a quarter of the image and slices it; our windows give the same pixels."""
    golden = golden_op("proda_full2weak")
    quarter = golden.tensor("resize_hw") // 4
    windows = []
    for (y1, y2, x1, x2), flip in zip(golden.arrays["crop_y1y2x1x2"], golden.arrays["flip"], strict=True):
        windows.append(window(int(y1 // 4), int(x1 // 4), int((y2 - y1) // 4), int((x2 - x1) // 4), bool(flip)))
    output = golden.arrays["out"].shape[-2:]
    got = in_windows(golden.tensor("feat"), windows, quarter.tolist(), output, align_corners=True)
    golden.assert_close("out", got)


def test_the_whole_image_is_a_resize() -> None:
    maps = torch.randn(2, 3, 9, 11)
    for align in (False, True):
        got = in_windows(maps, [window(0, 0, 40, 60)] * 2, [(40, 60)] * 2, (40, 60), align)
        expected = F.interpolate(maps, (40, 60), mode="bilinear", align_corners=align)
        assert (got - expected).abs().max() < 1e-5


def official_theta(kind: str, value: float, height: int, width: int) -> Tensor:
    """Build an affine map of the reference; its horizontal shift divides by the height, ours must not."""
    theta = torch.eye(2, 3, dtype=torch.float64)
    if kind == "ShearX":
        theta[0, 1] = theta[0, 2] = value * height / width
    elif kind == "ShearY":
        theta[1, 0] = theta[1, 2] = value * width / height
    elif kind == "TranslateY":
        theta[1, 2] = 2 * int(value // 4) / height
    elif kind == "TranslateX":
        theta[0, 2] = 2 * int(value // 4) / height
    elif kind == "Rotate":
        cos, sin = math.cos(math.radians(value)), math.sin(math.radians(value))
        theta = torch.tensor([[cos, -sin * height / width, 0], [sin * width / height, cos, 0]], dtype=torch.float64)
    return theta


def test_strong_transform_of_labels() -> None:
    """Apply our warp and cut-out step by step as the reference does (normally composed; see test_strong)."""
    golden = golden_op("proda_label_strong_transform")
    labels = golden.tensor("labels")
    height, width = labels.shape[-2:]
    moved = []
    for i in range(len(labels)):
        seen = labels[i : i + 1] + 1
        if golden.params["Hflip"][i]:
            seen = seen.flip(3)
        for kind in ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate_degrees"):
            value = golden.params[kind][i]
            if value < 1e4:
                theta = official_theta(kind.split("_")[0], value, height, width)
                seen = warp(seen, theta[None].float(), "nearest")
        x0, y0, x1, y1 = (v // 4 for v in golden.params["CutoutAbs_x0_y0_x1_y1"][i])
        square = torch.tensor([[y0 / height, x0 / width, y1 / height, x1 / width]])
        seen = seen.masked_fill(in_cutout(square, height, width)[:, None], 0)
        moved.append(torch.where(seen == 0, golden.params["padding"], seen - 1))
    golden.assert_close("out", torch.cat(moved).double())


# ---- a whole step of the first stage ----


def test_first_stage_step() -> None:
    golden = golden_op("proda_stage1_step")
    p = golden.params
    quarter = (p["crop_size"][0] // 4, p["crop_size"][1] // 4)

    def small(x: Tensor) -> Tensor:
        return F.interpolate(x, quarter, mode="bilinear", align_corners=True)

    windows = [
        window(y1 // 4, x1 // 4, (y2 - y1) // 4, (x2 - x1) // 4, bool(flip))
        for (y1, y2, x1, x2), flip in zip(p["crop_y1y2x1x2"], p["flip"], strict=True)
    ]
    sizes = [(h // 4, w // 4) for h, w in p["resize_hw"]]
    prototypes = golden.tensor("prototypes")
    teacher = in_windows(golden.tensor("teacher_feat"), windows, sizes, quarter, align_corners=True)
    target = assignment(distances(teacher, prototypes))
    stored = F.interpolate(golden.tensor("soft_labels"), scale_factor=0.25, mode="bilinear", align_corners=True)
    labels = hard_labels(rectified(stored, target), p["train_thred"])
    golden.assert_close("rectified_labels", labels)

    logits, strong = golden.tensor("target_logits").requires_grad_(), golden.tensor("strong_feat").requires_grad_()
    log_p = log_probabilities(small(logits))
    terms = symmetric_cross_entropy(log_p, labels, p["rce_alpha"], p["rce_beta"])
    reg = divergence_from_uniform(log_p, torch.ones_like(labels, dtype=torch.bool)) * p["regular_w"]
    golden.assert_close("ce", terms["ce"].mean() / p["rce_alpha"])
    golden.assert_close("rce", terms["rce"].mean())
    loss_target = torch.stack([term.mean() for term in [*terms.values(), reg]]).sum()
    golden.assert_close("loss_target", loss_target)

    theta = torch.stack([torch.diag(torch.tensor([-1.0 if f else 1.0, 1.0, 1.0]))[:2] for f in p["strong_Hflip"]])
    squares = [(y0 // 4, x0 // 4, y1 // 4, x1 // 4) for x0, y0, x1, y1 in p["strong_CutoutAbs_x0_y0_x1_y1"]]
    share = torch.tensor([quarter[0], quarter[1]] * 2)
    valid = ~in_cutout(torch.tensor(squares) / share, *quarter)
    moved = warp(target, theta, "nearest")
    consistency = prototypical_consistency(distances(small(strong), prototypes), moved, valid)
    golden.assert_close("consistency", consistency.mean())
    loss = loss_target + p["proto_consistW"] * consistency.mean()
    golden.assert_close("loss", loss)
    golden.assert_close("grad_target_logits", gradient(loss, logits))
    golden.assert_close("grad_strong_feat", gradient(loss, strong))

    whole = (p["image_size"][0] // 4, p["image_size"][1] // 4)
    assert golden.arrays["teacher_feat"].shape[-2:] == whole
    means = class_means(golden.tensor("teacher_feat"), golden.tensor("teacher_logits").argmax(1), 19)
    golden.assert_close("new_prototypes", moving_average(prototypes, means, p["proto_momentum"]))


# ---- adversarial ----


@pytest.mark.parametrize("gan", ["vanilla", "ls"])
def test_adversarial_losses(gan: str) -> None:
    golden = golden_op("adaptsegnet_adversarial")
    scores = {
        name: golden.tensor(name).requires_grad_() for name in ("d1_source", "d2_source", "d1_target", "d2_target")
    }
    adv = [domain_loss(scores[f"d{i}_target"], SOURCE, gan).mean() for i in (1, 2)]  # type: ignore[arg-type]
    golden.assert_close(f"{gan}_adv1", adv[0])
    golden.assert_close(f"{gan}_adv2", adv[1])
    generator = golden.params["lambda_adv_target1"] * adv[0] + golden.params["lambda_adv_target2"] * adv[1]
    golden.assert_close(f"{gan}_generator", generator)
    golden.assert_close(f"{gan}_grad_generator_d2_target", gradient(generator, scores["d2_target"]))
    for i in (1, 2):
        loss = 0.5 * domain_loss(scores[f"d{i}_source"], SOURCE, gan).mean()  # type: ignore[arg-type]
        loss = loss + 0.5 * domain_loss(scores[f"d{i}_target"], TARGET, gan).mean()  # type: ignore[arg-type]
        golden.assert_close(f"{gan}_loss_D{i}", loss)
    golden.assert_close(f"{gan}_grad_D2_d2_target", gradient(loss, scores["d2_target"]))


def test_adversarial_losses_of_the_warm_up() -> None:
    golden = golden_op("proda_warmup_adversarial")
    source, target = golden.tensor("d_source"), golden.tensor("d_target")
    golden.assert_close("loss_adv_G", golden.params["adv_weight"] * domain_loss(target, SOURCE, "ls").mean())
    golden.assert_close("loss_D", domain_loss(source, SOURCE, "ls").mean() + domain_loss(target, TARGET, "ls").mean())


def test_terms_of_split_batches_add_up() -> None:
    generator = torch.Generator().manual_seed(1)
    features, prototypes = torch.randn(4, 8, 5, 6, generator=generator), torch.randn(7, 8, generator=generator)
    target = torch.randn(4, 7, 5, 6, generator=generator).softmax(1)
    valid = torch.rand(4, 5, 6, generator=generator) < 0.7
    whole = prototypical_consistency(distances(features, prototypes), target, valid)
    # Distances are taken about the mean prototype, which is the same for both halves.
    parts = [
        prototypical_consistency(distances(features[s], prototypes), target[s], valid[s])
        for s in (slice(0, 1), slice(1, 4))
    ]
    split = sum(float(t.total) for t in parts) / sum(float(t.count) for t in parts)
    assert np.isclose(split, float(whole.mean()), rtol=1e-6)


def test_inside_are_the_places_of_the_grid_within_the_image() -> None:
    windows = [SimpleNamespace(top=-3.5, left=2, height=9, width=20, flip=f) for f in (False, True)]
    sizes = [(8, 16), (5, 30)]
    grid = window_grid(windows, sizes, (7, 11), False, torch.device("cpu"))
    found = inside(windows, sizes, (7, 11), torch.device("cpu"))
    assert torch.equal(found, (grid.abs() < 1).all(-1))
    assert found.any()
    assert not found.all()
