"""Colours of target images on source crops: LAB against other code, one pure choice per sample, and where it is due."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from pydantic import ValidationError

from segadapt.data.colour_transfer import lab_statistics, lab_to_rgb, rgb_to_lab, transfer_colours
from segadapt.data.dataset import DamagedFile, Dataset, Item, Picture
from segadapt.data.loader import Augmentation, Feeder, Part, Samples, Stream
from segadapt.data.streams import Sampler
from segadapt.engine.bundle import DataBundle
from segadapt.engine.loop import Loop
from segadapt.engine.record import Record
from segadapt.engine.runtime import Runtime
from segadapt.errors import RequestError
from segadapt.methods.source_only import SourceOnlyConfig
from tests.methods.small import SPACE, Pointwise, make

CPU = torch.device("cpu")
SIZE = (20, 28)
WHOLE = Augmentation(crop=SIZE, scales=(1.0, 1.0), flip=False)
LAB = WHOLE.model_copy(update={"colour_transfer": "lab"})


def noise(seed: int, low: int = 0, high: int = 256) -> Picture:
    return np.random.default_rng(seed).integers(low, high, (*SIZE, 3), np.uint8)


def no_label(place: object) -> npt.NDArray[np.uint8]:
    raise AssertionError(f"the label {place} of a target image was opened")


def source(count: int = 5) -> Dataset:
    items = tuple(Item(f"s{i}", Path(f"{i}"), Path(f"{i}.y")) for i in range(count))
    return Dataset("source", SPACE, items, lambda p: noise(int(p.stem)), lambda p: np.zeros(SIZE, np.uint8))


def target(count: int = 4, broken: tuple[int, ...] = ()) -> Dataset:
    """Dull images of different colours; they have labels, which nobody may open."""

    def read(place: Path) -> Picture:
        index = int(place.stem)
        if index in broken:
            raise DamagedFile(f"target {index} cannot be read")
        return noise(100 + index, 40 * index, 40 * index + 60)

    items = tuple(Item(f"t{i}", Path(f"{i}"), Path(f"{i}.y")) for i in range(count))
    return Dataset("target", SPACE, items, read, no_label)


def stream(augmentation: Augmentation = LAB, colours: Dataset | None = None, batch_size: int = 3) -> Stream:
    made = Stream((Part(source(), 0, augmentation=augmentation),), batch_size, "k")
    return made.with_colours(target() if colours is None else colours)


def drawn(of: Stream, first: int, last: int, **options: object) -> list[Samples]:
    return list(Feeder(of, 7, CPU, **options).batches(first, last))  # type: ignore[arg-type]


def images_of(batches: list[Samples]) -> torch.Tensor:
    return torch.cat([b.images for b in batches])


def statistics_in_double(rgb: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """CIE LAB written out a second time, in numpy."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    matrix = [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
    xyz = linear @ np.array(matrix).T / np.array([0.950456, 1.0, 1.088754])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    lab = np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)
    return np.stack([lab.mean((0, 1)), lab.std((0, 1))])


# ---- LAB ----


def test_lab_is_that_of_opencv_and_of_its_definition() -> None:
    rgb = np.random.default_rng(0).random((64, 64, 3), dtype=np.float32)
    rgb[:8] *= 0.05  # dark colours, where both curves are straight lines
    images = torch.from_numpy(rgb).permute(2, 0, 1)[None]
    lab = rgb_to_lab(images)[0].permute(1, 2, 0).numpy()
    assert np.abs(lab - cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)).max() < 1  # opencv interpolates a table
    assert np.abs(lab - cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)).mean() < 0.1
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(images)), images, rtol=0, atol=1e-5)
    bytes_ = (rgb * 255).round().astype(np.uint8)
    np.testing.assert_allclose(lab_statistics(bytes_), statistics_in_double(bytes_ / 255), rtol=0, atol=2e-3)


