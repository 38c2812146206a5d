"""What processes exchange, without other processes; peak memory on systems that we do not have."""

from __future__ import annotations

import sys

import pytest
import torch

from segadapt.engine.runtime import Runtime, peak_memory_mb, process_peak
from segadapt.errors import RequestError

WITHOUT_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> tuple[Runtime, list[torch.dtype]]:
    """Return a process of three that all hold the same, and the types of the messages that it sends."""
    runtime, sent = Runtime("cpu"), []

    def all_reduce(message: torch.Tensor) -> None:
        sent.append(message.dtype)
        message *= 3

    runtime.processes = 3
    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    return runtime, sent


@pytest.mark.parametrize("accelerator", ["abacus", pytest.param("cuda", marks=WITHOUT_GPU)])
def test_an_accelerator_that_is_not_here(accelerator: str) -> None:
    with pytest.raises(RequestError, match=f"accelerator '{accelerator}' cannot be used here.*accelerator=auto"):
        Runtime(accelerator)


def test_messages_go_in_the_order_of_the_tensors(three: tuple[Runtime, list[torch.dtype]]) -> None:
    """An order of their own in every process would add numbers of one type to those of another."""
    runtime, sent = three
    dtypes = (torch.int64, torch.float64, torch.float32, torch.bfloat16)
    for order in (dtypes, dtypes[::-1]):
        sent.clear()
        tensors = [torch.ones(2, dtype=dtype) for dtype in (*order, *order)]
        runtime.sum(tensors)
        assert tuple(sent) == order
        assert all(t.tolist() == [3, 3] for t in tensors)


def test_the_mean_of_equal_tensors_is_the_same_to_the_bit(three: tuple[Runtime, list[torch.dtype]]) -> None:
    """Statistics that nothing trains do not wander with the number of checkpoints."""
    values = torch.rand(10_000, generator=torch.Generator().manual_seed(0))
    means = values.clone()
    three[0].mean([means])
    assert torch.equal(means, values)


def test_peak_memory_in_the_units_of_each_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    kilobytes = process_peak()
    assert 50 < kilobytes >> 20 == peak_memory_mb(torch.device("cpu"))
    monkeypatch.setattr(sys, "platform", "darwin")  # tells bytes
    assert process_peak() * 1024 == pytest.approx(kilobytes, rel=0.1)
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert process_peak() == 0


def test_a_batch_returns_to_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three processes hold rows 0, 3, ... and 1, 4, ... and 2, 5, ... of the batch."""
    batch, ranks = torch.arange(14.0).reshape(7, 2), range(3)
    runtime = Runtime("cpu")
    assert torch.equal(runtime.gather_batch(batch, 7), batch)
    runtime.processes = 3
    sent: list[torch.Tensor] = []
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda message: sent.append(message.clone()))
    for runtime.rank in ranks:
        runtime.gather_batch(batch[runtime.rank :: 3], 7)
    total = torch.stack(sent).sum(0)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda message: message.copy_(total))
    for runtime.rank in ranks:
        assert torch.equal(runtime.gather_batch(batch[runtime.rank :: 3], 7), batch)
