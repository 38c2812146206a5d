"""Commands whose images several processes share: the same files as of one process, one result, one end."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from segadapt.cli import main
from segadapt.evaluation.predictor import Predictor
from segadapt.labels import LabelSpace
from segadapt.models.build import build_segmenter
from segadapt.models.store import save_model
from tests.processes import commands, in_processes, needs_fork
from tests.runs.test_labelling import content
from tests.tiny import COLORS, NAMES, write_classes, write_folder

COUNT = 5
SPACE = LabelSpace("tiny", NAMES[:3], COLORS[:3], ids=(7, 50, 255))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, images of which one is damaged, a video; images with masks."""
    root = tmp_path_factory.mktemp("world")
    torch.manual_seed(0)
    network = build_segmenter("timm:resnet10t", 3, weights=None, width=16)
    save_model(root / "model.safetensors", network, SPACE, {"run": "r", "stage": "s", "size": 48})
    write_folder(root / "data", COUNT)
    write_classes(root / "classes.txt")
    write_folder(root / "mixed", COUNT, labels=False)
    (root / "mixed/images/002.png").write_bytes(b"\x89PNG no more")
    film = cv2.VideoWriter(str(root / "mixed/images/film.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5, (48, 32))
    for grey in (40, 90, 160):
        film.write(np.full((32, 48, 3), grey, np.uint8))
    film.release()
    return root


def requests(world: Path, out: Path) -> list[list[object]]:
    data, model = world / "data", world / "model.safetensors"
    device = ("--accelerator", "cpu", "--json")
    masks = ("--labels", data / "labels", "--classes", world / "classes.txt")
    return [
        ["predict", model, world / "mixed/images", "--out", out / "predicted", *device],
        ["label", model, data / "images", "--out", out / "labelled", "--ids", "own", *masks[:2], *masks[2:], *device],
        ["evaluate", model, "--images", data / "images", *masks, *device],
    ]


def results(out: str) -> list[dict[str, object]]:
    """The JSON documents that commands printed one after the other, without times and places."""
    found, decoder = [], json.JSONDecoder()
    while out := out.lstrip():
        value, end = decoder.raw_decode(out)
        found.append({key: entry for key, entry in value.items() if key not in ("seconds", "output")})
        out = out[end:]
    return found


@needs_fork
def test_two_processes_write_and_say_what_one_does(
    world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for request in requests(world, tmp_path / "one"):
        monkeypatch.setattr("sys.argv", ["segadapt", *map(str, request)])
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code
    alone = results(capfd.readouterr().out)
    both = in_processes(2, commands(*requests(world, tmp_path / "two")), tmp_path / "said")
    assert [process.status for process in both] == [0, 0], both
    assert results(both[0].out) == alone
    assert both[1].out == ""
    assert len(alone) == 3
    assert len(content(tmp_path / "one")) > 3 * COUNT
    assert content(tmp_path / "two") == content(tmp_path / "one")
    assert "002.png" in str(alone[0]["skipped"])
    assert alone[0]["frames"] == 3


@needs_fork
@pytest.mark.parametrize("command", ["label", "evaluate"])
def test_an_error_of_one_ends_the_other_with_one_line(world: Path, tmp_path: Path, command: str) -> None:
    """The second process has one image, which is damaged; the first waits for it, or is busy with others."""
    write_folder(tmp_path / "data", 2)
    (tmp_path / "data/images/001.png").write_bytes(b"\x89PNG no more")
    images, out = tmp_path / "data/images", tmp_path / "out"
    where = {"label": [images, "--out", out], "evaluate": ["--images", images, "--labels", tmp_path / "data/labels"]}
    line = [command, world / "model.safetensors", *where[command], "--accelerator", "cpu", "-q"]
    if command == "evaluate":
        line += ["--classes", world / "classes.txt"]
    first, second = in_processes(2, commands(line), tmp_path / "said")
    assert (first.status, second.status) == (1, 2)
    assert second.err.count("\n") == 1
    assert "001.png" in second.err
    said = [text for text in first.err.splitlines() if text.startswith("segadapt: ")]
    assert len(said) == 1
    assert "ended with the others: process 1: " in said[0]
    assert "Traceback" not in first.err
    assert not out.exists() or list(out.iterdir()) == []


@needs_fork
def test_a_signal_to_one_stops_both_within_a_second(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written is whole, and the command can be repeated."""
    write_folder(tmp_path / "data", 40, labels=False)
    predicted, started, ended = Predictor.predicted, tmp_path / "started", []

    def slow(*arguments: object) -> object:
        started.touch()
        time.sleep(0.15)
        return predicted(*arguments)  # type: ignore[arg-type]

    def stop(numbers: list[int]) -> None:
        while not started.exists():
            time.sleep(0.01)
        os.kill(numbers[1], signal.SIGTERM)
        began = time.monotonic()
        os.waitid(os.P_PID, numbers[1], os.WEXITED | os.WNOWAIT)
        os.waitid(os.P_PID, numbers[0], os.WEXITED | os.WNOWAIT)
        ended.append(time.monotonic() - began)

    monkeypatch.setattr(Predictor, "predicted", slow)
    out = tmp_path / "out"
    line = ["predict", world / "model.safetensors", tmp_path / "data/images", "--out", out, "--accelerator", "cpu"]
    both = in_processes(2, commands(line), tmp_path / "said", stop)
    assert [process.status for process in both] == [1, 1]
    assert all("stopped in the middle of a pass" in process.err.splitlines()[-1] for process in both)
    assert ended[0] < 1.5  # a second, and what the ends of processes take
    written = [path for path in out.rglob("*") if path.is_file()]
    assert 0 < len(written) < 3 * 40
    assert all(cv2.imread(str(path)) is not None for path in written)
