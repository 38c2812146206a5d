"""The benchmark of thresholds reports the right numbers on a small job."""

from __future__ import annotations

import json

import pytest
import torch

from segadapt.bench.thresholds import ConfidenceStream, bench_thresholds
from segadapt.cli.benching import thresholds


def test_images_differ_and_can_be_made_again():
    stream = ConfidenceStream(7, 40, 60, seed=0)
    confidence, predicted = stream.image(5)
    again, classes = ConfidenceStream(7, 40, 60, seed=0).image(5)
    assert torch.equal(confidence, again)
    assert torch.equal(predicted, classes)
    assert predicted.dtype == torch.uint8
    assert int(predicted.max()) < 7
    assert 0 < float(confidence.min()) <= float(confidence.max()) < 1
    seen = [stream.image(i)[0] for i in range(9)]
    assert all(not torch.equal(seen[i], seen[j]) for i in range(9) for j in range(i))


def test_stream_and_sort_agree():
    threads = torch.get_num_threads()
    result = bench_thresholds(images=6, height=128, width=256, classes=5, sort_images=3, threads=1)
    assert torch.get_num_threads() == threads
    assert result["equal_to_sort"]
    assert result["pixels"] == 6 * 128 * 256
    assert 0 <= result["share_error"] < 1e-3
    assert result["seconds"] > 0
    assert result["peak_memory_mb"] > result["added_memory_mb"] >= 0
    assert result["counter_memory_mb"] == 5 * 65536 * 8 / 1e6


def test_command_leaves_the_portion_alone(capsys: pytest.CaptureFixture[str]) -> None:
    thresholds(images=2, height=64, width=64, classes=3, sort_images=1, seed=5, json=True)
    result = json.loads(capsys.readouterr().out)
    assert result["portion"] == 0.2
    assert result["equal_to_sort"]
