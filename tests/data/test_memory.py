"""Data sets in memory: the same batches as from files, statistics, and elements that are not as they should be."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from segadapt.core.content import content_keys
from segadapt.data.cache import DecodedCache
from segadapt.data.check import check_dataset
from segadapt.data.dataset import DamagedFile, Dataset, Held
from segadapt.data.folder import open_folder
from segadapt.data.loader import Feeder, Samples
from segadapt.data.memory import in_memory
from segadapt.data.readers import to_space
from segadapt.data.statistics import class_statistics, labels_key
from segadapt.data.streams import Augmentation, Part, Stream
from segadapt.errors import RequestError
from segadapt.labels import IGNORE, LabelSpace
from tests.tiny import write_classes, write_folder

CPU = torch.device("cpu")
SPACE = LabelSpace("three", ("a", "b", "c"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)))
LABEL = np.arange(20, dtype=np.int64).reshape(4, 5) % 3
IMAGE = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)


def files(root: Path, count: int = 5) -> Dataset:
    write_folder(root, count, size=(20, 28))
    return open_folder(root / "images", root / "labels", classes=write_classes(root / "classes.txt"))


def pairs(dataset: Dataset) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(dataset.image(i), dataset.label(i)) for i in range(len(dataset))]


def batches(dataset: Dataset, workers: int = 0, cache: int = 0) -> list[Samples]:
    stream = Stream((Part(dataset, 0, augmentation=Augmentation(crop=(16, 16), jitter=0.5)),), 4)
    return list(Feeder(stream, 3, CPU, workers=workers, cache=DecodedCache(cache)).batches(0, 4))


def one(element: Any, labelled: bool = True) -> Dataset:
    return in_memory("one", [element], SPACE, labelled)


@pytest.mark.parametrize(("workers", "cache"), [(0, 0), (2, 0), (0, 1 << 20)])
def test_batches_are_those_of_files(tmp_path: Path, workers: int, cache: int) -> None:
    on_disk = files(tmp_path)
    held = in_memory("held", pairs(on_disk), on_disk.space)
    for a, b in zip(batches(on_disk), batches(held, workers, cache), strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)
        assert [int(i) for i in a.ids] == [int(i) for i in b.ids]


def test_collections_of_one_name_share_a_cache_and_mix_nothing() -> None:
    sets = [in_memory("same", [(np.full((4, 5, 3), v, np.uint8), LABEL)], SPACE) for v in (10, 200)]
    plain = Augmentation(crop=None, scales=(1.0, 1.0), flip=False)
    stream = Stream(tuple(Part(d, i, augmentation=plain) for i, d in enumerate(sets)), 2)
    for batch in Feeder(stream, 0, CPU, cache=DecodedCache(1 << 20)).batches(0, 3):
        for image, label, domain in zip(batch.images, batch.labels, batch.domain.tolist(), strict=True):
            assert image.unique().tolist() == pytest.approx([(10, 200)[domain] / 255])
            assert label.tolist() == LABEL.tolist()
    places = [item.image for d in sets for item in d.items]
    assert len(set(places)) == 2
    assert all(isinstance(place, Held) for place in places)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(IMAGE),
        IMAGE.transpose(2, 0, 1),
        torch.from_numpy(IMAGE),
        torch.from_numpy(IMAGE).permute(2, 0, 1),
        torch.from_numpy(IMAGE) / 255,
        torch.from_numpy(IMAGE).permute(2, 0, 1).double() / 255,
        IMAGE.astype(np.float32) / 255,
    ],
)
def test_images_of_every_kind(image: Any) -> None:
    assert np.array_equal(one(image, labelled=False).image(0), IMAGE)


@pytest.mark.parametrize("label", [LABEL, LABEL.astype(np.uint8), torch.from_numpy(LABEL), LABEL.astype(np.int16)])
def test_labels_of_every_kind(label: Any) -> None:
    label = label.clone() if isinstance(label, torch.Tensor) else label.copy()
    label[0, 0] = IGNORE
    found = one((IMAGE, label)).label(0)
    assert found.dtype == np.uint8
    assert found[0, 0] == IGNORE
    assert np.array_equal(found.ravel()[1:], LABEL.ravel()[1:])


def test_pil_labels() -> None:
    palette = Image.fromarray(LABEL.astype(np.uint8))
    palette.putpalette(bytes(range(100, 109)))
    for label in (palette, Image.fromarray(LABEL.astype(np.uint8))):
        assert np.array_equal(one((IMAGE, label)).label(0), LABEL)
    assert np.array_equal(one((IMAGE, Image.fromarray(LABEL > 0))).label(0), LABEL > 0)


class Counting(torch.utils.data.Dataset[Any]):
    """A torch Dataset that counts how often an element is asked for, and whose labels are not to be looked at."""

    def __init__(self, label: Any):
        self.asked, self._label = 0, label

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        self.asked += 1
        return torch.from_numpy(IMAGE), self._label


def test_a_torch_dataset_is_read_once_per_sample() -> None:
    elements = Counting(LABEL)
    dataset = in_memory("counting", elements, SPACE)
    dataset.image(1)
    dataset.label(1)
    assert elements.asked == 1
    assert np.array_equal(pickle.loads(pickle.dumps(dataset)).label(1), LABEL)


def test_without_labels_none_is_looked_at() -> None:
    dataset = in_memory("target", Counting("not a label"), SPACE, labelled=False)
    assert np.array_equal(dataset.image(0), IMAGE)
    assert [item.label for item in dataset.items] == [None, None]
    assert not dataset.labelled
    with pytest.raises(RequestError, match="opened without labels"):
        dataset.read_label(dataset.items[0].image)


def test_statistics_are_counted_and_not_kept(tmp_path: Path) -> None:
    on_disk = files(tmp_path)
    held = in_memory("held", pairs(on_disk), on_disk.space)
    counted = class_statistics(held, tmp_path / "cache")
    assert np.array_equal(counted.counts, class_statistics(on_disk).counts)
    assert not (tmp_path / "cache").exists()
    assert labels_key(held) is None
    names, colors = held.space.names[::-1], held.space.colors[::-1]
    turned = to_space(held, LabelSpace("turned", names, colors))
    assert np.array_equal(class_statistics(turned, tmp_path / "cache").counts, counted.counts[:, ::-1])
    assert labels_key(turned) is None
    with pytest.raises(RequestError, match="has no label"):
        class_statistics(held.unlabelled(), tmp_path / "cache")


def test_fingerprint_changes_with_the_pixels(tmp_path: Path) -> None:
    first, same = one((IMAGE, LABEL)), one((IMAGE.copy(), LABEL))
    assert first.file_fingerprint(0) == same.file_fingerprint(0)
    assert first.file_fingerprint(0) != first.unlabelled().file_fingerprint(0)
    assert first.file_fingerprint(0) != one((IMAGE ^ 1, LABEL)).file_fingerprint(0)
    assert first.file_fingerprint(0) != one((IMAGE, 2 - LABEL)).file_fingerprint(0)
    on_disk = files(tmp_path)
    assert on_disk.file_fingerprint(2) == [on_disk.items[2].id, *content_keys(on_disk.items[2].files, times=False)]


def test_check_reads_every_element() -> None:
    held = in_memory("held", [(IMAGE, LABEL), (IMAGE[:3], LABEL), (IMAGE, LABEL)], SPACE)
    report = check_dataset(held)
    assert [problem.id for problem in report.errors] == ["000001"]
    assert [problem.id for problem in report.warnings] == ["000002"]


@pytest.mark.parametrize(
    ("element", "message"),
    [
        ((IMAGE.reshape(2, 5, 6), LABEL), r"is an image of shape \[2, 5, 6\]; expected an image"),
        ((IMAGE[None], LABEL), r"shape \[1, 4, 5, 3\]; .*images of a batch are given as a list"),
        ((IMAGE.astype(np.int64), LABEL), "is an image of int64; expected"),
        ((IMAGE.astype(np.float32), LABEL), r"values from 4 to 248; expected floats in \[0, 1\]"),
        ((np.full((4, 5, 3), np.nan), LABEL), r"expected floats in \[0, 1\]"),
        (("a.png", LABEL), "is a str; expected an image"),
        (({"image": IMAGE}), "is a dict; expected an image"),
        ((IMAGE, LABEL, 3), r"has 3 parts; expected an image, or a pair \(image, label\)"),
        (IMAGE, "has no label; expected a pair"),
        ((IMAGE, LABEL.astype(np.float32)), "has a label of float32"),
        ((IMAGE, LABEL[None]), r"shape \[1, 4, 5\]; expected a label map"),
        ((IMAGE, LABEL[:3]), r"has a label of shape \[3, 5\]; its image is \[4, 5\] pixels"),
        ((IMAGE, LABEL + 1), "has the label 3; expected train ids from 0 to 2, and 255 for ignored pixels"),
        ((IMAGE, LABEL - 1), "has the label -1; expected train ids"),
        ((Image.fromarray(IMAGE[..., 0].astype(np.int32)), LABEL), "mode I .32 bits.; expected 8 or 16 bits"),
    ],
)
def test_wrong_elements_are_named(element: Any, message: str) -> None:
    dataset = in_memory("wrong", [(IMAGE, LABEL), element], SPACE)
    dataset.label(0)
    with pytest.raises(RequestError, match=message) as error:
        dataset.label(1)
    assert str(error.value).startswith(str(dataset.items[1].image))
    assert "\n" not in str(error.value)
    assert "wrong" in str(error.value)


def test_what_has_no_length_is_refused() -> None:
    with pytest.raises(RequestError, match="a generator has no length"):
        in_memory("endless", (IMAGE for _ in range(3)), SPACE)


def test_files_that_a_dataset_cannot_open_are_damaged() -> None:
    class Opening(Counting):
        def __getitem__(self, index: int) -> Any:
            return Image.open("/nowhere/a.png")

    with pytest.raises(DamagedFile, match=r"opening\[1\] cannot be read: No such file"):
        in_memory("opening", Opening(LABEL), SPACE).image(1)


def test_pil_images_that_are_cut_off_are_damaged(tmp_path: Path) -> None:
    Image.fromarray(np.tile(IMAGE, (20, 20, 1))).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:2000])
    with pytest.raises(DamagedFile, match=r"one.*\[0\] cannot be read: image file is truncated"):
        one(Image.open(tmp_path / "a.jpg"), labelled=False).image(0)
