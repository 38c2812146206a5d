"""Timing passes: every pass is there, and no shorter than the parts that it overlaps."""

from __future__ import annotations

import json

import pytest

from segadapt.bench.passes import bench_passes
from tests.test_cli import call


def test_passes_are_timed_beside_their_parts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"images": 8, "size": (16, 24), "classes": 3, "forward_ms": 4.0, "decode_ms": 2.0, "repeats": 1}
    made = bench_passes(accelerator="cpu", **small)
    assert made["forward_ms"] >= 4
    assert made["decode_ms"] >= 2
    assert list(made["passes"]) == ["scores", "ranking", "labels", "soft labels", "evaluation", "predict"]
    for name in ("scores", "soft labels", "evaluation", "predict"):
        assert made["passes"][name]["ms"] >= 4
        assert made["passes"][name]["ratio"] > 0.5
    assert json.loads(json.dumps(made)) == made
    options = [
        "--images",
        "8",
        "--size",
        "16x24",
        "--classes",
        "3",
        "--forward",
        "1",
        "--decode",
        "0",
        "--repeats",
        "1",
    ]
    status, out, _ = call(monkeypatch, capsys, "bench", "passes", "--accelerator", "cpu", *options)
    assert status == 0
    assert "soft labels" in out
