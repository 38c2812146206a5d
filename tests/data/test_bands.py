"""Images of any bands and depths as a data set reads them."""

from __future__ import annotations

import io
import pickle
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from segadapt.data.bands import BandReader, as_rgb, in_bands, reader_in, reader_of
from segadapt.data.dataset import DamagedFile, Dataset
from segadapt.data.decode import read_picture
from segadapt.data.folder import open_folder
from segadapt.data.resize import resize_image
from segadapt.errors import RequestError
from segadapt.labels import IGNORE

Numbers = npt.NDArray[Any]


def write_tif(path: Path, values: Numbers, nodata: float | None = None, **how: Any) -> None:
    rasterio = pytest.importorskip("rasterio")
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width, count = values.shape
    shape = {"height": height, "width": width, "count": count, "dtype": values.dtype, "nodata": nodata}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of files without a place on Earth
        with rasterio.open(path, "w", driver="GTiff", **shape, **how) as file:
            file.write(np.moveaxis(values, -1, 0))


def random(low: float, high: float, bands: int, kind: str, seed: int = 0) -> Numbers:
    rng = np.random.default_rng(seed)
    return np.asarray(rng.uniform(low, high, (20, 30, bands)).astype(kind))


def opened(folder: Path, name: str = "source", labels: Path | None = None) -> Dataset:
    return open_folder(folder, labels, None, name=name)


def tifs(folder: Path, low: float, high: float, bands: int, kind: str, **how: Any) -> Path:
    for number in range(2):
        write_tif(folder / f"{number}.tif", random(low, high, bands, kind, number), **how)
    return folder


@pytest.mark.parametrize(
    ("bands", "kind", "low", "high", "choice", "expected"),
    [
        (4, "uint16", 200, 3000, None, (1, 2, 3)),
        (4, "uint16", 200, 3000, "all", (1, 2, 3, 4)),
        (5, "float32", 0, 0.4, (5, 1), (5, 1)),
        (1, "int16", -90, 900, None, (1, 1, 1)),
        (1, "int16", -90, 900, "all", (1,)),
        (2, "uint16", 0, 4000, None, (1, 1, 1)),
        (8, "uint8", 0, 250, "all", tuple(range(1, 9))),
    ],
)
def test_bands_are_read_in_the_order_wanted(
    tmp_path: Path, bands: int, kind: str, low: float, high: float, choice: Any, expected: tuple[int, ...]
) -> None:
    dataset = in_bands(opened(tifs(tmp_path, low, high, bands, kind, photometric="minisblack")), choice)
    reader = reader_in(dataset)
    assert reader is not None
    assert reader.bands == expected
    assert dataset.bands == len(expected)
    picture, stored = dataset.image(1), random(low, high, bands, kind, 1)
    assert picture.shape == (20, 30, len(expected))
    assert picture.min() < 5
    assert picture.max() > 240
    for place, band in enumerate(expected):
        apart = np.corrcoef(picture[..., place].ravel(), stored[..., band - 1].ravel().astype(float))[0, 1]
        assert apart > 0.99
    assert kind in reader.described
    assert f"{bands} band" in reader.described
    assert pickle.loads(pickle.dumps(dataset)).image(0).shape == picture.shape  # for decoding processes


def test_bands_tagged_as_colours_are_these_colours(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    values = random(0, 3000, 4, "uint16")
    write_tif(tmp_path / "0.tif", values)
    with rasterio.open(tmp_path / "0.tif", "r+") as file:
        file.colorinterp = [rasterio.enums.ColorInterp[n] for n in ("undefined", "blue", "green", "red")]
    reader = reader_in(in_bands(opened(tmp_path), None))
    assert reader is not None
    assert reader.bands == (4, 3, 2)


def test_ordinary_images_stay_what_a_viewer_shows(tmp_path: Path) -> None:
    whole = random(0, 65535, 3, "uint16")
    cv2.imwrite(str(tmp_path / "a.jpg"), random(0, 255, 3, "uint8"))
    cv2.imwrite(str(tmp_path / "b.png"), random(0, 255, 4, "uint8"))
    cv2.imwrite(str(tmp_path / "c.png"), whole)
    assert in_bands(opened(tmp_path), None).read_image is read_picture
    (tmp_path / "b.png").unlink()
    (tmp_path / "c.png").unlink()
    for choice in ((1, 2, 3), "all"):
        assert in_bands(opened(tmp_path), choice).read_image is read_picture


def test_12_bits_in_a_16_bit_png_are_not_black(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), random(0, 4000, 1, "uint16"))
    dataset = in_bands(opened(tmp_path), None)
    assert dataset.bands == 3
    assert dataset.image(0).max() == 255


