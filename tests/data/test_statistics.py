"""Class statistics: against counting by hand, and kept exactly as long as they are true."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from segadapt.data.dataset import DamagedFile, Dataset
from segadapt.data.folder import open_folder
from segadapt.data.readers import open_dataset, to_space
from segadapt.data.statistics import class_statistics, labels_key, spatial_frequencies
from segadapt.errors import RequestError
from segadapt.labels import CITYSCAPES, SYNTHIA
from tests.data.team import as_team
from tests.data.writing import odd_palette, picture, save

COUNT, CLASSES = 5, 4


def write_folder(root: Path) -> Dataset:
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        mask = rng.integers(0, CLASSES - (number > 2), (7 + number, 9), dtype=np.uint8)
        mask[0, :number] = 255
        save(root / "images" / f"{number}.png", picture(*mask.shape))
        save(root / "masks" / f"{number}.png", mask)
    (root / "classes.txt").write_text("\n".join(f"c{i}" for i in range(CLASSES)))
    return open_folder(root / "images", root / "masks", root / "classes.txt")


@dataclass
class Counter:
    """Counts how often labels are read."""

    dataset: Dataset
    reads: int = 0

    def counting(self) -> Dataset:
        outer, inner = self, self.dataset.read_label

        class Reading:
            key = getattr(inner, "key", None)

            def __call__(self, path: Path) -> np.ndarray:
                outer.reads += 1
                return inner(path)

        return Dataset(self.dataset.name, self.dataset.space, self.dataset.items, self.dataset.read_image, Reading())


def test_equal_to_counting(tmp_path: Path) -> None:
    dataset = write_folder(tmp_path)
    told: list[tuple[int, int]] = []
    statistics = class_statistics(dataset, progress=lambda done, all_: told.append((done, all_)))
    labels = [dataset.label(i) for i in range(COUNT)]
    expected = np.array([[(label == c).sum() for c in range(CLASSES)] for label in labels])
    assert np.array_equal(statistics.counts, expected)
    assert statistics.pixels.tolist() == [label.size for label in labels]
    assert np.allclose(statistics.fractions, [[(label == c).mean() for c in range(CLASSES)] for label in labels])


def test_places_equal_to_counting(tmp_path: Path) -> None:
    dataset = write_folder(tmp_path)
    for item in dataset.items:
        assert item.label is not None
        save(item.label, np.random.default_rng(1).integers(0, CLASSES, (6, 8), dtype=np.uint8))
        save(item.image, picture(6, 8))
    frequencies = spatial_frequencies(dataset, 6, 8)
    labels = np.stack([dataset.label(i) for i in range(COUNT)])
    assert frequencies.dtype == np.float32
    assert np.allclose(frequencies, np.stack([(labels == c).mean(0) for c in range(CLASSES)]))
    small = spatial_frequencies(dataset, 3, 4)
    assert np.allclose(small, frequencies[:, ::2, ::2])


def test_ignored_places_count_for_nothing(tmp_path: Path) -> None:
    dataset = write_folder(tmp_path)
    total = spatial_frequencies(dataset, 7, 9).sum(0)
    assert total[-1, -1] == pytest.approx(1)
    assert total[0, 0] == pytest.approx(1 / COUNT)


@pytest.mark.parametrize("what", ["classes", "places"])
def test_kept_results_are_used_and_equal(tmp_path: Path, what: str) -> None:
    counter = Counter(write_folder(tmp_path))
    dataset = counter.counting()

    def compute(cache: Path | None) -> np.ndarray:
        return (
            class_statistics(dataset, cache).counts if what == "classes" else spatial_frequencies(dataset, 4, 5, cache)
        )

    plain = compute(None)
    assert counter.reads == COUNT
    first = compute(tmp_path / "cache")
    assert counter.reads == 2 * COUNT
    again = compute(tmp_path / "cache")
    assert counter.reads == 2 * COUNT
    assert np.array_equal(plain, first)
    assert np.array_equal(first, again)
    assert len(list((tmp_path / "cache").iterdir())) == 1  # no partial file is left behind


def test_kept_results_follow_the_data_not_their_place(tmp_path: Path) -> None:
    before = labels_key(write_folder(tmp_path / "a"))
    (tmp_path / "a").rename(tmp_path / "b")
    moved = open_folder(tmp_path / "b" / "images", tmp_path / "b" / "masks", tmp_path / "b" / "classes.txt")
    assert labels_key(moved) == before


def test_anything_that_matters_changes_the_key(tmp_path: Path) -> None:
    dataset = write_folder(tmp_path)
    keys = [labels_key(dataset), labels_key(dataset.subset([0, 1])), labels_key(dataset, height=3)]
    keys.append(labels_key(open_folder(tmp_path / "images", tmp_path / "masks", tmp_path / "classes.txt", (255, 9))))
    label = dataset.items[2].label
    assert label is not None
    stat = label.stat()
    os.utime(label, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10_000_000))
    keys.append(labels_key(dataset))
    save(label, np.zeros((9, 9), np.uint8))
    os.utime(label, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10_000_000))
    keys.append(labels_key(dataset))
    (tmp_path / "classes.txt").write_text("\n".join(f"k{i}" for i in range(CLASSES)))
    keys.append(labels_key(open_folder(tmp_path / "images", tmp_path / "masks", tmp_path / "classes.txt")))
    assert None not in keys
    assert len(set(keys)) == len(keys)


def test_a_reader_option_and_another_space_change_the_key(tmp_path: Path) -> None:
    from tests.data.test_readers import write_synthia

    write_synthia(tmp_path)
    plain = open_dataset("synthia", tmp_path)
    road = open_dataset("synthia", tmp_path, lane_marking="road")
    merged = to_space(plain, CITYSCAPES, {"rider": "person"})
    keys = {labels_key(d) for d in (plain, road, to_space(plain, SYNTHIA), merged)}
    assert len(keys) == 4


def test_changed_labels_are_counted_anew(tmp_path: Path) -> None:
    dataset = write_folder(tmp_path)
    class_statistics(dataset, tmp_path / "cache")
    label = dataset.items[0].label
    assert label is not None
    save(label, np.full((7, 9), 3, np.uint8))
    os.utime(label, ns=(1, 1))
    assert class_statistics(dataset, tmp_path / "cache").counts[0].tolist() == [0, 0, 0, 63]


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut off", None])
def test_damaged_cache_is_written_anew(tmp_path: Path, damage: bytes | None) -> None:
    dataset = write_folder(tmp_path)
    first = class_statistics(dataset, tmp_path / "cache")
    file = next((tmp_path / "cache").iterdir())
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert np.array_equal(class_statistics(dataset, tmp_path / "cache").counts, first.counts)
    assert file.stat().st_size == len(whole)


def test_labelling_that_cannot_be_told_apart_is_never_kept(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    inner = folder.read_label
    dataset = Dataset("own", folder.space, folder.items, folder.read_image, lambda path: inner(path))
    assert labels_key(dataset) is None
    class_statistics(dataset, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_unlabelled_has_no_statistics(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="has no label, so there are no class statistics"):
        class_statistics(write_folder(tmp_path).unlabelled())


def test_palette_data_set_through_its_reader(tmp_path: Path) -> None:
    mask = np.array([[7, 7, 26], [0, 23, 26]], np.uint8)
    save(tmp_path / "images" / "1.png", picture(2, 3))
    save(tmp_path / "labels" / "1.png", mask, odd_palette())
    statistics = class_statistics(open_dataset("gta5", tmp_path))
    found = {n: c for n, c in zip(statistics.names, statistics.counts[0].tolist(), strict=True) if c}
    assert found == {"road": 2, "car": 2, "sky": 1}


def test_damaged_labels_stop_or_count_as_unlabelled(tmp_path: Path) -> None:
    dataset, cache = write_folder(tmp_path), tmp_path / "cache"
    whole, places = class_statistics(dataset), spatial_frequencies(dataset, 6, 8)
    label = dataset.items[2].label
    assert label is not None
    others = dataset.subset([0, 1, 3, 4])
    label.write_bytes(b"\x89PNG no more")
    found: list[str] = []
    skipping = class_statistics(dataset, cache, damaged=lambda problem: found.append(str(problem)))
    assert [label.name in line for line in found] == [True]
    assert skipping.counts[2].sum() == skipping.pixels[2] == 0
    assert np.array_equal(np.delete(skipping.counts, 2, 0), np.delete(whole.counts, 2, 0))
    got = spatial_frequencies(dataset, 6, 8, cache, damaged=lambda problem: found.append(str(problem)))
    assert np.allclose(got * COUNT, spatial_frequencies(others, 6, 8) * (COUNT - 1))
    assert not np.allclose(got, places)
    assert len(found) == 2
    for statistics in (class_statistics, lambda data, kept: spatial_frequencies(data, 6, 8, kept)):
        with pytest.raises(DamagedFile, match=label.name):  # also where a result without it is kept
            statistics(dataset, cache)


def test_the_processes_of_a_run_count_a_part_each(tmp_path: Path) -> None:
    dataset = write_folder(tmp_path)
    counter = Counter(dataset)
    counting = counter.counting()
    whole, places = class_statistics(dataset), spatial_frequencies(dataset, 6, 8)
    for found in as_team(2, lambda rank: class_statistics(counting, tmp_path / f"cache{rank}")):
        assert np.array_equal(found.counts, whole.counts)
        assert np.array_equal(found.pixels, whole.pixels)
    assert counter.reads == COUNT
    for got in as_team(3, lambda rank: spatial_frequencies(counting, 6, 8)):
        assert np.array_equal(got, places)
    assert counter.reads == 2 * COUNT
    for file in (tmp_path / "cache1").iterdir():
        file.unlink()  # one process has the result and one has not: both count, so that neither waits
    as_team(2, lambda rank: class_statistics(counting, tmp_path / f"cache{rank}"))
    assert counter.reads == 3 * COUNT
    as_team(2, lambda rank: class_statistics(counting, tmp_path / f"cache{rank}"))
    assert counter.reads == 3 * COUNT


def test_all_processes_hear_of_a_label_that_one_cannot_read(tmp_path: Path) -> None:
    dataset = write_folder(tmp_path)
    label = dataset.items[2].label
    assert label is not None
    label.write_bytes(b"\x89PNG no more")
    found: list[list[str]] = [[], []]
    as_team(2, lambda rank: class_statistics(dataset, damaged=lambda problem: found[rank].append(str(problem))))
    assert [[label.name in line for line in lines] for lines in found] == [[True], [True]]

    def stopped(rank: int) -> None:
        with pytest.raises(DamagedFile, match=label.name):
            class_statistics(dataset)

    as_team(2, stopped)


def test_results_that_cannot_be_kept_are_still_results(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    dataset = write_folder(tmp_path / "data")
    assert class_statistics(dataset, tmp_path / "cache").counts.sum() > 0
