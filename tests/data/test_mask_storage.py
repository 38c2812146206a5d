"""Masks of a set compared with each other: losses of compression, palettes, depths, and numbers without data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from segadapt.data.dataset import Dataset
from segadapt.data.folder import open_folder
from segadapt.data.masks.mask_storage import storage_of
from segadapt.errors import RequestError
from segadapt.labels import IGNORE
from tests.data.writing import save, tiff, tiff_page

MASK = np.kron(np.array([[0, 1], [2, 1]], np.uint8), np.ones((8, 8), np.uint8))
OTHER = MASK[::-1].copy()
COLORS = np.array([(0, 0, 0), (200, 30, 30), (20, 90, 210)], np.uint8)
Write = Callable[[np.ndarray, Path], Any]


def opened(root: Path, *masks: tuple[np.ndarray, str, Write], classes: str = "", **options: Any) -> Dataset:
    """Open a folder of black images and of masks, each written by its function under its name."""
    (root / "masks").mkdir(parents=True)
    for number, (mask, suffix, write) in enumerate(masks):
        save(root / "images" / f"{number}.png", np.zeros((*mask.shape, 3), np.uint8))
        write(mask, root / "masks" / f"{number}{suffix}")
    file = None
    if classes:
        file = root / "classes.yaml"
        file.write_text(classes)
    return open_folder(root / "images", root / "masks", file, **options)


def refused(root: Path, *masks: tuple[np.ndarray, str, Write], classes: str = "") -> str:
    with pytest.raises(RequestError) as error:
        opened(root, *masks, classes=classes)
    assert "\n" not in str(error.value)
    return str(error.value)


def grey(mask: np.ndarray, path: Path) -> None:
    Image.fromarray(mask).save(path)


def of_one_bit(mask: np.ndarray, path: Path) -> None:
    Image.fromarray(mask > 0).save(path)


def rgb(mask: np.ndarray, path: Path) -> None:
    Image.fromarray(COLORS[mask]).save(path)


def with_palette(order: tuple[int, ...] = (0, 1, 2), colors: np.ndarray = COLORS) -> Write:
    """Return a function that writes class ``order[i]`` as index i, shown in its own colour."""

    def write(mask: np.ndarray, path: Path) -> None:
        index = np.argsort(order)[mask].astype(np.uint8)
        image = Image.fromarray(index)
        image.putpalette(colors[list(order)].ravel().tolist())
        image.save(path)

    return write


def saved(kind: str, **options: Any) -> Write:
    return lambda mask, path: Image.fromarray(mask * 50).save(path, kind, **options)


LOSSY: list[tuple[str, str, Write]] = [
    ("JPEG", ".jpg", saved("JPEG", quality=95)),
    ("JPEG", ".png", saved("JPEG", quality=100)),
    ("JPEG", ".tif", saved("TIFF", compression="jpeg")),
    ("lossy WebP", ".webp", saved("WEBP", quality=95)),
    ("lossy JPEG 2000", ".jp2", saved("JPEG2000", irreversible=True, quality_layers=[20])),
    *([("AVIF", ".avif", saved("AVIF"))] if features.check("avif") else []),
]


@pytest.mark.parametrize(("kind", "suffix", "write"), LOSSY)
@pytest.mark.parametrize("classes", ["", "[a, b, c]", "{a: [0, 0, 0], b: [50, 50, 50], c: [100, 100, 100]}"])
def test_masks_with_losses_are_refused_by_content(
    tmp_path: Path, kind: str, suffix: str, write: Write, classes: str
) -> None:
    said = refused(tmp_path, (MASK, ".png", grey), (MASK, suffix, write), classes=classes)
    assert f"1 of 2 masks are {kind} files" in said
    assert f"{tmp_path / 'masks' / '1'}{suffix}; export them again as PNG" in said


@pytest.mark.parametrize(
    ("suffix", "write"),
    [
        (".webp", saved("WEBP", lossless=True)),
        (".jp2", saved("JPEG2000")),
        (".gif", saved("GIF")),
        (".bmp", saved("BMP")),
        (".tif", saved("TIFF", compression="tiff_lzw")),
        (".pgm", saved("PPM")),
        (".jpg", saved("PNG")),
    ],
)
def test_formats_without_losses_keep_every_number(tmp_path: Path, suffix: str, write: Write) -> None:
    dataset = opened(tmp_path, (MASK, suffix, write))
    assert dataset.space.names == ("class_0", "class_50", "class_100")
    assert np.array_equal(dataset.label(0), MASK)


def test_one_palette_or_the_beginning_of_it_is_one_kind(tmp_path: Path) -> None:
    few = MASK.clip(0, 1)
    dataset = opened(
        tmp_path, (MASK, ".png", with_palette()), (few, ".bmp", with_palette((0, 1))), (MASK, ".gif", with_palette())
    )
    assert dataset.space.names == ("class_0", "class_1", "class_2")
    assert np.array_equal(dataset.label(1), few)


def test_palettes_in_another_order_are_read_by_colour(tmp_path: Path) -> None:
    masks = ((MASK, ".png", with_palette((0, 1, 2))), (OTHER, ".png", with_palette((2, 0, 1))))
    dataset = opened(tmp_path / "a", *masks)
    assert dataset.space.names == ("#000000", "#145ad2", "#c81e1e")
    assert np.array_equal(np.array(dataset.space.colors)[dataset.label(1)], COLORS[OTHER])
    text = "[{name: x, id: 0, color: [0, 0, 0]}, {name: y, id: 1, color: [200, 30, 30]}, "
    dataset = opened(tmp_path / "b", *masks, classes=text + "{name: z, id: 2, color: [20, 90, 210]}]")
    assert [np.array_equal(dataset.label(i), m) for i, m in enumerate((MASK, OTHER))] == [True, True]
    said = refused(tmp_path / "c", *masks, classes="[x, y, z]")
    assert "the palettes of the masks differ, 0 is #000000 in" in said
    assert "give each class its color in the classes file" in said


def test_palettes_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    """Numbers stay and colours are drawn anew for each file: neither is sure to tell the classes."""
    drawn = [np.random.default_rng(i).integers(0, 256, (3, 3), dtype=np.uint8) for i in range(3)]
    said = refused(tmp_path, *((MASK, ".png", with_palette(colors=colors)) for colors in drawn))
    assert "or save the masks as grey PNG if numbers do" in said


def test_colours_beyond_those_used_do_not_count(tmp_path: Path) -> None:
    more = (
        np.concatenate([COLORS, [[9, 9, 9]]]).astype(np.uint8),
        np.concatenate([COLORS, [[7, 0, 7]]]).astype(np.uint8),
    )
    dataset = opened(tmp_path, *((MASK, ".png", with_palette((0, 1, 2, 3), colors)) for colors in more))
    assert dataset.space.names == ("class_0", "class_1", "class_2")


def test_gif_masks_that_show_black_alone_fit_those_with_colours(tmp_path: Path) -> None:
    order = (2, 0, 1)
    masks = ((MASK, ".gif", with_palette(order)), (0 * MASK, ".gif", grey), (OTHER, ".gif", with_palette()))
    dataset = opened(tmp_path, *masks)
    for i, mask in enumerate((MASK, 0 * MASK, OTHER)):
        assert np.array_equal(np.array(dataset.space.colors)[dataset.label(i)], COLORS[mask])


def test_palette_masks_beside_rgb_masks_are_read_by_colour(tmp_path: Path) -> None:
    dataset = opened(tmp_path / "a", (MASK, ".png", with_palette((1, 2, 0))), (OTHER, ".png", rgb))
    for i, mask in enumerate((MASK, OTHER)):
        assert np.array_equal(np.array(dataset.space.colors)[dataset.label(i)], COLORS[mask])
    assert "is a colour mask but" in refused(tmp_path / "b", (MASK, ".png", grey), (MASK, ".png", rgb))


@pytest.mark.parametrize("classes", ["", "{a: 0, b: 1}", "[{name: a, ids: [0, 255]}, {name: b, id: 1}]"])
@pytest.mark.parametrize("low", ["one bit", "palette"])
def test_one_class_with_two_numbers_is_refused(tmp_path: Path, classes: str, low: str) -> None:
    """A viewer shows 1 of one bit as 255, which other masks store."""
    two = MASK.clip(0, 1)
    black_white = with_palette((0, 1), np.array([(0, 0, 0), (255, 255, 255)], np.uint8))
    write = of_one_bit if low == "one bit" else black_white
    said = refused(
        tmp_path, (two * 255, ".png", grey), (two, ".png" if low == "one bit" else ".tif", write), classes=classes
    )
    assert "shows the value 1 as grey 255" in said
    assert "0.png has the value 255 itself" in said


@pytest.mark.parametrize("suffix", [".png", ".gif", ".bmp"])
def test_ids_may_be_the_greys_that_a_viewer_shows(tmp_path: Path, suffix: str) -> None:
    """Of one bit, and of grey palettes, which writers of GIF number anew in each file."""
    two = MASK.clip(0, 1)
    masks = ((two, suffix, of_one_bit), (two * 255, suffix, grey))
    dataset = opened(tmp_path / "a", *masks, classes="{background: 0, crack: 255}")
    assert [np.array_equal(dataset.label(i), two) for i in (0, 1)] == [True, True]
    ids = np.array([0, 128, 255], np.uint8)
    numbered = ((ids[MASK], suffix, grey), (ids[2 - MASK], suffix, grey), (ids[two], suffix, grey))
    dataset = opened(tmp_path / "b", *numbered, classes="{a: 0, b: 128, c: 255}")
    assert [np.array_equal(dataset.label(i), m) for i, m in enumerate((MASK, 2 - MASK, two))] == [True] * 3
    dataset = opened(tmp_path / "d", *numbered, classes="{a: 0, b: 128}")
    assert np.array_equal(dataset.label(1), np.array([IGNORE, 1, 0])[MASK])
    both = "[{name: a, id: 0}, {name: b, ids: [1, 255]}]"
    assert np.array_equal(opened(tmp_path / "c", *masks, classes=both).label(0), two)


def test_depths_that_fit_together_are_taken(tmp_path: Path) -> None:
    two = MASK.clip(0, 1)
    with_ignored = two.copy()
    with_ignored[0] = IGNORE
    dataset = opened(tmp_path / "a", (with_ignored, ".png", grey), (two, ".png", of_one_bit))
    assert np.array_equal(dataset.label(1), two)
    deep = (MASK.astype(np.uint16), ".png", grey)
    assert np.array_equal(opened(tmp_path / "b", deep, (MASK, ".png", grey)).label(0), MASK)


def raster(kind: str, no_data: str = "") -> Write:
    named: dict[int, Any] = {42113: ("s", no_data.encode() + b"\0")} if no_data else {}
    return lambda mask, path: path.write_bytes(tiff(tiff_page(mask.astype(kind), more=named)))


@pytest.mark.parametrize("classes", ["", "{class_0: 0, class_1: 1, class_2: 2}"])
@pytest.mark.parametrize(("kind", "number"), [("i2", -9999), ("i4", -1), ("f4", -32768), ("u2", 65535), ("u1", 9)])
def test_pixels_without_data_belong_to_no_class(tmp_path: Path, classes: str, kind: str, number: int) -> None:
    mask = MASK.astype(np.int64)
    mask[:3] = number
    expected = np.where(mask == number, IGNORE, MASK)
    dataset = opened(
        tmp_path / "a", (mask, ".tif", raster(kind, str(number))), (MASK, ".tif", raster(kind)), classes=classes
    )
    assert dataset.space.names == ("class_0", "class_1", "class_2")
    assert np.array_equal(dataset.label(0), expected)
    assert np.array_equal(dataset.label(1), MASK)
    if number < 0:
        unnamed = (mask, ".tif", raster(kind))
        dataset = opened(tmp_path / "b", unnamed, classes=classes, ignore_ids=(255, number))
        assert np.array_equal(dataset.label(0), expected)


def test_a_class_may_have_the_number_for_no_data(tmp_path: Path) -> None:
    dataset = opened(tmp_path, (MASK, ".tif", raster("u1", "0")), classes="[a, b, c]")
    assert np.array_equal(dataset.label(0), MASK)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_random_ids_orders_and_depths_agree_with_pillow(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Each mask of a set is stored in a kind of its own; classes found are those of the numbers written."""
    ids = np.array(data.draw(st.lists(st.integers(0, 250), min_size=2, max_size=9, unique=True)), np.uint8)
    shape = data.draw(st.integers(1, 12)), data.draw(st.integers(len(ids), 14))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    palette = rng.integers(0, 256, (256, 3), dtype=np.uint8)
    palette[:, 0] = palette[:, 1] ^ 1  # no grey among the colours

    def in_palette(mask: np.ndarray, path: Path) -> None:
        image = Image.fromarray(mask)
        image.putpalette(palette.ravel().tolist())
        image.save(path)

    kinds: list[tuple[str, Write]] = [
        (".png", grey),
        (".png", lambda mask, path: grey(mask.astype(np.uint16), path)),
        (".png", lambda mask, path: grey(np.repeat(mask[..., None], 3, axis=2), path)),
        (".tif", raster("i4")),
        (".tif", raster("f8")),
        (".tif", lambda mask, path: path.write_bytes(tiff(tiff_page(mask, 0)))),
        (".bmp", grey),
        (".webp", lambda mask, path: Image.fromarray(mask).save(path, lossless=True)),
        (".png", in_palette),
        (".bmp", in_palette),
        (".tif", in_palette),
    ]
    chosen = data.draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=4))
    masks = [ids[rng.integers(0, len(ids), shape)] for _ in chosen]
    masks[0][0, : len(ids)] = ids
    dataset = opened(
        tmp_path_factory.mktemp("m"), *((m, suffix, write) for m, (suffix, write) in zip(masks, chosen, strict=True))
    )
    assert dataset.space.names == tuple(f"class_{i}" for i in sorted(ids.tolist()))
    for index, mask in enumerate(masks):
        assert np.array_equal(np.sort(ids)[dataset.label(index)], mask)


