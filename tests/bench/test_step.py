"""The cost of a step: the passes of every method are found, and the numbers are consistent."""

from __future__ import annotations

import pytest

from segadapt.bench.step import bench_step

SMALL = {"size": (48, 64), "crop": (32, 32), "batch": 2, "repeats": 3, "classes": 3, "accelerator": "cpu"}


@pytest.mark.parametrize(
    ("method", "trained", "frozen"),
    [
        ("source_only", 1, 0),
        ("cbst", 1, 0),
        ("adaptseg", 5, 0),
        ("proda", 3, 1),
        ("distill", 2, 1),
        ("cpsl", 3, 1),
        ("bcl", 2, 0),
        ("daformer", 2, 2),
        ("hrda", 2, 2),
        ("mic", 3, 2),
    ],
)
def test_passes_of_a_step(method: str, trained: int, frozen: int) -> None:
    settings = {"feature_classes": "all"} if method in ("daformer", "hrda", "mic") else {}
    network = "hrda:timm:resnet10t" if method == "hrda" else "timm:resnet10t"
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
    assert result["peak_memory_mb"]["passes"] <= result["peak_memory_mb"]["step"]


def test_a_method_without_a_network_of_its_own_choice() -> None:
    """The command line does this when only the method is named."""
    result = bench_step("hrda", repeats=3, batch=1, size=(176, 240), accelerator="cpu")
    assert result["network"] == "hrda:lite"
    assert result["crop"] == [176, 240]