def test_one_range_holds_for_the_whole_set(tmp_path: Path) -> None:
    """A dark image stays darker than a bright one."""
    for number, level in enumerate((500, 2000, 3900)):
        write_tif(tmp_path / f"{number}.tif", np.full((8, 8, 1), level, np.uint16) + random(0, 50, 1, "uint16")[:8, :8])
    dataset = in_bands(opened(tmp_path), "all")
    means = [dataset.image(index).mean() for index in range(3)]
    assert means[0] < 20
    assert 90 < means[1] < 150
    assert means[2] > 235


def test_no_data_is_ignored(tmp_path: Path) -> None:
    for number in range(2):
        values = random(1000, 3000, 4, "uint16", number)
        values[:5, :6] = 0
        write_tif(tmp_path / "images" / f"{number}.tif", values, nodata=0)
        (tmp_path / "labels").mkdir(exist_ok=True)
        mask = np.tile(np.array([0, 1], np.uint8), (20, 15))
        cv2.imwrite(str(tmp_path / "labels" / f"{number}.png"), mask)
    dataset = in_bands(opened(tmp_path / "images", labels=tmp_path / "labels"), "all")
    reader = reader_in(dataset)
    assert reader is not None
    assert min(reader.scale.low) > 999
    picture, label = dataset.image(0), dataset.label(0)
    assert not picture[:5, :6].any()
    assert (label[:5, :6] == IGNORE).all()
    assert (label[5:] != IGNORE).all()
    assert (label[:, 6:] != IGNORE).all()
    assert dataset.subset([1]).label(0)[0, 0] == IGNORE


def test_files_of_other_kinds_are_refused_in_one_line(tmp_path: Path) -> None:
    tifs(tmp_path / "a", 200, 3000, 4, "uint16")
    dataset = in_bands(opened(tmp_path / "a"), "all")
    with pytest.raises(RequestError, match=r"band 5 is asked for, and .*0.tif has 4 bands"):
        in_bands(opened(tmp_path / "a"), (1, 5))
    write_tif(tmp_path / "b" / "less.tif", random(0, 3000, 3, "uint16"))
    with pytest.raises(DamagedFile, match=r"less.tif has 3 bands, but band 4 is read"):
        dataset.read_image(tmp_path / "b" / "less.tif")
    write_tif(tmp_path / "b" / "other.tif", random(0, 1, 4, "float32"))
    with pytest.raises(DamagedFile, match=r"other.tif holds float32 numbers"):
        dataset.read_image(tmp_path / "b" / "other.tif")
    with pytest.raises(RequestError, match=r"other.tif has 4 bands|less.tif has 3 bands"):
        in_bands(opened(tmp_path / "b"), "all")
    with pytest.raises(RequestError, match=r"uint16 numbers .* float32 numbers|float32 numbers .* uint16 numbers"):
        in_bands(opened(tmp_path / "b"), (1, 2))
    own = Dataset("mine", dataset.space, dataset.items, lambda place: dataset.read_image(place), dataset.read_label)
    with pytest.raises(RequestError, match="its reader decodes images itself"):
        in_bands(own, "all")


def test_a_model_file_reads_new_files_alike(tmp_path: Path) -> None:
    dataset = in_bands(opened(tifs(tmp_path / "a", 200, 3000, 4, "uint16")), "all")
    reader = reader_in(dataset)
    assert reader is not None
    again = reader_of(reader.to_dict())
    tifs(tmp_path / "b", 2000, 9000, 4, "uint16")
    new = in_bands(opened(tmp_path / "b"), None, again)
    assert new.bands == 4
    assert reader_of(None) is None
    np.testing.assert_array_equal(new.image(0), reader(tmp_path / "b" / "0.tif"))
    assert new.image(0).mean() > dataset.image(0).mean() + 50  # not measured anew


