"""Satellite images: a 16-bit source of four bands adapts to another sensor, by the command and with Python."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import segadapt
from segadapt.cli import main
from segadapt.data import in_memory
from segadapt.errors import RequestError
from segadapt.labels import LabelSpace

rasterio = pytest.importorskip("rasterio")
BANDS = np.array([[0.2, 0.3, 0.2, 0.9], [0.6, 0.5, 0.4, 0.1]])
"""What two classes reflect in red, green, blue and infrared."""
SENSORS = {"source": (300, 3800), "target": (2000, 14000)}
"""Numbers of black and white."""


def write_scene(folder: Path, number: int, sensor: str) -> None:
    """Write an image with its mask; an odd one has a corner without data, which its mask does not know."""
    rng = np.random.default_rng([number, len(sensor)])
    label = (cv2.resize(rng.random((4, 4)), (48, 48)) > 0.5).astype(np.uint8)
    low, high = SENSORS[sensor]
    values = low + (BANDS[label] + rng.normal(0, 0.05, (48, 48, 4))) * (high - low)
    values = values.clip(1, 65535).astype(np.uint16)
    if number % 2:
        values[:8, :8] = 0
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shape = {"height": 48, "width": 48, "count": 4, "dtype": "uint16", "nodata": 0}
        with rasterio.open(folder / "images" / f"{number}.tif", "w", driver="GTiff", **shape) as file:
            file.write(np.moveaxis(values, -1, 0))
    cv2.imwrite(str(folder / "masks" / f"{number}.png"), label)


def command(*arguments: str | Path) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["segadapt", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0)


def folders(world: Path) -> list[str | Path]:
    named = {"source-images": "source/images", "source-labels": "source/masks", "target-images": "target/images"}
    tested = {"test-images": "test/images", "test-labels": "test/masks"}
    return [part for option, place in (named | tested).items() for part in (f"--{option}", world / place)]


FAST = [
    *("model.name=timm:resnet10t", "model.weights=null", "model.arguments={width: 16}", "accelerator=cpu"),
    *("source.steps=8", "source.batch_size=2", "source.augmentation.crop=[32, 32]"),
    *("adapt.rounds=1", "adapt.steps=2", "adapt.batch_size=2", "adapt.augmentation.crop=[32, 32]"),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of both sensors, and a run between them."""
    place = tmp_path_factory.mktemp("sensors")
    for part, sensor, count in (("source", "source", 4), ("target", "target", 4), ("test", "target", 2)):
        for number in range(count):
            write_scene(place / part, number + 10 * len(part), sensor)
    write_scene(place / "new", 101, "target")
    assert (
        command(
            "adapt", "--method", "cbst", *folders(place), "--bands", "all", *FAST, "--out", place / "run", "--quiet"
        )
        == 0
    )
    return place


def provenance(world: Path, stage: str) -> Any:
    return segadapt.load(world / "run" / "stages" / stage / "model.safetensors").provenance


def test_the_model_file_remembers_bands_and_scaling(world: Path) -> None:
    loaded = segadapt.load(world / "run")
    stem = loaded.model.get_submodule(loaded.model.stems[0])
    assert getattr(stem, "in_channels", 0) == 4
    read = loaded.provenance["input"]
    assert read["bands"] == [1, 2, 3, 4]
    assert read["dtype"] == "uint16"
    assert all(number > 1.3 * SENSORS["source"][1] for number in read["high"])  # of the target, not of the source
    assert all(1000 < low < high for low, high in zip(read["low"], read["high"], strict=True))
    assert json.loads((world / "run" / "config.json").read_text())["config"]["data"]["target"]["bands"] == "all"


