"""Three pairs of folders as they lie on disks of others, adapted and scored by the command: no code, no renaming."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.writing import save
from tests.test_cli import call

SIZE = (48, 64)
QUICK = [
    *("model.name=timm:resnet10t", "model.weights=null", "model.arguments={width: 16}", "accelerator=cpu"),
    *("source.steps=2", "source.batch_size=2", "source.augmentation.crop=[32,32]", "adapt.augmentation.crop=[32,32]"),
    *("adapt.rounds=1", "adapt.steps=1", "adapt.batch_size=2"),
]
Command = Callable[..., str]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command that has to succeed; return its output."""

    def run(*arguments: object) -> str:
        code, out, err = call(monkeypatch, capsys, *map(str, arguments))
        assert code == 0, err
        return out

    return run


def scene(seed: int, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A picture [48, 64, 3], and a mask [48, 64] of vertical stripes of all values, moved by the seed."""
    places = (np.arange(SIZE[1]) * len(values) // SIZE[1] + seed) % len(values)
    mask = np.broadcast_to(values[places], (*SIZE, *values.shape[1:])).copy()
    noise = np.random.default_rng(seed).integers(0, 40, (*SIZE, 3))
    shade = np.stack([places * 37 % 200, places * 91 % 200, places * 53 % 200], -1)
    return (noise + shade).astype(np.uint8), mask


def adapted(command: Command, out: Path, *arguments: object) -> dict[str, float | None]:
    """Adapt, and score the result again; return the IoU of each class."""
    command("adapt", *arguments, "--method", "cbst", "--out", out, "--json", "-q", *QUICK, "guard=false")
    given: dict[str, list[str]] = {}
    for option, value in pairwise(arguments):
        given.setdefault(str(option), []).append(str(value))
    test = [part for name in ("images", "labels") for part in (f"--{name}", given[f"--test-{name}"][0])]
    test += ["--classes", given["--classes"][0]]
    for pattern in given.get("--pair", []):
        test += ["--pair", pattern.removeprefix("test:")] * pattern.startswith("test:")
    iou: dict[str, float | None] = json.loads(command("evaluate", out, *test, "--json"))["iou"]
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert rows[-1]["scores"]["iou"] == iou
    return iou


def test_eleven_classes_of_one_street_set_onto_seven_of_another(tmp_path: Path, command: Command) -> None:
    for i in range(4):
        picture, mask = scene(i, np.arange(12, dtype=np.uint8))
        save(tmp_path / f"camvid/train/00{i}.png", picture)
        save(tmp_path / f"camvid/trainannot/00{i}.png", mask)
    (tmp_path / "camvid/day.txt").write_text("001\n003.png\ntrain/002\n".replace("train/", ""))
    for part, folder, name in (("train", "7", "10"), ("train", "7", "22"), ("val", "12", "4"), ("val", "9", "4")):
        picture, mask = scene(int(folder) * 100 + int(name), np.array([0, 1, 2, 3, 4, 5, 6, 255], np.uint8))
        save(tmp_path / f"idd/leftImg8bit/{part}/{folder}/{name}_image.jpg", picture)
        save(tmp_path / f"idd/gtFine/{part}/{folder}/{name}_label.png", mask)
    (tmp_path / "seven.yaml").write_text(
        """
- {name: drivable, ids: {source: 3, test: 0}}
- {name: non-drivable, ids: {source: 4, test: 1}}
- {name: living things, ids: {source: [9, 10], test: 2}}
- {name: vehicles, ids: {source: 8, test: 3}}
- {name: roadside objects, ids: {source: [2, 6, 7], test: 4}}
- {name: far objects, ids: {source: [1, 5], test: 5}}
- {name: sky, ids: {source: 0, test: 6}}
- {name: ignore, ids: others}
"""
    )
    places = {
        "--source-images": tmp_path / "camvid/train",
        "--source-labels": tmp_path / "camvid/trainannot",
        "--target-images": tmp_path / "idd/leftImg8bit/train",
        "--test-images": tmp_path / "idd/leftImg8bit/val",
        "--test-labels": tmp_path / "idd/gtFine/val",
        "--classes": tmp_path / "seven.yaml",
    }
    arguments = [part for pair in places.items() for part in pair]
    iou = adapted(command, tmp_path / "run", *arguments, f"data.source.list_file={tmp_path / 'camvid/day.txt'}")
    assert list(iou) == [
        "drivable",
        "non-drivable",
        "living things",
        "vehicles",
        "roadside objects",
        "far objects",
        "sky",
    ]
    assert None not in iou.values()
    read = json.loads((tmp_path / "run/results.json").read_text())
    assert read["test"]["images"] == 2


def test_a_hundred_colours_of_a_game_onto_eight_classes(tmp_path: Path, command: Command) -> None:
    colors = np.stack([np.arange(101) * 2, np.arange(101)[::-1], np.arange(101) * 7 % 256], -1).astype(np.uint8)
    for i in range(3):
        picture, mask = scene(i * 17, colors)
        save(tmp_path / f"game/frames/{i}/rgb.png", np.where(np.arange(SIZE[1])[:, None] % 2, picture, picture // 2))
        save(tmp_path / f"game/frames/{i}/semantic.png", mask)
    for i in range(2):
        picture, mask = scene(i, np.arange(9, dtype=np.uint8))
        save(tmp_path / f"city/images/{i}_leftImg8bit.png", picture)
        save(tmp_path / f"city/masks/{i}_gtFine_labelIds.png", mask)
    groups = [colors[c * 12 : c * 12 + 10].tolist() for c in range(8)]  # eight classes of ten colours each
    entries = [{"name": f"kind {c}", "colors": {"source": group}, "ids": {"test": c}} for c, group in enumerate(groups)]
    (tmp_path / "eight.json").write_text(
        json.dumps([*entries, {"name": "ignore", "colors": "others", "ids": "others"}])
    )
    iou = adapted(
        command,
        tmp_path / "run",
        *("--source-images", tmp_path / "game/frames", "--source-labels", tmp_path / "game/frames"),
        *("--pair", "source:{}/rgb.png={}/semantic.png"),
        *("--target-images", tmp_path / "city/images", "--pair", "target:{}.png={}"),
        *("--test-images", tmp_path / "city/images", "--test-labels", tmp_path / "city/masks"),
        *("--classes", tmp_path / "eight.json", "--pair", "test:{}_leftImg8bit.png={}_gtFine_labelIds.png"),
    )
    assert list(iou) == [f"kind {c}" for c in range(8)]
    assert None not in iou.values()


def test_vessels_of_one_camera_onto_another(tmp_path: Path, command: Command) -> None:
    for i in (21, 22, 23):
        picture, mask = scene(i, np.array([0, 0, 0, 255], np.uint8))
        save(tmp_path / f"DRIVE/training/images/{i}_training.tif", picture)
        folder = tmp_path / "DRIVE/training/1st_manual"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(folder / f"{i}_manual1.gif", optimize=i == 22)  # a palette of all greys, or of two
    for i in (1, 2):
        picture, mask = scene(i, np.array([0, 0, 255], np.uint8))
        save(tmp_path / f"other/0{i}.tif", picture)
        Image.fromarray(mask).save(tmp_path / f"other/0{i}.gif")
    (tmp_path / "vessels.yaml").write_text("{background: 0, vessel: 255}\n")
    other = tmp_path / "other"
    iou = adapted(
        command,
        tmp_path / "run",
        *("--source-images", tmp_path / "DRIVE/training/images"),
        *("--source-labels", tmp_path / "DRIVE/training/1st_manual"),
        *("--target-images", other, "--test-images", other, "--test-labels", other),
        *("--pair", "source:{}_training.tif={}_manual1.gif"),
        *("--pair", "target:{}.tif={}.gif", "--pair", "test:{}.tif={}.gif"),
        *("--classes", tmp_path / "vessels.yaml"),
    )
    assert list(iou) == ["background", "vessel"]
    assert None not in iou.values()
    counted = json.loads((tmp_path / "run/results.json").read_text())["test"]
    assert counted["images"] == 2
