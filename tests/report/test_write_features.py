"""Features kept for the report: choosing pixels, their features, compression, and all of it in a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from segadapt.data.folder import open_folder
from segadapt.models.inference import InferenceConfig
from segadapt.models.segmenter import Output, Preprocessing, Segmenter
from segadapt.report.features import Places, read_features, read_places
from segadapt.report.write_features import (
    balanced,
    choose_places,
    compressed,
    features_at,
    separation,
    show_features,
)
from segadapt.runs.run import Run
from tests.tiny import COLORS, config, write_classes, write_folder

PLAIN = InferenceConfig()


class Colours(Segmenter):
    """Features are the mean colours of 8 x 8 cells; the class is the nearest of the tiny world's colours."""

    def __init__(self, classes: int = 3, factor: float = 1.0):
        super().__init__(classes, Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))
        self.factor = torch.nn.Parameter(torch.tensor(factor))

    def network(self, x: Tensor) -> Output:
        features = torch.nn.functional.avg_pool2d(x, self.stride)
        colours = torch.tensor(COLORS[: self.classes], dtype=x.dtype) / 255
        logits = -((features[:, None] - colours[None, :, :, None, None]) ** 2).sum(2)
        return Output(logits, features * self.factor)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_folder(tmp_path, 5)
    write_classes(tmp_path / "classes.txt")
    return tmp_path


def opened(folder: Path, labelled: bool):  # type: ignore[no-untyped-def]
    return open_folder(folder / "images", folder / "labels" if labelled else None, folder / "classes.txt")


def test_pixels_are_balanced_and_evenly_spaced() -> None:
    label = np.repeat(np.array([0, 1, 255, 2], np.uint8), [1000, 3, 500, 40])
    chosen = balanced(label, 3, each=11, most=100)
    assert np.bincount(label[chosen]).tolist() == [11, 3, 11]
    assert (np.diff(chosen) > 0).all()
    of_first = chosen[label[chosen] == 0]
    assert of_first[[0, -1]].tolist() == [0, 999]
    assert np.diff(of_first).max() - np.diff(of_first).min() <= 1


def test_no_more_pixels_than_asked_for() -> None:
    """Pixels that rare classes leave free go to the other classes, the same number to each."""
    label = np.repeat(np.array([0, 1, 2], np.uint8), [500, 500, 5])
    assert np.bincount(label[balanced(label, 3, each=150, most=101)]).tolist() == [48, 48, 5]
    assert len(balanced(label[:0], 3)) == 0


def test_separation_by_hand() -> None:
    """Centres 0 and 6 (3 from the middle: 9 between); squared distances within 1 and 4 (mean 2.5)."""
    features = np.array([[-1, 0], [1, 0], [4, 0], [8, 0], [100, 100]], np.float32)
    label = np.array([0, 0, 1, 1, 2], np.uint8)
    assert separation(features, label) == pytest.approx(9 / 2.5)
    assert separation(7 * features + 3, label) == pytest.approx(9 / 2.5, rel=1e-5)
    assert separation(features[:2], label[:2]) is None
    assert separation(features[[0, 0, 2, 2]], label[:4]) is None


def test_compressed_features_keep_their_distances() -> None:
    rng = np.random.default_rng(0)
    few = rng.normal(size=(80, 4)).astype(np.float32)
    rotation = np.linalg.qr(rng.normal(size=(300, 300)))[0][:4]
    many = (1e5 * few @ rotation + 1e6).astype(np.float32)

    def distances(points: np.ndarray) -> np.ndarray:
        found = np.linalg.norm(points[:, None].astype(np.float64) - points[None], axis=-1)
        return np.asarray(found / found.mean())

    for features, width in ((few, 4), (many, 50)):
        small = compressed(features)
        assert small is not None
        assert small.shape == (80, width)
        np.testing.assert_allclose(distances(small), distances(few), atol=6e-3)
    assert compressed(np.full((5, 3), np.nan, np.float32)) is None
    assert compressed(np.ones((5, 3), np.float32)) is None


