"""Work on the items to come, in threads, with results in order."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from segadapt.data import streaming
from segadapt.data.streaming import ordered_map, shared_map
from segadapt.errors import RequestError
from tests.data.team import as_team


@pytest.mark.parametrize("threads", [1, 3])
def test_ordered_map_keeps_order_and_holds_little(threads: int) -> None:
    taken = []

    def numbers():
        for i in range(100):
            taken.append(i)
            yield i

    results = ordered_map(lambda i: i * i, numbers(), threads)
    assert next(results) == 0
    assert len(taken) <= 2 * threads + 1
    assert list(results) == [i * i for i in range(1, 100)]


@pytest.mark.parametrize("threads", [1, 3])
def test_ordered_map_passes_errors_on(threads: int) -> None:
    def work(i: int) -> int:
        if i == 5:
            raise RequestError("five")
        return i

    with pytest.raises(RequestError, match="five"):
        list(ordered_map(work, range(50), threads))


def test_one_thread_works_ahead_and_keeps_order_and_errors() -> None:
    main = threading.get_ident()
    seen = list(ordered_map(lambda n: (n * n, threading.get_ident()), range(5), threads=1, ahead=1))
    assert [value for value, _ in seen] == [0, 1, 4, 9, 16]
    assert all(thread != main for _, thread in seen)
    reader = ordered_map(lambda n: 1 // n, [1, 0], threads=1, ahead=1)
    assert next(reader) == 1
    with pytest.raises(ZeroDivisionError):
        next(reader)


# ---- shared by the processes of a run ----


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_a_team_does_every_item_once_and_all_get_everything(processes: int) -> None:
    done: list[int] = []

    def work(item: int) -> int:
        done.append(item)
        return item * item

    found = as_team(processes, lambda rank: list(shared_map(work, range(7), threads=2)))
    assert found == [[i * i for i in range(7)]] * processes
    assert sorted(done) == list(range(7))


def test_what_one_process_finds_wrong_all_are_told() -> None:
    def work(item: int) -> int:
        if item in (2, 4):
            raise RequestError(f"number {item}")
        return item

    def attempt(rank: int) -> list[int]:
        got: list[int] = []
        with pytest.raises(RequestError, match="number 2"):
            got.extend(shared_map(work, range(6), threads=1))
        return got

    assert as_team(3, attempt) == [[0, 1]] * 3


def test_counts_are_added_over_a_team_in_messages_of_some_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "_MESSAGE", 50)

    def work(rank: int) -> np.ndarray:
        counts = np.arange(60, dtype=np.uint32).reshape(10, 6) * (rank + 1)
        streaming.add_up(counts)
        return counts

    for counts in as_team(3, work):
        assert np.array_equal(counts, 6 * np.arange(60, dtype=np.uint32).reshape(10, 6))
    alone = np.ones((2, 2), np.int64)
    streaming.add_up(alone)
    assert (alone == 1).all()
