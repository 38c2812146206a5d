"""Which images to label next: the command, the call, and the files that they write."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import segadapt
from segadapt.cli import app
from segadapt.data.folder import open_folder
from segadapt.data.folders.listing import chosen
from segadapt.errors import RequestError
from segadapt.evaluation.suggesting import suggest_images
from segadapt.labels import LabelSpace
from segadapt.models.build import build_segmenter
from segadapt.models.inference import InferenceConfig
from segadapt.models.store import save_model
from tests.tiny import write_folder

SPACE = LabelSpace("own", ("ground", "box", "disc"), ((0, 0, 0), (9, 0, 0), (0, 9, 0)))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file, six images that differ and a copy of one, and masks of two."""
    folder = tmp_path_factory.mktemp("place")
    torch.manual_seed(3)
    network = build_segmenter("timm:resnet10t", 3, width=16)
    save_model(folder / "model.safetensors", network.eval(), SPACE, {"inference": {"flip": True}, "size": [32, 48]})
    write_folder(folder, 6)
    shutil.copy(folder / "images/004.png", folder / "images/copy.png")
    (folder / "few").mkdir()
    for name in ("001", "004"):
        shutil.copy(folder / f"labels/{name}.png", folder / "few")
    return folder


def test_labelled_images_and_their_copies_come_last(place: Path) -> None:
    model = segadapt.load(place / "model.safetensors")
    found = segadapt.suggest(model, place / "images", 5, labelled=place / "few")
    assert {one.name for one in found} == {"000", "002", "003", "005", "copy"}
    assert found[-1].name == "copy"
    assert found[-1].distance == pytest.approx(0, abs=1e-6)
    assert all(0 < one.uncertainty <= 1 for one in found)
    worth = [one.uncertainty * (one.distance or 0) for one in found]
    assert worth == sorted(worth, reverse=True)
    assert found[0].image == str(place / "images" / f"{found[0].name}.png")
    assert found == segadapt.suggest(place / "model.safetensors", place / "images", 5, labelled=place / "few")
    # With less to be unlike the choice is another one, and the first has nothing beside it.
    alone = segadapt.suggest(model, place / "images", 7)
    assert alone[0].distance is None
    assert alone[0].uncertainty == max(one.uncertainty for one in alone)
    assert [one.name for one in segadapt.suggest(model, place / "images", 2)] == [one.name for one in alone[:2]]


def test_working_size_and_inference_are_those_of_the_model(place: Path) -> None:
    loaded = segadapt.load(place / "model.safetensors")
    dataset = open_folder(place / "images")
    config = InferenceConfig(flip=True)
    direct = suggest_images(loaded.model, dataset, 3, config, "cpu", size=(32, 48))
    assert direct == segadapt.suggest(loaded, place / "images", 3)
    assert direct != segadapt.suggest(loaded, place / "images", 3, inference=InferenceConfig())


def test_the_command_writes_a_list_file_and_a_table(place: Path, tmp_path: Path) -> None:
    given = ["suggest", "--model", str(place / "model.safetensors"), "--images", str(place / "images"), "--count", "2"]
    given += ["--labelled", str(place / "few"), "--accelerator", "cpu"]
    shown = CliRunner().invoke(app, [*given, "--out", str(tmp_path / "next.txt")])
    assert shown.exit_code == 0
    found = segadapt.suggest(place / "model.safetensors", place / "images", 2, labelled=place / "few")
    names = [one.name for one in found]
    assert (tmp_path / "next.txt").read_text().split() == names
    assert all(name in shown.stdout for name in [*names, "uncertainty", "next.txt"])
    images = sorted((place / "images").iterdir())
    assert [path.stem for path in chosen(tmp_path / "next.txt", place / "images", images, "list")] == sorted(names)
    printed = CliRunner().invoke(app, [*given, "--json", "--out", str(tmp_path / "next.csv")])
    assert json.loads(printed.stdout) == [one._asdict() for one in found]
    rows = list(csv.DictReader((tmp_path / "next.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == names
    assert float(rows[0]["uncertainty"]) == pytest.approx(found[0].uncertainty, abs=1e-4)


def test_wrong_requests(place: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"6 images to label are wanted, and there are 5, beside 2 that have labels"):
        segadapt.suggest(place / "model.safetensors", place / "images", 6, labelled=place / "few")
    with pytest.raises(RequestError, match=r"mask folder .*nowhere does not exist"):
        segadapt.suggest(place / "model.safetensors", place / "images", 1, labelled=tmp_path / "nowhere")
    assert len(segadapt.suggest(place / "model.safetensors", place / "images", 1, labelled=tmp_path)) == 1
    shutil.copy(place / "labels/001.png", tmp_path / "other.png")
    with pytest.raises(RequestError, match=r"labelled: 7 of 7 images have no mask"):
        segadapt.suggest(place / "model.safetensors", place / "images", 1, labelled=tmp_path)
