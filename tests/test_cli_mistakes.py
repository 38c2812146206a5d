"""Mistakes at the command: one line that names what is wrong and how to fix it, before any work."""

from __future__ import annotations

import errno
from pathlib import Path

import cv2
import numpy as np
import pytest

from segadapt.version import __version__
from tests.test_cli import adapt_arguments, assert_refused, call, folders

__all__ = ["folders"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["adapt", "toy/cbst", "--out", "FILE/run"],
        ["predict", "model.safetensors", "images", "--out", "FILE"],
        ["label", "model.safetensors", "images", "--out", "FILE"],
        ["data", "toy", "--out", "FILE"],
        ["data", "check", "--images", "images", "--pictures", "FILE"],
        ["demo", "--out", "FILE"],
        ["bench", "table", "toy", "--out", "FILE"],
        ["report", "run", "--out", "FILE/r.html"],
        ["export", "model.safetensors", "--out", "FILE/m.onnx"],
    ],
)
def test_a_file_in_the_way_of_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("")
    option = arguments[-2]
    assert_refused(call(monkeypatch, capsys, *arguments), "'FILE' is not a folder", f"choose another {option}")


def test_a_folder_in_the_way_of_an_exported_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = call(monkeypatch, capsys, "export", "model.safetensors", "--out", str(tmp_path))
    assert_refused(result, f"--out '{tmp_path}' is a folder", "name a file")


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "runs/log.jsonl"), "'runs/log.jsonl' cannot be"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device; fix that"),
    ],
)
def test_what_the_system_refuses_later_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], problem: OSError, words: str
) -> None:
    def refuse(**_: object) -> None:
        raise problem

    monkeypatch.setattr("segadapt.cli.app", refuse)
    code, _, err = call(monkeypatch, capsys, "anything")
    assert code == 1
    assert len(err.splitlines()) == 1
    assert words in err


def test_a_wrong_number_of_images_to_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = call(monkeypatch, capsys, "data", "check", "--images", str(tmp_path), "--limit", "0")
    assert_refused(result, "'limit' input should be greater than or equal to 1, not 0")


def test_masks_without_a_labelled_pixel(
    folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (folders / "source/labels").iterdir():
        cv2.imwrite(str(path), np.full((40, 56), 255, np.uint8))
    result = call(monkeypatch, capsys, *adapt_arguments(folders))
    assert_refused(result, "source: no mask holds a pixel of any class", "ground, box, disc")


def test_a_setting_without_a_value_behind_folders(
    folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = call(monkeypatch, capsys, "adapt", "source.steps", *adapt_arguments(folders)[1:])
    assert_refused(result, "'source.steps' is not a setting: give KEY=VALUE")


def test_an_unknown_reader_is_named_before_its_folder_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused(call(monkeypatch, capsys, "data", "check", "--reader", "camvd"), "did you mean 'camvid'")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["adapt", "toy/cbst", "--sead", "1"], ("--sead", "see 'segadapt adapt --help'")),
        (["adapt", "toy/cbst", "--seed", "x"], ("--seed", "integer")),
        (["data", "chekc"], ("chekc", "see 'segadapt data --help'")),
        (["predict"], ("argument", "see 'segadapt predict --help'")),
    ],
)
def test_options_and_commands_that_there_are_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], words: tuple[str, ...]
) -> None:
    assert_refused(call(monkeypatch, capsys, *arguments), *words)


@pytest.mark.parametrize(("arguments", "status"), [(["--help"], 0), (["--version"], 0), ([], 2), (["data"], 2)])
def test_help_comes_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int
) -> None:
    code, out, err = call(monkeypatch, capsys, *arguments)
    assert code == status
    assert out + err == f"segadapt {__version__}\n" if "--version" in arguments else "Usage: " in out + err
