"""Scores against the Cityscapes evaluation, torchmetrics, and numbers worked out by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segadapt.data.ids import CITYSCAPES_TRAIN_ID
from segadapt.errors import RequestError
from segadapt.evaluation.metrics import ConfusionMatrix, Scores
from segadapt.labels import CITYSCAPES, IGNORE, SYNTHIA, LabelSpace, distinct_colors
from tests.data.writing import lookup_table

THREE = LabelSpace("three", ("a", "b", "c"), distinct_colors(3), {"ends": ("a", "c")})


def scores_of(label: object, prediction: object, space: LabelSpace = THREE) -> Scores:
    matrix = ConfusionMatrix(len(space))
    matrix.update(torch.as_tensor(prediction), torch.as_tensor(label))
    return matrix.scores(space)


def test_by_hand() -> None:
    # a: 3 true, 2 found, 1 wrongly claimed; b: 2 true, 1 found, 1 wrongly claimed; c: nowhere.
    got = scores_of([0, 0, 0, 1, 1, IGNORE], [0, 0, 1, 1, 0, 2])
    assert got.iou[:2] == pytest.approx((50.0, 100 / 3))
    assert math.isnan(got.iou[2])
    assert got.miou == pytest.approx((50 + 100 / 3) / 2)
    assert got.accuracy[:2] == pytest.approx((200 / 3, 50.0))
    assert got.mpa == pytest.approx((200 / 3 + 50) / 2)
    assert got.pixel_accuracy == pytest.approx(60.0)
    assert got.fwiou == pytest.approx(0.6 * 50 + 0.4 * 100 / 3)
    assert got.pixels == (3, 2, 0)
    assert got.subsets["ends"] == pytest.approx(50.0)


def test_class_only_predicted_counts_as_zero() -> None:
    got = scores_of([0, 0], [0, 2])
    assert got.iou[2] == 0.0
    assert got.miou == pytest.approx(25.0)
    assert math.isnan(got.accuracy[2])
    assert got.mpa == pytest.approx(50.0)


def test_prediction_of_no_class_is_a_miss_but_no_false_claim() -> None:
    got = scores_of([0, 0, 1, IGNORE], [0, IGNORE, 1, IGNORE])
    assert got.iou[:2] == pytest.approx((50.0, 100.0))
    assert got.pixel_accuracy == pytest.approx(200 / 3)


def test_predictions_that_count_as_another_class_or_as_none() -> None:
    """As CBST scores 19 classes on the 13 of NTHU: a predicted b is right where a is true."""
    matrix = ConfusionMatrix(len(THREE))
    matrix.update(torch.tensor([0, 1, 2, 2, 0]), torch.tensor([0, 0, 0, 2, 2]))
    got = matrix.scores(THREE, {"b": "a"})
    assert got.iou[0] == pytest.approx(100 * 2 / 4)
    assert math.isnan(got.iou[1])  # neither labelled nor, after merging, predicted: out of the mean
    assert got.miou == pytest.approx((50 + 100 / 3) / 2)
    ignored = matrix.scores(THREE, {"b": "ignore", "c": "a"})
    assert ignored.iou[0] == pytest.approx(100 * 2 / 5)  # its pixel that was called b is missed, and claimed by nobody
    assert ignored.pixel_accuracy == pytest.approx(40.0)
    assert matrix.scores(THREE).iou[0] == pytest.approx(25.0)  # counts are as they were


def test_nothing_to_score() -> None:
    got = scores_of([IGNORE, IGNORE], [0, 1])
    assert math.isnan(got.miou)
    assert math.isnan(got.pixel_accuracy)
    assert json.loads(json.dumps(got.to_dict(), allow_nan=False))["miou"] is None


def test_label_beyond_the_classes_is_refused() -> None:
    for bad in (3, 254):
        with pytest.raises(RequestError, match=f"class {bad}"):
            scores_of([0, bad], [0, 0])
    with pytest.raises(ValueError, match="shape"):
        scores_of([0, 0], [0])


def test_subset_averages_classes_of_the_same_prediction() -> None:
    """mIoU* of SYNTHIA: a false claim on an excluded class's pixel still costs the included class."""
    road, wall = SYNTHIA.index("road"), SYNTHIA.index("wall")
    got = scores_of([road, wall], [road, road], SYNTHIA)
    assert got.iou[road] == pytest.approx(50.0)
    assert got.subsets["synthia13"] == pytest.approx(50.0)
    assert got.miou == pytest.approx(25.0)


def test_scores_as_json() -> None:
    got = scores_of([0, 0, 1], [0, 1, 1])
    assert math.isnan(got.iou[2])
    plain = json.loads(json.dumps(got.to_dict(), allow_nan=False))
    assert plain["iou"] == {"a": 50.0, "b": 50.0, "c": None}
    assert plain == got.to_dict()


