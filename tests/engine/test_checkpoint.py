"""Checkpoints: two are kept, damage is noticed, the one before is used, no code is executed."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import torch

from segadapt.core.files import read_json, replace_file
from segadapt.engine.checkpoint import Newest, load_checkpoint, newest_checkpoint, save_checkpoint
from segadapt.errors import RunError


def save(folder: Path, *positions: int) -> None:
    for position in positions:
        save_checkpoint(folder, position, {"step": position, "weight": torch.full((4,), float(position))})


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 3)
    assert sorted(p.name for p in tmp_path.glob("*.pt")) == ["checkpoint-000000002.pt", "checkpoint-000000003.pt"]
    state = load_checkpoint(tmp_path, pytest.fail)
    assert state is not None
    assert state["step"] == 3


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "remove"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path, damage: str) -> None:
    save(tmp_path, 1, 2)
    newest = tmp_path / "checkpoint-000000002.pt"
    content = bytearray(newest.read_bytes())
    if damage == "truncate":
        newest.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        content[len(content) // 2] ^= 1
        newest.write_bytes(content)
    elif damage == "empty":
        newest.write_bytes(b"")
    else:
        newest.unlink()
    said: list[str] = []
    state = load_checkpoint(tmp_path, said.append)
    assert state is not None
    assert state["step"] == 1
    assert len(said) == 1
    assert "checkpoint-000000002.pt" in said[0]


def test_nothing_readable_means_from_the_start(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path, pytest.fail) is None
    save(tmp_path, 1)
    (tmp_path / "checkpoint-000000001.pt").write_bytes(b"x")
    said: list[str] = []
    assert load_checkpoint(tmp_path, said.append) is None
    assert len(said) == 1


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_reading_executes_no_code(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    torch.save({"step": Trap(trap)}, tmp_path / "evil.pt")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "evil.pt", weights_only=True)
    save_checkpoint(tmp_path, 1, {"step": 1})
    save_checkpoint(tmp_path, 2, {"step": Trap(trap)})
    said: list[str] = []
    state = load_checkpoint(tmp_path, said.append)
    assert state is not None
    assert state["step"] == 1
    assert said
    assert not trap.exists()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "value"
    replace_file(path, lambda file: file.write(b"old"))

    def fail(file: BinaryIO) -> None:
        file.write(b"ne")
        raise OSError("disk full")

    with pytest.raises(RunError, match=r"value' cannot be written: disk full"):
        replace_file(path, fail)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["value"]


def test_broken_json_reads_as_none(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"half": ')
    assert read_json(tmp_path / "a.json") is None
    assert read_json(tmp_path / "missing.json") is None


@pytest.mark.parametrize("harm", ["missing", "cut", "shape", "one behind"])
def test_checkpoints_outlive_their_manifest(tmp_path: Path, harm: str) -> None:
    """Without it they are found by their names and checked by the checksums inside them."""
    save(tmp_path, 1, 2)
    manifest = tmp_path / "checkpoints.json"
    before = manifest.read_text()
    save(tmp_path, 3)
    if harm == "missing":
        manifest.unlink()
    else:
        manifest.write_text({"cut": before[:-30], "shape": '{"checkpoints": 7}', "one behind": before}[harm])
    said: list[str] = []
    state = load_checkpoint(tmp_path, said.append)
    assert state is not None
    assert state["step"] == 3
    assert len(said) == (harm in ("cut", "shape"))
    assert newest_checkpoint(tmp_path) == Newest(3, None)
    newest = tmp_path / "checkpoint-000000003.pt"
    content = bytearray(newest.read_bytes())
    place = content.index(np.full(4, 3.0, np.float32).tobytes())
    content[place] ^= 1
    newest.write_bytes(content)
    state = load_checkpoint(tmp_path, said.append)
    assert state is not None
    assert state["step"] == 2, "a bit that turned is seen without the manifest too"
    save(tmp_path, 4)
    assert load_checkpoint(tmp_path, pytest.fail) is not None
