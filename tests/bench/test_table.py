"""The table of methods: mean and spread over seeds, finished runs kept, equal stages trained once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from segadapt.bench.pages import markdown
from segadapt.bench.table import bench_table, summarise, task_recipes
from segadapt.core.files import write_json
from segadapt.errors import RequestError
from segadapt.methods.registry import METHODS
from segadapt.recipes import recipe_names
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
    (tmp_path / "task/_base.yaml").write_text("{}")  # not a recipe: the task still has two
    assert bench_table(task, None, [1, 2], out, {}, quiet=True)["rows"] == table["rows"]
    assert bench_table(task, ["cbst"], [1, 2], out, {}, quiet=True)["rows"] == table["rows"], (
        "earlier runs stay in the table"
    )
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
        task,
        methods,
        [1],
        tmp_path / "out",
        {},
        overrides=["adapt.structure=0", "source.steps=2", "adapt.steps=2"],
        quiet=True,
    )
    assert [row["stage"] for row in table["rows"]] == ["source", "adapt"]
    with pytest.raises(RequestError, match=r"no setting or stage 'adopt' \(did you mean 'adapt'"):
        bench_table(task, methods, [1], tmp_path / "out", {}, overrides=["adopt.structure=0"], quiet=True)


def row(method: str, miou: float, sky: float | None = 5.0, **changes: Any) -> dict[str, Any]:
    """Make the row of a stage in a run's results."""
    return {
        "stage": "adapt",
        "role": "adapted",
        "method": method,
        "title": method.upper(),
        "scores": {
            "miou": miou,
            "mpa": miou + 5,
            "iou": {"sky": sky, "road": miou},
            "accuracy": {"sky": sky and 50.0, "road": 50.0},
            "pixels": {"sky": 100 if sky else 0, "road": 300},
        },
        "seconds": 60.0,
        "steps": 40,
        "peak_memory_mb": 7,
        **changes,
    }


def write_run(folder: Path, rows: list[dict[str, Any]], planned: list[dict[str, Any]] | None = None) -> None:
    """Write the files of a run that the table reads: planned stages, and results of the finished ones."""
    stages = [{"name": r["stage"], "role": r["role"]} for r in planned or rows]
    write_json(folder / "config.json", {"config": {"stages": stages, "model": {"name": "lite"}}})
    machine = {"segadapt": "1", "torch": "2", "python": "3", "cpu": "c", "cores": "2", "device": "cpu"}
    labels = [{"stage": "adapt", "accuracy": 0.5}, {"stage": "adapt", "accuracy": 0.75}]
    write_json(folder / "results.json", {"rows": rows, "labels": labels, "machine": machine})


def test_unfinished_seeds_and_absent_classes_are_left_out_of_means(tmp_path: Path) -> None:
    write_run(tmp_path / "st/seed0", [row("st", 30.0, None)])
    write_run(tmp_path / "st/seed1", [row("st", 32.0, 8.0)])
    table = summarise("task", ["st", "cbst"], [0, 1, 2], tmp_path)
    (only,) = table["rows"]
    assert (only["miou"], only["iou"]["sky"]) == (31.0, 8.0)
    page = markdown(table)
    assert "| ST | `lite` | 40 | 31.0 ± 1.4 | 30.0 | 32.0 | - | 36.0 | 75.0% | 1.0 | 7 |" in page
    assert "| ST | 8.0 | 31.0 |" in page


def test_a_control_trains_on_the_source_alone_and_is_adapted(tmp_path: Path) -> None:
    write_run(tmp_path / "source_only/seed0", [row("source_only", 20.0, role="source")])
    write_run(tmp_path / "longer/seed0", [row("source_only", 21.0)])
    write_run(tmp_path / "st/seed0", [row("st", 22.0)])
    write_run(tmp_path / "oracle/seed0", [row("oracle", 50.0, role="oracle")])
    rows = summarise("task", ["source_only", "longer", "st", "oracle"], [0], tmp_path)["rows"]
    assert [r["method"] for r in rows if r["control"]] == ["longer"]


WARMUP = row("adaptseg", 30.0, stage="warmup")


@pytest.mark.parametrize("order", [["adaptseg", "proda", "cpsl"], ["proda", "cpsl", "adaptseg"]])
def test_a_stage_shared_by_two_methods_is_listed_once_under_the_method_that_ends_with_it(
    tmp_path: Path, order: list[str]
) -> None:
    write_run(tmp_path / "adaptseg/seed0", [WARMUP])
    write_run(tmp_path / "proda/seed0", [WARMUP, row("proda", 31.0)])
    write_run(tmp_path / "cpsl/seed0", [WARMUP, row("cpsl", 33.0)])
    rows = summarise("task", order, [0], tmp_path)["rows"]
    assert [(r["method"], r["title"], r["result"]) for r in rows] == [
        ("adaptseg", "ADAPTSEG", True),
        ("proda", "PRODA", True),
        ("cpsl", "CPSL", True),
    ]


def test_stages_on_the_way_are_not_results(tmp_path: Path) -> None:
    """Holds when the recipe goes on after them, and when its last stage is not finished yet."""
    source, oracle = row("source_only", 20.0, stage="s", role="source"), row("oracle", 60.0, stage="o", role="oracle")
    stages = [source, WARMUP, row("proda", 31.0), row("distill", 32.0, stage="last"), oracle]
    write_run(tmp_path / "source_only/seed0", [source])
    write_run(tmp_path / "proda/seed0", stages)
    write_run(tmp_path / "cpsl/seed0", [source, row("cpsl", 29.0)], planned=stages)
    write_run(tmp_path / "oracle/seed0", [source, oracle])
    rows = summarise("task", ["source_only", "proda", "cpsl", "oracle"], [0], tmp_path)["rows"]
    assert [(r["method"], r["role"], r["title"], r["result"]) for r in rows] == [
        ("source_only", "source", "SOURCE_ONLY", True),
        ("proda", "adapted", "ADAPTSEG", False),
        ("proda", "adapted", "PRODA", False),
        ("proda", "adapted", "DISTILL", True),
        ("cpsl", "adapted", "CPSL", False),
        ("oracle", "oracle", "ORACLE", True),
    ]


# ---- which recipes ----


def test_all_recipes_of_a_task_in_the_order_of_the_table() -> None:
    names = task_recipes("camvid_day_dusk")
    assert sorted(f"camvid_day_dusk/{n}" for n in names) == [n for n in recipe_names() if n.startswith("camvid_day")]
    assert (names[0], names[-1]) == ("source_only", "oracle")
    methods = [n for n in names if n in METHODS and n != "oracle"]
    assert methods == sorted(methods, key=list(METHODS).index)
    after = {n: names[names.index(n) - 1] for n in names[1:]}
    assert after["mic_hrda"] == "mic"
    assert [n for n in names if n.startswith("mpcl")] == names[names.index("mpcl") : -1]


def test_a_recipe_with_a_name_of_its_own_stands_beside_its_last_method() -> None:
    names = task_recipes("gta5_cityscapes")
    after = names[names.index("cbst_sp") + 1 :][:3]
    assert after == ["cbst_sp_mst_resnet38", "cbst_sp_resnet38", "cbst_sp_vgg16"]


def test_an_unknown_task_is_refused_with_the_nearest() -> None:
    with pytest.raises(RequestError, match=r"no task 'toy_camwid' \(did you mean 'toy_camvid'\?\)"):
        task_recipes("toy_camwid")
