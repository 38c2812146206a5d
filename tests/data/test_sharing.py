"""Work that the processes of a run divide among them."""

from __future__ import annotations

import numpy as np
import pytest

from segadapt.data import sharing
from segadapt.data.sharing import shared_map
from segadapt.errors import RequestError
from tests.data.team import as_team


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
    monkeypatch.setattr(sharing, "_MESSAGE", 50)

    def work(rank: int) -> np.ndarray:
        counts = np.arange(60, dtype=np.uint32).reshape(10, 6) * (rank + 1)
        sharing.add_up(counts)
        return counts

    for counts in as_team(3, work):
        assert np.array_equal(counts, 6 * np.arange(60, dtype=np.uint32).reshape(10, 6))
    alone = np.ones((2, 2), np.int64)
    sharing.add_up(alone)
    assert (alone == 1).all()
