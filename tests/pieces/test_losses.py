"""Losses: golden numbers, numbers computed by hand, and pixels that must not count."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from segadapt.labels import IGNORE
from segadapt.pieces import losses
from segadapt.pieces.resizing import upsample
from segadapt.pieces.terms import Term
from tests.golden_vectors import golden_op


def random_case(classes=5, size=(6, 7), seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, classes, *size, generator=generator) * 3
    labels = torch.randint(0, classes, (2, *size), generator=generator)
    labels[torch.rand(2, *size, generator=generator) < 0.3] = IGNORE
    return logits.requires_grad_(), labels


def test_cross_entropy_is_the_reference_one():
    gold = golden_op("adaptsegnet_segmentation_loss")
    logits = gold.tensor("logits").requires_grad_()
    loss = losses.cross_entropy(logits, gold.tensor("labels")).mean()
    loss.backward()
    gold.assert_close("loss", loss)
    gold.assert_close("grad", logits.grad)


def test_cross_entropy_upsamples_like_the_reference():
    gold = golden_op("adaptsegnet_segmentation_loss")
    labels = gold.tensor("big_labels")
    term = losses.cross_entropy(gold.tensor("small_logits"), labels, labels.shape[-2:], align_corners=True)
    gold.assert_close("loss_upsampled", term.mean())


def golden_reg_mask(gold):
    """Mark the images that the reference regularises; its effective weight is the product of two weights."""
    per_image = gold.tensor("reg_weights")
    return (per_image > 0)[:, None, None], float(per_image.max()) * gold.params["mr_weight_kld"]


def test_model_regularisation_is_the_reference_one():
    gold = golden_op("crst_mrkld_loss")
    logits, labels = gold.tensor("logits").requires_grad_(), gold.tensor("labels")
    target, weight = golden_reg_mask(gold)
    plain = losses.cross_entropy(logits, labels).mean()
    gold.assert_close("loss_no_reg", plain)
    kld = losses.divergence_from_uniform(losses.log_probabilities(logits), target & (labels != IGNORE))
    loss = plain + (kld * weight).mean()
    loss.backward()
    gold.assert_close("loss", loss)
    gold.assert_close("grad", logits.grad)


def test_soft_label_loss_is_the_reference_one():
    gold = golden_op("crst_soft_label_loss")
    logits, soft = gold.tensor("logits").requires_grad_(), gold.tensor("soft_labels")
    target, weight = golden_reg_mask(gold)
    log_p = losses.log_probabilities(logits)
    ce = losses.soft_negative_log_likelihood(log_p, soft)
    kld = losses.divergence_from_uniform(log_p, target & (soft.sum(1) > 0)) * weight
    loss = ce.mean() + kld.mean()
    loss.backward()
    gold.assert_close("loss", loss)
    gold.assert_close("grad", logits.grad)


def test_numbers_by_hand():
    """Use two classes with logits (ln 3, 0), that is, probabilities 3/4 and 1/4."""
    logits = torch.tensor([math.log(3), 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 3)
    labels = torch.tensor([[[0, 1, IGNORE]]], dtype=torch.uint8)
    term = losses.cross_entropy(logits, labels)
    assert float(term.total) == pytest.approx(-math.log(3 / 4) - math.log(1 / 4))
    assert float(term.count) == 2
    kld = losses.divergence_from_uniform(losses.log_probabilities(logits), labels != IGNORE)
    assert float(kld.mean()) == pytest.approx(-(math.log(3 / 4) + math.log(1 / 4)) / 2)
    soft = torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.0, 0.0]]).T.view(1, 2, 1, 3)
    both = losses.soft_negative_log_likelihood(losses.log_probabilities(logits), soft)
    assert float(both.count) == 2
    assert float(both.total) == pytest.approx(-0.5 * math.log(3 / 16) - math.log(3 / 4))


def test_soft_labels_that_are_hard_give_the_hard_loss():
    logits, labels = random_case()
    one_hot = F.one_hot(labels.masked_fill(labels == IGNORE, 0), 5).permute(0, 3, 1, 2) * (labels != IGNORE)[:, None]
    hard, soft = (
        losses.cross_entropy(logits, labels),
        losses.soft_negative_log_likelihood(losses.log_probabilities(logits), one_hot.float()),
    )
    assert float(hard.count) == float(soft.count)
    torch.testing.assert_close(hard.total, soft.total)


@pytest.mark.parametrize("loss", ["hard", "soft", "kld"])
def test_ignored_pixels_have_no_gradient_and_others_do(loss):
    logits, labels = random_case()
    valid = labels != IGNORE
    if loss == "hard":
        term = losses.cross_entropy(logits, labels)
    elif loss == "soft":
        term = losses.soft_negative_log_likelihood(
            losses.log_probabilities(logits), torch.rand(2, 5, 6, 7) * valid[:, None]
        )
    else:
        term = losses.divergence_from_uniform(losses.log_probabilities(logits), valid)
    term.mean().backward()
    size = logits.grad.abs().sum(1)
    assert (size[~valid] == 0).all()
    assert (size[valid] > 0).all()


def test_empty_label_is_zero_with_zero_gradient():
    logits, labels = random_case()
    nothing = torch.full_like(labels, IGNORE)
    terms = [
        losses.cross_entropy(logits, nothing),
        losses.soft_negative_log_likelihood(losses.log_probabilities(logits), torch.zeros_like(logits)),
        losses.divergence_from_uniform(losses.log_probabilities(logits), torch.zeros_like(labels, dtype=torch.bool)),
    ]
    total = sum(term.mean() for term in terms)
    total.backward()
    assert total.item() == 0
    assert (logits.grad == 0).all()


def test_sums_and_counts_of_parts_give_the_mean_of_the_whole():
    logits, labels = random_case()
    whole = losses.cross_entropy(logits, labels)
    parts = [losses.cross_entropy(logits[i : i + 1], labels[i : i + 1]) for i in range(2)]
    assert parts[0].count != parts[1].count
    joined = Term(parts[0].total + parts[1].total, parts[0].count + parts[1].count)
    torch.testing.assert_close(joined.mean(), whole.mean())


def test_order_of_classes_does_not_matter():
    logits, labels = random_case()
    order = torch.randperm(5, generator=torch.Generator().manual_seed(1))
    table = torch.full((256,), IGNORE)
    table[order] = torch.arange(5)
    renamed = losses.cross_entropy(logits[:, order], table[labels])
    torch.testing.assert_close(renamed.total, losses.cross_entropy(logits, labels).total)
    assert renamed.count == losses.cross_entropy(logits, labels).count


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_normalised_in_float32(dtype):
    logits, labels = random_case()
    half = logits.detach().to(dtype)
    term = losses.cross_entropy(half, labels, (6, 7))
    assert term.total.dtype == torch.float32
    torch.testing.assert_close(term.total, losses.cross_entropy(half.float(), labels).total)


def test_half_precision_logits_are_upsampled_in_float32():
    small = torch.randn(1, 3, 4, 5).bfloat16()
    torch.testing.assert_close(upsample(small, (9, 11)), upsample(small.float(), (9, 11)))
    assert upsample(small.double(), (9, 11)).dtype == torch.float64


def test_one_class_has_no_loss():
    assert float(losses.cross_entropy(torch.randn(1, 1, 3, 3), torch.zeros(1, 3, 3)).total) == 0


def test_label_beyond_the_classes_is_an_error():
    with pytest.raises(IndexError):
        losses.cross_entropy(torch.randn(1, 2, 1, 1), torch.full((1, 1, 1), 2))


def entropy(log_p, valid):
    """Written out, with autograd's gradient."""
    pixels = torch.where(valid, -(log_p.exp() * log_p).sum(1), 0.0)
    return Term(pixels.sum(), valid.sum())


