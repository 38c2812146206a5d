"""Which image and which window: rare classes, crops of several classes, and what they leave alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from segadapt.data.augment import class_counts, crop_labels, draw_window
from segadapt.data.dataset import Dataset
from segadapt.data.folder import open_folder
from segadapt.data.loader import Augmentation, Feeder, Part, Samples, Stream
from segadapt.data.rare_class_sampling import CROP_SHARE, MIN_SHARE, RareClasses, rare_class_sampling
from segadapt.data.statistics import class_statistics
from segadapt.data.strong import StrongAugmentation
from segadapt.errors import RequestError
from segadapt.labels import IGNORE
from segadapt.pieces.sampling import rare_class_probabilities
from tests.golden_vectors import golden_op
from tests.tiny import write_classes

CPU = torch.device("cpu")
CROP = (24, 24)


def write_corner_world(root: Path, count: int = 4) -> Dataset:
    """Ground (0) everywhere, a box (1) at the right, and in every other image a small disc (2) at the top left."""
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    for i in range(count):
        label = np.zeros((60, 80), np.uint8)
        label[:, 60:] = 1
        if i % 2:
            label[8:14, 10:16] = 2
        label[:2] = IGNORE
        image = np.random.default_rng(i).integers(0, 256, (60, 80, 3), np.uint8)
        cv2.imwrite(str(root / "images" / f"{i}.png"), image)
        cv2.imwrite(str(root / "labels" / f"{i}.png"), label)
    return open_folder(root / "images", root / "labels", classes=write_classes(root / "classes.txt"))


def drawn(part: Part, steps: int, first: int = 0, workers: int = 0, strong: bool = False) -> list[Samples]:
    stream = Stream((part,), 8, "k", StrongAugmentation() if strong else None)
    return list(Feeder(stream, 5, CPU, workers=workers).batches(first, steps))


def labels_of(batches: list[Samples]) -> torch.Tensor:
    return torch.cat([b.labels for b in batches])


def share_of(labels: torch.Tensor, train_id: int) -> torch.Tensor:
    return (labels == train_id).flatten(1).double().mean(1)


def is_varied(labels: torch.Tensor, limit: float) -> torch.Tensor:
    counts = torch.stack([(labels == c).flatten(1).sum(1) for c in range(3)], 1)
    return ((counts > 0).sum(1) > 1) & (counts.amax(1) < limit * counts.sum(1))


def portion(samples: torch.Tensor) -> float:
    return float(samples.double().mean())


def assert_same_crops(one: Samples, two: Samples) -> None:
    """Samples with the same window have the same pixels, whatever the rest of their batch is."""
    same = torch.tensor([a == b for a, b in zip(one.windows, two.windows, strict=True)])
    assert torch.equal(one.labels[same], two.labels[same])
    assert torch.equal(one.images[same], two.images[same])


# ---- counting ----


def test_counts_are_those_of_the_crop() -> None:
    rng = np.random.default_rng(1)
    label = rng.integers(0, 4, (37, 53)).astype(np.uint8)
    label[:5] = IGNORE
    for _ in range(60):
        window = draw_window(rng, (37, 53), (20, 31), (0.3, 2.5), True)
        cut = crop_labels([label], [window], (20, 31))
        assert np.array_equal(class_counts(label, window, (20, 31)), np.bincount(cut.ravel(), minlength=256))


# ---- rare classes ----


def test_published_shares() -> None:
    assert pytest.approx(3000) == MIN_SHARE * 1914 * 1052
    assert pytest.approx(1500) == CROP_SHARE * 512 * 512
    assert pytest.approx(6000) == CROP_SHARE * 1024 * 1024


def test_which_images_a_class_is_drawn_from() -> None:
    shares = torch.tensor(
        [[0.9, 0.001, 0.0, 0.0], [0.5, 0.01, 0.0005, 0.0], [1.0, 0.0, 0.0, 0.0], [0.1, 0.2, 0.0, 0.0]]
    )
    rare = rare_class_sampling(shares, temperature=0.3, min_share=0.0015)
    assert [i.tolist() for i in rare.images] == [[0, 1, 2, 3], [1, 3], [1], []]
    total = shares.double().sum(0).numpy()
    assert rare.probabilities == pytest.approx(rare_class_probabilities(total / total.sum(), 0.3))
    assert rare.probabilities[3] == 0
    assert rare.crop_share == CROP_SHARE
    with pytest.raises(RequestError, match="no image has a labelled pixel"):
        rare_class_sampling(torch.zeros(3, 4))


def test_probabilities_of_the_reference_code() -> None:
    golden = golden_op("daformer_rare_class_sampling")
    counts = torch.from_numpy(golden.arrays["pixel_counts"]).double()
    for name, temperature in (("prob_T001", 0.01), ("prob_T01", 0.1), ("prob_T1", 1.0)):
        golden.assert_close(name, rare_class_sampling(counts / 1e9, temperature).probabilities)


def test_draws_follow_the_probabilities() -> None:
    rare = RareClasses(np.array([0.1, 0.0, 0.6, 0.3]), tuple(np.array(i) for i in ([0, 1], [], [4], [2, 3, 5])))
    pairs = [rare.draw(np.random.default_rng([9, n])) for n in range(6000)]
    found = np.bincount([c for c, _ in pairs], minlength=4) / len(pairs)
    assert found == pytest.approx([0.1, 0.0, 0.6, 0.3], abs=0.03)
    for train_id, images in enumerate(rare.images):
        chosen = [i for c, i in pairs if c == train_id]
        assert set(chosen) == set(images.tolist())
        assert all(chosen.count(i) / len(chosen) == pytest.approx(1 / len(images), abs=0.06) for i in images)


def test_crops_show_the_class_they_were_drawn_for(tmp_path: Path) -> None:
    dataset = write_corner_world(tmp_path)
    shares = torch.from_numpy(class_statistics(dataset).fractions)
    only_disc = replace(rare_class_sampling(shares), probabilities=np.array([0.0, 0.0, 1.0]))
    part = Part(dataset, 0, None, Augmentation(crop=CROP, scales=(1.0, 1.0)), rare=only_disc)
    batches = drawn(part, 36)
    assert {i for b in batches for i in b.ids} == {"1", "3"}
    found = portion(share_of(labels_of(batches), 2) > CROP_SHARE)
    plain = drawn(Part(dataset.subset([1, 3]), 0, None, part.augmentation), 36)
    once = portion(share_of(labels_of(plain), 2) > CROP_SHARE)
    assert 0.02 < once < 0.2
    assert found == pytest.approx(1 - (1 - once) ** 11, abs=0.08)  # the first window, and ten more
    never = drawn(replace(part, rare=replace(only_disc, crop_share=1.0)), 36)
    assert portion(share_of(labels_of(never), 2) > CROP_SHARE) == pytest.approx(once, abs=0.06)


def test_crops_of_several_classes(tmp_path: Path) -> None:
    dataset = write_corner_world(tmp_path)
    one = Augmentation(crop=CROP, scales=(1.0, 1.0))
    first = drawn(Part(dataset, 0, None, one), 36)
    varied = drawn(Part(dataset, 0, None, one.model_copy(update={"max_class_share": 0.75})), 36)
    once = is_varied(labels_of(first), 0.75)
    found = is_varied(labels_of(varied), 0.75)
    chance = portion(once)
    assert 0.1 < chance < 0.5
    assert portion(found) == pytest.approx(1 - (1 - chance) ** 11, abs=0.05)
    assert found[once].all()
    # What was good enough at first is the same crop as without the rule.
    windows = [[w for b in batches for w in b.windows] for batches in (first, varied)]
    assert [a == b for a, b in zip(*windows, strict=True)] == [bool(good) for good in once]
    for a, b in zip(first, varied, strict=True):
        assert a.ids == b.ids
        assert_same_crops(a, b)


def test_both_rules_together(tmp_path: Path) -> None:
    dataset = write_corner_world(tmp_path)
    shares = torch.from_numpy(class_statistics(dataset).fractions)
    rare = replace(rare_class_sampling(shares, crop_share=0.3), probabilities=np.array([0.0, 1.0, 0.0]))
    augmentation = Augmentation(crop=CROP, scales=(1.0, 1.0), max_class_share=0.75)
    labels = labels_of(drawn(Part(dataset, 0, None, augmentation, rare=rare), 36))
    good = (share_of(labels, 1) > 0.3) & is_varied(labels, 0.75)
    assert portion(good) > 0.95
    alone = labels_of(drawn(Part(dataset, 0, None, Augmentation(crop=CROP, scales=(1.0, 1.0)), rare=rare), 36))
    assert portion(share_of(alone, 1) > 0.3) > 0.9
    assert portion(is_varied(alone, 0.75)) < 0.85


def test_redrawn_windows_move_nothing_else(tmp_path: Path) -> None:
    dataset = write_corner_world(tmp_path)
    plain = Augmentation(crop=CROP, jitter=0.5)
    varied = plain.model_copy(update={"max_class_share": 0.6})
    one, two = (drawn(Part(dataset, 0, None, a), 6, strong=True) for a in (plain, varied))
    assert not torch.equal(labels_of(one), labels_of(two))
    for a, b in zip(one, two, strict=True):
        assert a.strong is not None
        assert b.strong is not None
        assert torch.equal(a.strong.theta, b.strong.theta)
        assert_same_crops(a, b)


def test_images_without_labels_take_the_first_window(tmp_path: Path) -> None:
    target = write_corner_world(tmp_path).unlabelled()
    plain = Augmentation(crop=CROP)
    one, two = (drawn(Part(target, 1, None, a), 4) for a in (plain, plain.model_copy(update={"max_class_share": 0.75})))
    assert [b.windows for b in one] == [b.windows for b in two]


def test_rare_streams_start_anywhere_and_decode_once(tmp_path: Path) -> None:
    dataset = write_corner_world(tmp_path)
    rare = rare_class_sampling(torch.from_numpy(class_statistics(dataset).fractions), 0.1)
    part = Part(dataset, 0, None, Augmentation(crop=CROP, jitter=0.5, max_class_share=0.75), rare=rare)
    whole = drawn(part, 5)
    for batches in (drawn(part, 5, 3), drawn(part, 5, 3, workers=2)):
        for a, b in zip(whole[3:], batches, strict=True):
            assert torch.equal(a.images, b.images)
            assert torch.equal(a.labels, b.labels)
            assert (a.windows, a.ids) == (b.windows, b.ids)
    decoded: list[Path] = []

    def counted(path: Path) -> np.ndarray:
        decoded.append(path)
        return dataset.read_label(path)

    drawn(replace(part, dataset=replace(dataset, read_label=counted)), 3)
    assert len(decoded) == 24


def test_wrong_streams(tmp_path: Path) -> None:
    dataset = write_corner_world(tmp_path)
    rare = rare_class_sampling(torch.from_numpy(class_statistics(dataset).fractions))
    with pytest.raises(ValueError, match="one part"):
        Stream((Part(dataset, 0, rare=rare), Part(dataset, 1)), 4)
    with pytest.raises(ValueError, match="one of the two"):
        Stream((Part(dataset, 0, rare=rare, weights=np.ones(4)),), 4)


# ---- settings ----


def test_every_option_stands_in_the_record() -> None:
    used = Augmentation(max_class_share=0.75)
    record = used.model_dump(mode="json")
    assert set(record) == set(Augmentation.model_fields)
    assert record["max_class_share"] == 0.75
    assert Augmentation(**record) == used
