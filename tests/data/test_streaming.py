"""Work on the items to come and on those that are done, in threads, with results in order."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from segadapt.data import streaming
from segadapt.data.dataset import DamagedFile
from segadapt.data.streaming import Behind, or_damage, ordered_map, shared_map, size_of
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


SOON = 20.0
"""Seconds within which another thread has certainly done its part."""


def waiting_for(event: threading.Event) -> Callable[[], None]:
    def wait() -> None:
        assert event.wait(SOON)

    return wait


def test_large_results_are_held_one_at_a_time() -> None:
    """Of small ones as many as are allowed; the sizes become known with the first result."""
    for size, ahead in ((100, 4), (400, 2), (5000, 1)):
        taken = []

        def numbers(taken: list[int] = taken):
            for i in range(20):
                taken.append(i)
                yield i

        results = ordered_map(lambda _, n=size: (np.zeros(n, np.uint8), "a"), numbers(), threads=2, memory=1000)
        next(results)
        assert len(taken) == 2
        next(results)
        assert len(taken) == 2 + ahead
        assert len(list(results)) == 18
    assert size_of((np.zeros(3), ("x", np.zeros(2, np.uint8)))) == 26


def test_decode_compute_and_write_are_at_work_at_the_same_time() -> None:
    """By the order of events: no part could go on if it had to wait for another part of the same pass."""
    decoding_third, computing_second, events = threading.Event(), threading.Event(), []

    def decode(item: int) -> int:
        if item == 2:
            decoding_third.set()
            assert computing_second.wait(SOON)  # the second image is computed while the third is decoded
        return item

    def write(item: int) -> int:
        if item == 0:
            assert computing_second.wait(SOON)  # ... and while the first is written
        return item

    with Behind(threads=1) as behind:
        for item in ordered_map(decode, range(4), threads=2):
            if item == 1:
                assert decoding_third.wait(SOON)
                computing_second.set()
            behind.add(lambda item=item: write(item), events.append)
    assert events == [0, 1, 2, 3]


def test_what_is_left_behind_is_done_and_handed_on_in_order() -> None:
    first, done, main = threading.Event(), [], threading.get_ident()
    behind = Behind(threads=2)
    behind.add(lambda: (first.wait(SOON), threading.get_ident())[1], lambda thread: done.append((0, thread != main)))
    behind.add(first.set, lambda _: done.append((1, threading.get_ident() == main)))
    behind.finish()
    assert done == [(0, True), (1, True)]
    behind.add(lambda: 2, done.append)  # it can be used again
    behind.finish()
    assert done[2:] == [2]


def test_the_caller_waits_while_too_much_is_left_behind() -> None:
    """By number and by bytes; one job may be larger than all."""
    for how, holds in (({"ahead": 2}, 0), ({"ahead": 9, "memory": 100}, 50), ({"ahead": 9, "memory": 10}, 50)):
        go, added = threading.Event(), []
        behind = Behind(threads=1, **how)

        def leave(behind: Behind = behind, added: list[int] = added, go: threading.Event = go, holds: int = holds):
            for number in range(4):
                behind.add(waiting_for(go), holds=holds)
                added.append(number)

        other = threading.Thread(target=leave)
        other.start()
        other.join(0.2)
        assert len(added) == (1 if how.get("memory") == 10 else 2)
        go.set()
        other.join(SOON)
        assert len(added) == 4
        behind.finish()


def test_an_error_behind_reaches_the_caller_and_drops_the_rest() -> None:
    failing, done = threading.Event(), []

    def fail() -> None:
        assert failing.wait(SOON)
        raise RequestError("the disk is full")

    behind = Behind(threads=1)
    behind.add(fail)
    behind.add(lambda: 1, done.append)
    failing.set()
    with pytest.raises(RequestError, match="the disk is full"):
        behind.finish()
    behind.finish()
    assert done == []
    with pytest.raises(RequestError, match="full"), Behind(threads=1) as behind:  # at the end of the block, too
        behind.add(fail)


def test_an_interrupted_caller_waits_for_what_is_in_work_alone() -> None:
    begun, go, written = threading.Event(), threading.Event(), []

    def write() -> None:
        begun.set()
        assert go.wait(SOON)
        written.append("first")

    def interrupted() -> None:
        with Behind(threads=1) as behind:
            behind.add(write)
            behind.add(lambda: written.append("second"))
            assert begun.wait(SOON)
            threading.Timer(0.05, go.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert written == ["first"]


def test_a_caller_who_stops_early_leaves_no_thread() -> None:
    before = threading.active_count()
    results = ordered_map(lambda i: i, range(100), threads=3)
    assert next(results) == 0
    results.close()
    assert threading.active_count() == before


def test_damage_is_a_result_and_other_errors_are_not() -> None:
    def read(item: int) -> int:
        if item == 1:
            raise DamagedFile("one is damaged")
        return 2 // item

    found = list(ordered_map(or_damage(read), [2, 1]))
    assert found[0] == 1
    assert isinstance(found[1], DamagedFile)
    with pytest.raises(ZeroDivisionError):
        list(ordered_map(or_damage(read), [0]))


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
