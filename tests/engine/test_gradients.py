"""Gradients of several processes: exact sums whatever passes a step has, sent while the last pass runs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from segadapt.engine.gradients import Bucket, GradientSum, split
from segadapt.engine.runtime import Runtime
from tests.engine.ranks import together

# A pass reaches parts by their names, "b*" where the second process alone reaches b.
STEPS = (
    *(["ab", "abc"], ["ab", "abc"], ["ab", "abc", "c"], ["ab", "abc"], ["ab"]),
    *(["abc*"], ["abcd"], ["abcd"], ["a*b"], ["ab"]),
)


def _network() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict({name: nn.Conv2d(2, 3, 3) for name in "abcdz"}).to(memory_format=torch.channels_last)


def _loss(network: nn.ModuleDict, reached: str, images: Tensor, last: bool) -> Tensor:
    names = [n for i, n in enumerate(reached) if n != "*" and (last or reached[i + 1 : i + 2] != "*")]
    return sum((network[n](images).square().sum() for n in names), torch.zeros(()))


def _images(step: int) -> Tensor:
    return torch.randn(4, 2, 5, 5, generator=torch.Generator().manual_seed(step))


def _job() -> list[tuple[dict[str, Tensor | None], int]]:
    """Return the gradients of every step, and how many buckets were on their way before its last pass was over."""
    runtime, network = Runtime("cpu", timeout=60), _network()
    sums, found = GradientSum(network.parameters(), runtime, bucket_bytes=1), []
    sent: list[int] = []
    network["a"].weight.register_hook(lambda _: sent.append(sums._sent))
    for step, passes in enumerate(STEPS):
        sums.start()
        for reached in passes:
            mine = _images(step)[runtime.rank :: runtime.processes]
            with sums.one_pass():
                _loss(network, reached, mine, runtime.rank + 1 == runtime.processes).backward()
        sums.finish()
        grads = {n: None if p.grad is None else p.grad.clone().contiguous() for n, p in network.named_parameters()}
        found.append((grads, sent[-1]))
    return found


def _expected(step: int, passes: Sequence[str]) -> dict[str, Tensor | None]:
    network = _network()
    for reached in passes:
        for last in (False, True):
            loss = _loss(network, reached, _images(step)[int(last) :: 2], last)
            if loss.requires_grad:
                loss.backward()
    return {name: p.grad for name, p in network.named_parameters()}


def test_sums_are_exact_and_sent_while_the_last_pass_runs() -> None:
    one, other = together(2, _job)
    for step, passes in enumerate(STEPS):
        for name, wanted in _expected(step, passes).items():
            mine, theirs = one[step][0][name], other[step][0][name]
            if wanted is None:
                assert mine is None or not (name.startswith("z") or mine.any()), (step, name)
            else:
                assert torch.equal(mine, theirs)
                torch.testing.assert_close(mine, wanted, msg=f"{step} {name}")
    assert one[0][1] == 0  # nothing is known of the first step
    assert one[1][1] > 0


def test_buckets_keep_to_their_size_and_kind() -> None:
    parameters = [nn.Parameter(torch.zeros(n)) for n in (3, 3, 9, 1)] + [nn.Parameter(torch.zeros(1).double())]
    assert [[p.numel() for p in ps] for ps in split(parameters, 24)] == [[3, 3], [9], [1], [1]]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_lie_in_memory_as_their_parameters_do(layout: torch.memory_format) -> None:
    """Fused optimisers are slow on, or refuse, anything else."""
    parameters = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.randn(4, 3, 2, 5).to(memory_format=layout))]
    bucket = Bucket(parameters, True)
    parameters[1].grad = torch.randn(4, 3, 2, 5)
    wanted = parameters[1].grad.clone()
    bucket.take(keep=True)
    for p in parameters:
        assert p.grad is not None
        assert p.grad.stride() == p.stride()
    assert torch.equal(parameters[1].grad, wanted)
    assert bucket.flat[:3].tolist() == [0, 0, 0]
    assert bucket.flat.numel() == sum(p.numel() for p in parameters)