def test_a_reader_of_8_bits_takes_ordinary_pictures(tmp_path: Path) -> None:
    """Trained on RGB orthophotos, a model predicts a JPEG, too."""
    plain = BandReader((1, 2, 3), reader_scale := in_range(255.0), "uint8")
    cv2.imwrite(str(tmp_path / "a.png"), random(0, 255, 1, "uint8"))
    np.testing.assert_array_equal(plain(tmp_path / "a.png"), read_picture(tmp_path / "a.png"))
    turned = BandReader((3, 2, 1), reader_scale, "uint8")
    cv2.imwrite(str(tmp_path / "b.png"), random(0, 255, 3, "uint8"))
    np.testing.assert_array_equal(turned(tmp_path / "b.png"), read_picture(tmp_path / "b.png")[..., ::-1])


def in_range(high: float) -> Any:
    from segadapt.data.scaling import Range

    return Range((0.0,) * 3, (high,) * 3)


@pytest.mark.parametrize("orientation", [1, 2, 3, 6, 8])
def test_bands_lie_as_a_viewer_shows_them(tmp_path: Path, orientation: int) -> None:
    from segadapt.data.decode import picture_size
    from segadapt.data.files.orientation import turned

    for number, kind in enumerate(("a.tif", "b.png")):
        values = random(200, 3000, 3, "uint16", number)
        tags = Image.Exif()
        tags[274] = orientation
        if kind == "a.tif":
            content = io.BytesIO()
            Image.fromarray(values[..., 0]).save(content, "TIFF", tiffinfo={274: orientation})
            (tmp_path / kind).write_bytes(content.getvalue())
        else:
            Image.fromarray(values[..., 0]).save(tmp_path / kind, exif=tags)
        reader = reader_in(in_bands(opened(tmp_path).subset([number]), "all"))
        assert reader is not None
        seen = reader(tmp_path / kind)
        assert seen.shape[:2] == picture_size(tmp_path / kind)
        upright = turned(values[..., 0], orientation)
        assert np.corrcoef(seen[..., 0].ravel(), upright.ravel())[0, 1] > 0.99


def test_a_measured_band_that_is_named_alpha_is_one_of_all(tmp_path: Path) -> None:
    """Writers name any fourth band so; true transparency is all or nothing."""
    values = random(200, 3000, 4, "uint16")
    cv2.imwrite(str(tmp_path / "a.tif"), values)
    assert in_bands(opened(tmp_path), "all").bands == 4
    assert "--bands all" in getattr(in_bands(opened(tmp_path), None).read_image, "described", "")
    values[..., 3] = np.where(values[..., 3] > 500, 65535, 0)
    cv2.imwrite(str(tmp_path / "a.tif"), values)
    dataset = in_bands(opened(tmp_path), "all")
    assert dataset.bands == 3
    assert "transparency" in getattr(dataset.read_image, "described", "")


def test_without_rasterio_opencv_reads_up_to_four_bands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = random(200, 3000, 4, "uint16")
    cv2.imwrite(str(tmp_path / "0.tif"), values)
    monkeypatch.setattr("segadapt.data.files.stored.has_rasterio", lambda: False)
    dataset = in_bands(opened(tmp_path), "all")
    assert dataset.image(0).shape == (20, 30, 4)
    order = [
        np.corrcoef(dataset.image(0)[..., i].ravel(), values[..., b].ravel())[0, 1] for i, b in enumerate((2, 1, 0, 3))
    ]
    assert min(order) > 0.99


def test_pictures_of_any_bands_are_shown_and_resized() -> None:
    for bands in (1, 2, 3, 4, 7):
        picture = np.repeat(np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)[..., None], bands, axis=2)
        assert as_rgb(picture).shape == (4, 6, 3)
        for size in ((2, 3), (8, 12)):
            smaller = resize_image(picture, size)
            assert smaller.shape == (*size, bands)
            assert (smaller == smaller[..., :1]).all()