def test_new_files_are_predicted_scored_labelled_and_exported(world: Path, tmp_path: Path) -> None:
    images, masks = world / "new" / "images", world / "new" / "masks"
    assert command("predict", world / "run", images, "--out", tmp_path / "made", "--quiet") == 0
    assert list((tmp_path / "made").glob("*101*"))
    assert command("evaluate", world / "run", "--images", images, "--labels", masks, "--quiet") == 0
    assert command("label", world / "run", images, "--out", tmp_path / "labels", "--quiet") == 0
    file = images / "101.tif"
    labels = segadapt.predict(world / "run", file)[0]
    with rasterio.open(file) as raster:
        array = np.moveaxis(raster.read(), 0, -1)
    np.testing.assert_array_equal(segadapt.predict(world / "run", array)[0], labels)


def test_an_exported_file_says_which_bands_it_takes(world: Path) -> None:
    from segadapt.evaluation.onnx_metadata import KEY, onnx_metadata
    from segadapt.models.inference import InferenceConfig

    loaded = segadapt.load(world / "run")
    about = onnx_metadata(loaded, InferenceConfig(), None)
    told = json.loads(about[KEY])["input"]
    assert told["files"] == loaded.input
    assert "4 bands" in about["input"]


def test_a_resumed_run_measures_the_same_range(world: Path) -> None:
    before = (world / "run" / "results.json").read_text()
    assert command("resume", world / "run", "--quiet") == 0
    assert json.loads((world / "run" / "results.json").read_text())["rows"] == json.loads(before)["rows"]


def test_other_bands_are_said_and_refused(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        command("adapt", "--method", "cbst", *folders(world), "data.source.bands=all", *FAST, "--out", tmp_path / "run")
        == 2
    )
    said = capsys.readouterr()
    assert "target: its images are read in 3 bands, the others of the run in 4" in said.err
    assert (
        command("adapt", "--method", "cbst", *folders(world), "--bands", "5,1", *FAST, "--out", tmp_path / "run") == 2
    )
    assert "band 5 is asked for" in capsys.readouterr().err
    assert (
        command("adapt", "--method", "cbst", *folders(world), "--bands", "red", *FAST, "--out", tmp_path / "run") == 2
    )
    assert "--bands 'red' is neither 'all' nor a list of numbers" in capsys.readouterr().err
    with pytest.raises(RequestError, match=r"an array or tensor of 4 bands|array \[height, width, 4\]"):
        segadapt.predict(world / "run", np.zeros((48, 48, 3), np.uint8))


def test_another_range_is_another_run(world: Path) -> None:
    """The numbers of a finished stage hang on how its images were read."""
    from segadapt.runs.config import folder_config
    from segadapt.runs.fingerprint import data_fingerprint
    from segadapt.runs.opening import open_data

    def fingerprint(bands: Any) -> str:
        data = {
            "source": {"images": str(world / "source/images"), "labels": str(world / "source/masks"), "bands": bands},
            "target": {"images": str(world / "target/images"), "bands": bands},
        }
        return data_fingerprint(open_data(folder_config("cbst", data).data, {}, world / "cache"))

    found = [fingerprint("all"), fingerprint([1, 2, 3, 4]), fingerprint([2, 1, 3, 4]), fingerprint(None)]
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_data_sets_of_a_script_may_have_any_bands(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    space = LabelSpace("two", ("dark", "bright"), ((0, 0, 0), (255, 255, 255)))
    labels = [np.tile(np.array([0, 1], np.uint8), (32, 16)) for _ in range(3)]
    images = [(x[..., None] * 0.5 + rng.random((32, 32, 2)) * 0.3).astype(np.float32) for x in labels]
    source = in_memory("source", list(zip(images, labels, strict=True)), space, bands=2)
    target = in_memory("target", [np.moveaxis(x, -1, 0) for x in images], space, False, bands=2)
    result = segadapt.adapt(source=source, target=target, method="cbst", overrides=FAST, out=tmp_path / "run")
    assert segadapt.load(result.model).model.bands == 2
    assert segadapt.predict(result.model, images[0])[0].shape == (32, 32)
