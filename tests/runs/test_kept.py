"""What a finished run left is trusted only as it was left; what was begun is gone on with, or refused in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import segadapt
from segadapt.bench.study import Row, Study, TaskRows, _check
from segadapt.core import files, locking
from segadapt.core.files import read_json, write_json
from segadapt.core.locking import LOCK
from segadapt.engine.loop import Loop
from segadapt.errors import RequestError, RunError
from segadapt.runs import stage as stage_module
from segadapt.runs.config import build_config
from segadapt.runs.results import find_model
from segadapt.runs.run import Run, resumed
from tests.runs.test_run import Crash
from tests.tiny import raw_config


def request(folder: Path, **change: Any) -> dict[str, Any]:
    """Settings of a run of two and two steps, with files whose size is the same whatever is drawn in them."""
    raw = raw_config(folder, "st", rounds=1, steps=2)
    raw["stages"]["source"]["steps"] = 2
    for path in [*folder.glob("*/labels/*.png"), *folder.glob("*/images/*.png")]:
        picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), picture, [cv2.IMWRITE_PNG_COMPRESSION, 0])
    return {**raw, "guard": False, **change}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data and a finished run, ``run``, which tests copy."""
    folder = tmp_path_factory.mktemp("kept")
    Run.open(build_config(request(folder), "tiny"), folder / "run", quiet=True).execute()
    return folder


@pytest.fixture
def run(world: Path, tmp_path: Path) -> Path:
    """A finished run that a test may damage."""
    return Path(shutil.copytree(world / "run", tmp_path / "run"))


def no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Loop, "step", lambda *_: pytest.fail("it trains again"))


def one_line(problem: BaseException, *words: str) -> None:
    assert "\n" not in str(problem)
    assert all(word in str(problem) for word in words), str(problem)


# ---- names ----


@pytest.mark.parametrize(
    "name", ["/tmp/there", "../../there", "a/b", "a\\b", "..", ".", "", ".x", "-x", "a\n", "n" * 244]
)
def test_a_stage_is_not_a_path(tmp_path: Path, name: str) -> None:
    raw = raw_config(tmp_path, "source_only")
    raw["stages"][name] = raw["stages"].pop("source")
    with pytest.raises(
        RequestError, match=r"becomes the name of a folder or file, and .*; choose another name"
    ) as told:
        build_config(raw, "tiny")
    assert "\n" not in str(told.value).replace(name, "")


def test_a_title_and_a_row_are_no_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for title in ("../../x", "/x", "a//b", "t" * 300):
        with pytest.raises(RequestError, match="a part of the title"):
            segadapt.adapt(build_config({**raw_config(tmp_path, "source_only"), "title": title}, "tiny"))
    assert not (tmp_path / "runs").exists()
    for tasks, rows in (({"toy": {}}, {"../x": {}}), ({"..": {}}, {})):
        made = Study(
            tasks={name: TaskRows() for name in tasks}, rows={"source_only": Row(), **{name: Row() for name in rows}}
        )
        with pytest.raises(RequestError, match="becomes the name of a folder"):
            _check(made, "study")


def test_ids_do_not_lead_out_and_fit_their_files() -> None:
    from segadapt.core.names import require_ids

    require_ids(["a", "b/c.d", "x" * 251], "target")
    for name in ("../a", "a/../b", "/a", "a//b", "x" * 252, "ü" * 126):
        with pytest.raises(RequestError, match="rename the image"):
            require_ids([name], "target")


def test_names_as_long_as_the_disk_takes(tmp_path: Path) -> None:
    files.write_bytes(tmp_path / ("n" * 251 + ".png"), b"1")
    assert [path.name for path in tmp_path.iterdir()] == ["n" * 251 + ".png"]


# ---- two at once ----


