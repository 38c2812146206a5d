"""Heads of model files that nobody should trust: one line, nothing built, nothing fetched, no memory taken."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from segadapt.bench.fuzz.seeds import models
from segadapt.data.bands import BandReader, reader_of
from segadapt.data.scaling import Range
from segadapt.errors import RequestError
from segadapt.models.metadata import allowance
from segadapt.models.store import load_model, model_head


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)


def changed(folder: Path, part: str, change: Callable[[dict[str, Any]], Any], file: str = "plain.safetensors") -> Path:
    """Write a model file with another part in its head."""
    data = models()[file]
    length = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + length])
    texts = head["__metadata__"]
    texts.pop("sha256", None)
    tree = json.loads(texts[part])
    made = change(tree)
    texts[part] = json.dumps(tree if made is None else made)
    text = json.dumps(head).encode()
    path = folder / "model.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    return path


def refused(path: Path, words: str) -> None:
    with pytest.raises(RequestError, match=words) as line:
        load_model(path)
    assert "\n" not in str(line.value)
    assert "model.safetensors" in str(line.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(weights="imagenet"), "nothing is fetched"),
        (lambda d: d.update(name="timm:hf-hub:somebody/model"), "no encoder"),
        (lambda d: {"name": "foundation:hf_hub:somebody/model", "classes": 3}, "no encoder"),
        (lambda d: d.update(width=60_000), "more than .* GB"),
        (lambda d: d.update(width=10**12), "'description.width' is out of every sensible range"),
        (lambda d: d.update(width=-1), "cannot be built|must"),
        (lambda d: d.update(width="x"), "does not take|cannot be built"),
        (lambda d: d.update(width=[1]), "does not take|cannot be built"),
        (lambda d: d.update(classes=4), "4 classes, its list of names 3"),
        (lambda d: d.update(classes="3"), "'classes' is 3; it is a number"),
        (lambda d: d.update(classes=True), "'classes' is True"),
        (lambda d: d.update(bands=10**9), "out of every sensible range"),
        (lambda d: d.update(bands=0), "'bands' is 0"),
        (lambda d: d.update(name=["lite"]), "names no network"),
        (lambda d: d.update(name="no_such_network"), "no network"),
        (lambda d: d.update(strange=1), "does not take these arguments"),
        (lambda d: d.update(preprocessing={"mean": ["a"]}), "preprocessing"),
        (lambda d: d.update(preprocessing={"strange": 1}), "preprocessing"),
        (lambda d: d.update(preprocessing=[1, 2]), "preprocessing"),
        (lambda d: [1], "'description' is no JSON mapping"),
    ],
)
def test_a_description_is_checked_before_it_is_built(tmp_path: Path, change: Any, words: str) -> None:
    refused(changed(tmp_path, "description", change), words)


def test_weights_inside_the_description_are_refused_too(tmp_path: Path) -> None:
    change: Any = lambda d: d.setdefault("base", {}).update(weights="imagenet")  # noqa: E731
    refused(changed(tmp_path, "description", change, "two.safetensors"), "nothing is fetched")


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.update(names=["a", "a", "b"]),
        lambda s: s.update(names=[1, 2, 3]),
        lambda s: s.update(names=["", "b", "c"]),
        lambda s: s.update(names=["x" * 5000, "b", "c"]),
        lambda s: s.update(names=[str(i) for i in range(300)]),
        lambda s: s.update(names="abc", colors=None),
        lambda s: s.update(colors=[[0, 0, 300], [1, 1, 1], [2, 2, 2]]),
        lambda s: s.update(colors=[[0, 0], [1, 1, 1], [2, 2, 2]]),
        lambda s: s.update(subsets={"a": ["unknown"]}),
        lambda s: s.update(subsets=[1]),
        lambda s: s.update(ids=[0, 0, 1]),
        lambda s: s.update(ids=["0", 1, 2]),
        lambda s: s.update(ids=[0.5, 1, 2]),
        lambda s: s.update(ignore_id="x"),
        lambda s: s.update(ignore_color=[1]),
        lambda s: s.pop("names") and None,
        lambda s: [],
    ],
)
def test_a_list_of_classes_is_checked(tmp_path: Path, change: Any) -> None:
    path = changed(tmp_path, "space", change)
    refused(path, "label space|list of classes")
    with pytest.raises(RequestError):
        model_head(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: p.update(size=[10**9, 4]), "'size' is 1000000000"),
        (lambda p: p.update(size="big"), "'size' is big"),
        (lambda p: p.update(size=[1, 2, 3]), "'size' is"),
        (lambda p: p.update(inference=[]), "inference"),
        (lambda p: p.update(inference={"scales": [1e30]}), "out of every sensible range"),
        (lambda p: p.update(inference={"scales": []}), "scales"),
        (lambda p: p.update(inference={"strange": 1}), "unknown key 'strange'"),
        (lambda p: p.update(input=3), "does not say how images are read"),
        (lambda p: None if p.clear() else [], "'provenance' is no JSON mapping"),
    ],
)
def test_what_is_said_of_prediction_is_checked(tmp_path: Path, change: Any, words: str) -> None:
    refused(changed(tmp_path, "provenance", change), words)


def test_other_parts_of_a_head_are_refused(tmp_path: Path) -> None:
    path = changed(tmp_path, "space", lambda s: None)
    assert load_model(path).space.names == ("road", "car", "sky")
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"provenance"', b'"provenanze"', 1))
    refused(path, "has the unknown part 'provenanze'")


@pytest.mark.parametrize(
    "kept",
    [
        {},
        {"bands": [1], "low": [0.0], "high": [1.0], "dtype": "object"},
        {"bands": [0], "low": [0.0], "high": [1.0], "dtype": "uint8"},
        {"bands": [1, 2], "low": [0.0], "high": [1.0], "dtype": "uint8"},
        {"bands": [], "low": [], "high": [], "dtype": "uint8"},
        {"bands": [1], "low": ["0"], "high": [1.0], "dtype": "uint8"},
        {"bands": 1, "low": 0, "high": 1, "dtype": "uint8"},
    ],
)
def test_a_reader_of_bands_is_checked(kept: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="does not say how its images are read"):
        reader_of(kept)
    whole = {"bands": [4, 3], "low": [0, 1.5], "high": [9, 10], "dtype": "uint16"}
    assert reader_of(whole) == BandReader((4, 3), Range((0, 1.5), (9, 10)), "uint16")


def test_memory_is_refused_before_it_is_taken() -> None:
    with allowance(10_000, "'file'"):
        nn.Conv2d(4, 8, 3)
        torch.empty(10**12, device="meta")
    with pytest.raises(RequestError, match="'file' describes a network of more than"), allowance(10_000, "'file'"):
        torch.zeros(10**13)
    with pytest.raises(RequestError), allowance(10_000, "'file'"):
        nn.Sequential(*(nn.Linear(10, 10) for _ in range(100)))
