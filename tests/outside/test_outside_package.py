"""A package outside segadapt brings a method, a network, a reader, an augmentation; every command knows them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import segadapt
from segadapt.data.augmentations import AUGMENTATIONS
from segadapt.data.readers import READERS
from segadapt.errors import RequestError
from segadapt.labels import LabelSpace
from segadapt.methods.cbst import CBST
from segadapt.methods.registry import METHODS, register_method
from segadapt.models.build import NETWORKS, build_segmenter
from segadapt.models.store import load_model, save_model
from segadapt.runs.config import build_config, folder_config, load_config
from tests.outside.installing import install
from tests.runs.test_run import assert_same, kill_when, start, weights
from tests.test_cli import call
from tests.tiny import raw_config


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("installed"))


@pytest.fixture(autouse=True)
def _nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for registry in (METHODS, NETWORKS, READERS, AUGMENTATIONS):
        monkeypatch.setattr(registry, "_added", {})
    for name in [name for name in sys.modules if name.partition(".")[0] == "dusk_methods"]:
        monkeypatch.delitem(sys.modules, name)


def recipe(folder: Path, steps: int) -> Path:
    """A recipe with the package's method, network, reader and augmentation."""
    raw = raw_config(folder, "agree", augmentation={"crop": [32, 32], "extra": {"evening": {"depth": 0.4}}})
    raw |= {"plugins": ["dusk_methods"], "model": {"name": "stack", "weights": None, "arguments": {"width": 6}}}
    raw["data"]["source"] = {"reader": "pairs", "root": str(folder / "source")}
    raw["data"]["space"] = None
    for stage in raw["stages"].values():
        stage.update(
            steps=steps, checkpoint_every=7, batch_size=4, optimiser={"name": "sgd", "lr": 0.01}, norm="affine"
        )
    path = folder / f"recipe{steps}.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return path


def test_every_command_works_with_a_package_of_ones_own(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)  # for processes that the test starts
    monkeypatch.syspath_prepend(str(site))
    path, run = recipe(tmp_path, steps=60), tmp_path / "run"

    def command(*arguments: str) -> str:
        code, out, err = call(monkeypatch, capsys, *arguments)
        assert code == 0, err
        return out

    planned = json.loads(command("plan", str(path), "--no-measure", "--json"))
    assert [(s["method"], s["network"]) for s in planned["stages"]] == [("source_only", "stack"), ("agree", "stack")]

    kill_when(
        start(tmp_path, "-m", "segadapt", "adapt", str(path), "--out", str(run), "-q"), run / "log.jsonl", "adapt"
    )
    assert not (run / "stages/adapt/done.json").exists()
    assert json.loads((run / "config.json").read_text())["config"]["plugins"] == ["dusk_methods"]
    resumed = json.loads(command("resume", str(run), "--json"))
    whole = json.loads(command("adapt", str(path), "--out", str(tmp_path / "whole"), "--json"))
    assert_same(weights(tmp_path / "whole"), weights(run))
    assert [row["scores"] for row in resumed["rows"]] == [row["scores"] for row in whole["rows"]]

    short = str(recipe(tmp_path, steps=6))
    command("adapt", short, "--out", str(tmp_path / "one"), "--json")
    two = start(
        tmp_path,
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "segadapt"),
        *("adapt", short, "--out", str(tmp_path / "two"), "-q"),
    )
    _, err = two.communicate(timeout=200)
    assert two.returncode == 0, err
    assert_same(weights(tmp_path / "one"), weights(tmp_path / "two"), 2e-4)

    test = ["--images", str(tmp_path / "test/images"), "--labels", str(tmp_path / "test/labels")]
    scores = json.loads(
        command("evaluate", str(run), "--stage", "adapt", *test, "--classes", str(tmp_path / "classes.txt"), "--json")
    )
    assert scores["miou"] == pytest.approx(resumed["rows"][-1]["scores"]["miou"])
    made = json.loads(command("predict", str(run), test[1], "--out", str(tmp_path / "out"), "--json"))
    assert made["count"] == 3
    assert "agree" in command("methods", "--plugin", "dusk_methods")
    assert "stack" in command("models")
    assert "optimiser.lr" in command("settings", "agree", "--plugin", "dusk_methods")


def test_an_entry_point_needs_no_recipe_key(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(site))
    raw = raw_config(tmp_path, "agree_installed")
    config = build_config(raw, "tiny")
    assert type(config.stages[1]).__name__ == "StageConfig"
    assert METHODS["agree_installed"].method.__name__ == "Agree"
    folders = {"source": {"images": "a", "labels": "b"}, "target": {"images": "c"}}
    composed = folder_config("agree_installed", folders)
    assert [stage.method for stage in composed.stages] == ["source_only", "agree_installed"]
    assert load_config("toy/agree", plugins=["dusk_methods"]).plugins == ("dusk_methods",)
    assert load_config("toy/agree", ["plugins=[dusk_methods]"]).stages[-1].method == "agree"


def test_a_model_of_a_package_that_is_gone_is_one_line(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = LabelSpace("three", ("a", "b", "c"), ((0, 0, 0),) * 3)
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(site))
        model = build_segmenter("stack", 3, width=5)
        save_model(tmp_path / "m.safetensors", model, space, {})
        again = load_model(tmp_path / "m.safetensors").model
        images = torch.rand(1, 3, 8, 8)
        assert torch.equal(again(images).logits, model.eval()(images).logits)
    with pytest.raises(RequestError, match="no network 'stack'"):
        segadapt.load(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    ("plugins", "words"),
    [
        (["no_such_package"], r"plugin 'no_such_package' cannot be imported: ModuleNotFoundError.*PYTHONPATH"),
        (["../evil"], r"'../evil' is not the name of a Python module"),
        (7, "plugins is not a list of packages"),
    ],
)
def test_plugins_that_cannot_be_imported_are_named(tmp_path: Path, plugins: Any, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        build_config({**raw_config(tmp_path), "plugins": plugins}, "tiny")


def test_names_of_the_library_cannot_be_taken() -> None:
    with pytest.raises(RequestError, match="method 'cbst' is one of segadapt's own"):
        register_method("cbst")(CBST)
    with pytest.raises(RequestError, match=r"not a class that derives from segadapt\.methods\.Method"):
        register_method("other")(dict)  # type: ignore[type-var]