def test_a_folder_has_one_writer(world: Path, run: Path, tmp_path: Path) -> None:
    other = {"token": "t", "pid": 1, "since": locking._since(1), "host": "here", "machine": locking._machine()}
    for folder in (run, tmp_path / "out"):
        folder.mkdir(exist_ok=True)
        (folder / LOCK).write_text(json.dumps(other))
    with pytest.raises(RequestError, match=r"process 1 on here writes into '.*run'") as told:
        resumed(run, quiet=True)
    one_line(told.value, "choose another folder", LOCK)
    with pytest.raises(RequestError, match="process 1 on here"):
        segadapt.label(run, world / "target/images", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [LOCK]
    (run / LOCK).write_text(json.dumps({**other, "pid": 2**22 + 1}))
    (run / "stages/adapt/.partial-left").write_text("of a killed process")
    held = resumed(run, quiet=True)
    assert json.loads((run / LOCK).read_text())["pid"] != 2**22 + 1
    assert not (run / "stages/adapt/.partial-left").exists()
    held.hold.end()
    assert not (run / LOCK).exists()


def test_a_refused_request_leaves_neither_folder_nor_lock(tmp_path: Path) -> None:
    raw = raw_config(tmp_path, "source_only")
    raw["data"]["target"]["images"] = str(tmp_path / "nowhere")
    with pytest.raises(RequestError, match="nowhere"):
        Run.open(build_config(raw, "tiny"), tmp_path / "deep/run", quiet=True)
    assert not (tmp_path / "deep").exists()


# ---- damage ----


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-200] ^= 1
    file.write_bytes(content)


def replaced(file: Path) -> None:
    shutil.copy(file.parents[1] / "source/model.safetensors", file)


def digit(file: Path) -> None:
    """Turn a bit of a number, which leaves valid JSON."""
    text = file.read_text()
    place = next(
        i for i in range(text.index('"seed"' if '"seed"' in text else '"steps"'), len(text)) if text[i].isdigit()
    )
    file.write_text(text[:place] + chr(ord(text[place]) ^ 1) + text[place + 1 :])


def another_shape(file: Path) -> None:
    file.write_text('{"config": 3, "rows": {}, "row": [], "fingerprint": 7}')


def a_list(file: Path) -> None:
    file.write_text("[" * 100_000)


MODEL = "stages/adapt/model.safetensors"
DAMAGE: list[tuple[str, Callable[[Path], object], str]] = [
    *((MODEL, harm, "damaged or replaced") for harm in (cut, flipped, replaced)),
    (MODEL, Path.unlink, "is missing"),
    *(("stages/adapt/done.json", harm, "is damaged") for harm in (cut, digit, another_shape, a_list)),
    *(("config.json", harm, "is damaged") for harm in (cut, digit, another_shape, a_list)),
]


@pytest.mark.parametrize(("name", "harm", "said"), DAMAGE)
def test_damage_in_a_finished_run_is_said(
    run: Path, monkeypatch: pytest.MonkeyPatch, name: str, harm: Callable[[Path], object], said: str
) -> None:
    no_step(monkeypatch)
    harm(run / name)
    with pytest.raises(RequestError, match=said) as told:
        resumed(run, quiet=True).execute(pictures=False)
    one_line(told.value, str(run / name), "put it back from a copy, or remove")


def test_damaged_results_are_said_and_written_again(run: Path) -> None:
    for harm in (cut, digit, another_shape, a_list):
        harm(run / "results.json")
        for use in (find_model, segadapt.load):
            with pytest.raises(RequestError, match=rf"results\.json' is damaged.*'segadapt resume {run}'"):
                use(run)
        resumed(run, quiet=True).execute(pictures=False)
        assert find_model(run) == run / MODEL


def test_using_a_run_notices_a_model_that_was_replaced_or_damaged(run: Path) -> None:
    replaced(run / MODEL)
    with pytest.raises(RequestError, match="not what the stage left"):
        segadapt.load(run)
    (run / "stages/adapt/done.json").unlink()
    flipped(run / MODEL)
    with pytest.raises(RequestError, match="is damaged: its checksum does not match"):
        segadapt.load(run / MODEL)


def test_a_damaged_stage_is_not_taken_over(world: Path, run: Path, tmp_path: Path) -> None:
    flipped(run / "stages/source/model.safetensors")
    config = build_config(request(world), "tiny")
    taken = Run.open(config, tmp_path / "new", quiet=True, reuse=[run])
    taken.execute("source", pictures=False)
    assert "not taken over: " in (tmp_path / "new/log.jsonl").read_text()
    whole = read_json(world / "run/stages/source/done.json")["files"]
    assert read_json(tmp_path / "new/stages/source/done.json")["files"] == whole, "equal models are equal files"


# ---- data that change ----


