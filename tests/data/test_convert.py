"""``segadapt data convert``, and the options of other commands for annotations and pairs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from segadapt.cli.common import parse_pairs
from segadapt.data.convert import classes_text
from segadapt.data.folder import open_folder
from segadapt.data.masks.classes_file import IGNORED_NAMES, read_classes
from segadapt.errors import RequestError
from segadapt.labels import IGNORE, LabelSpace, distinct_colors
from segadapt.runs.config import DataSpec, folder_config
from segadapt.runs.fingerprint import labels_read
from segadapt.runs.opening import open_spec
from segadapt.runs.own_data import own_data
from tests.data.annotating import SCENES, write_images, yolo
from tests.data.writing import odd_palette, picture, save
from tests.test_cli import call

Captured = pytest.CaptureFixture[str]
RED, GREEN, BLUE = (200, 10, 20), (10, 180, 30), (1, 2, 200)


def test_annotations_become_masks_that_other_commands_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    images, labels = write_images(tmp_path / "images", {**SCENES, "c": None}), yolo(tmp_path)
    arguments = ("--images", str(images), "--labels", str(labels), "--out", str(tmp_path / "masks"))
    code, out, err = call(monkeypatch, capsys, "data", "convert", *arguments)
    assert code == 0, err
    note, said = out.splitlines()
    assert note == "1 of 3 images have no annotation and are all 'background': c"
    assert said.startswith(f"3 masks and classes.yaml -> {tmp_path / 'masks'}: background ")
    assert "lake " in said
    assert "(1 regions)" in said
    assert "% not annotated" in said
    masks = {p.relative_to(tmp_path / "masks").as_posix() for p in (tmp_path / "masks").rglob("*") if p.is_file()}
    assert masks == {"a/one.png", "b.two.png", "c.png", "classes.yaml"}
    check = ("--images", str(images), "--labels", str(tmp_path / "masks"))
    code, read, err = call(
        monkeypatch, capsys, "data", "check", *check, "--classes", str(tmp_path / "masks/classes.yaml"), "--json"
    )
    assert code == 0, err
    code, direct, err = call(monkeypatch, capsys, "data", "check", *arguments[:4], "--json")
    assert code == 0, err
    assert json.loads(read)["classes"] == json.loads(direct)["classes"]
    assert json.loads(direct)["notices"] == [note]
    code, _, err = call(monkeypatch, capsys, "data", "convert", *arguments)
    assert code == 2
    assert "classes.yaml' exists" in err


def test_masks_of_any_kind_become_index_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    colours = np.array([[RED, GREEN, BLUE], [RED, RED, (9, 9, 9)]], np.uint8)
    save(tmp_path / "i/x/p.png", picture(2, 3))
    save(tmp_path / "m/x/p_m.bmp", colours)
    (tmp_path / "c.yaml").write_text("a b: [200, 10, 20]\n'yes': [10, 180, 30]\nignore: others\nc: [1, 2, 200]\n")
    arguments = ["--images", tmp_path / "i", "--labels", tmp_path / "m", "--classes", tmp_path / "c.yaml"]
    arguments += ["--pair", "{}.png={}_m.bmp", "--out", tmp_path / "o", "--json"]
    code, out, err = call(monkeypatch, capsys, "data", "convert", *map(str, arguments))
    assert code == 0, err
    made = json.loads(out)
    assert [(c["name"], c["pixels"], c["regions"]) for c in made["classes"]] == [
        ("a b", 3, None),
        ("yes", 1, None),
        ("c", 1, None),
    ]
    assert made["ignored_pixels"] == 1
    again = open_folder(tmp_path / "i", tmp_path / "o", tmp_path / "o/classes.yaml", ignore_ids=())
    assert again.space.names == ("a b", "yes", "c")
    assert again.space.colors == (RED, GREEN, BLUE)
    assert again.label(0).tolist() == [[0, 1, 2], [0, 0, IGNORE]]


@settings(max_examples=30, deadline=None)
@given(names=st.sets(st.text(min_size=1, max_size=6).filter(lambda t: t.isprintable() and t.strip() == t), min_size=2))
@example(names={"yes", "~", "1", "a: b", "- c", "[d]", "#e", "é", "{}"})
def test_the_classes_file_has_the_names_as_they_are(tmp_path_factory: pytest.TempPathFactory, names: set[str]) -> None:
    kept = tuple(sorted(name for name in names if name.lower() not in IGNORED_NAMES))
    space = LabelSpace("own", kept, distinct_colors(len(kept)))
    file = tmp_path_factory.mktemp("names") / "classes.yaml"
    file.write_text(classes_text(space), encoding="utf-8")
    read = [c for c in read_classes(file) if not c.ignored]
    assert [(c.name, c.ids) for c in read] == [(name, (i,)) for i, name in enumerate(kept)]


def test_what_cannot_be_converted_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    for name in "ab":
        save(tmp_path / f"i/{name}.png", picture(2, 3))
        save(tmp_path / f"m/{name}.png", np.eye(2, 3, dtype=np.uint8), odd_palette())
    save(tmp_path / "m/b.png", np.eye(3, 3, dtype=np.uint8))
    arguments = ("--images", str(tmp_path / "i"), "--labels", str(tmp_path / "m"), "--out", str(tmp_path / "o"))
    code, _, err = call(monkeypatch, capsys, "data", "convert", *arguments)
    assert code == 2
    assert "b.png is 3 x 3 pixels" in err
    assert not [path for path in (tmp_path / "o").rglob("*") if path.is_file()]
    save(tmp_path / "m/b.png", np.eye(2, 3, dtype=np.uint8), odd_palette())
    save(tmp_path / "o/b.png", picture(1, 1))
    code, _, err = call(monkeypatch, capsys, "data", "convert", *arguments)
    assert code == 2
    assert "b.png' exists; name another output folder" in err
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["b.png"]


def test_patterns_of_parts() -> None:
    assert parse_pairs(None) is None
    assert parse_pairs(["{}.a=c:{}.b"]) == "{}.a=c:{}.b"
    assert parse_pairs(["source:{}=m/{}", "test:{}={}"]) == {"source": "{}=m/{}", "test": "{}={}"}
    for wrong in (["{}=a{}", "{}=b{}"], ["{}=a{}", "test:{}=b{}"], ["test:{}=a{}", "{}=b{}"]):
        with pytest.raises(RequestError, match="given twice"):
            parse_pairs(wrong)
    folders = {"source": ("a", "b"), "target": ("c", None), "test": ("d", "e")}
    for pair, expected in (
        ("{}=m{}", {"source": "{}=m{}", "test": "{}=m{}"}),
        ({"target": "{}=t{}"}, {"target": "{}=t{}"}),
        (None, {}),
    ):
        _, data = own_data({}, folders, None, (255,), pair)
        assert {part: spec["pair"] for part, spec in data.items() if "pair" in spec} == expected
    with pytest.raises(RequestError, match=r"no part 'tset' \(did you mean 'test'\?\) to pair"):
        own_data({}, folders, None, (255,), {"tset": "{}={}"})


@pytest.mark.parametrize("pattern", ["{}_t.tif={}_m.gif", "{a}/{b}.png={b}.{a}.png", "a/{}.tif={}"])
def test_a_pattern_is_a_setting_of_one_part(pattern: str) -> None:
    data = {"source": {"images": "a", "labels": "b"}, "target": {"images": "c"}}
    config = folder_config("cbst", data, [f"data.target.pair={pattern}", "data.source.pair=null"])
    assert config.data.target.pair == pattern
    assert config.data.source.pair is None


def test_settings_of_labels_decide_whether_a_stage_is_reused() -> None:
    plain = labels_read(DataSpec())
    assert plain == {}
    assert labels_read(DataSpec(pair="{}=m{}")) != plain
    assert labels_read(DataSpec(unannotated="ignore")) != plain


def test_folders_have_list_files_and_no_splits(tmp_path: Path) -> None:
    save(tmp_path / "i/a.png", picture(2, 3))
    with pytest.raises(RequestError, match=r"source: a folder has no split 'day\.txt'; name its images in a file"):
        open_spec(DataSpec(images=str(tmp_path / "i"), split="day.txt"), False, {}, "source")
