"""Folders of images and masks: pairing, classes files, inferred classes, and everything users get wrong."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from segadapt.data.dataset import Dataset
from segadapt.data.decode import UnknownLabel
from segadapt.data.folder import describe_classes, open_folder
from segadapt.data.folders.listing import walk
from segadapt.data.masks.classes_file import MaskClass, read_classes
from segadapt.data.masks.infer_classes import classes_named
from segadapt.data.masks.labelling import SizeMismatch
from segadapt.errors import RequestError
from segadapt.labels import IGNORE
from tests.data.writing import odd_palette, picture, save, save_16bit_rgb

RED, GREEN, BLACK = (200, 10, 20), (10, 180, 30), (0, 0, 0)
MASK = np.array([[0, 1, 2], [2, 2, 255]], np.uint8)


def folder(root: Path, *masks: np.ndarray, palette: list[int] | None = None, ending: str = "") -> tuple[Path, Path]:
    """Images ``0.png``, ... with masks of the same names."""
    for number, mask in enumerate(masks):
        save(root / "images" / f"{number}.png", picture(*mask.shape[:2], seed=number))
        save(root / "masks" / f"{number}{ending}.png", mask, palette)
    return root / "images", root / "masks"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def message(images: Path, labels: Path | None, classes: Path | None = None, **options: object) -> str:
    """The one line that opening and reading every label ends with."""

    def read_all() -> None:
        dataset = open_folder(images, labels, classes, **options)  # type: ignore[arg-type]
        for index in range(len(dataset)):
            dataset.label(index)

    with pytest.raises(RequestError) as error:
        read_all()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_indices_are_inferred_from_all_masks(tmp_path: Path) -> None:
    dataset = open_folder(*folder(tmp_path, np.zeros((2, 3), np.uint8), MASK, np.full((2, 3), 7, np.uint8)))
    assert dataset.space.names == ("class_0", "class_1", "class_2", "class_7")
    assert dataset.label(1).tolist() == [[0, 1, 2], [2, 2, IGNORE]]
    assert (dataset.label(2) == 3).all()
    text = describe_classes(dataset)
    assert "4 classes" in text
    assert "3  class_7  (value 7 in the masks)" in text
    copy: Dataset = pickle.loads(pickle.dumps(dataset))
    assert (copy.label(2) == 3).all()


def test_palette_masks_are_indices_and_lend_their_colours(tmp_path: Path) -> None:
    dataset = open_folder(*folder(tmp_path, MASK, palette=odd_palette()))
    assert dataset.label(0).tolist() == [[0, 1, 2], [2, 2, IGNORE]]
    assert dataset.space.colors[2] == tuple(odd_palette()[6:9])


def test_colours_are_inferred(tmp_path: Path) -> None:
    mask = np.array([[RED, GREEN], [BLACK, RED]], np.uint8)
    dataset = open_folder(*folder(tmp_path, np.zeros((2, 2, 3), np.uint8), mask))
    assert dataset.space.names == ("#000000", "#0ab41e", "#c80a14")
    assert dataset.space.colors == (BLACK, GREEN, RED)
    assert dataset.label(1).tolist() == [[2, 1], [0, 2]]
    assert (dataset.label(0) == 0).all()
    assert "colour 200 10 20 in the masks" in describe_classes(dataset)


def test_names_say_the_value_so_that_folders_with_fewer_classes_agree(tmp_path: Path) -> None:
    train = open_folder(*folder(tmp_path / "a", MASK))
    test = open_folder(*folder(tmp_path / "b", np.array([[0, 2]], np.uint8)))
    assert train.space.names.index("class_2") == 2
    assert test.space.names == ("class_0", "class_2")


def test_binary_masks_need_a_word(tmp_path: Path) -> None:
    images, masks = folder(tmp_path, np.array([[0, 255]], np.uint8))
    text = message(images, masks)
    assert "values 0 and 255" in text
    assert "--ignore-id none" in text
    dataset = open_folder(images, masks, ignore_ids=())
    assert dataset.space.names == ("class_0", "class_255")
    assert dataset.label(0).tolist() == [[0, 1]]
    named = open_folder(images, masks, write(tmp_path / "c.yaml", "{background: 0, tumour: 255}"))
    assert named.space.names == ("background", "tumour")
    assert named.label(0).tolist() == [[0, 1]]


def test_one_bit_masks_are_two_classes(tmp_path: Path) -> None:
    dataset = open_folder(*folder(tmp_path, np.array([[True, False, True]])))
    assert dataset.label(0).tolist() == [[1, 0, 1]]


def test_ignore_ids(tmp_path: Path) -> None:
    images, masks = folder(tmp_path, np.array([[0, 1, 2, 9]], np.uint8))
    dataset = open_folder(images, masks, ignore_ids=(9, 0))
    assert dataset.space.names == ("class_1", "class_2")
    assert dataset.label(0).tolist() == [[IGNORE, 0, 1, IGNORE]]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.yaml", "[road, traffic light, sky]"),
        ("c.yml", "road: 0\ntraffic light: 1\nsky: 2\n"),
        ("c.yaml", "0: road\n1: traffic light\n2: sky\n"),
        ("c.json", json.dumps({"classes": ["road", "traffic light", "sky"]})),
        ("c.json", json.dumps({"0": "road", "1": "traffic light", "2": "sky"})),
        ("c.json", json.dumps([{"name": n, "id": i} for i, n in enumerate(["road", "traffic light", "sky"])])),
        ("c.txt", "# my classes\nroad\ntraffic light\nsky\n"),
        ("c.txt", "road, 0\ntraffic light, 1\nsky, 2\n"),
        ("c.csv", "class;id\nroad;0\ntraffic light;1\nsky;2\n"),
        ("c.txt", "road;0\ntraffic light;1\nsky;2\n"),
        ("c.txt", "road\t0\ntraffic light\t1\nsky\t2\n"),
        ("c.csv", "name,id\nroad,0\ntraffic light,1\nsky,2\n"),
        ("c.csv", "id;x\n".replace(";x", ",name") + "0,road\n1,traffic light\n2,sky\n"),
    ],
)
def test_classes_files_of_values(tmp_path: Path, name: str, text: str) -> None:
    dataset = open_folder(*folder(tmp_path, MASK), write(tmp_path / name, text))
    assert dataset.space.names == ("road", "traffic light", "sky")
    assert dataset.label(0).tolist() == [[0, 1, 2], [2, 2, IGNORE]]
    assert "1  traffic light  (value 1 in the masks)" in describe_classes(dataset)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.yaml", "red: [200, 10, 20]\ngreen: '#0ab41e'\nvoid: [0, 0, 0]\n"),
        (
            "c.json",
            json.dumps(
                [{"name": "red", "color": RED}, {"name": "green", "colour": GREEN}, {"name": "void", "color": BLACK}]
            ),
        ),
        ("c.csv", "name,r,g,b\nred,200,10,20\ngreen,10,180,30\nVoid,0,0,0\n"),
        ("c.txt", "red\t200\t10\t20\ngreen\t10\t180\t30\nignore\t0\t0\t0\n"),
    ],
)
def test_classes_files_of_colours(tmp_path: Path, name: str, text: str) -> None:
    mask = np.array([[RED, GREEN], [BLACK, RED]], np.uint8)
    dataset = open_folder(*folder(tmp_path, mask, np.zeros((2, 2, 3), np.uint8)), write(tmp_path / name, text))
    assert dataset.space.names == ("red", "green")
    assert dataset.space.colors == (RED, GREEN)
    assert dataset.label(0).tolist() == [[0, 1], [IGNORE, 0]]
    assert (dataset.label(1) == IGNORE).all()


def test_ids_and_colours_together_read_both_kinds_of_mask(tmp_path: Path) -> None:
    classes = write(
        tmp_path / "c.json", json.dumps([{"name": "a", "id": 3, "color": BLACK}, {"name": "b", "id": 0, "color": RED}])
    )
    images, masks = folder(
        tmp_path, np.array([[3, 0]], np.uint8), np.array([[BLACK, RED]], np.uint8), np.zeros((1, 2, 3), np.uint8)
    )
    dataset = open_folder(images, masks, classes)
    assert dataset.label(0).tolist() == [[0, 1]]
    assert dataset.label(1).tolist() == [[0, 1]]
    assert dataset.label(2).tolist() == [[0, 0]]  # wholly black: the colour, not the value 0


def test_colours_of_palette_and_grey_files(tmp_path: Path) -> None:
    classes = write(tmp_path / "c.yaml", f"a: [0, 0, 0]\nb: [255, 255, 255]\nc: {list(RED)}\n")
    palette = [0, 0, 0, 255, 255, 255, *RED] + [9] * (768 - 9)
    images, masks = folder(tmp_path / "p", np.array([[0, 1, 2]], np.uint8), palette=palette)
    assert open_folder(images, masks, classes).label(0).tolist() == [[0, 1, 2]]
    images, masks = folder(tmp_path / "g", np.array([[0, 255]], np.uint8))
    assert open_folder(images, masks, classes).label(0).tolist() == [[0, 1]]


SEVERAL = """
- {name: road, ids: {source: 3, test: 0}, color: [200, 10, 20]}
- {name: alive, ids: {source: [9, 10], test: 2}}
- {name: far, ids: {source: [1, 5], target: 1, test: 5}}
- {name: rail, ids: {test: 7}}
- {name: ignore, ids: others}
"""


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("source", [IGNORE, 2, IGNORE, 0, 2, IGNORE, 1, 1, IGNORE]),
        ("target", [0, 2, 1, IGNORE, IGNORE, 3, IGNORE, IGNORE, IGNORE]),
        ("test", [0, IGNORE, 1, IGNORE, 2, 3, IGNORE, IGNORE, IGNORE]),
    ],
)
def test_several_ids_for_a_class_other_ones_in_each_part_and_the_rest_ignored(
    tmp_path: Path, part: str, expected: list[int]
) -> None:
    mask = np.array([[0, 1, 2, 3, 5, 7, 9, 10, 11]], np.uint8)
    images, masks = folder(tmp_path, mask)
    classes = write(tmp_path / "c.yaml", SEVERAL)
    dataset = open_folder(images, masks, classes, part=part)
    assert dataset.space.names == ("road", "alive", "far", "rail")
    assert dataset.space.colors[0] == RED
    assert dataset.label(0).tolist() == [expected]
    assert "ignore  (all others in the masks)" in describe_classes(dataset)
    assert open_folder(images, None, classes).space.names == dataset.space.names
    wide = open_folder(*folder(tmp_path / "wide", mask.astype(np.uint16) * 1000), classes, part=part)
    assert wide.label(0)[0, 1:].tolist() == [IGNORE] * 8
    with pytest.raises(RequestError, match="say with --part"):
        open_folder(images, masks, classes)
    with pytest.raises(RequestError, match=r"no part 'tset' \(did you mean 'test'"):
        open_folder(images, masks, classes, part="tset")


def test_several_ids_and_colours_are_described(tmp_path: Path) -> None:
    classes = write(tmp_path / "c.yaml", "a: {ids: [1, 2]}\nb: {id: 0, colors: ['#0ab41e', [0, 0, 0]]}\n")
    text = describe_classes(open_folder(*folder(tmp_path, MASK), classes))
    assert "a  (values 1, 2 in the masks)" in text
    assert "b  (value 0; colours 10 180 30, 0 0 0 in the masks)" in text


def test_several_colours_for_a_class_and_a_class_of_all_others(tmp_path: Path) -> None:
    mask = np.array([[RED, GREEN, BLACK, (9, 9, 9), (1, 2, 3)]], np.uint8)
    images, masks = folder(tmp_path, mask)
    text = "a: {colors: [[200, 10, 20], '#0ab41e']}\nrest: others\nvoid: [9, 9, 9]\n"
    assert open_folder(images, masks, write(tmp_path / "c.yaml", text)).label(0).tolist() == [[0, 0, 1, IGNORE, 1]]
    with pytest.raises(UnknownLabel, match="belong to no class"):
        open_folder(images, masks, write(tmp_path / "c.yaml", text.replace("others", "[7, 7, 7]"))).label(0)
    by_part = (
        "a: {colors: {source: '#c80a14', test: [[10, 180, 30], [1, 2, 3]]}}\nb: '#ffffff'\nignore: {colors: others}\n"
    )
    classes = write(tmp_path / "c.yaml", by_part)
    assert open_folder(images, masks, classes, part="source").label(0).tolist() == [[0] + [IGNORE] * 4]
    assert open_folder(images, masks, classes, part="test").label(0).tolist() == [[IGNORE, 0, IGNORE, IGNORE, 0]]


def test_all_others_of_grey_pictures_saved_as_colours(tmp_path: Path) -> None:
    """Where classes have ids and colours, a grey picture without a known colour is an index map, not all others."""
    grey = np.repeat(np.array([[3, 0, 8]], np.uint8)[..., None], 3, axis=2)
    classes = write(
        tmp_path / "c.yaml", "a: {id: 3, color: [200, 10, 20]}\nb: {id: 0, color: [10, 180, 30]}\nc: others"
    )
    images, masks = folder(tmp_path, grey, np.array([[RED, BLACK, GREEN]], np.uint8))
    dataset = open_folder(images, masks, classes)
    assert dataset.label(0).tolist() == [[0, 1, 2]]
    assert dataset.label(1).tolist() == [[0, 2, 1]]


@pytest.mark.parametrize("name", ["c.txt", "c.csv"])
def test_all_others_in_a_table(tmp_path: Path, name: str) -> None:
    classes = write(tmp_path / name, "a,2\nb,9\nignore,others\n")
    assert open_folder(*folder(tmp_path, MASK), classes).label(0).tolist() == [[IGNORE, IGNORE, 0], [0, 0, IGNORE]]


def test_ignored_values_stay_ignored_beside_a_class_of_all_others(tmp_path: Path) -> None:
    classes = write(tmp_path / "c.yaml", "{a: 2, rest: others}")
    images, masks = folder(tmp_path, MASK)
    assert open_folder(images, masks, classes).label(0).tolist() == [[1, 1, 0], [0, 0, IGNORE]]
    assert open_folder(images, masks, classes, ignore_ids=()).label(0).tolist() == [[1, 1, 0], [0, 0, 1]]


def test_a_list_file_chooses_images(tmp_path: Path) -> None:
    for name in ("a", "x/a", "x/b", "y/b", "y/c.d"):
        save(tmp_path / "images" / f"{name}.png", picture(2, 3))
        save(tmp_path / "masks" / f"{name}_mask.png", MASK)
    images, masks = tmp_path / "images", tmp_path / "masks"

    def listed(text: str) -> list[str]:
        return [i.id for i in open_folder(images, masks, list_file=write(tmp_path / "l.txt", text)).items]

    assert listed("y/b\n\n  x/b.png \r\na\nc.d\n") == ["a", "x/b", "y/b", "y/c.d"]
    assert listed("x/a\nx/a.png") == ["x/a"]
    unlabelled = open_folder(images, list_file=write(tmp_path / "l.txt", "c.d.png"))
    assert [i.id for i in unlabelled.items] == ["y/c.d"]
    for text, expected in (
        ("b", "'b' in .* may be .*x/b.png or .*y/b.png"),
        ("a\nnone\nz", "2 of 3 lines of .* name no image in .*, the first is 'none'"),
        ("z/a", "1 of 1 lines"),
        ("\n", "is empty"),
    ):
        with pytest.raises(RequestError, match=expected):
            listed(text)
    with pytest.raises(RequestError, match=r"the list file .* cannot be read"):
        open_folder(images, masks, list_file=tmp_path / "nowhere.txt")


def test_sixteen_bit_ids(tmp_path: Path) -> None:
    mask = np.array([[1000, 26001], [255, 1000]], np.uint16)
    dataset = open_folder(*folder(tmp_path, mask), write(tmp_path / "c.yaml", "{a: 26001, b: 1000}"))
    assert dataset.label(0).tolist() == [[1, 0], [IGNORE, 1]]


def test_pairing_by_ending_sub_folder_and_unique_name(tmp_path: Path) -> None:
    root = tmp_path
    pairs = [
        ("a.jpg", "a_L.png"),
        ("x/b.JPG", "x/b_mask.png"),
        ("x/c_leftImg8bit.png", "x/c_gtFine_labelIds.png"),
        ("y/d.png", "d.png"),
    ]
    for number, (image, mask) in enumerate(pairs):
        save(root / "images" / image, picture(2, 3))
        save(root / "masks" / mask, np.array([[0, 1, 2], [number] * 3], np.uint8))
    save(root / "masks" / "unused.png", MASK)
    dataset = open_folder(root / "images", root / "masks", write(root / "c.txt", "p\nq\nr\ns"))
    assert [i.id for i in dataset.items] == ["a", "x/b", "x/c_leftImg8bit", "y/d"]
    assert [int(dataset.label(i)[1, 0]) for i in range(4)] == [0, 1, 2, 3]


def test_same_names_in_sub_folders_keep_their_own_masks(tmp_path: Path) -> None:
    for number, place in enumerate("ab"):
        save(tmp_path / "images" / place / "0.png", picture(1, 2))
        save(tmp_path / "masks" / place / "0.png", np.array([[number, 1 - number]], np.uint8))
    dataset = open_folder(tmp_path / "images", tmp_path / "masks")
    assert dataset.label(0).tolist() == [[0, 1]]
    assert dataset.label(1).tolist() == [[1, 0]]


def test_masks_beside_and_below_the_images(tmp_path: Path) -> None:
    for name in ("0.jpg", "0_mask.png"):
        save(tmp_path / "flat" / name, picture(2, 3) if name == "0.jpg" else MASK)
    assert [i.id for i in open_folder(tmp_path / "flat", tmp_path / "flat").items] == ["0"]
    save(tmp_path / "nested" / "0.jpg", picture(2, 3))
    save(tmp_path / "nested" / "masks" / "0.png", MASK)
    assert len(open_folder(tmp_path / "nested", tmp_path / "nested" / "masks")) == 1


def test_without_labels(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg", picture())
    save(tmp_path / "a.png", picture(seed=1))
    dataset = open_folder(tmp_path, None)
    assert [i.id for i in dataset.items] == ["a.jpg", "a.png"]
    assert not dataset.labelled
    with pytest.raises(RequestError, match="no label"):
        dataset.label(0)
    assert open_folder(tmp_path, None, write(tmp_path / "c.txt", "p\nq")).space.names == ("p", "q")


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    images, masks = folder(tmp_path, MASK)
    assert f"the image folder {tmp_path / 'none'} does not exist" in message(tmp_path / "none", None)
    assert f"the mask folder {tmp_path / 'none'} does not exist" in message(images, tmp_path / "none")
    assert "is a file, not a folder" in message(images / "0.png", None)
    (tmp_path / "empty").mkdir()
    assert "there are no images (.jpg" in message(tmp_path / "empty", masks)
    assert "1 of 1 images have no mask" in message(images, tmp_path / "empty")


def test_image_without_mask(tmp_path: Path) -> None:
    images, masks = folder(tmp_path, MASK, MASK, MASK)
    (masks / "1.png").unlink()
    text = message(images, masks)
    assert "1 of 3 images have no mask" in text
    assert str(images / "1.png") in text


def test_ambiguous_masks(tmp_path: Path) -> None:
    images, masks = folder(tmp_path, MASK)
    save(masks / "0.bmp", MASK)
    assert "two masks have the same name" in message(images, masks)
    (masks / "0.bmp").unlink()
    save(images / "0.jpg", picture(2, 3))
    assert "share the mask" in message(images, masks)


def test_sizes_must_agree(tmp_path: Path) -> None:
    images, masks = folder(tmp_path, MASK)
    save(masks / "0.png", np.zeros((5, 3), np.uint8))
    with pytest.raises(SizeMismatch, match=r"is 3 x 5 pixels but its image 0\.png is 3 x 2"):
        open_folder(images, masks, write(tmp_path / "c.txt", "a\nb")).label(0)


def test_unknown_id_is_named(tmp_path: Path) -> None:
    images, masks = folder(tmp_path, MASK)
    text = message(images, masks, write(tmp_path / "c.txt", "a\nb"))
    assert text.startswith(str(masks / "0.png"))
    assert "holds 2" in text
    assert "(0, 1, 255)" in text
    assert "--ignore-id" in text


def test_colour_masks_without_colours(tmp_path: Path) -> None:
    images, masks = folder(tmp_path, np.array([[RED, GREEN]], np.uint8))
    text = message(images, masks, write(tmp_path / "c.txt", "a\nb"))
    assert "is a colour mask" in text
    assert "[r, g, b]" in text
    with pytest.raises(UnknownLabel, match="pixels"):
        open_folder(images, masks, write(tmp_path / "c.yaml", "{a: [1, 2, 3], b: [3, 2, 1]}")).label(0)


def test_deep_colour_masks(tmp_path: Path) -> None:
    images, masks = folder(tmp_path, MASK)
    save_16bit_rgb(masks / "0.png", np.arange(18, dtype=np.uint16).reshape(2, 3, 3) * 300)
    assert "16-bit colours" in message(images, masks, write(tmp_path / "c.yaml", "{a: [1, 2, 3], b: [3, 2, 1]}"))


def test_photographs_are_no_masks(tmp_path: Path) -> None:
    text = message(*folder(tmp_path, picture(40, 40)))
    assert "more than 64 different colours" in text
    assert "more than 64 different values" in message(*folder(tmp_path / "g", picture(40, 40)[..., 0]))


def test_mixed_masks(tmp_path: Path) -> None:
    assert "save all masks alike" in message(*folder(tmp_path, MASK, np.array([[RED, GREEN]], np.uint8)))


def test_one_class_is_not_enough(tmp_path: Path) -> None:
    images, masks = folder(tmp_path, np.zeros((2, 2), np.uint8), np.array([[0, 255, 3]], np.uint8))
    assert "hold only 0, 3, 255, of which --ignore-id leaves out 3, 255; at least two classes" in message(
        images, masks, ignore_ids=(255, 3)
    )


def test_damaged_mask_is_named_while_inferring(tmp_path: Path) -> None:
    images, masks = folder(tmp_path, MASK)
    (masks / "0.png").write_bytes((masks / "0.png").read_bytes()[:-20])
    assert str(masks / "0.png") in message(images, masks)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("c.yaml", "{a: 1, b: 1}", "the id '1' stands there twice"),
        ("c.json", '[{"name": "a", "id": 0}, {"name": "a", "id": 1}]', "the name 'a' stands there twice"),
        ("c.yaml", "{a: [1, 2, 3], b: [1, 2, 3]}", "the color '(1, 2, 3)' stands there twice"),
        ("c.yaml", "{a: [1, 2], b: [1, 2, 3]}", "'a' has the color"),
        ("c.yaml", "{a: [1, 2, 300]}", "from 0 to 255"),
        ("c.yaml", "{a: x}", "an id is a number"),
        ("c.yaml", "{a: -1}", "an id is a number"),
        ("c.yaml", "{a: 0, b: [1, 2, 3]}", "'b' has no id"),
        ("c.yaml", "a: {ids: [1, 2]}\nb: {ids: [3, 1]}", "the id '1' stands there twice"),
        ("c.yaml", "a:\nb: 1", "'a' has no id or colour"),
        ("c.yaml", "a: {ids: [1, x]}", "'a' has the id 'x'"),
        ("c.yaml", "{a: [9, 10]}", "several ids as {ids: [1, 2]}"),
        ("c.yaml", "{a: {colors: [[1, 2, 3], [1, 2]]}}", "'a' has the color '[1, 2]'"),
        ("c.yaml", "{a: {id: 1, ids: [2]}}", "'a' has ids twice"),
        ("c.yaml", "{a: 1, void: others, ignore: others}", "the place of all others 'others' stands there twice"),
        ("c.yaml", "{a: {ids: {source: 1}}}", "say with --part which masks these are: source, target, test"),
        ("c.yaml", "{a: {ids: {sorce: 1}}}", "part 'sorce' (did you mean 'source'?)"),
        ("c.yaml", "{a: {ids: []}, b: {ids: []}}", "no class has an id or colour of these masks"),
        ("c.yaml", "5", "expected a list of names"),
        ("c.yaml", "a: [1", "cannot be parsed"),
        ("c.json", '[{"name": "a", "idz": 0}]', "unknown key 'idz'"),
        ("c.yaml", "[]", "names no class"),
        ("c.yaml", "[void]", "names no class"),
        ("c.txt", "", "is empty"),
        ("c.txt", "a,b,c\n", "is not name, name,id or name,r,g,b"),
        ("c.xml", "<a/>", "is an XML file"),
        ("c.doc", "a", "write it as .yaml"),
    ],
)
def test_bad_classes_files(tmp_path: Path, name: str, text: str, expected: str) -> None:
    path = write(tmp_path / name, text)
    with pytest.raises(RequestError) as error:
        read_classes(path)
    assert expected in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_classes_file(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot be read"):
        read_classes(tmp_path / "c.yaml")
    (tmp_path / "c.txt").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(RequestError, match="not a text file"):
        read_classes(tmp_path / "c.txt")


def test_inferred_names_say_how_masks_show_their_classes() -> None:
    assert classes_named(["class_0", "class_26001"]) == (MaskClass("class_0", (0,)), MaskClass("class_26001", (26001,)))
    assert classes_named(["#0ab41e", "#000000"]) == (
        MaskClass("#0ab41e", colors=(GREEN,)),
        MaskClass("#000000", colors=(BLACK,)),
    )
    assert classes_named(["class_0", "road"]) == classes_named([]) == ()


def test_a_folder_is_entered_once_whatever_links_to_it(tmp_path: Path) -> None:
    images, elsewhere = tmp_path / "images", tmp_path / "elsewhere"
    (images / "a").mkdir(parents=True)
    elsewhere.mkdir()
    for file in (images / "0.png", images / "a" / "1.png", elsewhere / "2.png"):
        file.touch()
    (images / "a" / "up").symlink_to(images)
    (images / "b").symlink_to(elsewhere)
    (elsewhere / "again").symlink_to(elsewhere)
    (images / "c").symlink_to(elsewhere)
    assert [str(p.relative_to(images)) for p in walk(images)] == ["0.png", "a/1.png", "b/2.png"]


def test_jpeg_masks_do_not_say_what_their_classes_are(tmp_path: Path) -> None:
    images, masks = folder(tmp_path, MASK, MASK)
    cv2.imwrite(str(masks / "0.jpg"), MASK)
    (masks / "0.png").unlink()
    said = message(images, masks)
    assert "1 of 2 masks are JPEG files" in said
    assert f"{masks / '0.jpg'}; export them again as PNG" in said


def test_a_class_may_be_called_like_a_column(tmp_path: Path) -> None:
    classes = read_classes(write(tmp_path / "c.csv", "class,0\nname,1\n"))
    assert [(c.name, c.ids) for c in classes] == [("class", (0,)), ("name", (1,))]


def test_a_palette_that_gives_values_to_other_classes_is_refused(tmp_path: Path) -> None:
    """As a prediction has that another program saved anew; a palette of other colours says nothing."""
    text = "[{name: a, id: 1, color: [9, 9, 9]}, {name: b, id: 0, color: [7, 7, 9]}]"
    mask = np.array([[0, 1, 255]], np.uint8)
    palettes = {"other": [9, 9, 9, 7, 7, 9], "same": [7, 7, 9, 9, 9, 9], "strange": [9, 9, 9, 1, 2, 3]}
    for name, palette in palettes.items():
        classes = write(tmp_path / "c.yaml", text)
        images, masks = folder(tmp_path / name, mask, palette=palette + [0] * (768 - 6))
        if name != "other":
            assert open_folder(images, masks, classes).label(0).tolist() == [[1, 0, 255]]
            continue
        with pytest.raises(
            UnknownLabel, match="shows value 0 in the colour of 'a', but the classes file gives 0 to 'b'"
        ):
            open_folder(images, masks, classes).label(0)