def redraw(path: Path) -> int:
    """Draw another picture into a file of the same size; return that size."""
    before, picture = path.stat().st_size, cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(path), np.ascontiguousarray(picture[::-1]), [cv2.IMWRITE_PNG_COMPRESSION, 0])
    assert path.stat().st_size == before
    return before


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("source/labels/003.png", "was made with other settings, weights or data"),
        ("target/images/002.png", "was made with other settings, weights or data"),
        ("test/labels/001.png", "was scored on other test images"),
    ],
)
def test_files_that_change_at_equal_size_are_seen(tmp_path: Path, world: Path, name: str, said: str) -> None:
    for part in ("source", "target", "test", "run"):
        shutil.copytree(world / part, tmp_path / part)
    shutil.copy(world / "classes.txt", tmp_path)
    where: dict[str, Any] = {
        **{f"{part}_images": tmp_path / part / "images" for part in ("source", "target", "test")},
        **{f"{part}_labels": tmp_path / part / "labels" for part in ("source", "test")},
        "classes": tmp_path / "classes.txt",
    }
    redraw(tmp_path / name)
    with pytest.raises(RequestError, match=said):
        segadapt.resume(tmp_path / "run", **where)


def test_an_image_that_changes_while_a_stage_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Loop.run

    def changing(loop: Loop) -> None:
        real(loop)
        redraw(tmp_path / "test/labels/001.png")

    monkeypatch.setattr(Loop, "run", changing)
    with pytest.raises(RequestError, match=r"test: .*001\.png' changed while stage 'source' went on"):
        Run.open(build_config(request(tmp_path), "tiny"), tmp_path / "run", quiet=True).execute("source")
    assert not (tmp_path / "run/stages/source/done.json").exists()


def test_a_test_image_that_is_missing_for_a_moment(world: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, aside = world / "test/images/001.png", world / "aside.png"
    for place in ("scores", "show"):
        shutil.rmtree(run / "stages/adapt")
        real = getattr(stage_module.StageRunner, place)

        def missing(*given: Any, _real: Any = real) -> Any:
            image.rename(aside)
            try:
                return _real(*given)
            finally:
                aside.rename(image)

        with monkeypatch.context() as patch:
            patch.setattr(stage_module.StageRunner, place, missing)
            with pytest.raises((RequestError, RunError), match=r"001\.png") as told:
                resumed(run, quiet=True).execute()
        one_line(told.value)
        results = resumed(run, quiet=True).execute()
        assert results["rows"][1]["scores"] == read_json(world / "run/results.json")["rows"][1]["scores"]


# ---- ends that leave something ----


def test_checkpoints_that_a_kill_left_behind_are_removed(run: Path) -> None:
    (run / "stages/adapt/checkpoints").mkdir()
    (run / "stages/adapt/checkpoints/checkpoint-000000001.pt").write_bytes(b"x")
    resumed(run, quiet=True).execute(pictures=False)
    assert not (run / "stages/adapt/checkpoints").exists()


def test_a_finished_run_that_nobody_may_write_is_read(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def state() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in [run, *run.rglob("*")]}

    before = state()
    monkeypatch.setattr("segadapt.runs.hold.writable", lambda folder: False)
    result = segadapt.resume(run)
    assert result.miou == read_json(run / "results.json")["rows"][1]["scores"]["miou"]
    assert state() == before


def test_scoring_that_is_killed_repeats_no_step(tmp_path: Path, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any) -> None:
        raise Crash

    config = build_config(request(world), "tiny")
    with monkeypatch.context() as patch:
        patch.setattr(stage_module.StageRunner, "scores", killed)
        with pytest.raises(Crash):
            Run.open(config, tmp_path / "run", quiet=True).execute("source")
    no_step(monkeypatch)
    resumed(tmp_path / "run", quiet=True).execute("source", pictures=False)
    assert read_json(tmp_path / "run/stages/source/done.json")["row"]["steps"] == 2


def test_a_wrong_data_json_is_said(run: Path) -> None:
    shutil.rmtree(run / "stages/adapt")
    write_json(run / "data.json", {"findings": 3})
    with pytest.raises(RequestError, match=r"data\.json' is damaged: 'findings' .*; remove it"):
        resumed(run, quiet=True)


def test_a_damaged_list_of_pictures_is_said_and_leads_nowhere(run: Path) -> None:
    entry = {"id": "000", "image": "../../x", "truth": None, "stages": {}}
    (run / "stages/adapt/shown").unlink()
    for text in ('{"test": 3, "pseudo": []}', json.dumps({"test": [entry], "pseudo": []})):
        (run / "pictures/index.json").write_text(text)
        with pytest.raises(RequestError, match=r"index\.json' is damaged: .*'shown'"):
            resumed(run, quiet=True).execute()
