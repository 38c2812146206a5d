"""Annotations of each tool give the pixels that the tool itself, or an independent painter, gives."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from segadapt.data.cache import DecodedCache
from segadapt.data.convert import convert_labels
from segadapt.data.dataset import Dataset
from segadapt.data.folder import describe_classes, open_folder
from segadapt.data.masks.labelling import SizeMismatch
from segadapt.data.statistics import class_statistics, labels_key
from segadapt.errors import RequestError
from segadapt.labels import IGNORE, LabelMap
from tests.data.annotating import (
    HEIGHT,
    SCENES,
    TOOLS,
    WIDTH,
    Shape,
    bitmap,
    coco,
    cvat,
    labelme,
    packed_png,
    supervisely,
    write_images,
    write_json,
    yolo,
)
from tests.data.writing import picture, save

mask_tools = pytest.importorskip("pycocotools.mask")


def by_pillow(points: list[list[int]]) -> np.ndarray:
    image = Image.new("L", (WIDTH, HEIGHT))
    ImageDraw.Draw(image).polygon([(x, y) for x, y in points], fill=1, outline=1)
    return np.asarray(image) > 0


def by_opencv(points: list[list[int]]) -> np.ndarray:
    return cv2.fillPoly(np.zeros((HEIGHT, WIDTH), np.uint8), [np.array(points, np.int32)], 1) > 0


def by_pycocotools(points: list[list[int]]) -> np.ndarray:
    return mask_tools.decode(mask_tools.frPyObjects([[float(v) for p in points for v in p]], HEIGHT, WIDTH))[..., 0] > 0


PAINTERS = {"coco": by_pycocotools, "cvat": by_pycocotools, "yolo": by_opencv, "supervisely": by_opencv}


def truth(tool: str, shapes: Sequence[Shape], names: Sequence[str], rest: int = 0) -> np.ndarray:
    label = np.full((HEIGHT, WIDTH), rest, np.uint8)
    for name, points in shapes:
        label[PAINTERS.get(tool, by_pillow)(points)] = names.index(name)
    return label


def message(folder: Path, labels: Path, classes: Path | None = None, **options: Any) -> str:
    """The one line that opening and reading every label ends with."""

    def read_all() -> None:
        dataset = open_folder(folder, labels, classes, **options)
        for index in range(len(dataset)):
            dataset.label(index)

    with pytest.raises(RequestError) as error:
        read_all()
    assert "\n" not in str(error.value)
    return str(error.value)


def tree_of(file: Path, change: Callable[[Any], object]) -> Path:
    """Change the content of a JSON file in place."""
    tree = json.loads(file.read_text())
    change(tree)
    file.write_text(json.dumps(tree))
    return file


# ---- all tools ----


@pytest.mark.parametrize("tool", TOOLS)
def test_every_tool_gives_its_own_pixels(tmp_path: Path, tool: str) -> None:
    images = write_images(tmp_path / "images")
    dataset = open_folder(images, TOOLS[tool](tmp_path))
    assert set(dataset.space.names) == {"background", "boat", "lake"}
    assert dataset.space.names[0] == "background"
    assert [item.id for item in dataset.items] == list(SCENES)
    copy: Dataset = pickle.loads(pickle.dumps(dataset))
    for index, shapes in enumerate(SCENES.values()):
        expected = truth(tool, shapes, dataset.space.names)
        assert np.array_equal(dataset.label(index), expected)
        assert np.array_equal(copy.label(index), expected)
    assert "background  (all that no annotation covers)" in describe_classes(dataset)
    assert dataset.notices == ()


@pytest.mark.parametrize("tool", TOOLS)
def test_converted_masks_are_read_as_the_annotations_are(tmp_path: Path, tool: str) -> None:
    images = write_images(tmp_path / "images")
    direct = open_folder(images, TOOLS[tool](tmp_path))
    made = convert_labels(direct, tmp_path / "out")
    again = open_folder(images, tmp_path / "out", tmp_path / "out/classes.yaml")
    assert again.space.names == direct.space.names
    assert again.space.colors == direct.space.colors
    for index in range(len(direct)):
        assert np.array_equal(direct.label(index), again.label(index))
        stored = np.asarray(Image.open(again.items[index].label))  # type: ignore[arg-type]
        assert np.array_equal(stored, direct.label(index))  # an index file, whose indices are the train ids
    assert made.regions == {"boat": 2, "lake": 1}
    assert made.images == 2
    overlap = truth(tool, SCENES["a/one"][1:], direct.space.names)
    assert made.contested == int((overlap > 0).sum())
    assert made.uncovered == sum(int((direct.label(i) == 0).sum()) for i in range(2))


@pytest.mark.parametrize("tool", TOOLS)
def test_a_classes_file_is_matched_by_name(tmp_path: Path, tool: str) -> None:
    images, labels = write_images(tmp_path / "images"), TOOLS[tool](tmp_path)
    file = tmp_path / "c.yaml"
    file.write_text("[lake, background, boat]")
    assert open_folder(images, labels, file).space.names == ("lake", "background", "boat")
    dataset = open_folder(images, labels, file)
    assert np.array_equal(dataset.label(0), truth(tool, SCENES["a/one"], ("lake", "background", "boat"), 1))
    file.write_text("[boat, lake]")  # nothing for the rest: a class in front
    assert open_folder(images, labels, file).space.names == ("background", "boat", "lake")
    dataset = open_folder(images, labels, file, unannotated="ignore")
    assert dataset.space.names == ("boat", "lake")
    assert np.array_equal(dataset.label(0), truth(tool, SCENES["a/one"], ("boat", "lake"), IGNORE))
    assert np.array_equal(
        open_folder(images, labels, file, unannotated="lake").label(1) == 1, dataset.label(1) == IGNORE
    )
    file.write_text("{water: 0, boat: 1, ignore: others}")
    dataset = open_folder(images, labels, file)
    ours = truth(tool, SCENES["a/one"], ("boat", "lake"), IGNORE)
    assert np.array_equal(dataset.label(0), np.where(ours == 0, 1, IGNORE))
    file.write_text("- {name: water, labels: [lake, sea]}\n- {name: boat}\n- {name: background}\n")
    dataset = open_folder(images, labels, file)
    assert np.array_equal(dataset.label(0), truth(tool, SCENES["a/one"], ("lake", "boat", "background"), 2))
    file.write_text("[boats, lake]")
    text = message(images, labels, file)
    assert "'boat' (did you mean 'boats'?)" in text
    assert "labels: ['boat']" in text
    assert "'lakes' (did you mean 'lake'?)" in message(images, labels, file.with_name("c.yaml"), unannotated="lakes")


@pytest.mark.parametrize("tool", TOOLS)
def test_images_and_entries_that_do_not_meet_are_named(tmp_path: Path, tool: str) -> None:
    images, labels = write_images(tmp_path / "images", {"a/one": None}), TOOLS[tool](tmp_path)
    dataset = open_folder(images, labels)
    assert len(dataset) == 1
    (notice,) = dataset.notices
    assert "1 annotated images are not in" in notice.text
    assert "b.two" in notice.text
    write_images(images, {**SCENES, "third": None})
    if tool == "yolo":  # no text file, no objects
        dataset = open_folder(images, labels)
        assert (dataset.label(2) == 0).all()
        assert dataset.notices[0].text == "1 of 3 images have no annotation and are all 'background': third"
    else:
        text = message(images, labels)
        assert "1 of 3 images have no" in text
        assert "third.png" in text
    (tmp_path / "list.txt").write_text("one\n")
    assert [i.id for i in open_folder(images, labels, list_file=tmp_path / "list.txt").items] == ["a/one"]
    text = message(write_images(tmp_path / "others", {"x": None, "y": None}), labels)
    assert "none of its 2 images is in" in text


@pytest.mark.parametrize("tool", ["coco", "labelme", "supervisely", "cvat"])
def test_sizes_are_compared(tmp_path: Path, tool: str) -> None:
    labels = TOOLS[tool](tmp_path)
    for name in SCENES:
        save(tmp_path / "images" / f"{name}.png", picture(WIDTH, HEIGHT))
    dataset = open_folder(tmp_path / "images", labels)
    with pytest.raises(SizeMismatch, match=r"32 x 24 pixels but its image one.png is 24 x 32; the image was turned"):
        dataset.label(0)


@pytest.mark.parametrize("tool", TOOLS)
def test_an_image_that_is_annotated_with_nothing_is_background(tmp_path: Path, tool: str) -> None:
    images = write_images(tmp_path / "images")
    dataset = open_folder(images, TOOLS[tool](tmp_path, {**SCENES, "a/one": []}))
    assert (dataset.label(0) == 0).all()
    assert "1 of 2 images have no annotation and are all 'background': a/one" in dataset.notices[0].text


@pytest.mark.parametrize("name", ["", " ", "a\nb", "\ud800"])
def test_classes_have_names(tmp_path: Path, name: str) -> None:
    images, labels = write_images(tmp_path / "images"), labelme(tmp_path)
    tree_of(labels / "a/one.json", lambda tree: tree["shapes"][0].update(label=name))
    assert "without a name that can be printed" in message(images, labels)


def test_one_class_is_too_few(tmp_path: Path) -> None:
    images, labels = write_images(tmp_path / "images"), labelme(tmp_path, {name: [] for name in SCENES})
    assert "gives 1 classes (background); at least two are needed" in message(images, labels)
    labels = labelme(tmp_path, dict.fromkeys(SCENES, SCENES["b.two"]))
    assert open_folder(images, labels).space.names == ("background", "boat")
    assert "gives 1 classes (boat)" in message(images, labels, unannotated="ignore")


def test_the_key_of_statistics_and_the_cache_follow_the_annotations(tmp_path: Path) -> None:
    images, labels = write_images(tmp_path / "images"), labelme(tmp_path)
    first = open_folder(images, labels)
    counts = class_statistics(first, tmp_path / "cache").counts
    assert counts.tolist() == [[int((first.label(i) == c).sum()) for c in range(3)] for i in range(2)]
    same = open_folder(images, labels)
    assert labels_key(same) == labels_key(first)
    assert same.file_fingerprint(0) == first.file_fingerprint(0)
    tree_of(labels / "a/one.json", lambda tree: tree["shapes"][1]["points"].pop())
    other = open_folder(images, labels)
    assert labels_key(other) != labels_key(first)
    assert other.file_fingerprint(0) != first.file_fingerprint(0)
    assert other.file_fingerprint(1) == first.file_fingerprint(1)
    assert labels_key(open_folder(images, labels, unannotated="ignore")) != labels_key(other)
    cache = DecodedCache(1 << 20)
    kept = [cache.get(("label", item.label, None), lambda i=i: other.label(i)) for i, item in enumerate(other.items)]
    assert not np.array_equal(*kept)


# ---- COCO ----


@settings(max_examples=25, deadline=None)
@given(
    boxes=st.lists(
        st.tuples(*(st.integers(0, 25), st.integers(0, 18), st.integers(3, 30), st.integers(3, 20), st.integers(0, 5))),
        min_size=1,
        max_size=5,
    )
)
def test_coco_is_what_pycocotools_makes_of_the_file(tmp_path_factory: pytest.TempPathFactory, boxes: list[Any]) -> None:
    """Each annotation of a random file, as polygon, several polygons, run lengths of both kinds, and crowd."""
    from pycocotools.coco import COCO

    folder = tmp_path_factory.mktemp("coco")
    file = tree_of(coco(folder, {"x": []}), lambda tree: tree["annotations"].extend(map(_annotation, enumerate(boxes))))
    dataset = open_folder(write_images(folder / "images", {"x": None}), file)
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = COCO(str(file))
    found = [(a["iscrowd"], theirs.annToMask(a) > 0, a["category_id"]) for a in theirs.anns.values()]
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    for _, mask, category in sorted(found, key=lambda entry: (-entry[0], -int(entry[1].sum()))):
        expected[mask] = {3: 1, 7: 2}[category]  # in the order of their ids
    assert dataset.space.names == ("background", "lake", "boat")
    assert np.array_equal(dataset.label(0), expected)


def _annotation(numbered: tuple[int, tuple[int, int, int, int, int]]) -> dict[str, Any]:
    number, (x, y, w, h, kind) = numbered
    polygon = [x, y, x + w, y, x + w - 1.5, y + h, x + 0.5, y + h - 1]
    rle = mask_tools.merge(mask_tools.frPyObjects([polygon], HEIGHT, WIDTH))
    flat = mask_tools.decode(rle).ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *changes, len(flat)]).tolist()
    segmentation: Any = [polygon]
    if kind == 1:
        segmentation = [polygon, [0, 0, 3, 0, 3, 3]]
    elif kind in (2, 3):
        segmentation = {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode()}
    elif kind == 4:
        segmentation = {"size": [HEIGHT, WIDTH], "counts": [0, *counts] if flat[0] else counts}
    entry = {"id": number, "image_id": 10, "category_id": 3 if number % 2 else 7, "iscrowd": int(kind == 3)}
    return {**entry, "segmentation": segmentation, "bbox": [x, y, w, h]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t["annotations"][0].update(segmentation=[]), "boxes, not masks: 1 of 3"),
        (lambda t: t["annotations"][0].pop("segmentation"), "the first is 0 (of image 10)"),
        (lambda t: t["annotations"][0].update(segmentation=[[1, 2, 3, 4]]), "three points"),
        (lambda t: t["annotations"][0].update(segmentation=[[1, 2, 3, 4, 5, None]]), "three points"),
        (lambda t: t["annotations"][0].update(segmentation={"size": [2, 2], "counts": [4]}), "2 x 2 pixels"),
        (lambda t: t["annotations"][0].update(segmentation={"size": [24, 32], "counts": [4]}), "do not add up"),
        (lambda t: t["annotations"][0].update(segmentation={"size": [24, 32], "counts": "zz9~"}), "do not add up"),
        (lambda t: t["annotations"][0].update(segmentation="x"), "neither polygons nor run lengths"),
        (lambda t: t["annotations"][0].update(category_id=4), "unknown category_id 4"),
        (lambda t: t["annotations"][0].update(image_id=4), "unknown image_id 4"),
        (lambda t: t["images"][0].pop("height"), "no height and width"),
        (lambda t: t["images"][0].pop("file_name"), "'images' must be a list"),
        (lambda t: t["images"][0].update(id=11), "the same id"),
        (lambda t: t.update(categories=[]), "no categories"),
        (lambda t: t["annotations"][0].update(segments_info=[]), "panoptic"),
    ],
)
def test_wrong_coco_files_are_refused(tmp_path: Path, change: Callable[[Any], object], words: str) -> None:
    assert words in message(write_images(tmp_path / "images"), tree_of(coco(tmp_path), change))


def test_the_group_of_all_categories_is_no_class(tmp_path: Path) -> None:
    def change(tree: Any) -> None:
        tree["categories"] = [{**c, "supercategory": "things"} for c in tree["categories"]]
        tree["categories"] += [{"id": 0, "name": "things", "supercategory": "none"}, {"id": 1, "name": "island"}]

    images = write_images(tmp_path / "images")
    file = tree_of(coco(tmp_path), change)
    assert open_folder(images, file).space.names == ("background", "island", "lake", "boat")
    file.rename(images / "_annotations.coco.json")  # as Roboflow lays it
    assert open_folder(images, images).space.names == ("background", "island", "lake", "boat")


def test_without_pycocotools_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pycocotools", None)
    assert "segadapt[convert]" in message(write_images(tmp_path / "images"), coco(tmp_path))
    assert len(open_folder(tmp_path / "images", yolo(tmp_path))) == 2


# ---- YOLO ----


def test_classes_of_yolo_have_the_names_of_a_list_or_their_numbers(tmp_path: Path) -> None:
    images, labels = write_images(tmp_path / "images"), yolo(tmp_path)
    (tmp_path / "data.yaml").write_text("names: {0: 'no', 1: yes}\n")
    assert open_folder(images, labels).space.names == ("background", "no", "yes")
    (tmp_path / "data.yaml").unlink()
    (labels / "classes.txt").write_text("boat\nlake\n\n")
    assert open_folder(images, labels).space.names == ("background", "boat", "lake")
    (labels / "classes.txt").unlink()
    assert open_folder(images, labels).space.names == ("background", "class_0", "class_1")


def test_without_a_list_numbers_of_yolo_are_ids_of_the_classes_file(tmp_path: Path) -> None:
    images, labels = write_images(tmp_path / "images"), yolo(tmp_path)
    (tmp_path / "data.yaml").unlink()
    file = tmp_path / "c.yaml"
    file.write_text("- {name: craft, ids: [0, 5]}\n- {name: water, ids: 1}\n")
    dataset = open_folder(images, labels, file)
    assert dataset.space.names == ("background", "craft", "water")
    assert np.array_equal(dataset.label(0), truth("yolo", SCENES["a/one"], ("", "boat", "lake")))
    file.write_text("{background: 0, boat: 1, lake: 2}")  # numbers of masks, not of YOLO
    assert "number 0 of YOLO is 'background'" in message(images, labels, file)
    file.write_text("{boat: 0, land: 4}")
    assert "'class_1'" in message(images, labels, file)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("0 0.5 0.5 0.2 0.2", "line 2 holds a box, not a mask"),
        ("0 0.1 0.1 0.2 0.2 0.3", "5 numbers behind the class"),
        ("0 0.1 0.1 0.2 0.2", "holds a box"),
        ("0 10 10 20 20 30 5", "outside 0 .. 1"),
        ("2 0.1 0.1 0.2 0.2 0.3 0.1", "the class 2, which the list of classes lacks: it has 0, 1"),
        ("-1 0.1 0.1 0.2 0.2 0.3 0.1", "not the number of a class"),
    ],
)
def test_wrong_rows_of_yolo_are_refused(tmp_path: Path, row: str, words: str) -> None:
    images, labels = write_images(tmp_path / "images"), yolo(tmp_path)
    with (labels / "b.two.txt").open("a") as file:
        file.write(row + "\n")
    text = message(images, labels)
    assert words in text
    assert "b.two.txt, line 2" in text


# ---- labelme ----


@pytest.mark.parametrize(
    ("kind", "points", "paint"),
    [
        ("rectangle", [[20, 15], [4, 3]], lambda d: d.rectangle((4, 3, 20, 15), fill=1)),
        ("circle", [[12, 12], [12, 17]], lambda d: d.ellipse((7, 7, 17, 17), fill=1)),
        ("line", [[2, 2], [28, 20]], lambda d: d.line((2, 2, 28, 20), fill=1, width=10)),
        ("linestrip", [[2, 2], [15, 2], [28, 20]], lambda d: d.line((2, 2, 15, 2, 28, 20), fill=1, width=10)),
        ("point", [[10, 11]], lambda d: d.ellipse((5, 6, 15, 16), fill=1)),
        (
            "oriented_rectangle",
            [[5, 1], [20, 6], [18, 12], [3, 7]],
            lambda d: d.polygon((5, 1, 20, 6, 18, 12, 3, 7), 1, 1),
        ),
        (None, [[2, 3], [20, 5], [9, 21]], lambda d: d.polygon((2, 3, 20, 5, 9, 21), 1, 1)),
    ],
)
def test_shapes_of_labelme(tmp_path: Path, kind: str | None, points: Any, paint: Callable[[Any], object]) -> None:
    labels = labelme(tmp_path, {"x": [("a", points)]}, data="A" * 100)
    tree_of(labels / "x.json", lambda tree: tree["shapes"][0].update(shape_type=kind))
    image = Image.new("L", (WIDTH, HEIGHT))
    paint(ImageDraw.Draw(image))
    assert np.array_equal(open_folder(write_images(tmp_path / "i", {"x": None}), labels).label(0), np.asarray(image))


def test_masks_of_labelme_lie_at_their_corner(tmp_path: Path) -> None:
    part = np.random.default_rng(0).random((5, 7)) < 0.5
    shape = {"label": "a", "shape_type": "mask", "points": [[4.0, 6.0], [10.0, 10.0]]}
    shape["mask"] = base64.b64encode(packed_png(part)).decode()
    labels = labelme(tmp_path, {"x": []})
    tree_of(labels / "x.json", lambda tree: tree["shapes"].append(shape))
    expected: LabelMap = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[6:11, 4:11] = part
    images = write_images(tmp_path / "i", {"x": None})
    assert np.array_equal(open_folder(images, labels).label(0), expected)
    tree_of(labels / "x.json", lambda tree: tree["shapes"][0].update(points=[[28, 6], [34, 10]]))
    assert "beyond its image of 32 x 24" in message(images, labels)
    tree_of(labels / "x.json", lambda tree: tree["shapes"][0].update(mask="no png"))
    assert "shape 1 ('a', mask) has a mask that is no PNG" in message(images, labels)


def test_files_of_labelme_lie_beside_the_images(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images")
    for file in labelme(tmp_path).rglob("*.json"):
        file.rename(images / file.relative_to(tmp_path / "json"))
    write_json(images / "notes.json", {"by": "me"})
    dataset = open_folder(images, images)
    assert np.array_equal(dataset.label(0), truth("labelme", SCENES["a/one"], dataset.space.names))
    assert [r.text for r in dataset.notices] == [
        f"1 files in {images} hold no annotations and are left out: notes.json"
    ]


def test_special_labels_of_labelme(tmp_path: Path) -> None:
    scene: dict[str, list[Shape]] = {
        "x": [
            ("_background_", [[0, 0], [9, 0], [9, 9]]),
            ("__ignore__", SCENES["b.two"][0][1]),
            ("a", [[1, 1], [5, 1], [5, 5]]),
        ]
    }
    dataset = open_folder(write_images(tmp_path / "i", {"x": None}), labelme(tmp_path, scene))
    assert dataset.space.names == ("_background_", "a")
    label = dataset.label(0)
    assert set(np.unique(label).tolist()) == {0, 1, IGNORE}
    assert label[-1, -1] == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.update(shape_type="star"), "shape 1 ('lake', star) is of a type that cannot be read"),
        (lambda s: s.update(points=[[1, 2]]), "at least 3 points"),
        (lambda s: s.update(points=[[1, 2], [3, None], [4, 5]]), "at least 3 points"),
        (lambda s: s.pop("label"), "shape 1 has no label"),
    ],
)
def test_wrong_shapes_are_refused(tmp_path: Path, change: Callable[[Any], object], words: str) -> None:
    images, labels = write_images(tmp_path / "images"), labelme(tmp_path)
    tree_of(labels / "a/one.json", lambda tree: change(tree["shapes"][0]))
    text = message(images, labels)
    assert words in text
    assert "one.json" in text


# ---- Supervisely and CVAT ----


def test_bitmaps_and_holes_of_supervisely(tmp_path: Path) -> None:
    part = np.random.default_rng(1).random((6, 9)) < 0.5
    hole = [[10, 8], [16, 8], [16, 14], [10, 14]]
    labels = supervisely(tmp_path, {"x": [("lake", [[4, 4], [25, 4], [25, 20], [4, 20]])]})

    def change(tree: Any) -> None:
        tree["objects"][0]["points"]["interior"] = [hole]
        tree["objects"].append(bitmap(part, 20, 15, "boat"))

    tree_of(labels / "x.png.json", change)
    expected = by_opencv([[4, 4], [25, 4], [25, 20], [4, 20]]).astype(np.uint8)
    expected[by_opencv(hole)] = 0
    expected[15:21, 20:29][part] = 2
    dataset = open_folder(write_images(tmp_path / "i", {"x": None}), labels)
    assert dataset.space.names == ("background", "lake", "boat")  # in the order of meta.json
    assert np.array_equal(dataset.label(0), expected)
    tree_of(labels / "x.png.json", lambda tree: tree["objects"][0].update(geometryType="rectangle"))
    assert "object 1 ('lake', rectangle) cannot be read" in message(tmp_path / "i", labels)
    tree_of(labels / "x.png.json", lambda tree: tree["objects"].pop(0))
    tree_of(labels / "x.png.json", lambda tree: tree["objects"][0]["bitmap"].update(data="eJw="))
    assert "no packed PNG" in message(tmp_path / "i", labels)


def test_masks_of_cvat(tmp_path: Path) -> None:
    file = cvat(tmp_path, {"x": []})
    mask = '<mask label="boat" source="manual" rle="1, 2, 3, 6" left="5" top="7" width="4" height="3" z_order="0"/>'
    text = file.read_text()
    file.write_text(text.replace("</image>", mask + "</image>"))
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[7:10, 5:9] = [[0, 1, 1, 0], [0, 0, 1, 1], [1, 1, 1, 1]]
    images = write_images(tmp_path / "images", {"x": None})
    assert np.array_equal(open_folder(images, file).label(0), expected)
    for shape, words in (
        (mask.replace("3, 6", "3, 7"), "do not add up"),
        ('<box label="boat" xtl="1" ytl="1" xbr="5" ybr="5"/>', "a box, not a mask"),
        ('<polyline label="boat" points="1,1;2,2"/>', "this shape cannot be read"),
        ('<polygon label="boat" points="1,1;2,2"/>', "at least 3 points"),
        ('<polygon label="boat" points="1,1;2,x;3,3"/>', "numbers that cannot be read"),
    ):
        file.write_text(text.replace("</image>", shape + "</image>"))
        assert words in message(images, file)


# ---- which tool ----

FOREIGN: dict[str, tuple[str, str]] = {
    "via.json": (json.dumps({"a.png123": {"filename": "a.png", "regions": [], "size": 1}}), "VGG Image Annotator"),
    "tasks.json": (json.dumps([{"id": 1, "data": {"image": "a"}, "annotations": []}]), "Label Studio"),
    "voc.xml": ("<annotation><object><bndbox/></object></annotation>", "boxes, not masks"),
    "other.xml": ("<html/>", "no annotations that can be read; known are COCO"),
    "other.json": ("{}", "no annotations that can be read"),
    "broken.json": ('{"shapes": [', "damaged JSON"),
    "broken.xml": ("<annotations>", "cannot be read"),
    "notes.txt": ("some words\n", "no annotations that can be read"),
    "latin.json": ("\xe9", "UTF-8"),
    "a.zip": ("PK", "is a file; labels are a folder of masks, or annotations"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_other_files_are_refused_by_name(tmp_path: Path, name: str) -> None:
    text, words = FOREIGN[name]
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    said = message(write_images(tmp_path / "images"), tmp_path / name)
    assert words in said
    assert name in said


def test_annotations_of_two_tools_or_two_files_are_refused(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images")
    labels = labelme(tmp_path / "both")
    coco(labels)
    text = message(images, labels)
    assert "of labelme (b.two.json) and of COCO (instances.json)" in text
    coco(tmp_path / "two")
    (tmp_path / "two/instances.json").rename(tmp_path / "two/train.json")
    coco(tmp_path / "two")
    assert "several COCO files, such as instances.json and train.json" in message(images, tmp_path / "two")


def test_masks_come_before_annotations_and_patterns_are_for_masks(tmp_path: Path) -> None:
    images, labels = write_images(tmp_path / "images"), coco(tmp_path / "labels")
    assert "a pair pattern is for masks" in message(images, labels, pair="{}.png={}.png")
    for name in SCENES:
        save(tmp_path / "labels" / f"{name}.png", np.eye(HEIGHT, WIDTH, dtype=np.uint8))
    assert open_folder(images, labels.parent).space.names == ("class_0", "class_1")
    assert "every pixel has a value" in message(images, labels.parent, unannotated="ignore")


# ---- whatever a file holds, it is read or refused ----

ODD: tuple[Any, ...] = (None, "x", "", -1, 0, 3.7, [], {}, [1], [[1, 2]], {"a": 1}, True, float("nan"), 10**12, "../x")


def _places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of everything in parsed JSON."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(place for key, value in inner for place in _places(value, (*path, key)))]


@settings(max_examples=60, deadline=None)
@given(tool=st.sampled_from(["coco", "labelme", "supervisely"]), where=st.floats(0, 1), odd=st.sampled_from(ODD))
def test_odd_values_in_json_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, tool: str, where: float, odd: Any
) -> None:
    folder = tmp_path_factory.mktemp("odd")
    labels = TOOLS[tool](folder)
    file = labels if labels.is_file() else labels / ("a/one.json" if tool == "labelme" else "a/one.png.json")

    def change(tree: Any) -> None:
        *above, last = (places := _places(tree)[1:])[int(where * (len(places) - 1))]
        for key in above:
            tree = tree[key]
        tree[last] = odd

    tree_of(file, change)
    _read_or_refused(write_images(folder / "images"), labels)


@settings(max_examples=60, deadline=None)
@given(
    tool=st.sampled_from(["yolo", "cvat"]),
    where=st.floats(0, 1),
    odd=st.sampled_from(["", "x", "-", "9" * 12, "\n", " ", "."]),
)
def test_odd_signs_in_text_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, tool: str, where: float, odd: str
) -> None:
    folder = tmp_path_factory.mktemp("odd")
    labels = TOOLS[tool](folder)
    file = labels if labels.is_file() else labels / "a/one.txt"
    text = file.read_text()
    place = int(where * (len(text) - 1))
    file.write_text(text[:place] + odd + text[place + 1 :])
    _read_or_refused(write_images(folder / "images"), labels)


def _read_or_refused(images: Path, labels: Path) -> None:
    try:
        dataset = open_folder(images, labels)
        for index in range(len(dataset)):
            assert dataset.label(index).shape == (HEIGHT, WIDTH)
    except RequestError:
        return


@pytest.mark.parametrize("tool", ["coco", "labelme", "supervisely", "cvat"])
def test_points_far_outside_are_refused_before_they_are_painted(tmp_path: Path, tool: str) -> None:
    far: dict[str, list[Shape]] = {"x": [("lake", [[0, 0], [10**9, 0], [5, 9]])]}
    text = message(write_images(tmp_path / "images", {"x": None}), TOOLS[tool](tmp_path, far))
    assert "has points far outside its image of 32 x 24 pixels" in text