@pytest.mark.parametrize("labelled", [True, False])
def test_places_and_their_classes(folder: Path, labelled: bool) -> None:
    """Pixels are chosen by the truth if there is one, else by predictions; ignored pixels are never chosen."""
    data = opened(folder, labelled)
    places = choose_places(Colours(), "first", data, PLAIN, None)
    assert places.by == ("truth" if labelled else "first")
    assert len(places.label) == len(places.image) == len(places.y) == len(places.x) > 50
    assert set(places.label.tolist()) == {0, 1, 2}
    truth = opened(folder, True)
    agree = []
    for number, y, x, label in zip(places.image, places.y, places.x, places.label, strict=True):
        full = truth.label(int(number))
        agree.append(full[int(y * full.shape[0]), int(x * full.shape[1])] == label)
    assert np.mean(agree) == 1 if labelled else 0.5 < np.mean(agree) < 1


def test_features_are_those_of_the_cell_in_which_a_pixel_lies(folder: Path) -> None:
    data = opened(folder, True)
    places = choose_places(Colours(), "first", data, PLAIN, None)
    found = features_at(Colours(), places, data, PLAIN, None)
    for row in (0, len(found) // 2, len(found) - 1):
        image = data.image(int(places.image[row])).astype(np.float64) / 255
        top = int(places.y[row] * image.shape[0]) // 8 * 8
        left = int(places.x[row] * image.shape[1]) // 8 * 8
        np.testing.assert_allclose(found[row], image[top : top + 8, left : left + 8].mean((0, 1)), atol=1e-5)


def test_same_pixels_for_every_stage(folder: Path, tmp_path: Path) -> None:
    """A later stage keeps features of the pixels that the first stage chose, whatever it predicts."""
    data, home = opened(folder, False), tmp_path / "pictures"
    show_features(home, "one", Colours(), data, PLAIN, None)
    first = read_places(home / "features/places.npz")
    show_features(home, "two", Colours(classes=2, factor=-3.0), data, PLAIN, None)
    show_features(home, "dead", Colours(factor=0.0), data, PLAIN, None)
    show_features(home, "burst", Colours(factor=float("nan")), data, PLAIN, None)
    second = read_places(home / "features/places.npz")
    assert first is not None
    assert second is not None
    assert first.by == second.by == "one"
    np.testing.assert_array_equal(first.x, second.x)
    kept = {p.stem: np.load(p) for p in (home / "features/stages").glob("*.npz")}
    assert set(kept) == {"one", "two"}
    # Mirrored and stretched features scatter alike, and are kept at one scale.
    assert kept["one"]["separation"] == pytest.approx(kept["two"]["separation"], rel=1e-4)
    np.testing.assert_allclose(kept["one"]["features"], -kept["two"]["features"], atol=2e-3)


def test_images_that_cannot_be_read_are_passed_over(folder: Path) -> None:
    (folder / "images/002.png").write_bytes(b"no picture")
    places = choose_places(Colours(), "first", opened(folder, True), PLAIN, None)
    assert set(places.image.tolist()) == {0, 1, 3, 4}


def test_damaged_places_are_chosen_anew(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "pictures/features/places.npz"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PK")
    show_features(tmp_path / "pictures", "one", Colours(), opened(folder, True), PLAIN, None)
    assert isinstance(read_places(path), Places)


@pytest.mark.parametrize("test", [True, False])
def test_a_run_keeps_the_features_of_every_stage(tmp_path: Path, test: bool) -> None:
    pytest.importorskip("sklearn")
    run = Run.open(config(tmp_path, "st", size=(64, 96), test=test), tmp_path / "run", quiet=True)
    run.execute()
    album = read_features(tmp_path / "run/pictures/features", ["source", "adapt"])
    assert album is not None
    assert [p.stage for p in album.pictures] == ["source", "adapt"]
    assert album.by == ("truth" if test else "source")
    assert all(p.points.shape == (len(album.label), 2) for p in album.pictures)
    sizes = [p.stat().st_size for p in (tmp_path / "run/pictures").rglob("features/**/*.npz")]
    assert max(sizes) < 3e6
