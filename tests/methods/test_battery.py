"""Every registered method: any number of classes, odd sizes, targets without labels, real state dicts."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from segadapt.methods.method import Method
from segadapt.methods.registry import METHODS
from segadapt.models.store import load_model
from segadapt.runs.config import build_config
from segadapt.runs.run import Run
from tests.tiny import LIGHT_ENCODER, NAMES, ROUNDS, raw_config


def label_rounds(method: str) -> list[int]:
    """Return the rounds in which a method labels the target, before it trains."""
    if METHODS[method].method.prepare is Method.prepare:
        return []
    return [0, 1] if method in ROUNDS else [0]


ADAPTING = [name for name in METHODS if name not in ("source_only", "oracle", "given")]


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of worlds by their number of classes; the source model of each is trained once."""
    return tmp_path_factory.mktemp("worlds")


@pytest.mark.parametrize("method", ADAPTING)
@pytest.mark.parametrize(("classes", "size"), [(2, (40, 56)), (7, (37, 53))])
def test_adapts_between_two_folders(worlds: Path, method: str, classes: int, size: tuple[int, int]) -> None:
    world, run = worlds / str(classes), worlds / str(classes) / method
    unsure = {"threshold": 0.2} if method == "distill" else {}  # a teacher of six steps is never sure
    raw = raw_config(world, method, classes=classes, size=size, encoder=LIGHT_ENCODER, **unsure)
    results = Run.open(build_config(raw, "tiny"), run, quiet=True, reuse=(world,)).execute()
    source, adapted = results["rows"]
    assert list(adapted["scores"]["iou"]) == list(NAMES[:classes])
    assert all(0 <= row["scores"]["miou"] <= 100 for row in (source, adapted))
    assert [summary["round"] for summary in results["labels"]] == label_rounds(method)
    for summary in results["labels"]:
        assert 0 < summary["density"] <= 1
        assert math.isclose(sum(c["density"] for c in summary["classes"]), summary["density"], rel_tol=1e-6)
    loaded = load_model(run / "stages/adapt/model.safetensors")
    assert loaded.space.names == NAMES[:classes]
    before = load_model(run / "stages/source/model.safetensors").model.state_dict()
    after = loaded.model.state_dict()
    assert any(not torch.equal(before[k], after[k]) for k in before)


CHOICES: dict[str, dict[str, Any]] = {
    "proda": {"temperature_at": 256, "prototype_mean": "images", "prototype_initial": "source_right"},
    "cpsl": {"shares_from": "rectified", "schedule": {"name": "step", "every": 2}},
}


@pytest.mark.parametrize("method", list(CHOICES))
def test_other_choices_in_a_whole_run(tmp_path: Path, method: str) -> None:
    """Choices that change how a stage is prepared, with the colours of target images, and what the record says."""
    raw = raw_config(tmp_path, method, encoder=LIGHT_ENCODER, **CHOICES[method])
    for stage in raw["stages"].values():
        stage["augmentation"]["colour_transfer"] = "lab"
    results = Run.open(build_config(raw, "tiny"), tmp_path / "run", quiet=True).execute()
    (summary,) = results["labels"]
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    online = [event for event in log if event["event"] == "online_labels"]
    if method == "proda":
        measured = summary["measured"]
        assert measured["temperature"] == pytest.approx(math.sqrt(256 / measured["feature_variance"]), rel=1e-4)
        assert next(event for event in log if event["event"] == "labels")["measured"] == measured
    else:
        assert sum(c["mass"] for c in summary["classes"]) == pytest.approx(1, rel=1e-4)
        assert all(sum(event["masses"]["r"]) == pytest.approx(1, abs=1e-3) for event in online)
    plain = raw_config(tmp_path, method, encoder=LIGHT_ENCODER, **CHOICES[method])
    other = Run.open(build_config(plain, "tiny"), tmp_path / "plain", quiet=True).execute()
    assert [row["scores"] for row in other["rows"]] != [row["scores"] for row in results["rows"]]


def test_images_of_different_sizes(tmp_path: Path) -> None:
    """Sizes vary within both folders; working size and crop bring them together."""
    from tests.tiny import write_folder

    raw = raw_config(tmp_path, "cbst_sp", encoder=LIGHT_ENCODER)
    write_folder(tmp_path / "wide", 3, size=(31, 77), seed=50)
    for folder in ("images", "labels"):
        for path in (tmp_path / "wide" / folder).iterdir():
            path.rename(tmp_path / "source" / folder / f"wide_{path.name}")
    write_folder(tmp_path / "tall", 3, size=(71, 33), shift=1.0, seed=60, labels=False)
    for path in (tmp_path / "tall/images").iterdir():
        path.rename(tmp_path / "target/images" / f"tall_{path.name}")
    raw["data"]["source"]["size"] = raw["data"]["target"]["size"] = 48
    results = Run.open(build_config(raw, "tiny"), tmp_path / "run", quiet=True).execute()
    assert results["labels"][-1]["density"] > 0


def test_the_oracle_needs_labels_in_the_recipe(tmp_path: Path) -> None:
    from segadapt.errors import RequestError

    raw = raw_config(tmp_path, "source_only", encoder=LIGHT_ENCODER)
    raw["stages"] = {"oracle": {**raw["stages"]["source"], "method": "oracle"}}
    with pytest.raises(RequestError, match=r"data\.oracle"):
        Run.open(build_config(raw, "tiny"), tmp_path / "run", quiet=True).execute()
    raw["data"]["oracle"] = raw["data"]["test"]
    results = Run.open(build_config(raw, "tiny"), tmp_path / "run2", quiet=True).execute()
    assert results["rows"][0]["role"] == "oracle"
