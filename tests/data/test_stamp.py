"""Own output read again: whatever ids, orders, names and colours a user has, a written mask is the label map it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin

from segadapt.data.decode import UnknownLabel
from segadapt.data.folder import FolderLabels, open_folder
from segadapt.data.masks.classes_file import read_classes
from segadapt.data.masks.mask_format import LEGEND, mask_format, require_legend_place, write_legend
from segadapt.data.masks.stamp import KEY, Stamp, read_stamp
from segadapt.errors import RequestError
from segadapt.labels import CITYSCAPES, IGNORE, LabelSpace, distinct_colors
from tests.data.writing import picture, save

NAME = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=8).filter(
    lambda n: n.lower() not in ("void", "ignore", "others", "__ignore__")
)
COLOR = st.tuples(*[st.integers(0, 255)] * 3)


@st.composite
def classes_files(draw: st.DrawFn) -> tuple[list[dict[str, object]], str]:
    """Entries of a classes file, and the part whose masks are read."""
    names = draw(st.lists(NAME, min_size=2, max_size=6, unique=True))
    count = len(names)
    kind = draw(st.sampled_from(("ids", "colors", "both", "parts")))
    ids = draw(
        st.lists(st.integers(0, draw(st.sampled_from((6, 255, 65535)))), min_size=count, max_size=count, unique=True)
    )
    target = draw(st.permutations(ids))
    colors = draw(st.lists(COLOR, min_size=count, max_size=count, unique=True))
    entries: list[dict[str, object]] = []
    for name, number, other, color in zip(names, ids, target, colors, strict=True):
        entry: dict[str, object] = {"name": name}
        if kind == "parts":
            entry["ids"] = {"source": number, "target": other}
        elif kind != "colors":
            entry["ids"] = [number]
        if kind in ("colors", "both"):
            entry["color"] = list(color)
        entries.append(entry)
    return entries, draw(st.sampled_from(("source", "target", "test")))


@settings(max_examples=25, deadline=None)
@given(made=classes_files(), seed=st.integers(0, 99))
def test_what_is_written_is_read_again_by_the_same_classes_file(
    made: tuple[list[dict[str, object]], str], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    entries, part = made
    folder = tmp_path_factory.mktemp("own")
    file = folder / "classes.json"
    file.write_text(json.dumps(entries))
    save(folder / "images" / "a.png", picture(4, 5))
    (folder / "masks").mkdir()
    known = read_classes(file, part)
    space = LabelSpace.from_json(space_for(folder, file, part).to_json())
    label = np.random.default_rng(seed).integers(0, len(space), (4, 5)).astype(np.uint8)
    label[0, 0] = IGNORE
    for ids in ("train", "own"):
        (folder / "masks" / "a.png").write_bytes(mask_format(space, ids).encode(label))
        dataset = open_folder(folder / "images", folder / "masks", file, part=part)
        assert dataset.space.names == space.names
        assert np.array_equal(dataset.label(0), label)
        again = open_folder(folder / "images", folder / "masks")
        assert np.array_equal(again.label(0), np.vectorize(again_id(space, again.space))(label))
    (folder / "masks" / "a.png").write_bytes(mask_format(space, "train").encode_colors(label))
    assert np.array_equal(open_folder(folder / "images", folder / "masks", file, part=part).label(0), label)

    # Saved anew by another program, own masks are the user's own masks: of the test part, no pixel without a class.
    label[0, 0] = 0
    (folder / "plain.png").write_bytes(mask_format(space, "own").encode(label))
    with Image.open(folder / "plain.png") as image:
        Image.fromarray(np.asarray(image)).save(folder / "plain.png")
    assert read_stamp(folder / "plain.png") is None
    assert np.array_equal(FolderLabels(read_classes(file, "test"), (IGNORE,))(folder / "plain.png"), label)
    assert [c.name for c in known] == list(space.names)


def space_for(folder: Path, file: Path, part: str) -> LabelSpace:
    """The label space of a run with this classes file."""
    return open_folder(folder / "images", None, file, part=part).space


def again_id(space: LabelSpace, other: LabelSpace):  # type: ignore[no-untyped-def]
    return lambda i: IGNORE if i == IGNORE else other.index(space.names[i])


ICE = LabelSpace("ice", ("water", "ice", "land"), distinct_colors(3), ids=(1, 2, 0), ignore_id=255)
LABEL = np.array([[0, 1, 2], [2, 2, IGNORE]], np.uint8)
CLASSES = "{water: 1, ice: 2, land: 0}"


def pair(root: Path, content: bytes, name: str = "a", classes: str = CLASSES) -> tuple[Path, Path, Path]:
    """An image with a mask of this content, and a classes file."""
    save(root / "images" / f"{name}.png", picture(2, 3))
    (root / "masks").mkdir(exist_ok=True)
    (root / "masks" / f"{name}.png").write_bytes(content)
    (root / "classes.yaml").write_text(classes)
    return root / "images", root / "masks", root / "classes.yaml"


@pytest.mark.parametrize("ids", ["train", "own"])
def test_own_output_beside_the_users_masks(tmp_path: Path, ids: str) -> None:
    pair(tmp_path, mask_format(ICE, ids).encode(LABEL), "a")
    images, masks, classes = pair(tmp_path, b"", "b")
    save(masks / "b.png", np.array([[1, 2, 0], [0, 0, 255]], np.uint8))
    dataset = open_folder(images, masks, classes, name="source")
    assert tuple(notice.text for notice in dataset.notices) == (
        "source: 1 of 2 masks were written by segadapt; they are read by the class names in the files, not by ids",
    )
    assert np.array_equal(dataset.label(0), LABEL)
    assert np.array_equal(dataset.label(1), LABEL)
    with pytest.raises(
        RequestError, match=r"a\.png was written by segadapt for the classes \w+, \w+, \w+; '\w+' is none"
    ):
        open_folder(images, masks)


def test_own_output_of_other_classes(tmp_path: Path) -> None:
    content = mask_format(ICE, "train").encode(LABEL)
    images, masks, classes = pair(tmp_path, content, classes="{Water: 1, land: 0}")
    with pytest.raises(RequestError, match=r"'water' \(did you mean 'Water'\?\) is none of the classes here"):
        open_folder(images, masks, classes)
    images, masks, classes = pair(tmp_path, content, classes="{land: 0, ice: 9, ignore: others}")
    assert open_folder(images, masks, classes).label(0).tolist() == [[255, 1, 0], [0, 0, 255]]


def test_a_stamped_file_that_was_painted_in_is_refused(tmp_path: Path) -> None:
    painted = mask_format(ICE, "train").stamp.into_png(mask_bytes(np.full((2, 3), 9, np.uint8)))
    images, masks, classes = pair(tmp_path, painted)
    with pytest.raises(UnknownLabel, match=r"holds 9, which are not values that its stamp names .*changed after"):
        open_folder(images, masks, classes).label(0)
    red = Stamp(colors={(255, 0, 0): "water"}).into_png(mask_bytes(np.zeros((2, 3, 3), np.uint8)))
    images, masks, classes = pair(tmp_path, red)
    with pytest.raises(UnknownLabel, match="belong to no class"):
        open_folder(images, masks, classes).label(0)


def mask_bytes(values: np.ndarray) -> bytes:
    done, content = cv2.imencode(".png", values)
    assert done
    return content.tobytes()


def test_the_stamp_is_seen_by_others_and_goes_where_the_file_goes(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(mask_format(ICE, "own").encode(LABEL))
    with Image.open(path) as image:
        image.verify()
    with Image.open(path) as image:
        assert json.loads(image.text[KEY])["values"]["2"] == "ice"
        assert image.mode == "L"
        assert np.asarray(image).tolist() == [[1, 2, 0], [0, 0, 255]]
    assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED).tolist() == [[1, 2, 0], [0, 0, 255]]
    copied = read_stamp(Path(shutil.copy(path, tmp_path / "b.png")))
    assert copied == mask_format(ICE, "own").stamp
    assert copied is not None
    assert copied.names == ("land", "water", "ice")


def test_the_stamp_of_a_tiff_is_its_description(tmp_path: Path) -> None:
    stamp = Stamp({0: "ground", 1: "Häuser", 255: None})
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[270] = stamp.text()
    Image.fromarray(np.array([[0, 1, 255]], np.uint8)).save(tmp_path / "a.tif", tiffinfo=tags)
    assert read_stamp(tmp_path / "a.tif") == stamp
    tags[270] = "a holiday"
    Image.fromarray(np.array([[0, 1, 255]], np.uint8)).save(tmp_path / "b.tif", tiffinfo=tags)
    assert read_stamp(tmp_path / "b.tif") is None


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n\0\0", b"II*\0" + b"\0" * 8, b"GIF89a"]
)
def test_files_without_a_stamp(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    assert read_stamp(tmp_path / "a.png") is None
    assert read_stamp(tmp_path / "nothing.png") is None


@pytest.mark.parametrize(
    ("space", "expected", "kind"),
    [
        (LabelSpace("crack", ("background", "crack"), distinct_colors(2), ids=(0, 255)), [[0, 255, 254]], np.uint8),
        (LabelSpace("wide", ("a", "b"), distinct_colors(2), ids=(26001, 7), ignore_id=0), [[26001, 7, 0]], np.uint16),
        (LabelSpace("part", ("a", "rest"), distinct_colors(2), ids=(0, None), ignore_id=1), [[0, 2, 1]], np.uint8),
        (LabelSpace("taken", ("a", "b"), distinct_colors(2), ids=(255, 0), ignore_id=0), [[255, 0, 254]], np.uint8),
        (
            LabelSpace("hue", ("a", "b"), ((9, 9, 9), (0, 0, 0)), ids=(None, None)),
            [[[9, 9, 9], [0, 0, 0], [1, 1, 1]]],
            np.uint8,
        ),
    ],
)
def test_own_values(tmp_path: Path, space: LabelSpace, expected: list[object], kind: type) -> None:
    """Where nothing of the user's own stands for pixels of no class, a free value does, and the legend says so."""
    written = mask_format(space, "own")
    (tmp_path / "a.png").write_bytes(written.encode(np.array([[0, 1, IGNORE]], np.uint8)))
    stored = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    stored = stored[..., ::-1] if stored.ndim == 3 else stored
    assert stored.tolist() == expected
    assert stored.dtype == kind
    free = "is a free value" in written.legend()["no_class"]["note"]
    assert free is (space.name not in ("wide", "part"))


