"""The table of methods: mean and spread over seeds, finished runs kept, equal stages trained once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from segadapt.bench.table import bench_table, markdown, summarise
from segadapt.engine.checkpoint import write_json
from segadapt.errors import RequestError
from tests.tiny import raw_config


def test_table_of_two_methods_and_two_seeds(tmp_path: Path) -> None:
    methods, task, out = ["source_only", "cbst"], str(tmp_path / "task"), tmp_path / "out"
    (tmp_path / "task").mkdir()
    for method in methods:
        recipe = yaml.safe_dump(raw_config(tmp_path, method), sort_keys=False)
        (tmp_path / f"task/{method}.yaml").write_text(recipe)
    shown: list[tuple[int, str]] = []
    table = bench_table(
        task, methods, [1, 2], out, {}, quiet=True, on_row=lambda seed, row: shown.append((seed, row["method"]))
    )
    assert shown == [(1, "source_only"), (1, "cbst"), (2, "source_only"), (2, "cbst")]
    rows = {row["method"]: row for row in table["rows"]}
    for method, row in rows.items():
        found = [
            json.loads((out / method / f"seed{s}/results.json").read_text())["rows"][-1]["scores"]["miou"]
            for s in (1, 2)
        ]
        assert list(row["seeds"].values()) == found
        assert row["miou"] == pytest.approx(sum(found) / 2)
        assert row["spread"] == pytest.approx(abs(found[0] - found[1]) / 2**0.5)
    assert found[0] != found[1]
    stamps = {p: p.stat().st_mtime_ns for p in out.rglob("model.safetensors")}
    assert bench_table(task, methods, [1, 2], out, {}, quiet=True)["rows"] == table["rows"]
    assert stamps == {p: p.stat().st_mtime_ns for p in out.rglob("model.safetensors")}
    source = [(out / m / "seed1/stages/source/model.safetensors").read_bytes() for m in methods]
    assert source[0] == source[1]


def test_settings_go_to_the_recipes_that_have_the_stage(tmp_path: Path) -> None:
    (tmp_path / "task").mkdir()
    for method in ("source_only", "proda"):
        recipe = yaml.safe_dump(raw_config(tmp_path, method), sort_keys=False)
        (tmp_path / f"task/{method}.yaml").write_text(recipe)
    task, methods = str(tmp_path / "task"), ["source_only", "proda"]
    table = bench_table(
        task, methods, [1], tmp_path / "out", {}, ["adapt.structure=0", "source.steps=2", "adapt.steps=2"], quiet=True
    )
    assert [row["stage"] for row in table["rows"]] == ["source", "adapt"]
    with pytest.raises(RequestError, match=r"no setting or stage 'adopt' \(did you mean 'adapt'"):
        bench_table(task, methods, [1], tmp_path / "out", {}, ["adopt.structure=0"], quiet=True)


def result(method: str, miou: float, sky: float | None) -> dict[str, object]:
    scores = {"miou": miou, "mpa": miou + 5, "iou": {"sky": sky, "road": miou}}
    row = {
        "stage": "adapt",
        "role": "adapted",
        "method": method,
        "title": method.upper(),
        "scores": scores,
        "seconds": 60.0,
        "peak_memory_mb": 7,
    }
    machine = {"segadapt": "1", "torch": "2", "python": "3", "cpu": "c", "cores": "2", "device": "cpu"}
    return {
        "rows": [row],
        "labels": [{"stage": "adapt", "accuracy": 0.5}, {"stage": "adapt", "accuracy": 0.75}],
        "machine": machine,
    }


def test_unfinished_seeds_and_absent_classes_are_left_out_of_means(tmp_path: Path) -> None:
    write_json(tmp_path / "st/seed0/results.json", result("st", 30.0, None))
    write_json(tmp_path / "st/seed1/results.json", result("st", 32.0, 8.0))
    table = summarise("task", ["st", "cbst"], [0, 1, 2], tmp_path)
    (row,) = table["rows"]
    assert (row["miou"], row["iou"]["sky"]) == (31.0, 8.0)
    page = markdown(table)
    assert "| ST | 31.0 ± 1.4 | 30.0 | 32.0 | - | 36.0 | 75.0% | 1.0 | 7 |" in page
    assert "| ST | 8.0 | 31.0 |" in page


def test_a_stage_that_two_methods_share_is_listed_once(tmp_path: Path) -> None:
    for method, miou in (("proda", 31.0), ("cpsl", 33.0)):
        whole = result(method, miou, 5.0)
        warmup = {**result("adaptseg", 30.0, 4.0)["rows"][0], "stage": "warmup"}  # type: ignore[index]
        write_json(tmp_path / method / "seed0/results.json", {**whole, "rows": [warmup, whole["rows"][0]]})  # type: ignore[index]
    table = summarise("task", ["proda", "cpsl"], [0], tmp_path)
    assert [row["title"] for row in table["rows"]] == ["ADAPTSEG", "PRODA", "CPSL"]
