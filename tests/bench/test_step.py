"""The cost of a step: the passes of every method are found, and the numbers are consistent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from segadapt.bench.step import bench_step
from segadapt.bench.steps import bench_steps, recipe_jobs
from segadapt.errors import RequestError

SMALL = {"size": (48, 64), "crop": (32, 32), "batch": 2, "repeats": 3, "classes": 3, "accelerator": "cpu"}


@pytest.mark.parametrize(
    ("method", "trained", "frozen"),
    [
        ("source_only", 1, 0),
        ("cbst", 1, 0),
        ("adaptseg", 5, 0),
        ("proda", 3, 1),
        ("distill", 2, 1),
        ("cpsl", 4, 2),
        ("bcl", 2, 0),
        ("daformer", 2, 2),
        ("hrda", 2, 2),
        ("mic", 3, 2),
        ("mpcl", 3, 2),
    ],
)
def test_passes_of_a_step(method: str, trained: int, frozen: int) -> None:
    settings = {"feature_classes": "all"} if method in ("daformer", "hrda", "mic", "mpcl") else {}
    network = "hrda:timm:test_resnet" if method == "hrda" else "timm:test_resnet"
    result = bench_step(method, network, settings=settings, **SMALL)  # type: ignore[arg-type]
    calls = result["calls"]
    assert sum("backward" in call for call in calls) == trained
    assert len(calls) == trained + frozen
    if method == "proda":
        assert calls[1] == "TimmSegmenter, forward, 2 x 48 x 64", "the teacher sees whole images"
    if method == "daformer":
        assert calls[1] == "TimmSegmenter, encoder, forward, 2 x 32 x 32", "features as they began"
    assert result["passes_ms"] > 0
    assert result["step_ms"] > 0
    low, high = result["overhead_quartiles"]
    assert low <= result["overhead"] <= high
    assert min(result["peak_memory_mb"].values()) > 0
    assert result["images_per_second"] == pytest.approx(
        1e3 * (1 if method in ("source_only", "cbst") else 2) * 2 / (result["step_ms"] + result["data_ms"])
    )
    assert ("over_host" in result) == (method == "mpcl"), "what prototypes cost beside the method that they join"


def test_a_method_without_a_network_of_its_own_choice() -> None:
    """The command line does this when only the method is named."""
    result = bench_step("hrda", repeats=3, batch=1, size=(176, 240), accelerator="cpu")
    assert result["network"] == "hrda:lite"
    assert result["crop"] == [176, 240]


def test_many_methods_in_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command times each, goes on after one that fails, and writes all of them down."""
    from typer.testing import CliRunner

    from segadapt.bench import steps
    from segadapt.cli import app

    monkeypatch.setattr(steps, "METHODS", ("source_only", "daformer", "mpcl", "given"))
    sizes = ["--size=48x64", "--crop=32x32", "--batch=2", "--repeats=3", "--classes=3", "--accelerator=cpu"]
    out = tmp_path / "step.json"
    arguments = ["bench", "step", "--all", "--network", "timm:test_resnet", *sizes, "--out", str(out)]
    shown = CliRunner().invoke(app, arguments, catch_exceptions=False).output
    rows = json.loads(out.read_text())["rows"]
    assert [row["name"] for row in rows] == ["source_only", "daformer", "mpcl"]
    assert "feature_classes" in rows[1]["problem"], "made-up classes are no things"
    assert "| source_only | `timm:test_resnet` | 2 x 32x32 |" in shown
    assert "feature_classes" in shown
    assert rows[0]["step_ms"] > 0


def test_recipes_at_their_published_sizes() -> None:
    names = ["proda", "daformer", "vfm_uda_base", "cbst"]
    jobs = list(recipe_jobs("gta5_cityscapes", names, size=(1024, 2048), batch=1))
    assert [job.config.method for job in jobs] == ["proda", "daformer", "mic", "cbst"]
    assert [job.config.augmentation.crop for job in jobs] == [(512, 896), (512, 512), (1024, 1024), (512, 1024)]
    assert [job.network for job in jobs][:2] == ["proda_resnet101", "daformer_mit_b5"]
    assert jobs[1].size == (512, 1024)
    assert jobs[1].source_size == (640, 1280)
    assert jobs[2].precision == "bf16-mixed"
    assert all(job.config.batch_size == 1 for job in jobs)
    with pytest.raises(RequestError, match="no recipe 'gta5_cityscapes/prodo'"):
        list(recipe_jobs("gta5_cityscapes", ["prodo"], size=(64, 64)))


def test_no_method_begins_after_the_time() -> None:
    jobs = list(recipe_jobs("gta5_cityscapes", ["proda"], size=(64, 64)))
    (row,) = bench_steps(jobs, accelerator="cpu", minutes=0.0)["rows"]
    assert row["problem"] == "not measured: the time is over"


@pytest.mark.parametrize("arguments", [[], ["cbst", "--all"], ["--task", "toy", "--network", "lite"]])
def test_what_cannot_be_asked_together(arguments: list[str]) -> None:
    from typer.testing import CliRunner

    from segadapt.cli import app

    result = CliRunner().invoke(app, ["bench", "step", *arguments])
    assert isinstance(result.exception, RequestError)
