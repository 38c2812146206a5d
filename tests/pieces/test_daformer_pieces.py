"""Pieces of DAFormer, HRDA and MIC: golden vectors, restatements and properties."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segadapt.labels import IGNORE
from segadapt.pieces.classmix import classes_present, half_of, where_chosen
from segadapt.pieces.confidence import confident_share, labels_and_confidence
from segadapt.pieces.features import cell_labels, feature_distance
from segadapt.pieces.masking import blocks, visible
from segadapt.pieces.teacher import follow, growing_momentum
from tests.golden_vectors import golden_op

K = 19

# ---- ClassMix ----


def test_classmix_golden() -> None:
    golden = golden_op("daformer_classmix")
    labels = golden.tensor("labels_source")
    present = classes_present(labels, K).any(0)
    candidates = [IGNORE if c == K else c for c in present.nonzero().flatten().tolist()]
    golden.assert_close("candidates", torch.tensor(candidates))
    chosen = torch.zeros(len(labels), K + 1, dtype=torch.bool)
    columns = golden.tensor("chosen_classes")
    chosen.scatter_(1, torch.where(columns == IGNORE, K, columns), True)
    assert int(chosen.sum(1).unique()) == golden.params["n_chosen"] == (golden.params["n_candidates"] + 1) // 2
    mask = where_chosen(labels, chosen)
    golden.assert_close("mask", mask)
    mixed = torch.where(mask[:, None], golden.tensor("image_source"), golden.tensor("image_target"))
    golden.assert_close("image_mixed", mixed)
    golden.assert_close("label_mixed", torch.where(mask, labels, golden.tensor("pseudo_labels")))
    golden.assert_close("weight_mixed", torch.where(mask, 1.0, golden.tensor("pseudo_weight")))


def test_half_of_the_classes_rounded_up_and_fairly() -> None:
    present = torch.tensor([[True, False, True, True, False], [False, True, False, False, False], [False] * 5])
    rng = torch.Generator().manual_seed(0)
    counts = torch.zeros(3, 5)
    for _ in range(300):
        chosen = half_of(present, torch.rand(3, 5, generator=rng))
        assert chosen.sum(1).tolist() == [2, 1, 0]
        assert not (chosen & ~present).any()
        counts += chosen
    assert counts[1, 1] == 300
    torch.testing.assert_close(counts[0, [0, 2, 3]] / 300, torch.full((3,), 2 / 3), atol=0.1, rtol=0)


def test_presence_sees_ignored_pixels() -> None:
    labels = torch.tensor([[[0, 2], [2, 0]], [[IGNORE, 1], [1, 1]]])
    assert classes_present(labels, 3).tolist() == [[True, False, True, False], [False, True, False, True]]


# ---- labels and weights of the teacher ----


@pytest.mark.parametrize("over", ["batch", "image"])
def test_pseudo_weight_golden(over: str) -> None:
    golden = golden_op("daformer_pseudo_weight")
    logits, threshold = golden.tensor("teacher_logits"), golden.params["threshold"]
    labels, confidence = labels_and_confidence(logits, logits.shape[-2:])
    golden.assert_close("label", labels)
    golden.assert_close("confidence", confidence)
    q = confident_share(confidence, torch.ones_like(labels, dtype=torch.bool), threshold, over)  # type: ignore[arg-type]
    if over == "batch":
        golden.assert_close("q", q[0, 0, 0])
        assert (q == q[0]).all()
    else:
        restated = [(one.softmax(0).amax(0) >= threshold).float().mean() for one in logits]
        torch.testing.assert_close(q.flatten(), torch.stack(restated))
    golden.assert_close("weight_plain", q.mean(0, keepdim=True).expand_as(confidence).clone())


def test_labels_of_enlarged_logits() -> None:
    logits = 3 * torch.randn(3, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    labels, confidence = labels_and_confidence(logits, (9, 14))
    p = F.interpolate(logits, (9, 14), mode="bilinear").softmax(1)
    assert torch.equal(labels, p.argmax(1))
    torch.testing.assert_close(confidence, p.amax(1))


def test_padding_does_not_count_as_sure() -> None:
    confidence = torch.tensor([[[0.99, 0.99], [0.5, 0.5]]])
    shown = torch.tensor([[[True, False], [True, False]]])
    assert confident_share(confidence, shown, 0.9, "image").item() == 0.5
    assert confident_share(confidence, torch.zeros_like(shown), 0.9, "batch").item() == 0


# ---- the teacher ----


def test_teacher_golden() -> None:
    golden = golden_op("daformer_ema")
    for step, alpha in zip(golden.arrays["iterations"], golden.arrays["alpha"], strict=True):
        if step:
            assert growing_momentum(int(step), 0.999) == pytest.approx(alpha)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.zeros(()))
            self.conv, self.bn = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)

    def filled(who: str) -> Net:
        net = Net()
        net.load_state_dict({name: golden.tensor(f"{who}.{name}") for name in net.state_dict()})
        return net

    student, teacher = filled("student"), filled("teacher")
    for step in (1, 5, 2000):
        follow(teacher, student, growing_momentum(step, 0.999))
        for name, parameter in teacher.named_parameters():
            golden.assert_close(f"iter{step}.{name}", parameter)


# ---- feature distance ----


def test_feature_distance_golden() -> None:
    golden = golden_op("daformer_feature_distance")
    student = golden.tensor("feat_student").requires_grad_()
    cells = cell_labels(golden.tensor("labels"), student.shape[-2:], K, golden.params["min_ratio"])
    golden.assert_close("labels_small", cells[:, None])
    wanted = torch.isin(cells, torch.tensor(golden.params["classes"]))
    golden.assert_close("mask", wanted[:, None])
    term = feature_distance(student, golden.tensor("feat_imagenet"), wanted)
    golden.assert_close("distance_mean", term.mean())
    loss = (term * golden.params["lambda"]).mean()
    golden.assert_close("loss", loss)
    (gradient,) = torch.autograd.grad(loss, student)
    golden.assert_close("grad_feat_student", gradient)
    everywhere = feature_distance(student, golden.tensor("feat_imagenet"), torch.ones_like(wanted))
    golden.assert_close("distance_mean_unmasked", everywhere.mean())


def test_no_cell_and_no_distance_are_zero_not_nan() -> None:
    features = torch.randn(1, 3, 2, 2, requires_grad=True)
    for reference, cells in (
        (torch.randn(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.bool)),
        (features.detach().clone(), torch.ones(1, 2, 2, dtype=torch.bool)),
    ):
        mean = feature_distance(features, reference, cells).mean()
        assert mean.item() == 0
        (gradient,) = torch.autograd.grad(mean, features)
        assert not gradient.any()


def test_cells_of_sizes_that_do_not_divide() -> None:
    labels = torch.randint(0, 3, (2, 7, 11), generator=torch.Generator().manual_seed(0))
    labels[0, :3] = IGNORE
    got = cell_labels(labels, (2, 3), 3, 0.4)
    for b in range(2):
        for i in range(2):
            for j in range(3):
                ys = [y for y in range(7) if y * 2 // 7 == i]
                xs = [x for x in range(11) if x * 3 // 11 == j]
                cell = labels[b, ys][:, xs].flatten()
                counts = [int((cell == c).sum()) for c in (0, 1, 2, IGNORE)]
                best = counts.index(max(counts))
                wanted = best if best < 3 and counts[best] >= 0.4 * len(cell) else IGNORE
                assert got[b, i, j] == wanted


# ---- masks ----


def test_masks_are_whole_blocks() -> None:
    assert blocks((512, 1024), 64) == (8, 16)
    assert blocks((10, 20), 64) == (1, 1)
    draws = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(0))
    draws[0, 0, 0] = 0.0  # torch.rand may draw 0.0, and never 1.0
    keep = visible(draws, 0.7, (12, 32))
    assert torch.equal(keep, (draws >= 0.7).repeat_interleave(4, 1).repeat_interleave(8, 2))
    assert visible(draws, 0.0, (12, 32)).all()
    assert not visible(draws, 1.0, (12, 32)).any()
    many = visible(torch.rand(1, 100, 100), 0.7, (100, 100)).float().mean()
    assert abs(float(many) - 0.3) < 0.02
