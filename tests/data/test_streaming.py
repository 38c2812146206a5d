"""Work on the items to come, in threads, with results in order."""

from __future__ import annotations

import threading

import pytest

from segadapt.data.streaming import ordered_map
from segadapt.errors import RequestError


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