def test_statistics_of_large_images_come_from_a_grid() -> None:
    yy, xx = np.mgrid[:700, :900]
    image = np.stack([yy * 255 // 700, xx * 255 // 900, (yy + xx) % 256], -1).astype(np.uint8)
    np.testing.assert_allclose(lab_statistics(image), statistics_in_double(image / 255), rtol=0.02, atol=0.5)


def test_a_crop_gets_the_statistics_of_the_other_image() -> None:
    own, other = noise(1, 60, 200), noise(2, 90, 160)
    images = torch.from_numpy(np.stack([own, other])).permute(0, 3, 1, 2).float() / 255
    found = torch.from_numpy(np.stack([lab_statistics(own), lab_statistics(other)]))
    moved = transfer_colours(images, found, found.flip(0))
    lab = rgb_to_lab(moved[:1]).flatten(2)  # nothing of the first is cut off: the other has less contrast
    torch.testing.assert_close(lab.mean(2)[0], found[1, 0], rtol=0, atol=1e-2)
    torch.testing.assert_close(lab.std(2, correction=0)[0], found[1, 1], rtol=0, atol=1e-2)
    torch.testing.assert_close(transfer_colours(images, found, found), images, rtol=0, atol=1e-5)
    flat = torch.full((1, 3, 4, 4), 0.25)
    ends = transfer_colours(flat, torch.from_numpy(lab_statistics(np.full((4, 4, 3), 64, np.uint8)))[None], found[1:])
    assert torch.isfinite(ends).all()
    assert ((moved >= 0) & (moved <= 1)).all()


# ---- streams ----


def test_every_sample_takes_the_colours_of_one_target_image() -> None:
    taken = set()
    for batch in drawn(stream(), 0, 12):
        for image, name in zip(batch.images, batch.ids, strict=True):
            plain = torch.from_numpy(noise(int(name[1:]))).permute(2, 0, 1)[None].float() / 255
            own = torch.from_numpy(lab_statistics(noise(int(name[1:]))))[None]
            moved = [
                transfer_colours(plain, own, torch.from_numpy(lab_statistics(target().image(i)))[None])[0]
                for i in range(4)
            ]
            fits = [i for i, one in enumerate(moved) if torch.allclose(one, image, atol=1e-4)]
            assert len(fits) == 1
            taken.update(fits)
    assert taken == {0, 1, 2, 3}


def test_crops_go_a_random_part_of_the_way() -> None:
    """From their own colours, by a part that is drawn for each sample, towards those that ``lab`` would give them."""
    random = stream(LAB.model_copy(update={"colour_transfer": "lab_random"}))
    sampler, ways = Sampler(random, 7), []
    for batch, whole in zip(drawn(random, 0, 8), drawn(stream(), 0, 8), strict=True):
        assert batch.ids == whole.ids
        for image, name in zip(batch.images, batch.ids, strict=True):
            plain = torch.from_numpy(noise(int(name[1:]))).permute(2, 0, 1)[None].float() / 255
            own = torch.from_numpy(lab_statistics(noise(int(name[1:]))))[None]
            chosen, way = sampler.colours(len(ways), 4)
            wanted = torch.from_numpy(lab_statistics(target().image(chosen)))[None]
            expected = transfer_colours(plain, own, own + way * (wanted - own))[0]
            torch.testing.assert_close(image, expected, rtol=0, atol=1e-4)
            ways.append(way)
    assert min(ways) < 0.2
    assert max(ways) > 0.8


@pytest.mark.parametrize("workers", [0, 2])
def test_the_choice_is_a_function_of_the_sample_number(workers: int) -> None:
    """A stream starts anywhere and is dealt out to processes; batches of other sizes hold the same samples."""
    whole = images_of(drawn(stream(), 0, 6))
    assert torch.equal(images_of(drawn(stream(), 4, 6, workers=workers)), whole[12:])
    shared = [images_of(drawn(stream(batch_size=2), 0, 3, rank=rank, processes=2)) for rank in (0, 1)]
    one = images_of(drawn(stream(batch_size=2), 0, 3))
    torch.testing.assert_close(torch.stack(shared, 1).flatten(0, 1), one, rtol=0, atol=1e-6)
    torch.testing.assert_close(one, whole[:6], rtol=0, atol=1e-6)


def test_nothing_else_of_a_sample_moves() -> None:
    """Windows, labels and images are those of the same stream without colour transfer; jitter comes after it."""
    free = {"scales": (0.7, 1.3), "flip": True, "crop": (12, 12)}
    lab, plain = (drawn(stream(a.model_copy(update=free)), 0, 4) for a in (LAB, WHOLE))
    for a, b in zip(lab, plain, strict=True):
        assert a.ids == b.ids
        assert a.windows == b.windows
        assert torch.equal(a.labels, b.labels)
        assert not torch.allclose(a.images, b.images, atol=0.05)
    grey = stream(LAB.model_copy(update={"jitter": 1.0}))
    assert not torch.allclose(images_of(drawn(grey, 0, 2)), images_of(drawn(stream(), 0, 2)), atol=0.05)


def test_target_images_stay_as_they_are() -> None:
    """A stream of both domains with one augmentation, as the self-training methods draw."""
    pseudo = replace(target(), read_label=lambda place: np.zeros(SIZE, np.uint8))
    both = [
        Stream((Part(source(), 0, augmentation=a), Part(pseudo, 1, augmentation=a)), 9, "k").with_colours(target())
        for a in (LAB, WHOLE)
    ]
    (moved,), (plain,) = (drawn(s, 0, 1) for s in both)
    of_target = moved.domain == 1
    assert 0 < int(of_target.sum()) < 9
    assert torch.equal(moved.images[of_target], plain.images[of_target])
    change = (moved.images - plain.images)[~of_target].abs().amax((1, 2, 3))
    assert (change > 0.05).all()


def test_labels_of_the_target_are_out_of_reach() -> None:
    part = stream().parts[0]
    assert part.colours is not None
    assert all(item.label is None for item in part.colours.items)


def test_damaged_target_images_are_named_and_replaced() -> None:
    broken = stream(colours=target(broken=(0, 2)))
    with pytest.raises(DamagedFile, match=r"target [02] cannot be read"):
        drawn(broken, 0, 4)
    feeder = Feeder(broken, 7, CPU, skip_damaged=True)
    list(feeder.batches(0, 6))
    assert feeder.damaged == {"target 0 cannot be read", "target 2 cannot be read"}
    with pytest.raises(RequestError, match="4 files in a row cannot be read, the first: target"):
        drawn(stream(colours=target(broken=(0, 1, 2, 3))), 0, 1, skip_damaged=True)


def test_a_stream_without_target_images_is_one_clear_error() -> None:
    alone = Stream((Part(source(), 0, augmentation=LAB),), 3, "k")
    with pytest.raises(RequestError, match=r"this stream has none; give them with Stream\.with_colours, or set"):
        drawn(alone, 0, 1)


# ---- stages ----


@pytest.mark.parametrize("name", ["source_only", "adaptseg", "proda", "cpsl", "dacs"])
def test_any_method_trains_on_these_colours(tmp_path: Path, name: str) -> None:
    """The engine hands the target images to the source images of every stream, of methods without a target too."""
    settings = {"steps": 1, "batch_size": 3, "augmentation": {**LAB.model_dump(), "crop": (64, 64)}}
    method = make(name, Pointwise(), **settings)
    data = DataBundle(source=source(), target=target().unlabelled(), cache_folder=tmp_path)
    loop = Loop(method, data, runtime=Runtime("cpu"), record=Record(tmp_path, False), folder=tmp_path / "s", seed=0)
    for stream_name, one in method.streams(0, loop.environment(0)).items():
        fed = loop.feeder(one).stream
        assert [p.colours is not None for p in fed.parts] == [p.domain == 0 for p in fed.parts], stream_name


def test_an_oracle_has_no_use_for_them() -> None:
    with pytest.raises(ValidationError, match=r"set augmentation\.colour_transfer=none for it"):
        SourceOnlyConfig(name="oracle", data="oracle", augmentation=LAB)
    assert SourceOnlyConfig(name="oracle", data="oracle").data == "oracle"
    assert SourceOnlyConfig(name="source", augmentation=LAB).augmentation.colour_transfer == "lab"
