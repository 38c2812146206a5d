"""Decoding processes: how many, what shared memory allows, and what is said of those that fail."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from segadapt.core import cores as core_count
from segadapt.core.cores import cores
from segadapt.core.faults import in_words
from segadapt.data import loader, workers
from segadapt.data.dataset import DamagedFile, Dataset, Item
from segadapt.data.loader import Augmentation, Feeder, Part, Stream
from segadapt.data.workers import AHEAD, Decoders, fitting, needed, shared_memory, wanted
from segadapt.errors import RequestError, RunError
from segadapt.labels import IGNORE, LabelSpace

CPU = torch.device("cpu")
SPACE = LabelSpace("halves", ("left", "right"), ((255, 0, 0), (0, 0, 255)))


@pytest.mark.parametrize(
    ("device", "count", "processes", "streams", "expected"),
    [
        ("cuda", 1, 1, 2, 0),
        ("cuda", 2, 1, 2, 1),
        ("cuda", 5, 1, 2, 2),
        ("cuda", 64, 1, 2, 4),
        ("cuda", 32, 8, 2, 1),
        ("cuda", 8, 16, 2, 0),
        ("cpu", 2, 1, 2, 0),
        ("cpu", 7, 1, 2, 0),
        ("cpu", 8, 1, 2, 1),
        ("cpu", 8, 2, 2, 0),
        ("cpu", 64, 1, 1, 1),
    ],
)
def test_cores_and_device_decide(
    device: str, count: int, processes: int, streams: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "cores", lambda: count)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    monkeypatch.setattr(workers.multiprocessing, "get_all_start_methods", lambda: ["fork", "spawn"])
    assert wanted("auto", device, streams) == expected
    assert wanted(3, device, streams) == 3
    monkeypatch.setattr(workers.multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    assert wanted("auto", device, streams) == 0


@pytest.mark.parametrize(
    ("quota", "expected"), [("max 100000", 6), ("250000 100000", 3), ("50000 100000", 1), ("9900000 100000", 6)]
)
def test_a_container_has_the_cores_of_its_share(
    quota: str, expected: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cpu.max").write_text(quota + "\n")
    monkeypatch.setattr(core_count, "_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(core_count.os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    assert cores() == expected


def test_as_many_processes_as_shared_memory_has_room_for() -> None:
    mega = 1 << 20
    assert fitting(4, 10 * mega, 1024 * mega) == Decoders(4, AHEAD)
    assert fitting(4, 10 * mega, 150 * mega) == Decoders(4, 2)
    assert fitting(4, 10 * mega, 64 * mega) == Decoders(3, 1)
    assert fitting(4, 10 * mega, 30 * mega) == Decoders(0, 0)
    for free in range(0, 400, 7):
        found = fitting(3, 10 * mega, free * mega)
        assert not found.processes or needed(found, 10 * mega) <= free * mega


def test_the_free_memory_is_divided(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(workers, "_SHARED", tmp_path)
    monkeypatch.setattr(workers.shutil, "disk_usage", lambda path: SimpleNamespace(free=1200))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert shared_memory(2) == 200
    monkeypatch.undo()
    monkeypatch.setattr(workers, "_SHARED", tmp_path / "not there")
    assert shared_memory(2) is None


def of_reading(read: object, count: int = 4) -> Stream:
    """A stream of images that a function reads."""
    items = tuple(Item(str(n), Path(str(n))) for n in range(count))
    dataset = Dataset("made", SPACE, items, read, lambda _: np.full((32, 32), IGNORE, np.uint8))  # type: ignore[arg-type]
    return Stream((Part(dataset, 1, None, Augmentation(crop=(16, 16), scales=(1.0, 1.0))),), 2)


def plain(path: Path) -> np.ndarray:
    return np.full((32, 32, 3), int(path.name), np.uint8)


def ended(path: Path) -> np.ndarray:
    if torch.utils.data.get_worker_info() is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(path)


def damaged(path: Path) -> np.ndarray:
    raise DamagedFile(f"{path} cannot be decoded")


def test_fewer_start_where_shared_memory_is_small_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    whole = torch.cat([b.images for b in Feeder(of_reading(plain), 0, CPU).batches(0, 3)])
    monkeypatch.setattr(loader, "shared_memory", lambda streams: 1000)
    feeder = Feeder(of_reading(plain), 0, CPU, workers=2, warn=said.append)
    assert torch.equal(torch.cat([b.images for b in feeder.batches(0, 3)]), whole)
    (line,) = said
    assert line.startswith("2 decoding processes need ")
    assert "the training process decodes; a container has more with '--shm-size=2g'" in line
    started: list[int] = []
    monkeypatch.setattr(loader, "shared_memory", lambda streams: 30_000)
    monkeypatch.setattr(loader, "DataLoader", lambda *_, num_workers, **__: started.append(num_workers) or [])
    list(Feeder(of_reading(plain), 0, CPU, workers=2, streams=2, warn=said.append).batches(0, 3))
    assert started == [1]
    assert "1 of them start, with 1 batches ready each" in said[1]


def test_what_a_decoding_process_refuses_arrives_as_it_is() -> None:
    with pytest.raises(DamagedFile) as told:
        list(Feeder(of_reading(damaged), 0, CPU, workers=1).batches(0, 2))
    assert str(told.value) in {f"{n} cannot be decoded" for n in range(4)}


def test_a_decoding_process_that_is_killed_is_one_line() -> None:
    with pytest.raises(RunError, match="a process that decodes images was ended by the system") as told:  # noqa: SIM117
        with in_words("stage 'adapt'", {"batch": 2}):
            list(Feeder(of_reading(ended), 0, CPU, workers=1).batches(0, 4))
    assert "\n" not in str(told.value)
    assert isinstance(told.value.__cause__, RuntimeError)


def test_a_request_error_is_no_sample() -> None:
    with pytest.raises(RequestError, match="cannot be decoded"):
        next(Feeder(of_reading(damaged), 0, CPU).batches(0, 1))
