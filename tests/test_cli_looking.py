"""What the command shows of the machine and of its own progress."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from rich.console import Console

from segadapt.cli.looking import EXTRAS
from segadapt.engine.record import Record
from segadapt.labels import LabelSpace
from segadapt.models.build import build_segmenter
from segadapt.models.store import save_model
from tests.test_cli import call
from tests.tiny import write_folder


def test_doctor_looks_for_the_packages_of_every_extra() -> None:
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    section = text.partition("[project.optional-dependencies]")[2].partition("all =")[0]
    stated = {
        name: re.findall(r'"([\w-]+)>=', packages)
        for name, packages in re.findall(r"^(\w+) = \[(.*)\]$", section, re.M)
    }
    assert stated == EXTRAS
    assert re.search(r'^all = \["segadapt\[(.*)\]"\]$', text, re.M)[1].split(",") == list(EXTRAS)


def test_export_says_what_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxscript")
    space = LabelSpace("two", ("a", "b"), ((0, 0, 0), (9, 9, 9)))
    save_model(tmp_path / "m.safetensors", build_segmenter("timm:resnet10t", 2, width=16), space, {})
    size = ("--height", "32", "--width", "32", "--out", str(tmp_path / "m.onnx"))
    code, out, err = call(monkeypatch, capsys, "export", str(tmp_path / "m.safetensors"), *size)
    assert code == 0, err
    assert "comparing with torch; where this takes minutes, --no-dynamic is quicker" in err
    assert "agrees with torch" in out


@pytest.mark.parametrize("command", ["predict", "data check"])
def test_long_commands_show_how_far_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    write_folder(tmp_path, 3, labels=False)
    space = LabelSpace("two", ("a", "b"), ((0, 0, 0), (9, 9, 9)))
    save_model(tmp_path / "m.safetensors", build_segmenter("timm:resnet10t", 2, width=16), space, {})
    images = str(tmp_path / "images")
    arguments = {
        "predict": ["predict", str(tmp_path / "m.safetensors"), images, "--out", str(tmp_path / "p")],
        "data check": ["data", "check", "--images", images],
    }[command]
    steps: list[str] = []
    monkeypatch.setattr("segadapt.engine.record.Steps.advance", lambda self, **_: steps.append(self._title))
    code, _, err = call(monkeypatch, capsys, *arguments)
    assert code == 0, err
    assert steps == [command.split()[-1]] * 3


def test_a_line_stays_one_line_where_there_is_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("segadapt.engine.record.console", Console(stderr=True, width=80))
    record = Record(tmp_path, True)
    record.warn("word " * 40)
    record.say("word " * 40)
    record.close()
    assert len(capsys.readouterr().err.splitlines()) == 2


@pytest.mark.parametrize("name", ["[bold]run[/]", "a:smile:b", "x[0]"])
def test_brackets_in_names_are_printed_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    write_folder(tmp_path, 1, labels=False)
    space = LabelSpace("two", (name, "b"), ((0, 0, 0), (9, 9, 9)))
    save_model(tmp_path / "m.safetensors", build_segmenter("timm:resnet10t", 2, width=16), space, {})
    out = tmp_path / name.replace("/", "_")
    code, said, err = call(
        monkeypatch, capsys, "predict", str(tmp_path / "m.safetensors"), str(tmp_path / "images"), "--out", str(out)
    )
    assert code == 0, err
    assert str(out) in said
    record = Record(tmp_path / "record", True)
    record.say(f"stage {name}")
    record.warn(f"file {name}")
    record.close()
    assert capsys.readouterr().err.splitlines() == [f"stage {name}", f"warning: file {name}"]