def test_ids_that_are_not_known_are_not_made_up() -> None:
    old = LabelSpace("old", ("a", "b"), distinct_colors(2))
    with pytest.raises(RequestError, match="does not hold the ids that your masks have for its classes"):
        mask_format(old, "own")
    with pytest.raises(RequestError, match="did you mean 'own'"):
        mask_format(old, "owns")
    assert mask_format(CITYSCAPES, "own").values == mask_format(CITYSCAPES, "cityscapes").values


def test_the_legend_is_a_classes_file_of_its_masks(tmp_path: Path) -> None:
    for ids in ("train", "own"):
        written = mask_format(ICE, ids)
        write_legend(tmp_path, written.legend({"run": "folders/cbst", "stage": "adapt", "seed": 3}), overwrite=True)
        legend = json.loads((tmp_path / LEGEND).read_text())
        assert legend["model"] == {"run": "folders/cbst", "stage": "adapt"}
        assert [c["own_id"] for c in legend["classes"]] == [1, 2, 0]
        read = read_classes(tmp_path / LEGEND)
        assert {c.name: (c.ids, c.colors) for c in read} == {
            name: ((value,), (color,)) for name, value, color in zip(ICE.names, written.values, ICE.colors, strict=True)
        }


def test_a_legend_replaces_nothing_that_says_otherwise(tmp_path: Path) -> None:
    train, own = mask_format(ICE, "train").legend(), mask_format(ICE, "own").legend()
    write_legend(tmp_path, train, overwrite=False)
    write_legend(tmp_path, train, overwrite=False)
    with pytest.raises(RequestError, match="--overwrite"):
        write_legend(tmp_path, own, overwrite=False)
    require_legend_place(tmp_path, own, overwrite=True)
    (tmp_path / LEGEND).write_text("{}")
    with pytest.raises(RequestError, match="is no legend of segadapt"):
        write_legend(tmp_path, own, overwrite=True)