def test_cross_entropy_and_entropy_together_equal_each_alone():
    """Compare values and gradients for several weights, with missing labels and pixels outside the image."""
    logits, labels = random_case(size=(5, 4))
    logits = logits.detach().double().requires_grad_()
    labels = labels.repeat(1, 3, 3)[:, :13, :10]
    labels[0, 0] = -1
    shown = torch.rand(labels.shape, generator=torch.Generator().manual_seed(1)) < 0.7
    for align in (False, True):
        log_p = losses.log_probabilities(logits, labels.shape[-2:], align)
        parts = losses.negative_log_likelihood(log_p, labels), entropy(log_p, shown)
        both = losses.cross_entropy_and_entropy(logits, labels, shown, labels.shape[-2:], align)
        for one, other in zip(parts, both, strict=True):
            torch.testing.assert_close(other.total, one.total)
            assert other.count == one.count
        for weights in ((1.0, 0.0), (0.0, 1.0), (0.3, -2.0)):
            expected, found = (
                torch.autograd.grad(weights[0] * a.total + weights[1] * b.total, logits, retain_graph=True)[0]
                for a, b in (parts, both)
            )
            torch.testing.assert_close(found, expected)


def test_gradient_of_cross_entropy_and_entropy_by_differences():
    logits, labels = random_case(classes=3, size=(2, 3))
    shown = torch.arange(12).view(2, 2, 3) % 3 > 0

    def total(x):
        likelihood, unsure = losses.cross_entropy_and_entropy(x, labels, shown, (2, 3))
        return likelihood.total + 0.5 * unsure.total

    assert torch.autograd.gradcheck(total, logits.detach().double().requires_grad_())


def test_nothing_labelled_or_shown_gives_zero():
    logits, labels = random_case()
    nothing = torch.zeros_like(labels, dtype=torch.bool)
    terms = losses.cross_entropy_and_entropy(logits, torch.full_like(labels, IGNORE), nothing, labels.shape[-2:])
    assert [(float(t.total.detach()), float(t.count)) for t in terms] == [(0, 0), (0, 0)]
    sum(t.mean() for t in terms).backward()
    assert (logits.grad == 0).all()


def test_the_layout_of_log_probabilities_changes_no_number():
    logits, labels = random_case()
    size = (13, 15)
    labels = labels.repeat(1, 3, 3)[:, :13, :15]
    plain, last = (losses.log_probabilities(logits, size, channels_last=last) for last in (False, True))
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert plain.is_contiguous()
    torch.testing.assert_close(last, plain)
    terms = [losses.negative_log_likelihood(x, labels) for x in (plain, last)]
    torch.testing.assert_close(terms[1].total, terms[0].total)
    first, second = (torch.autograd.grad(t.total, logits, retain_graph=True)[0] for t in terms)
    torch.testing.assert_close(second, first)
    with pytest.raises(IndexError):
        losses.negative_log_likelihood(last, torch.full_like(labels, 5))
