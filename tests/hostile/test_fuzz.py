"""Damaged files: a result or one line, from every reader. A small sample; ``segadapt bench fuzz`` tries thousands."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segadapt.bench import fuzz as bench
from segadapt.bench.fuzz import KINDS, fuzz, fuzzed_input, outcome, require_valid, shares
from segadapt.bench.fuzz.readers import READERS
from segadapt.core.files import read_json, write_json

SAMPLE = 8
QUIET = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(st.characters(), max_size=8),
    st.sampled_from(["[/x]", "../x", "imagenet", "others", "9" * 5000, "\ud800", "name", "classes"]),
)
KEYS = st.one_of(
    st.text(max_size=4),
    st.sampled_from(["name", "id", "color", "classes", "base", "stages", "weights", "rows", "space"]),
)
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4))


@pytest.mark.parametrize("reader", READERS)
def test_damaged_files_give_a_result_or_one_line(reader: str) -> None:
    require_valid(reader, 2)
    for number in range(SAMPLE):
        name, content = fuzzed_input(reader, number, seed=1)
        found = outcome(reader, name, content)
        assert found["kind"] != "traceback", (number, name, found["said"])
        assert found["bytes"] < 1 << 30, (number, name)


@QUIET
@given(TREES, st.sampled_from(["classes files", "annotations", "recipes", "run folders"]))
def test_trees_of_any_shape_give_a_result_or_one_line(tree: Any, reader: str) -> None:
    name = {"recipes": "own.yaml", "run folders": "results.json"}.get(reader, "a.json")
    found = outcome(reader, name, json.dumps(tree).encode())
    assert found["kind"] != "traceback", found["said"]


@QUIET
@given(st.binary(max_size=200), st.sampled_from([name for name in READERS if name != "videos"]), st.data())
def test_bytes_of_any_kind_give_a_result_or_one_line(content: bytes, reader: str, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(READERS[reader].files())))
    found = outcome(reader, name, content)
    assert found["kind"] != "traceback", found["said"]


def test_an_input_is_decided_by_reader_number_and_seed() -> None:
    one = [fuzzed_input("images", number) for number in range(20)]
    assert one == [fuzzed_input("images", number) for number in range(20)]
    assert len(set(one)) > 15
    assert fuzzed_input("images", 3, seed=1) != fuzzed_input("images", 3, seed=2)


def test_inputs_are_divided_by_share() -> None:
    found = shares(10_000)
    assert abs(sum(found.values()) - 10_000) < len(found)
    assert math.isclose(found["images"], 2 * found["masks"], rel_tol=0.01)


def test_a_long_run_goes_on_and_counts_what_ended_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readers = {name: READERS[name] for name in ("classes files", "lists")}
    monkeypatch.setattr(bench, "READERS", readers)
    out = tmp_path / "fuzz.json"
    whole = fuzz(10, 0, out)
    assert whole["readers"].keys() == readers.keys()
    assert sum(n["tried"] for n in whole["readers"].values()) == 10
    assert all(n["accepted"] + n["refused"] + n["traceback"] == n["tried"] for n in whole["readers"].values())
    lists = whole["readers"]["lists"]
    counts = {**dict.fromkeys(KINDS, 0), "tried": 1, "refused": 1}
    held = {**whole, "findings": [], "readers": {**whole["readers"], "lists": counts}, "running": ["lists", 1]}
    write_json(out, held)
    again = fuzz(10, 0, out)
    assert again["readers"]["lists"]["tried"] == lists["tried"] == 2
    assert again["readers"]["lists"]["ended"] == 1
    assert again["findings"] == [{"reader": "lists", "number": 1, "kind": "ended"}]
    assert read_json(out) == again


def test_what_is_no_line_and_what_takes_long_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(path: Path) -> None:
        raise KeyError("x")

    def hangs(path: Path) -> None:
        while True:
            try:
                while True:
                    pass
            except Exception:  # a reader may take anything for damage
                pass

    for read, said in ((fails, "KeyError: 'x'"), (hangs, "no end after")):
        reader = bench.READERS["lists"].__class__(READERS["lists"].files, READERS["lists"].damage, read)
        monkeypatch.setattr(bench, "READERS", {"lists": reader})
        monkeypatch.setattr(bench, "HANG", 0.2)
        found = outcome("lists", "a.txt", b"")
        assert found["kind"] == "traceback"
        assert found["said"].startswith(said)
