"""BCL's contrast, transferred and static labels; rare-class sampling: golden vectors and restatements."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from segadapt.labels import IGNORE
from segadapt.pieces.contrast import pixel_prototype_contrast, transferred_labels
from segadapt.pieces.losses import cross_entropy_and_entropy, nearest_labels
from segadapt.pieces.prototypes import ClassMeans, class_means, seen_average
from segadapt.pieces.pseudo_labels import confident_labels
from segadapt.pieces.sampling import rare_class_probabilities, rare_class_weights
from segadapt.pieces.thresholds import ClassThresholds
from tests.golden_vectors import golden_op

B, K, D = 2, 5, 4


def pair(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, ClassMeans]:
    rng = torch.Generator().manual_seed(seed)
    features = torch.randn(B, D, 3, 4, generator=rng, requires_grad=True)
    labels = torch.randint(0, K, (B, 3, 4), generator=rng)
    labels[0, 0] = IGNORE
    present = torch.tensor([[True, True, False, True, True], [True, False, False, True, False]])
    vectors = torch.randn(B, K, D, generator=rng) * present[..., None]
    return features, labels, ClassMeans(vectors, present)


def test_contrast_pixel_by_pixel() -> None:
    features, labels, means = pair()
    losses = []
    for b in range(B):
        classes = means.present[b].nonzero().flatten().tolist()
        for y in range(3):
            for x in range(4):
                label = int(labels[b, y, x])
                if label in classes:
                    similar = torch.stack(
                        [F.cosine_similarity(features[b, :, y, x], means.vectors[b, c], dim=0) for c in classes]
                    )
                    losses.append(-(similar / 0.1).log_softmax(0)[classes.index(label)])
    term = pixel_prototype_contrast(features, labels, means, 0.1)
    assert int(term.count) == len(losses)
    torch.testing.assert_close(term.mean(), torch.stack(losses).mean())
    wanted = torch.autograd.grad(torch.stack(losses).mean(), features, retain_graph=True)[0]
    torch.testing.assert_close(torch.autograd.grad(term.mean(), features)[0], wanted, rtol=1e-4, atol=1e-6)


def test_no_class_in_common_is_zero_not_nan() -> None:
    features, labels, means = pair()
    for nothing in (means._replace(present=torch.zeros_like(means.present)), means):
        unlabelled = torch.full_like(labels, IGNORE) if nothing is means else labels
        term = pixel_prototype_contrast(features, unlabelled, nothing, 0.1)
        assert term.mean().item() == 0
        (gradient,) = torch.autograd.grad(term.mean(), features)
        assert not gradient.any()
    none = means._replace(present=torch.zeros_like(means.present))
    shown = torch.ones_like(labels, dtype=torch.bool)
    assert (transferred_labels(features, none, shown, -1.0) == IGNORE).all()
    assert (transferred_labels(features, none, shown, 0.0, 0.1) == IGNORE).all()


def test_gradient_reaches_the_prototypes() -> None:
    features, labels, _ = pair()
    source = torch.randn(B, D, 3, 4, requires_grad=True)
    means = class_means(source, labels, K, least=1)
    pixel_prototype_contrast(features, labels, means, 0.1).mean().backward()
    assert source.grad is not None
    assert source.grad.any()


def test_under_autocast() -> None:
    features, labels, means = pair()
    exact = pixel_prototype_contrast(features, labels, means, 0.1).mean()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(pixel_prototype_contrast(features, labels, means, 0.1).mean(), exact)


@pytest.mark.parametrize(("temperature", "threshold"), [(None, 0.3), (0.1, 0.8), (0.5, 0.6)])
def test_transferred_labels(temperature: float | None, threshold: float) -> None:
    features, _, means = pair()
    shown = torch.rand(B, 3, 4) < 0.8
    got = transferred_labels(features, means, shown, threshold, temperature)
    wanted = torch.full((B, 3, 4), IGNORE)
    for b, y, x in np.ndindex(B, 3, 4):
        similar = {
            c: F.cosine_similarity(features[b, :, y, x], means.vectors[b, c], dim=0).item()
            for c in means.present[b].nonzero().flatten().tolist()
        }
        best = max(similar, key=lambda c: similar[c])
        sure = similar[best]
        if temperature is not None:
            sure = np.exp(sure / temperature) / sum(np.exp(s / temperature) for s in similar.values())
        if bool(shown[b, y, x]) and sure > threshold:
            wanted[b, y, x] = best
    assert torch.equal(got, wanted)
    assert 0 < int((got != IGNORE).sum()) < int(shown.sum())


def test_a_label_does_not_depend_on_the_rest_of_the_batch() -> None:
    """Neither other images, nor padding, nor other pixels decide which labels are passed on."""
    features, _, means = pair()
    shown = torch.ones(B, 3, 4, dtype=torch.bool)
    for temperature, threshold in ((None, 0.3), (0.1, 0.8)):
        together = transferred_labels(features, means, shown, threshold, temperature)
        alone = [
            transferred_labels(
                features[b : b + 1, :, y : y + 1, x : x + 1],
                ClassMeans(*(part[b : b + 1] for part in means)),
                shown[b : b + 1, y : y + 1, x : x + 1],
                threshold,
                temperature,
            ).item()
            for b, y, x in np.ndindex(B, 3, 4)
        ]
        assert together.flatten().tolist() == alone
        padded = transferred_labels(
            F.pad(features, (0, 5, 0, 2)), means, F.pad(shown, (0, 5, 0, 2)), threshold, temperature
        )
        assert torch.equal(padded[:, :3, :4], together)
        assert bool((padded[:, 3:] == IGNORE).all())


def test_one_class_alone_passes_on_no_label_by_its_softmax() -> None:
    features, _, means = pair()
    only = torch.zeros_like(means.present)
    only[:, 0] = True
    shown = torch.ones(B, 3, 4, dtype=torch.bool)
    assert bool((transferred_labels(features, means._replace(present=only), shown, 0.8, 0.1) == IGNORE).all())
    assert bool((transferred_labels(features, means._replace(present=only), shown, -0.99) == 0).all())


def test_the_least_number_of_pixels_may_differ_between_images() -> None:
    labels = torch.tensor([[[0, 0, 1]], [[0, 0, 1]]])
    means = class_means(torch.randn(2, D, 1, 3), labels, 2, torch.tensor([1.0, 1.5]))
    assert means.present.tolist() == [[True, True], [True, False]]


def test_running_prototypes_start_with_the_first_mean() -> None:
    vectors = torch.tensor([[[4.0], [1.0]], [[8.0], [9.0]]])
    present = torch.tensor([[True, True], [True, False]])
    mu, seen = seen_average(torch.zeros(2, 1), torch.tensor([False, True]), ClassMeans(vectors, present), 0.25)
    assert mu.flatten().tolist() == [5.0, 0.25]
    assert seen.tolist() == [True, True]
    mu, seen = seen_average(
        torch.zeros(2, 1), torch.zeros(2, dtype=torch.bool), ClassMeans(vectors[1:], present[1:]), 0.25
    )
    assert (mu.flatten().tolist(), seen.tolist()) == ([8.0, 0.0], [True, False])


@pytest.mark.parametrize(("name", "portion"), [("thresh_p10", 0.1), ("thresh_p30", 0.3)])
def test_class_thresholds_of_the_reference(name: str, portion: float) -> None:
    """Compare with the reference, which keeps every fifth value in ascending order; we take the same element.

    A class with fewer than 1 / portion values gets its smallest value in the reference, and no threshold here.
    """
    golden = golden_op("dass_class_thresholds")
    confidence, predicted = golden.tensor("logits").softmax(1).max(1)
    kept: list[list[float]] = [[] for _ in range(19)]
    for image, classes in zip(confidence, predicted, strict=True):
        for c in range(19):
            kept[c] += sorted(image[classes == c].tolist())[::5]
    ranking = ClassThresholds(19, portion)
    values = torch.tensor([v for of_class in kept for v in of_class])
    classes = torch.tensor([c for c, of_class in enumerate(kept) for _ in of_class])
    for _ in range(2):
        ranking.count(values, classes)
        ranking.next_look()
    wanted = golden.tensor(name)
    enough = torch.tensor([int(len(v) * portion) > 0 for v in kept])
    assert enough.sum() >= 8
    torch.testing.assert_close(ranking.thresholds()[enough].double(), wanted[enough], rtol=1e-5, atol=1e-6)
    assert torch.equal(wanted.isnan(), torch.tensor([not v for v in kept]))


def test_static_labels_of_the_reference() -> None:
    golden = golden_op("dass_static_labels")
    p = golden.tensor("logits").softmax(1)
    golden.assert_close("label", confident_labels(p, golden.tensor("thresholds"), golden.params["cb_prop"])[0])
    by_class = confident_labels(p, golden.tensor("thresholds"), 1e-9)[0]
    by_image = confident_labels(p, torch.full((19,), 2.0), golden.params["cb_prop"])[0]
    golden.assert_close("label_image", by_image)
    golden.assert_close("mask_image", by_image != IGNORE)
    # A portion of zero still compares with the largest probability, and none is above it.
    golden.assert_close("label_class", by_class)
    golden.assert_close("mask_class", by_class != IGNORE)


def test_entropy() -> None:
    log_p = torch.tensor([0.5, 0.25, 0.25]).log().reshape(1, 3, 1, 1).expand(1, 3, 2, 2)
    valid = torch.tensor([[[True, False], [True, True]]])
    _, entropy = cross_entropy_and_entropy(log_p, torch.zeros(1, 2, 2), valid, (2, 2))
    assert float(entropy.mean()) == pytest.approx(1.5 * np.log(2), rel=1e-5)


def test_nearest_labels_are_torchs() -> None:
    labels = torch.randint(0, 9, (2, 13, 21))
    for size in ((4, 5), (26, 42), (13, 21), (1, 1)):
        expected = F.interpolate(labels[:, None].float(), size, mode="nearest")[:, 0].long()
        assert torch.equal(nearest_labels(labels, size), expected)
        centres = F.interpolate(labels[:, None].float(), size, mode="nearest-exact")[:, 0].long()
        assert torch.equal(nearest_labels(labels, size, at="centre"), centres)


@pytest.mark.parametrize(("name", "temperature"), [("prob_T001", 0.01), ("prob_T01", 0.1), ("prob_T1", 1.0)])
def test_rare_class_probabilities(name: str, temperature: float) -> None:
    golden = golden_op("daformer_rare_class_sampling")
    total = golden.arrays["pixel_counts"].sum(0)
    golden.assert_close("total", total)
    got = rare_class_probabilities(total / total.sum(), temperature)
    golden.assert_close(name, got)


def test_weights_of_images() -> None:
    shares = np.array([[0.9, 0.1, 0.0], [1.0, 0.0, 0.0], [0.5, 0.0, 0.5]])
    weights = rare_class_weights(shares, 1.0)
    asked = rare_class_probabilities(shares.sum(0) / 3, 1.0)
    assert weights == pytest.approx([asked[0] / 3 + asked[1], asked[0] / 3, asked[0] / 3 + asked[2]])
    assert weights.sum() == pytest.approx(1)