maps = st.lists(st.tuples(st.sampled_from([0, 1, 2, IGNORE]), st.integers(0, 2)), min_size=1, max_size=40)


@given(maps, st.permutations([0, 1, 2]), st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_sums_over_parts_and_class_permutation(pixels: list[tuple[int, int]], order: list[int], cut: int) -> None:
    label, prediction = (torch.tensor(x) for x in zip(*pixels, strict=True))
    whole, parts, renamed = (ConfusionMatrix(3) for _ in range(3))
    whole.update(prediction, label)
    parts.update(prediction[:cut], label[:cut])
    other = ConfusionMatrix(3)
    other.update(prediction[cut:], label[cut:])
    parts.counts += other.counts
    assert torch.equal(whole.counts, parts.counts)
    table = torch.full((256,), IGNORE)
    table[:3] = torch.tensor(order)
    renamed.update(table[prediction], table[label])
    np.testing.assert_allclose(
        np.array(renamed.scores(THREE).iou)[order], np.array(whole.scores(THREE).iou), equal_nan=True
    )


def random_maps(seed: int, ids: npt.NDArray[np.uint8], shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Patches of random ids, so that classes are found and confused."""
    rng = np.random.default_rng(seed)
    coarse = rng.choice(ids, (shape[0] // 8, shape[1] // 8))
    return coarse.repeat(8, 0).repeat(8, 1).astype(np.uint8)


def test_equals_cityscapes_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The official script on the very files, with void pixels in truth and prediction, and absent classes."""
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official
    from cityscapesscripts.helpers.labels import name2label

    scored = np.array(sorted(CITYSCAPES_TRAIN_ID), np.uint8)
    true_ids = np.append(scored[:15], [0, 3, 9]).astype(np.uint8)
    claimed_ids = np.append(scored[:17], [0, 10]).astype(np.uint8)
    table = lookup_table(CITYSCAPES_TRAIN_ID)
    matrix = ConfusionMatrix(len(CITYSCAPES))
    truths, claims = [], []
    for number in range(3):
        truth = random_maps(number, true_ids, (64, 128))
        claim = np.where(random_maps(90 + number, np.arange(3), (64, 128)) > 0, truth, 0)
        claim = np.where(claim > 0, claim, random_maps(50 + number, claimed_ids, (64, 128))).astype(np.uint8)
        truths.append(str(tmp_path / f"ulm_{number:06d}_000019_gtFine_labelIds.png"))
        claims.append(str(tmp_path / f"ulm_{number:06d}_000019_pred.png"))
        cv2.imwrite(truths[-1], truth)
        cv2.imwrite(claims[-1], claim)
        matrix.update(torch.from_numpy(table[claim]), torch.from_numpy(table[truth]))

    official.args.evalInstLevelScore = False
    official.args.JSONOutput = False
    official.args.quiet = True
    expected = official.evaluateImgLists(claims, truths, official.args)
    capsys.readouterr()
    got = matrix.scores(CITYSCAPES)
    for name, iou in zip(got.names, got.iou, strict=True):
        assert name in name2label
        assert iou == pytest.approx(100 * expected["classScores"][name], nan_ok=True), name
    assert got.miou == pytest.approx(100 * expected["averageScoreClasses"])
    assert sum(math.isnan(iou) for iou in got.iou) == 2


def test_equals_torchmetrics() -> None:
    from torchmetrics import classification as tm

    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, 7, (2, 40, 50), generator=generator)
    prediction = torch.where(torch.rand(label.shape, generator=generator) < 0.5, label, label.flip(1))
    label[0, :5] = IGNORE
    settings = {"num_classes": 7, "ignore_index": IGNORE}
    space = LabelSpace("seven", tuple("abcdefg"), distinct_colors(7))
    got = scores_of(label, prediction, space)
    expected = tm.MulticlassConfusionMatrix(**settings)(prediction, label)
    matrix = ConfusionMatrix(7)
    matrix.update(prediction.to(torch.uint8), label.to(torch.uint8))
    assert torch.equal(matrix.counts[:, :7], expected)
    assert not matrix.counts[:, 7].any()
    for mine, theirs in (
        (got.miou, tm.MulticlassJaccardIndex(**settings)),
        (got.fwiou, tm.MulticlassJaccardIndex(**settings, average="weighted")),
        (got.mpa, tm.MulticlassAccuracy(**settings, average="macro")),
        (got.pixel_accuracy, tm.MulticlassAccuracy(**settings, average="micro")),
    ):
        assert mine == pytest.approx(100 * float(theirs(prediction, label)), rel=1e-5)
