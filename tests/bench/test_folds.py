"""Tables over folds: every fold is run once, and their mean is CBST's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from segadapt.bench.folds import folds_by_recipe, over_folds
from segadapt.bench.pages import markdown
from segadapt.bench.table import bench_table
from segadapt.engine.run_files import read_held, read_results
from segadapt.errors import RequestError
from segadapt.labels import NTHU
from segadapt.runs.config import load_config
from segadapt.runs.folds import Fold
from segadapt.runs.ledger import line_of, published_rows
from tests.tiny import raw_config


def test_a_table_runs_every_fold_and_trains_the_source_model_once(tmp_path: Path) -> None:
    (tmp_path / "task").mkdir()
    raw = raw_config(tmp_path, "dacs", steps=2)
    (tmp_path / "task/apart.yaml").write_text(yaml.safe_dump({**raw, "stages": {"source": raw["stages"]["source"]}}))
    raw["data"]["target"]["images"] = raw["data"]["test"]["images"]
    (tmp_path / "task/dacs.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    task, out, shown = str(tmp_path / "task"), tmp_path / "out", []

    def run() -> dict[str, Any]:
        return bench_table(
            task, ["dacs"], [1], out, {}, folds=3, quiet=True, on_row=lambda _, row: shown.append(row["fold"])
        )

    table = run()
    assert shown == ["1/3", "2/3", "3/3"]
    (row,) = table["rows"]
    folders = [out / f"dacs/fold{number}of3/seed1" for number in (1, 2, 3)]
    results = [read_results(folder) or {} for folder in folders]
    found = [row["scores"] for raw in results for row in raw["rows"] if row["stage"] == "adapt"]
    assert row["folds"] == {str(number): scores["miou"] for number, scores in enumerate(found, 1)}
    assert row["iou"]["box"] == pytest.approx(sum(scores["iou"]["box"] for scores in found) / 3)
    assert row["miou"] == pytest.approx(sum(row["iou"].values()) / 3)
    assert [(read_held(folder) or {})["config"]["data"]["fold"] for folder in folders] == ["1/3", "2/3", "3/3"]
    sources = {(folder / "stages/source/model.safetensors").read_bytes() for folder in folders}
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("model.safetensors")}
    assert len(sources) == 1
    assert run()["rows"] == table["rows"]
    assert stamps == {path: path.stat().st_mtime_ns for path in out.rglob("model.safetensors")}
    assert "| method | fold 1 | fold 2 | fold 3 | spread |" in (out / "table.md").read_text()

    assert folds_by_recipe(task, {"dacs": [], "apart": []}, 3) == {"dacs": 3, "apart": None}
    with pytest.raises(RequestError, match=r"--folds 3: no recipe of .* e\.g\. apart: .* differ in images"):
        folds_by_recipe(task, {"apart": []}, 3)
    with pytest.raises(RequestError, match=r"--folds sets data\.fold, all of them in turn"):
        folds_by_recipe(task, {"dacs": ["data.fold=1/3"]}, 3)
    with pytest.raises(RequestError, match="--folds is 1; give 2 or more"):
        folds_by_recipe(task, {"dacs": []}, 1)


def scored(**iou: float | None) -> dict[str, Any]:
    known = [value for value in iou.values() if value is not None]
    scores = {"miou": sum(known) / len(known), "mpa": 0.0, "iou": iou, "accuracy": iou, "pixels": dict.fromkeys(iou, 1)}
    return {
        "stage": "adapt",
        "scores": scores,
        "seconds": 2.0,
        "peak_memory_mb": 7,
        "labels": [],
        "measures": {"q": 1.0},
    }


def test_a_class_counts_in_the_folds_in_which_it_occurs() -> None:
    """The mean over classes of (10 + 30) / 2 and 90, not that of the folds' 10 and 60."""
    row = over_folds({Fold(1, 2): scored(road=10.0, bus=None), Fold(2, 2): scored(road=30.0, bus=90.0)})
    assert (row["scores"]["iou"], row["scores"]["miou"]) == ({"road": 20.0, "bus": 90.0}, 55.0)
    assert row["scores"]["mpa"] == 55.0
    assert row["folds"] == {"1": 10.0, "2": 60.0}


def test_the_mean_over_ten_folds_is_compared_with_its_row_and_one_fold_is_not() -> None:
    config = load_config("cityscapes_nthu_rome/cbst_resnet38", ["data.fold=3/10"])
    stages = [{"stage": "adapt", "scores": {"iou": dict.fromkeys(NTHU.names, 50.0)}}]
    (found,) = published_rows(config, stages, folds=10)
    assert (found["published"], found["difference"]) == (53.6, -3.6)
    (found,) = published_rows(config, stages)
    assert line_of(found).endswith(
        "not compared: published is the mean over 10 folds, and a run is one of them: segadapt bench table "
        "cityscapes_nthu_rome --methods cbst_resnet38 --folds 10"
    )
    (found,) = published_rows(config, stages, folds=5)
    assert "here it is over 5" in found["why"]
    (found,) = published_rows(load_config("gta5_cityscapes/cbst_resnet38"), stages, folds=5)
    assert found["why"] == "published on one set, here over 5 folds"


def test_the_page_shows_the_published_rows_beside_ours() -> None:
    entry = {"title": "CBST", "method": "CBST", "network": "ResNet-38", "source": "Zou: Table 1", "published": 53.6}
    entries = [
        {**entry, "score": 50.0, "difference": -3.6, "why": ""},
        {**entry, "score": None, "difference": None, "why": "no score"},
    ]
    page = markdown({"task": "t", "seeds": [0], "rows": [], "machine": {}, "published": entries})
    assert "| CBST | CBST, ResNet-38 | 53.6 | 50.0 | -3.6 | Zou: Table 1 |" in page
    assert "| CBST | CBST, ResNet-38 | 53.6 | - | no score | Zou: Table 1 |" in page
