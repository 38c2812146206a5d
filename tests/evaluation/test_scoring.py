"""Scores over data sets held in memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from segadapt.data.dataset import DamagedFile, Dataset, Item
from segadapt.errors import RequestError
from segadapt.evaluation.metrics import ConfusionMatrix
from segadapt.evaluation.scoring import evaluate
from segadapt.labels import IGNORE, LabelSpace, distinct_colors
from segadapt.models.inference import InferenceConfig
from tests.evaluation.tiny import GreyLevels, TinySegmenter, probabilities

FOUR = LabelSpace("four", ("a", "b", "c", "d"), distinct_colors(4), {"dark": ("a", "b")})


def grey_image(label: npt.NDArray[np.uint8], classes: int = 4) -> npt.NDArray[np.uint8]:
    """Return the image for which :class:`GreyLevels` predicts ``label``."""
    grey = ((np.minimum(label, classes - 1) + 0.5) / classes * 255).astype(np.uint8)
    return grey[..., None].repeat(3, axis=2)


def blocks(height: int, width: int, seed: int) -> npt.NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 4, (-(-height // 16), -(-width // 16)))
    return coarse.repeat(16, 0).repeat(16, 1)[:height, :width].astype(np.uint8)


def dataset(labels: Sequence[npt.NDArray[np.uint8]], images: Sequence[npt.NDArray[np.uint8]] | None = None) -> Dataset:
    images = images if images is not None else [grey_image(label) for label in labels]
    return Dataset(
        name="memory",
        space=FOUR,
        items=tuple(Item(f"item{i}", Path(str(i)), Path(str(i))) for i in range(len(labels))),
        read_image=lambda path: images[int(str(path))],
        read_label=lambda path: labels[int(str(path))],
    )


LABELS = [blocks(48, 64, 0), blocks(45, 61, 1), blocks(32, 32, 2)]


def test_right_predictions_score_high_and_wrong_ones_low() -> None:
    data = dataset(LABELS)
    good = evaluate(GreyLevels(4), data, InferenceConfig(), "cpu")
    assert good.miou > 75
    shifted = [((label + 1) % 4).astype(np.uint8) for label in LABELS]
    bad = evaluate(GreyLevels(4), dataset(shifted, [grey_image(label) for label in LABELS]), InferenceConfig(), "cpu")
    assert bad.miou < 10


def test_merged_predictions_reach_the_scores() -> None:
    labels = [np.where(label == 3, 1, label).astype(np.uint8) for label in LABELS]
    data = dataset(labels, [grey_image(label) for label in LABELS])
    plain = evaluate(GreyLevels(4), data, InferenceConfig(), "cpu")
    merged = evaluate(GreyLevels(4), data, InferenceConfig(), "cpu", merge={"d": "b"})
    assert math.isnan(merged.iou[3])
    assert merged.iou[1] > plain.iou[1] + 20
    assert (merged.iou[0], merged.iou[2]) == (plain.iou[0], plain.iou[2])


def test_restated_at_label_size() -> None:
    """The labels are larger than the images; the prediction is enlarged, not the label reduced."""
    model = TinySegmenter(4)
    small = [grey_image(label)[::2, ::2] for label in LABELS]
    config = InferenceConfig(flip=True)
    matrix = ConfusionMatrix(4)
    for image, label in zip(small, LABELS, strict=True):
        batch = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
        probability = probabilities(model, batch, label.shape, config)  # type: ignore[arg-type]
        matrix.update(probability.argmax(1)[0], torch.from_numpy(label))
    got = evaluate(model, dataset(LABELS, small), config, "cpu")
    assert got.to_dict() == matrix.scores(FOUR).to_dict()
    assert sum(got.pixels) == sum(label.size for label in LABELS)


def test_working_size_changes_the_image_only() -> None:
    model = GreyLevels(4)
    got = evaluate(model, dataset(LABELS), InferenceConfig(), "cpu", size=24)
    assert sum(got.pixels) == sum(label.size for label in LABELS)
    assert got.miou < evaluate(model, dataset(LABELS), InferenceConfig(), "cpu").miou
    in_config = evaluate(model, dataset(LABELS), InferenceConfig(size=(24, 32)), "cpu")
    assert in_config == evaluate(model, dataset(LABELS), InferenceConfig(), "cpu", size=(24, 32))


def test_all_ignored_image_changes_nothing_and_absent_class_has_no_score() -> None:
    labels = [np.where(label == 3, 0, label).astype(np.uint8) for label in LABELS[:2]]
    void = np.full((20, 30), IGNORE, np.uint8)
    images = [grey_image(label) for label in labels]
    # A blend of levels a and c enlarges to b but never to d.
    plain = evaluate(GreyLevels(4), dataset(labels), InferenceConfig(), "cpu")
    got = evaluate(GreyLevels(4), dataset([*labels, void], [*images, grey_image(void)]), InferenceConfig(), "cpu")
    np.testing.assert_equal(got.to_dict(), plain.to_dict())
    assert math.isnan(got.iou[3])
    only_void = evaluate(GreyLevels(4), dataset([void]), InferenceConfig(), "cpu")
    assert only_void.to_dict()["miou"] is None


def test_processes_together_equal_one_process() -> None:
    data, config = dataset(LABELS), InferenceConfig()
    whole = evaluate(GreyLevels(4), data, config, "cpu")
    counts: list[Tensor] = []
    for share in ([0, 2], [1], []):
        evaluate(GreyLevels(4), data.subset(share), config, "cpu", reduce=lambda t: counts.append(t[0].clone()))

    def total(tensors: Sequence[Tensor]) -> None:
        tensors[0].copy_(torch.stack(counts).sum(0))

    assert evaluate(GreyLevels(4), data.subset([0]), config, "cpu", reduce=total) == whole


def test_progress_and_autocast() -> None:
    calls: list[tuple[int, int]] = []
    entered: list[bool] = []

    def autocast() -> AbstractContextManager[None]:
        entered.append(True)
        return torch.autocast("cpu", torch.bfloat16)

    got = evaluate(
        GreyLevels(4), dataset(LABELS), InferenceConfig(), "cpu",
        autocast=autocast, progress=lambda done, total: calls.append((done, total)),
    )  # fmt: skip
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert len(entered) == 3
    assert sum(got.pixels) == sum(label.size for label in LABELS)


def test_wrong_requests_are_named() -> None:
    data, config = dataset(LABELS), InferenceConfig()
    with pytest.raises(RequestError, match=r"memory: its labels are in 'four' \(4 classes\), the model"):
        evaluate(GreyLevels(5), data, config, "cpu")
    with pytest.raises(RequestError, match="labels"):
        evaluate(GreyLevels(4), data.unlabelled(), config, "cpu")
    strange = LABELS[1].copy()
    strange[0, 0] = 77
    with pytest.raises(RequestError, match=r"'item1': .*class 77"):
        evaluate(GreyLevels(4), dataset([LABELS[0], strange]), config, "cpu")


def test_damaged_image_stops_the_evaluation() -> None:
    def damaged(path: Path) -> npt.NDArray[np.uint8]:
        raise DamagedFile(f"{path} is cut off")

    data = dataset(LABELS)
    broken = Dataset(data.name, data.space, data.items, damaged, data.read_label)
    with pytest.raises(DamagedFile, match="cut off"):
        evaluate(GreyLevels(4), broken, InferenceConfig(), "cpu")
