"""The sample on which models are compared, and the criteria that follow from it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segadapt.core.spacing import evenly_spaced
from segadapt.data.dataset import DamagedFile, Dataset
from segadapt.data.memory import in_memory
from segadapt.evaluation.criteria import CRITERIA, agreement, criteria_of, ensemble_labels, mean_iou
from segadapt.evaluation.looking import GRID, VIEWS, Look, look_at_model
from segadapt.labels import LabelSpace, distinct_colors
from segadapt.models.segmenter import Output, Segmenter
from segadapt.models.store import LoadedModel

SPACE = LabelSpace("run", ("dark", "grey", "bright"), distinct_colors(3))
SIZE = (GRID[0], GRID[1])


class Brightness(Segmenter):
    """Says of every pixel alone how bright it is, so that a mirrored image changes nothing."""

    def __init__(self, places: tuple[float, ...] = (0.1, 0.5, 0.9)) -> None:
        super().__init__(3)
        self.stride, self.feature_channels = 1, 1
        self.scale = nn.Parameter(torch.tensor(60.0))
        self.places = places

    def forward(self, images: Tensor) -> Output:
        grey = images.mean(1, keepdim=True)
        logits = torch.cat([-self.scale * (grey - place) ** 2 for place in self.places], 1)
        return Output(logits, grey)


def pictures(count: int, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    labels = [rng.integers(0, 3, SIZE).astype(np.uint8) for _ in range(count)]
    images = [np.repeat(np.array([25, 105, 230], np.uint8)[label][..., None], 3, 2) for label in labels]
    return images, labels


@pytest.fixture(scope="module")
def data() -> tuple[Dataset, Dataset]:
    target, _ = pictures(3, 0)
    images, labels = pictures(2, 1)
    labels[0][:4] = 255
    pairs = list(zip(images, labels, strict=True))
    return in_memory("target", target, SPACE, labelled=False), in_memory("source", pairs, SPACE)


def loaded(**how: Any) -> LoadedModel:
    return LoadedModel(Brightness(**how).eval(), SPACE, {})


def test_a_sample_is_seen_from_all_sides(data: tuple[Dataset, Dataset]) -> None:
    target, source = data
    look = look_at_model(loaded(), target, source)
    truth = torch.cat([torch.from_numpy(label).flatten() for label in pictures(3, 0)[1]]).long()
    assert look.probabilities.shape == (3 * GRID[0] * GRID[1], 3)
    assert torch.equal(look.labels, truth)
    assert set(look.views) == set(VIEWS)
    assert torch.equal(look.views["mirrored"], truth)
    assert (look.views["darker"] <= truth).all()
    assert (look.views["darker"] < truth).any()
    assert (look.views["brighter"] >= truth).all()
    counted = look.source
    assert counted is not None
    assert int(counted.sum()) == 2 * truth.numel() // 3
    assert int(counted[3].sum()) == 4 * GRID[1]
    assert mean_iou(counted) == 100


def test_criteria_of_a_perfect_model(data: tuple[Dataset, Dataset]) -> None:
    look = look_at_model(loaded(), *data)
    found = criteria_of(look, look, ensemble_labels([look]))
    assert list(found) == list(CRITERIA)
    assert all(found[name] == 100 for name in ("mirrored", "ensemble", "unchanged", "source"))
    assert found["kept"] == 1
    assert found["certainty"] == pytest.approx(0, abs=2e-2)
    assert found["shares"] == pytest.approx(0, abs=1e-2)


def test_a_model_that_lost_a_class_is_found_out(data: tuple[Dataset, Dataset]) -> None:
    before, after = look_at_model(loaded(), *data), look_at_model(loaded(places=(0.1, 0.5, 9.0)), *data)
    found = criteria_of(after, before)
    unharmed = criteria_of(before, before)
    assert found["kept"] == pytest.approx(2 / 3)
    assert found["ensemble"] is None
    for name in ("shares", "source", "recoloured", "information", "dispersity"):
        assert (found[name] or 0.0) < (unharmed[name] or 0.0), name


def test_without_a_source_its_criteria_are_unknown(data: tuple[Dataset, Dataset]) -> None:
    found = criteria_of(look_at_model(loaded(), data[0], None), None)
    unknown = ["ensemble", "unchanged", "kept", "shares", "source", "recoloured"]
    assert [name for name, value in found.items() if value is None] == unknown


def test_unreadable_images_are_left_out(data: tuple[Dataset, Dataset]) -> None:
    target, _ = data

    def read(place: Any) -> np.ndarray:
        if place == target.items[1].image:
            raise DamagedFile("broken")
        return target.read_image(place)

    assert len(look_at_model(loaded(), replace(target, read_image=read), None).labels) == 2 * GRID[0] * GRID[1]

    def refuse(place: Any) -> np.ndarray:
        raise DamagedFile("broken")

    with pytest.raises(DamagedFile, match="none of the 3 images"):
        look_at_model(loaded(), replace(target, read_image=refuse), None)


def test_images_are_evenly_spaced(data: tuple[Dataset, Dataset]) -> None:
    many = replace(data[0], items=data[0].items * 10)
    assert evenly_spaced(len(many), 4) == [0, 10, 19, 29]
    assert evenly_spaced(len(data[0]), 20) == [0, 1, 2]


def test_agreement_is_the_mean_iou_of_either_side() -> None:
    one, other = torch.tensor([0, 0, 1, 1, 3]), torch.tensor([0, 1, 1, 1, 3])
    assert agreement(one, other, 5) == agreement(other, one, 5) == pytest.approx(100 * (1 / 2 + 2 / 3 + 1) / 3)


def test_an_ensemble_is_the_mean_of_probabilities() -> None:
    looks = [Look(torch.tensor([p]), {}, None, None) for p in ([0.6, 0.4, 0.0], [0.45, 0.55, 0.0], [0.0, 0.4, 0.6])]
    assert ensemble_labels(looks).tolist() == [1]
