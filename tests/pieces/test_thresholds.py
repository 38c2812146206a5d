"""Streaming thresholds against sorting, for any distribution, split and number of processes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from segadapt.errors import RequestError
from segadapt.pieces.pseudo_labels import confidence_and_prediction
from segadapt.pieces.thresholds import ClassThresholds
from tests.golden_vectors import golden_op


def by_sorting(images, classes, portion, every=1, pooled=False):
    """Follow algorithms 1 and 2 of the paper as printed: gather lists, sort them, look up a rank."""
    lists = [[] for _ in range(classes)]
    for confidence, predicted in images:
        for c in range(classes):
            mine = confidence.float().numpy().ravel()[predicted.numpy().ravel() == c]
            lists[c].append(mine[::every])
    lists = [np.concatenate(parts) for parts in lists]
    if pooled:
        lists = [np.concatenate(lists)] * classes
    out = np.ones(classes, np.float32)
    for c, values in enumerate(lists):
        rank = math.floor(len(values) * portion)
        if rank > 0:
            out[c] = np.sort(values)[::-1][rank - 1]
    return torch.from_numpy(out)


def stream(images, ranking):
    while True:
        for confidence, predicted in images:
            ranking.count(confidence, predicted)
        if not ranking.next_look():
            return ranking


def class_thresholds(confidence, predicted, classes, portion, every=1, pooled=False):
    """Compute the thresholds of confidences that are in memory."""
    return stream([(confidence, predicted)], ClassThresholds(classes, portion, every, pooled)).thresholds()


def random_images(seed):
    """Draw a few images; the seed chooses the distribution: saturated, tiny, tied or sparse."""
    rng = np.random.default_rng(seed)
    classes = int(rng.choice([1, 2, 7, 19]))
    shares = rng.dirichlet(np.full(classes, 0.3))
    kind = seed % 5
    images = []
    for _ in range(int(rng.integers(1, 4))):
        shape = tuple(rng.integers(1, 25, 2))
        predicted = rng.choice(classes, shape, p=shares)
        x = rng.random(shape)
        if kind == 1:
            x = 1 - 10 ** (-7 * x)  # saturated near one, with many exact ones
        elif kind == 2:
            x = 1e-6 * x * rng.random(shape)  # spatial prior times probability
        elif kind == 3:
            x = np.round(x * 8) / 8  # exact ties, with zeros
        elif kind == 4:
            x = 1.2 * x - np.where(rng.random(shape) < 0.2, 0.0, 1e-9)  # overshoot beyond one
        images.append((torch.from_numpy(np.maximum(x, 0).astype(np.float32)), torch.from_numpy(predicted)))
    return images, classes, float(rng.choice([0.0, 0.01, 0.2, 0.35, 0.5, 1.0, rng.random()]))


@pytest.mark.parametrize("portion", [0.2, 0.35, 0.5])
@pytest.mark.parametrize("every", [1, 4])
def test_reference_thresholds(portion, every):
    gold = golden_op("cbst_class_thresholds")
    probabilities = gold.tensor("prob").permute(0, 3, 1, 2)
    ranking = ClassThresholds(probabilities.shape[1], portion, every)
    stream([confidence_and_prediction(image[None]) for image in probabilities], ranking)
    suffix = f"ds{every}_p{round(portion * 100)}"
    gold.assert_close(f"thresh_{suffix}", ranking.thresholds())
    gold.assert_close(f"selsize_{suffix}", ranking.ranks().float())
    gold.assert_close("pred_count", ranking.counts)
    whole_batch = stream(
        [confidence_and_prediction(probabilities)], ClassThresholds(probabilities.shape[1], portion, every)
    ).thresholds()
    gold.assert_close(f"thresh_{suffix}", whole_batch)


@pytest.mark.parametrize("portion", [0.2, 0.5])
@pytest.mark.parametrize("published", [True, False])
def test_reference_thresholds_with_spatial_prior(portion, published):
    gold = golden_op("cbst_spatial_prior_selection")
    prior = gold.tensor("prior")
    confidence, predicted = confidence_and_prediction(gold.tensor("prob"), prior)
    gold.assert_close("weighted_pred", predicted)
    images = list(zip(confidence, predicted, strict=True))
    if published:  # the lists of the published code begin with a zero each
        images.append((torch.zeros(len(prior)), torch.arange(len(prior))))
    got = stream(images, ClassThresholds(len(prior), portion, gold.params["ds_rate"])).thresholds()
    got[got == 1] = 0  # how the reference writes "no pixel"
    gold.assert_close(f"thresh_{'' if published else 'clean_'}p{round(portion * 100)}", got)


def test_reference_global_threshold():
    gold = golden_op("cbst_spatial_prior_selection")
    every, classes = gold.params["ds_rate"], len(gold.arrays["prior"])
    confidence, predicted = confidence_and_prediction(gold.tensor("prob"), gold.tensor("prior"))
    surplus = torch.zeros((classes + 1) * every)  # the published list holds one zero per class, and one more
    images = [*zip(confidence, predicted, strict=True), (surplus, surplus.long())]
    got = stream(images, ClassThresholds(classes, 0.2, every, pooled=True)).thresholds()
    assert len(got.unique()) == 1
    gold.assert_close("global_thresh_p20", got[0])


@pytest.mark.parametrize("seed", range(60))
def test_equals_sorting(seed):
    images, classes, portion = random_images(seed)
    every, pooled = (1, 4, 3)[seed % 3], seed % 4 == 3
    expected = by_sorting(images, classes, portion, every, pooled)
    got = stream(images, ClassThresholds(classes, portion, every, pooled)).thresholds()
    assert got.dtype == torch.float32
    assert torch.equal(got, expected)


def test_one_image_in_memory_equals_sorting():
    confidence, predicted = torch.rand(5000), torch.randint(0, 3, (5000,))
    for pooled in (False, True):
        got = stream([(confidence, predicted)], ClassThresholds(3, 0.3, pooled=pooled)).thresholds()
        assert torch.equal(got, by_sorting([(confidence, predicted)], 3, 0.3, pooled=pooled))


def test_processes_that_share_the_images_agree_with_one():
    images, classes, _ = random_images(11)
    images = images * 3
    alone = stream(images, ClassThresholds(classes, 0.4, every=2))
    first, second = ClassThresholds(classes, 0.4, every=2), ClassThresholds(classes, 0.4, every=2)
    more = True
    while more:
        for i, pair in enumerate(images):
            (first if i % 3 else second).count(*pair)
        for one, other in zip(first.tensors(), second.tensors(), strict=True):
            total = one + other
            one.copy_(total)
            other.copy_(total)
        more = first.next_look()
        assert second.next_look() == more
    for ranking in (first, second):
        assert torch.equal(ranking.thresholds(), alone.thresholds())
        assert torch.equal(ranking.counts, alone.counts)
        assert torch.equal(ranking.selected, alone.selected)


def test_order_of_classes_does_not_matter():
    images, _, _ = random_images(3)
    order = torch.randperm(19, generator=torch.Generator().manual_seed(0))
    plain = stream(images, ClassThresholds(19, 0.3))
    renamed = stream([(c, order[p]) for c, p in images], ClassThresholds(19, 0.3))
    assert torch.equal(renamed.thresholds()[order], plain.thresholds())
    assert torch.equal(renamed.counts[order], plain.counts)


def test_pooled_counts_stay_those_of_the_classes():
    """With one count for all classes every class would look equally frequent, and mining would fail."""
    predicted = torch.tensor([0] * 90 + [1] * 10)
    ranking = stream([(torch.rand(100), predicted)], ClassThresholds(3, 0.5, pooled=True))
    assert ranking.counts.tolist() == [90, 10, 0]
    assert int(ranking.selected.sum()) == 50
    assert len(ranking.thresholds().unique()) == 1


def test_counts_are_of_all_pixels_when_only_some_are_ranked():
    predicted = torch.tensor([0] * 9 + [1] * 4)
    ranking = stream([(torch.rand(13), predicted)], ClassThresholds(2, 0.5, every=4))
    assert ranking.counts.tolist() == [9, 4]
    assert ranking.ranked.tolist() == [3, 1]


@pytest.mark.parametrize("portion", [0.05, 0.2, 0.5])
def test_selected_share_is_the_portion(portion):
    generator = torch.Generator().manual_seed(0)
    images = [
        (torch.rand(200, 300, generator=generator) ** 0.1, torch.randint(0, 4, (200, 300), generator=generator))
        for _ in range(2)
    ]
    ranking = stream(images, ClassThresholds(4, portion))
    shares = ranking.selected / ranking.ranked
    assert float((shares - portion).abs().max()) < 1e-3
    above = sum(int((c[p == 2] >= ranking.thresholds()[2]).sum()) for c, p in images)
    assert int(ranking.selected[2]) == above


def test_one_look_is_close_from_below():
    confidence, predicted = torch.rand(3, 50, 60), torch.randint(0, 3, (3, 50, 60))
    ranking = ClassThresholds(3, 0.2)
    ranking.count(confidence, predicted)
    assert ranking.next_look()
    assert not ranking.exact
    near, exact = ranking.thresholds(), stream([(confidence, predicted)], ClassThresholds(3, 0.2)).thresholds()
    assert (near <= exact).all()
    assert (near > exact * 0.996).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_rank_as_float32(dtype):
    confidence, predicted = torch.rand(40, 50).to(dtype), torch.randint(0, 2, (40, 50))
    got = stream([(confidence, predicted)], ClassThresholds(2, 0.3)).thresholds()
    assert torch.equal(got, stream([(confidence.float(), predicted)], ClassThresholds(2, 0.3)).thresholds())


def test_zero_of_either_sign_and_overshoot():
    confidence = torch.tensor([-0.0, 0.0, -1e-3, 1.5, 3e4, 0.5])
    predicted = torch.tensor([1, 1, 1, 1, 0, 1])
    ranking = stream([(confidence, predicted)], ClassThresholds(2, 1.0))
    assert ranking.counts.tolist() == [1, 5]
    assert ranking.thresholds().tolist() == [3e4, 0.0]
    assert stream([(confidence, predicted)], ClassThresholds(2, 0.4)).thresholds().tolist() == [1.0, 0.5]


def test_nothing_to_select():
    ranking = stream([], ClassThresholds(3, 0.2))
    assert ranking.thresholds().tolist() == [1, 1, 1]
    assert stream([(torch.rand(4), torch.zeros(4))], ClassThresholds(3, 0.2)).thresholds().tolist() == [1, 1, 1]


@pytest.mark.parametrize("bad", [math.nan, -math.nan, math.inf])
def test_confidence_that_is_not_finite_is_an_error(bad):
    ranking = ClassThresholds(2, 0.2)
    ranking.count(torch.copysign(torch.tensor([0.5, bad]), torch.tensor([1.0, math.copysign(1, bad)])), torch.zeros(2))
    with pytest.raises(ValueError, match="not finite"):
        ranking.next_look()


def test_misuse_is_an_error():
    with pytest.raises(RequestError, match="portion"):
        ClassThresholds(2, 1.5)
    with pytest.raises(RequestError, match="subsampling"):
        ClassThresholds(2, 0.5, every=0)
    ranking = ClassThresholds(2, 0.5)
    with pytest.raises(ValueError, match="closed look"):
        ranking.thresholds()
    with pytest.raises(ValueError, match="2 classes"):
        ranking.count(torch.rand(3), torch.tensor([0, 1, 2]))
    ranking.count(torch.rand(10), torch.zeros(10))
    assert ranking.next_look()
    ranking.count(torch.rand(10) + 4, torch.zeros(10))
    with pytest.raises(ValueError, match="second look"):
        ranking.next_look()
    done = stream([(torch.rand(5), torch.zeros(5))], ClassThresholds(2, 0.5))
    assert not done.next_look()
    with pytest.raises(ValueError, match="exact already"):
        done.count(torch.rand(5), torch.zeros(5))


@pytest.mark.parametrize("pooled", [False, True])
def test_counting_on_a_gpu_counts_the_same(monkeypatch: pytest.MonkeyPatch, pooled: bool) -> None:
    """Its operations, on the CPU; a class that is not there is refused at the end of the look."""
    images = [(torch.rand(40, 50).pow(0.1), torch.randint(0, 5, (40, 50), dtype=torch.uint8)) for _ in range(3)]
    here = stream(images, ClassThresholds(5, 0.3, pooled=pooled))
    monkeypatch.setattr(ClassThresholds, "_count_on_cpu", ClassThresholds._count_on_gpu)
    there = stream(images, ClassThresholds(5, 0.3, pooled=pooled))
    assert torch.equal(here.thresholds(), there.thresholds())
    assert torch.equal(here.counts, there.counts)
    assert torch.equal(here.selected, there.selected)
    wrong = ClassThresholds(2, 0.5)
    wrong.count(torch.rand(3), torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="2 classes"):
        wrong.next_look()
