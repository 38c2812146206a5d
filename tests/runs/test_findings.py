"""What is dubious about data is found, and ordinary small data are not dubious."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segadapt.data.dataset import Dataset
from segadapt.data.folder import open_folder
from segadapt.data.masks.mask_format import mask_format
from segadapt.data.memory import in_memory
from segadapt.errors import RequestError
from segadapt.labels import LabelSpace, distinct_colors
from segadapt.runs.findings import Finding, evenly_spaced, find
from segadapt.runs.overview import SAMPLED, overview, read_parts
from tests.data.writing import picture, save
from tests.tiny import write_folder


def folder(root: Path, signs: list[int], count: int = 4, classes: str = "", size: int = 24, seed: int = 0) -> Dataset:
    """Images of noise; masks with the signs in bands of equal width, so that each has the same share."""
    for number in range(count):
        save(root / "images" / f"{number}.png", picture(size, size, seed + number))
        bands = np.array(signs, np.uint8)[np.arange(size) * len(signs) // size]
        save(root / "masks" / f"{number}.png", np.repeat(bands[:, None], size, 1))
    file = root / "classes.yaml"
    file.write_text(classes)
    return open_folder(root / "images", root / "masks", file if classes else None, name=root.name)


def findings(**parts: Dataset) -> list[Finding]:
    return find(read_parts(parts, dict.fromkeys(parts, True), False, lambda text: None))


def asked(**parts: Dataset) -> list[tuple[str, str]]:
    return [(f.kind, f.part) for f in findings(**parts) if f.asked]


def unlabelled(root: Path, count: int = 3, size: int = 24, seed: int = 50) -> Dataset:
    return folder(root, [0, 1], count, size=size, seed=seed).unlabelled()


@pytest.mark.parametrize("count", [2, 6])
def test_ordinary_small_data_are_not_dubious(tmp_path: Path, count: int) -> None:
    write_folder(tmp_path / "source", count, size=(48, 64))
    write_folder(tmp_path / "target", count, size=(40, 56), shift=1, seed=50)
    write_folder(tmp_path / "test", count, size=(40, 56), shift=1, seed=90)
    parts = {part: open_folder(tmp_path / part / "images", tmp_path / part / "labels") for part in ("source", "test")}
    target = open_folder(tmp_path / "target" / "images")
    assert findings(source=parts["source"], target=target, test=parts["test"]) == []


@pytest.mark.parametrize(
    ("signs", "found"),
    [
        ([0, 128, 255], True),
        ([0, 127, 255], True),
        ([0, 85, 170, 255], True),
        ([0, 64, 128, 191, 255], True),
        ([0, 1, 255], True),  # a third of the pixels
        ([0, 1, 2, 255], False),
        ([3, 7, 9, 255], False),
    ],
)
def test_255_that_may_be_a_class(tmp_path: Path, signs: list[int], found: bool) -> None:
    assert asked(source=folder(tmp_path / "a", signs)) == [("255 ignored", "source")] * found


def test_255_is_no_question_where_somebody_says_what_it_is(tmp_path: Path) -> None:
    classes = "{cup: 0, rim: 128, ignore: 255}"
    assert asked(source=folder(tmp_path / "a", [0, 128, 255], classes=classes)) == []
    assert asked(source=folder(tmp_path / "b", [0, 128, 255], classes="{cup: 0, rim: 128, ground: 255}")) == []
    assert asked(source=folder(tmp_path / "c", [0, 128, 255], classes="{cup: 0, rim: 128}")) == [
        ("255 ignored", "source")
    ]


@given(st.integers(2, 17))
def test_equal_steps_of_grey_are_evenly_spaced(steps: int) -> None:
    greys = [round(255 * i / steps) for i in range(steps + 1)]
    assert evenly_spaced(greys)
    assert not evenly_spaced([*greys[:1], greys[1] + 4, *greys[2:]])
    assert not evenly_spaced(range(steps + 1))


def test_much_that_belongs_to_no_class(tmp_path: Path) -> None:
    classes = "{a: 0, b: 1, ignore: others}"
    [named] = findings(source=folder(tmp_path / "a", [0, 1, 5, 6, 7, 8], classes=classes))
    assert (named.kind, named.asked) == ("much ignored", False), "the classes file says so"
    assert findings(source=folder(tmp_path / "b", [0, 1, 5], classes=classes)) == []
    images, masks = folder(tmp_path / "c", [0, 1, 5, 5, 5, 5]), tmp_path / "c" / "masks"
    plain = open_folder(tmp_path / "c" / "images", masks, ignore_ids=(5,), name="c")
    assert len(images) == len(plain)
    assert asked(source=plain) == [("much ignored", "source")]


def test_pseudo_labels_leave_out_much(tmp_path: Path) -> None:
    plain = folder(tmp_path, [0, 1, 2])
    label = np.full((24, 24), 255, np.uint8)
    label[0, :4], label[1, :4], label[2, :4] = 0, 1, 2
    for file in (tmp_path / "masks").iterdir():
        file.write_bytes(mask_format(plain.space, "train").encode(label))
    assert findings(source=open_folder(tmp_path / "images", tmp_path / "masks", name="source")) == []


@pytest.mark.parametrize(("signs", "classes"), [([0], "{a: 0, b: 1, c: 2}"), ([9, 1], "{ignore: 9, a: 1, b: 2}")])
def test_a_source_of_one_class_is_refused(tmp_path: Path, signs: list[int], classes: str) -> None:
    source = folder(tmp_path / "a", signs, classes=classes)
    with pytest.raises(RequestError, match=r"source: 'a' alone has pixels.*two classes"):
        findings(source=source)


def test_classes_that_the_source_lacks(tmp_path: Path) -> None:
    names = "{a: 0, b: 1, c: 2, d: 3}"
    source = folder(tmp_path / "source", [0, 1], classes=names)
    [only_said] = findings(source=source)
    assert (only_said.kind, only_said.asked) == ("absent classes", False)
    assert "c, d" in only_said.message
    test = folder(tmp_path / "test", [0, 1, 2], classes=names, seed=80)
    [finding] = findings(source=source, test=test)
    assert (finding.kind, finding.asked) == ("classes missing in the source", True)
    assert "1 classes that the test images have (c)" in finding.message


def test_few_of_many_classes(tmp_path: Path) -> None:
    names = str([f"class{i}" for i in range(12)])
    assert asked(source=folder(tmp_path / "a", [0, 1, 2], classes=names)) == [("few classes", "source")]
    assert asked(source=folder(tmp_path / "b", [0, 1, 2, 3], classes=names)) == []


@pytest.mark.parametrize(("size", "found"), [(24 * 4, False), (24 * 4 + 1, True), (5, True), (6, False)])
def test_a_target_of_another_size(tmp_path: Path, size: int, found: bool) -> None:
    target = unlabelled(tmp_path / "target", size=size)
    assert asked(source=folder(tmp_path / "source", [0, 1]), target=target) == [("sizes apart", "target")] * found


def test_masks_given_as_images(tmp_path: Path) -> None:
    source = folder(tmp_path / "source", [0, 1])
    with pytest.raises(RequestError, match=r"target: 4 of 4 images are masks of the source.*source/masks/0\.png"):
        findings(source=source, target=open_folder(tmp_path / "source" / "masks"))
    folder(tmp_path / "other", [0, 3, 7], seed=20)
    assert asked(source=source, target=open_folder(tmp_path / "other" / "masks"))[0] == ("masks as images", "target")


def test_masks_among_images_and_files_that_are_not_read(tmp_path: Path) -> None:
    folder(tmp_path / "root", [0, 1], count=5)
    assert asked(target=open_folder(tmp_path / "root")) == [("files left out", "target")]
    for number in range(7):
        (tmp_path / "root" / "images" / f"x{number}.dng").write_bytes(b"x")
    assert asked(target=open_folder(tmp_path / "root" / "images")) == [("files left out", "target")]


def test_images_in_several_parts(tmp_path: Path) -> None:
    source, other = folder(tmp_path / "a", [0, 1]), unlabelled(tmp_path / "b")
    shutil.copy(tmp_path / "a" / "images" / "1.png", tmp_path / "b" / "images" / "1.png")
    [same] = findings(source=source, target=other)
    assert same.asked is False
    assert "1 of 3 images are also images of the source" in same.message
    test = open_folder(tmp_path / "b" / "images", tmp_path / "b" / "masks")
    [found] = findings(source=source, test=test)
    assert (found.kind, found.asked) == ("tested on the source", False)


def test_copies_strips_and_single_images(tmp_path: Path) -> None:
    for name, shape in {"copies": (9, 9), "strips": (4, 90)}.items():
        for number in range(3):
            save(tmp_path / name / f"{number}.png", picture(*shape, number * (name == "strips")))
    for name, kind in (("copies", "equal images"), ("strips", "strips")):
        [found] = findings(target=open_folder(tmp_path / name))
        assert (found.kind, found.asked) == (kind, False)
    [one] = findings(target=unlabelled(tmp_path / "one", count=1))
    assert (one.kind, one.asked) == ("one image", False)


def test_data_of_a_script_are_looked_at_too() -> None:
    space = LabelSpace("python", ("a", "b"), distinct_colors(2))
    label = np.full((8, 8), 255, np.uint8)
    label[:2, 0], label[:2, 1] = 0, 1
    pairs = [(picture(8, 8, i), label) for i in range(3)]
    [found] = findings(source=in_memory("source", pairs, space))
    assert (found.kind, found.asked) == ("much ignored", False)


def test_the_overview_names_each_part_and_class(tmp_path: Path) -> None:
    names = "{'[/bg]': 0, road: 7, sky: 9}"
    source = folder(tmp_path / "source", [0, 7, 7, 255], classes=names)
    parts = read_parts(
        {"source": source, "target": unlabelled(tmp_path / "target", size=30)},
        {"source": True, "target": True},
        False,
        lambda text: None,
    )
    lines = overview(parts)
    assert lines[0] == "source 4 images, 24 x 24 pixels"
    assert lines[1] == "target 3 images, 30 x 30 pixels"
    assert all(line.isprintable() for line in lines)
    [road] = [line for line in lines if "road" in line]
    assert road.split() == ["1", "road", "(value", "7)", "50.00", "%", "4"]
    assert next(line for line in lines if "sky" in line).split()[-3:] == ["0.00", "%", "none"]
    assert lines[-1].split() == ["(ignored)", "25.00", "%"]
    found = parts[0].to_dict()
    assert found["absent"] == ["sky"]
    assert found["classes"][1]["share"] == 0.5
    assert "classes" not in parts[1].to_dict()


def test_of_a_large_data_set_a_sample_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segadapt.runs.overview.CHECKED_AT_START", 3)
    monkeypatch.setattr("segadapt.runs.overview.SAMPLED", 2)
    [part] = read_parts({"source": folder(tmp_path / "a", [0, 1], 9)}, {"source": True}, False, lambda text: None)
    assert (part.total, part.report.images) == (9, 2)
    assert "of a sample of 2" in overview([part])[0]
    assert SAMPLED > 2
