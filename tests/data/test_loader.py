"""Streams of batches: every sample a function of its number, dealt out to processes, restartable anywhere."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from segadapt.data import loader
from segadapt.data.cache import DecodedCache
from segadapt.data.collating import collate
from segadapt.data.dataset import Dataset
from segadapt.data.folder import open_folder
from segadapt.data.loader import Augmentation, Feeder, Part, Samples, Stream
from segadapt.data.resize import resize_image, resize_label, working_size
from segadapt.data.strong import StrongAugmentation
from segadapt.errors import RequestError
from segadapt.labels import IGNORE
from tests.tiny import NAMES, write_classes, write_folder

CPU = torch.device("cpu")


def folder(root: Path, count: int, labels: bool = True, size: tuple[int, int] = (20, 28)) -> Dataset:
    write_folder(root, count, size=size, labels=labels)
    classes = write_classes(root / "classes.txt")
    return open_folder(root / "images", root / "labels" if labels else None, classes=classes)


def pool(tmp_path: Path, batch_size: int = 4, jitter: float = 0.0, crop: tuple[int, int] | None = (16, 16)) -> Stream:
    augmentation = Augmentation(crop=crop, jitter=jitter)
    return Stream(
        (
            Part(folder(tmp_path / "a", 5), 0, augmentation=augmentation),
            Part(folder(tmp_path / "b", 3), 1, augmentation=augmentation),
        ),
        batch_size,
    )


def together(batches: list[Samples]) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    return (
        torch.cat([b.images for b in batches]),
        torch.cat([b.labels for b in batches]),
        [i for b in batches for i in b.ids],
    )


def test_every_sample_once_an_epoch_in_another_order(tmp_path: Path) -> None:
    stream = pool(tmp_path)
    batches = list(Feeder(stream, 3, CPU).batches(0, 6))
    seen = [(int(d), i) for b in batches for d, i in zip(b.domain, b.ids, strict=True)]
    epochs = [seen[k : k + 8] for k in (0, 8, 16)]
    everything = {(0, f"{i:03d}") for i in range(5)} | {(1, f"{i:03d}") for i in range(3)}
    assert all(set(epoch) == everything for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert epochs[1] != epochs[2]


def test_a_stream_starts_anywhere(tmp_path: Path) -> None:
    stream = pool(tmp_path, jitter=0.5)
    whole = list(Feeder(stream, 3, CPU).batches(0, 7))
    late = list(Feeder(stream, 3, CPU).batches(5, 7))
    for a, b in zip(whole[5:], late, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)
        assert a.windows == b.windows


def test_processes_share_the_batches_of_one(tmp_path: Path) -> None:
    stream = pool(tmp_path, jitter=0.5)
    one = list(Feeder(stream, 3, CPU).batches(0, 4))
    two = [list(Feeder(stream, 3, CPU, rank, 2).batches(0, 4)) for rank in (0, 1)]
    for step, whole in enumerate(one):
        for rank in (0, 1):
            mine = two[rank][step]
            assert mine.ids == whole.ids[rank::2]
            assert torch.equal(mine.labels, whole.labels[rank::2])
            assert torch.equal(mine.images, whole.images[rank::2])


def test_workers_and_cache_change_nothing(tmp_path: Path) -> None:
    stream = pool(tmp_path)
    plain = together(list(Feeder(stream, 3, CPU).batches(0, 4)))
    others = (Feeder(stream, 3, CPU, workers=2), Feeder(stream, 3, CPU, cache=DecodedCache(1 << 20)))
    for other in others:
        images, labels, ids = together(list(other.batches(0, 4)))
        assert torch.equal(plain[0], images)
        assert torch.equal(plain[1], labels)
        assert plain[2] == ids


def test_only_what_the_crops_touch_goes_to_the_training_process(tmp_path: Path) -> None:
    dataset = folder(tmp_path, 2, size=(120, 160))
    augmentation = Augmentation(crop=(24, 32), scales=(1.0, 2.0))
    stream = Stream((Part(dataset, 0, None, augmentation),), 2)
    samples = [loader._Pool(stream, 3, DecodedCache(0), False)[number] for number in range(2)]
    sent, whole = collate(samples), collate(samples, whole=True)
    assert sent.images.shape[2] <= 24 + 2
    assert sent.images.shape[3] <= 32 + 2
    assert sent.labels.shape == (2, 24, 32)
    assert whole.images.shape == (2, 3, 120, 160)


def test_seed_and_key_separate_streams(tmp_path: Path) -> None:
    stream = pool(tmp_path)
    first = together(list(Feeder(stream, 3, CPU).batches(0, 2)))[0]
    other_seed = together(list(Feeder(stream, 4, CPU).batches(0, 2)))[0]
    other_key = together(list(Feeder(Stream(stream.parts, 4, "other"), 3, CPU).batches(0, 2)))[0]
    assert not torch.equal(first, other_seed)
    assert not torch.equal(first, other_key)


def test_whole_images_of_several_sizes_are_padded_not_stretched(tmp_path: Path) -> None:
    plain = Augmentation(crop=None, scales=(1.0, 1.0))
    sets = [folder(tmp_path / name, 1, size=size) for name, size in (("a", (20, 28)), ("b", (31, 25)))]
    stream = Stream(tuple(Part(d, i, None, plain) for i, d in enumerate(sets)), 2)
    mirrored = set()
    for batch in Feeder(stream, 0, CPU).batches(0, 8):
        assert batch.images.shape == (2, 3, 31, 28)
        for place, domain in enumerate(batch.domain.tolist()):
            image, label = sets[domain].image(0), sets[domain].label(0)
            mirrored.add((domain, flip := batch.windows[place].flip))
            if flip:
                image, label = image[:, ::-1].copy(), label[:, ::-1].copy()
            height, width = label.shape
            got = batch.labels[place]
            assert torch.equal(got[:height, :width], torch.from_numpy(label).long())
            assert (got[height:] == IGNORE).all()
            assert (got[:, width:] == IGNORE).all()
            expected = torch.from_numpy(image).permute(2, 0, 1) / 255
            torch.testing.assert_close(batch.images[place][:, :height, :width], expected, rtol=0, atol=1e-5)
    assert len(mirrored) == 4


def test_images_without_labels_are_ignored_everywhere(tmp_path: Path) -> None:
    target = folder(tmp_path / "t", 2, labels=False)
    batch = next(Feeder(Stream((Part(target, 1),), 2), 0, CPU).batches(0, 1))
    assert (batch.labels == IGNORE).all()
    assert batch.domain.tolist() == [1, 1]


def test_mining_centres_crops_on_the_wanted_class(tmp_path: Path) -> None:
    label = np.zeros((60, 80), np.uint8)
    label[40:42, 70:72] = 2
    for name, array in (("images", np.zeros((60, 80, 3), np.uint8)), ("labels", label)):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "0.png"), array)
    dataset = open_folder(tmp_path / "images", tmp_path / "labels", classes=write_classes(tmp_path / "c.txt"))
    crop = Augmentation(crop=(16, 16), scales=(1.0, 1.0))

    def hits(probability: float) -> float:
        part = Part(dataset, 1, None, crop, focus=lambda label: (2,), focus_probability=probability)
        batches = list(Feeder(Stream((part,), 8), 0, CPU).batches(0, 25))
        return float(torch.cat([(b.labels == 2).flatten(1).any(1) for b in batches]).float().mean())

    assert hits(1.0) == 1.0
    assert hits(0.0) < 0.25
    assert 0.7 < hits(0.8) < 0.95


def test_a_damaged_file_stops_or_is_replaced_and_named(tmp_path: Path) -> None:
    stream = pool(tmp_path)
    (tmp_path / "a/images/002.png").write_bytes(b"\x89PNG no more")
    with pytest.raises(RequestError, match=r"002\.png"):
        list(Feeder(stream, 3, CPU).batches(0, 2))
    feeder = Feeder(stream, 3, CPU, skip_damaged=True)
    ids = together(list(feeder.batches(0, 2)))[2]
    assert len(ids) == 8
    assert [d for d in feeder.damaged if "002.png" in d]


def test_nothing_readable_is_one_clear_error(tmp_path: Path) -> None:
    stream = pool(tmp_path)
    for path in tmp_path.rglob("images/*.png"):
        path.write_bytes(b"")
    with pytest.raises(RequestError, match="8 files in a row cannot be read"):
        list(Feeder(stream, 3, CPU, skip_damaged=True).batches(0, 1))


def test_wrong_requests(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="set batch_size to at least 8"):
        list(Feeder(pool(tmp_path), 0, CPU, 0, 8).batches(0, 1))
    with pytest.raises(RequestError, match="no training image"):
        list(Feeder(Stream((), 4), 0, CPU).batches(0, 1))


def test_working_sizes() -> None:
    assert working_size(1052, 1914, None) == (1052, 1914)
    assert working_size(1052, 1914, (720, 1280)) == (720, 1280)
    assert working_size(1000, 2000, 512) == (256, 512)
    assert working_size(30, 20, 512) == (30, 20)
    assert working_size(1052, 1914, (None, 2560)) == (1407, 2560)  # GTA5 in HRDA
    assert working_size(1046, 1914, (None, 2560)) == (1399, 2560)
    assert working_size(1052, 1914, (None, 1280)) == (704, 1280)
    assert working_size(1052, 1914, (526, None)) == (526, 957)
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    label = np.random.default_rng(1).integers(0, len(NAMES), (40, 60)).astype(np.uint8)
    assert resize_image(image, None) is image
    halved = image.reshape(20, 2, 30, 2, 3).mean((1, 3))
    assert np.abs(resize_image(image, (20, 30)) - halved).max() <= 0.5
    assert set(np.unique(resize_label(label, (17, 23)))) <= set(range(len(NAMES)))


def test_the_cache_keeps_its_budget() -> None:
    cache = DecodedCache(150)
    made: list[int] = []

    def make(i: int) -> np.ndarray:
        made.append(i)
        return np.full(100, i, np.uint8)

    for i in (0, 1, 0, 1):
        assert cache.get((str(i), None), lambda i=i: make(i))[0] == i
    assert made == [0, 1, 1]


def test_strong_views_belong_to_the_sample_and_whole_images_come_along(tmp_path: Path) -> None:
    plain = pool(tmp_path)
    stream = Stream(plain.parts, 4, strong=StrongAugmentation(), whole=True)
    one = list(Feeder(stream, 3, CPU).batches(0, 4))
    without = list(Feeder(plain, 3, CPU).batches(0, 4))
    late = next(Feeder(stream, 3, CPU, 1, 2).batches(3, 4))
    for batch, weak in zip(one, without, strict=True):
        assert batch.strong is not None
        assert torch.equal(batch.images, weak.images)
        assert (weak.strong, weak.whole) == (None, None)
        assert batch.strong.images.shape == batch.images.shape
        assert batch.whole is not None
        for n, (i, d) in enumerate(zip(batch.ids, batch.domain.tolist(), strict=True)):
            picture = stream.parts[d].dataset.image(int(i))
            assert torch.equal(batch.whole[n], torch.from_numpy(picture).permute(2, 0, 1) / 255)
    assert late.strong is not None
    assert one[3].strong is not None
    assert torch.equal(late.strong.theta, one[3].strong.theta[1::2])
    assert torch.equal(late.strong.cutout, one[3].strong.cutout[1::2])
    assert not torch.equal(one[0].strong.theta, one[1].strong.theta)  # type: ignore[union-attr]


def test_decoding_processes_divide_the_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is held is shared; the rest is divided over the workers of all streams. Alone, a process has it all."""
    cache = DecodedCache(100)
    held = cache.get(("a", None), lambda: np.zeros(20, np.uint8))
    pools = []

    def note(pool: loader._Pool, **options: object) -> list[object]:
        pools.append(pool)
        return []

    monkeypatch.setattr(loader, "DataLoader", note)
    for workers in (4, 0):
        list(Feeder(pool(tmp_path / str(workers)), 0, CPU, workers=workers, cache=cache, streams=2).batches(0, 1))
    part, whole = pools[0].cache, pools[1].cache
    assert whole is cache
    assert part.get(("a", None), lambda: np.ones(20, np.uint8)) is held
    for name in ("b", "c"):
        part.get((name, None), lambda: np.zeros(10, np.uint8))
    assert part.get(("b", None), lambda: np.ones(10, np.uint8))[0] == 0  # (100 - 20) / (4 x 2) bytes are for it
    assert part.get(("c", None), lambda: np.ones(10, np.uint8))[0] == 1


def test_a_cache_is_sent_without_what_it_holds() -> None:
    cache = DecodedCache(100)
    cache.get(("a", None), lambda: np.zeros(60, np.uint8))
    sent = pickle.loads(pickle.dumps(cache))
    assert sent.get(("a", None), lambda: np.ones(60, np.uint8))[0] == 1
    assert sent.get(("b", None), lambda: np.zeros(40, np.uint8)).nbytes == 40
    assert sent.get(("b", None), lambda: np.ones(40, np.uint8))[0] == 0
    assert cache.get(("a", None), lambda: np.ones(60, np.uint8))[0] == 0


def test_a_file_may_be_image_and_label_at_once(tmp_path: Path) -> None:
    """Masks given as images: what is kept in memory of a file is told apart by its use."""
    cache = DecodedCache(1 << 20)
    path = tmp_path / "a.png"
    image = cache.get(("image", path, None), lambda: np.zeros((2, 3, 3), np.uint8))
    label = cache.get(("label", path, None), lambda: np.ones((2, 3), np.uint8))
    assert image.shape == (2, 3, 3)
    assert label.shape == (2, 3)
    assert cache.get(("image", path, None), lambda: label) is image
