"""adapt shows what it read, asks or refuses where that is dubious, and remembers the answer."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

import segadapt
from segadapt.cli import main
from segadapt.core.files import read_json
from segadapt.engine.record import Record
from segadapt.engine.runtime import Runtime
from segadapt.errors import RequestError
from segadapt.runs.config import build_config
from segadapt.runs.consent import look_at
from segadapt.runs.opening import open_data
from segadapt.runs.run import Run, resumed
from tests.data.writing import picture, save
from tests.runs.test_findings import folder
from tests.tiny import raw_config


class Opened(Exception):
    """Raised in place of the training."""


@pytest.fixture
def request_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Folders in which 255 is a third of the source; and no training."""

    def stop(*_: Any) -> None:
        raise Opened

    monkeypatch.setattr("segadapt.api.adapting._executed", stop)
    folder(tmp_path / "source", [0, 7, 255])
    folder(tmp_path / "target", [0, 7], seed=50)
    return {
        "source_images": tmp_path / "source/images",
        "source_labels": tmp_path / "source/masks",
        "target_images": tmp_path / "target/images",
        "out": tmp_path / "run",
        "overrides": ["model.name=timm:resnet10t", "model.weights=null", "accelerator=cpu"],
    }


def command(request: dict[str, Any], *more: str) -> list[str]:
    options = [f"--{k.replace('_', '-')}={v}" for k, v in request.items() if k != "overrides"]
    return ["segadapt", "adapt", *options, *more, *request["overrides"]]


def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], request: dict[str, Any], *more: str
) -> tuple[int | str | None, str]:
    """Exit status of the command and what it wrote on standard error; status 0 where it would train."""
    monkeypatch.setattr("sys.argv", command(request, *more))
    try:
        main()
    except Opened:
        return 0, capsys.readouterr().err
    except SystemExit as ended:
        return ended.code, capsys.readouterr().err
    return None, ""


def test_python_refuses_and_accepts(request_of: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=r"source: the value 255 is 33 %.*--yes \(Python: accept=True\)"):
        segadapt.adapt(**request_of)
    assert not (request_of["out"] / "config.json").exists()
    told: list[str] = []
    with pytest.raises(Opened):
        segadapt.adapt(**request_of, accept=lambda found: not told.extend(found))
    assert len(told) == 1
    kept = read_json(request_of["out"] / "data.json")
    assert [(f["kind"], f["part"]) for f in kept["findings"] if f["asked"]] == [("255 ignored", "source")]
    assert kept["parts"]["source"]["ignored"] == pytest.approx(1 / 3)
    with pytest.raises(Opened):  # what was accepted once is not asked again
        segadapt.adapt(**request_of)
    for number in range(4):
        save(request_of["target_images"] / f"{number}.png", picture(200, 200, number))
    with pytest.raises(RequestError, match="target: its images are 200 pixels long"):  # anything new is
        segadapt.adapt(**request_of)


def test_the_command_refuses_without_a_terminal(
    request_of: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, err = call(monkeypatch, capsys, request_of, "-q")
    assert code == 2
    assert len(err.splitlines()) == 1
    code, err = call(monkeypatch, capsys, request_of)
    assert code == 2
    assert "source 4 images, 24 x 24 pixels" in err
    assert err.splitlines()[-1].startswith("segadapt: source: the value 255")
    code, err = call(monkeypatch, capsys, request_of, "--yes", "-q")
    assert code == 0
    assert err.startswith("warning: source: the value 255")


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("n", 2), ("", 2)])
def test_on_a_terminal_the_command_asks(
    request_of: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: str,
    status: int,
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdin.readline", lambda: f"{answer}\n" if answer else "", raising=False)
    code, err = call(monkeypatch, capsys, request_of)
    assert code == status
    assert "dubious: source: the value 255" in err


def test_ordinary_data_are_shown_and_not_asked_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = build_config(raw_config(tmp_path, "source_only"), "tiny")
    Run.open(config, tmp_path / "run", accept=False)
    err = capsys.readouterr().err
    assert "source 8 images, 56 x 40 pixels" in err
    assert "ground (value 0)" in err
    resumed(tmp_path / "run", quiet=True)
    assert capsys.readouterr().err == ""
    assert set(read_json(tmp_path / "run/data.json")["parts"]) == {"source", "target", "test"}


def test_labels_of_the_target_are_not_opened(tmp_path: Path) -> None:
    raw = raw_config(tmp_path, "source_only")
    raw["data"]["target"]["labels"] = str(tmp_path / "nowhere")
    Run.open(build_config(raw, "tiny"), tmp_path / "run", quiet=True, accept=False)
    assert "classes" not in read_json(tmp_path / "run/data.json")["parts"]["target"]


def test_all_processes_stop_where_the_main_one_refuses(tmp_path: Path) -> None:
    """The others do not look at the data, and hear of the refusal."""
    config = build_config(raw_config(tmp_path, "source_only"), "tiny")
    opened = open_data(config.data, {}, tmp_path / "cache")
    runtime = Runtime("cpu")
    runtime.rank = 1
    runtime.gather = lambda words: ["source: refused", *words]  # type: ignore[method-assign]
    with pytest.raises(RequestError, match="source: refused"):
        look_at(config.data, opened, runtime, Record(tmp_path, active=False), False, tmp_path / "run")
    runtime.gather = list  # type: ignore[method-assign]
    assert look_at(config.data, opened, runtime, Record(tmp_path, active=False), False, tmp_path / "run") is None


def plain_console(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int | str | None, list[str], list[str]]:
    """Exit status and lines of a command on a console that knows ASCII alone."""
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding="ascii") for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    monkeypatch.setattr("sys.argv", ["segadapt", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    lines = []
    for stream in streams.values():
        stream.flush()
        lines.append(stream.buffer.getvalue().decode("ascii").splitlines())  # type: ignore[attr-defined]
    return ended.value.code, lines[0], lines[1]


@pytest.mark.parametrize(
    "name", ["[/a] [red]x", "a\x1b[31mb", "a\u202eb\nc", "caf\xe9 \U0001f600", "caf\udce9", "x" * 200]
)
def test_names_of_any_kind_in_errors_and_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    place = tmp_path / name
    save(place / "x.png", picture())
    (place / f"{name[:40].replace('/', '-')}.dng").write_bytes(b"x")
    code, out, _ = plain_console(monkeypatch, "data", "check", "--images", str(place))
    assert code in (0, None)
    assert "can be used" in out[-1]
    assert any("1 .dng" in line for line in out)
    (place / "x.png").write_bytes(b"no image")
    code, _, [line] = plain_console(monkeypatch, "data", "check", "--images", str(place))
    assert code == 2
    assert line.isprintable()
    assert "x.png" in line
    if name.startswith("["):
        assert name in line