def test_smoothed_edges_are_no_classes(tmp_path: Path) -> None:
    large = np.kron(np.array([[0, 100], [200, 100]], np.uint8), np.ones((20, 20), np.uint8))

    large = np.pad(large, 3)
    turned = np.asarray(Image.fromarray(large).rotate(10)).astype(np.uint16)
    halved = (turned[1:, 1:] + turned[:-1, 1:] + turned[1:, :-1] + turned[:-1, :-1]) // 4
    said = refused(tmp_path / "a", (halved.astype(np.uint8), ".png", grey))
    assert "occur in thin lines alone, between areas of 0, 100, 200; masks were smoothed" in said
    lines = large.copy()
    lines[4], lines[:, 5] = 40, 60  # poles and wires
    assert len(opened(tmp_path / "b", (lines, ".png", grey)).space) == 5


def test_heads_say_how_masks_are_stored(tmp_path: Path) -> None:
    with_palette()(MASK, tmp_path / "p.tif")
    with_palette()(MASK, tmp_path / "p.png")
    of_one_bit(MASK, tmp_path / "b.png")
    (tmp_path / "damaged.png").write_bytes(b"\x89PNG")
    for name in ("p.tif", "p.png"):
        stored = storage_of(tmp_path / name)
        assert stored is not None
        assert stored.palette is not None
        assert stored.palette[:3].tolist() == COLORS.tolist()
    assert storage_of(tmp_path / "b.png") == ("grey", 1, None, None)
    assert storage_of(tmp_path / "damaged.png") is None
