"""Gradients summed over the processes, while the backward pass still runs.

A step of a method is several backward passes, over parts of the networks; the gradient of a parameter is final in the
last one. So the sums start in the last pass: gradients lie in buckets of some megabytes, and a bucket is sent as soon
as the pass has made the last gradient in it. Which pass is the last, which parameters it reaches and in which order,
is learnt from the step before; all processes agree on it in one message. A step that goes otherwise is summed exactly
too, only later: what the last pass was not expected to reach is sent behind it, and what a further pass adds is summed
again.

DistributedDataParallel would ask for one forward of the wrapped network and one backward that reaches every parameter;
losses here are sums over counts of all processes, so gradients are summed, never averaged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from segadapt.engine.runtime import Runtime
from segadapt.engine.sharding import is_share

BUCKET_BYTES = 25 << 20
"""Size of a bucket (the size of DistributedDataParallel)."""


class Bucket:
    """Parameters whose gradients lie in one tensor and are sent together.

    Args:
        parameters: of one dtype and device.
        overlapped: whether the last pass is expected to reach all of them.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], overlapped: bool) -> None:
        self.parameters, self.overlapped = parameters, overlapped
        self.flat = parameters[0].detach().new_zeros(sum(p.numel() for p in parameters))
        self.views: list[Tensor] = []
        offset = 0
        for p in parameters:
            self.views.append(self.flat.as_strided(p.shape, _strides(p), offset))
            offset += p.numel()
        self.waiting = 0
        self.work: Any = None
        self.before: Tensor | None = None  # what was summed before a pass that was not expected

    def take(self, keep: bool) -> None:
        """Let gradients be added up in the bucket; ``keep`` those that there are, else from zero."""
        if keep:
            for view, p in zip(self.views, self.parameters, strict=True):
                if p.grad is not None and p.grad is not view:
                    view.copy_(p.grad)
        else:
            self.flat.zero_()
        for view, p in zip(self.views, self.parameters, strict=True):
            p.grad = view

    def send(self, group: Any) -> None:
        """Start the sum over the processes."""
        self.work = torch.distributed.all_reduce(self.flat, group=group, async_op=True)

    def receive(self) -> None:
        """Wait for the sum; the gradients are it."""
        self.work.wait()
        self.work = None
        if self.before is not None:
            self.flat += self.before
            self.before = None


class Plan(NamedTuple):
    """Expectations that all processes share about a step.

    Attributes:
        passes: number of backward passes.
        buckets: in the order in which they are sent.
        idle: parameters that no process has reached; they have no gradient, as in a process alone.
    """

    passes: int
    buckets: list[Bucket]
    idle: list[nn.Parameter]


class Gradients:
    """The gradients of a step in a process alone.

    Args:
        parameters: all that learn.

    Attributes:
        partial: set while a part of a pass runs whose gradients a later part adds to.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self._parameters = list(dict.fromkeys(parameters))
        self.partial = False

    def start(self) -> None:
        """Begin a step without gradients."""
        for p in self._parameters:
            p.grad = None

    @contextmanager
    def one_pass(self) -> Iterator[None]:
        """Return a context for one backward pass."""
        yield

    def finish(self) -> None:
        """End a step: every gradient is the sum over the processes."""

    def close(self) -> None:
        """Let the parameters go."""


class GradientSum(Gradients):
    """Sums the gradients of a step over the processes of a run.

    A parameter that no process reaches has no gradient; one that a process does not reach counts as zero there.

    Args:
        parameters: all that learn; the same in all processes. Torch itself sums the gradients of shares.
        runtime: of this process.
        bucket_bytes: size of a bucket.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], runtime: Runtime, bucket_bytes: int = BUCKET_BYTES) -> None:
        super().__init__(parameters)
        self._whole = [p for p in self._parameters if not is_share(p)]
        self._runtime, self._bucket_bytes = runtime, bucket_bytes
        self._plan: Plan | None = None
        self._of: dict[nn.Parameter, Bucket] = {}
        self._pass, self._sent = 0, 0
        self._reached: dict[nn.Parameter, None] = {}  # by the pass, in the order in which gradients were ready
        self._ever: set[nn.Parameter] = set()  # by the step
        self._open = False
        hooked: list[Any] = self._whole
        self._hooks = [p.register_post_accumulate_grad_hook(self._ready) for p in hooked]

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def start(self) -> None:
        super().start()
        self._pass, self._sent = 0, 0
        self._ever.clear()
        for bucket in self._plan.buckets if self._plan else ():
            bucket.take(keep=False)

    @contextmanager
    def one_pass(self) -> Iterator[None]:
        plan = self._plan
        if plan is not None and self._pass >= plan.passes:
            self._once_more(plan)
        self._reached.clear()
        self._open = plan is not None and self._pass + 1 == plan.passes
        for bucket in plan.buckets if plan else ():
            bucket.waiting = len(bucket.parameters)
        try:
            yield
        finally:
            opened, self._open = self._open, False
        self._ever.update(self._reached)
        self._pass += 1
        if opened:
            self._send_rest()

    def finish(self) -> None:
        known = self._plan
        plan = known or self._planned()
        self._send_rest()
        for bucket in plan.buckets:
            bucket.receive()
        if known is not None and (self._sum_new(plan.idle) or plan.passes != self._pass):
            self._plan, self._of = None, {}  # the next step is planned anew

    def _ready(self, parameter: Tensor) -> None:
        """Note a gradient, and send the buckets that are complete, in their order."""
        assert isinstance(parameter, nn.Parameter)
        self._reached.pop(parameter, None)
        self._reached[parameter] = None  # behind all others
        if self.partial or not self._open or parameter not in self._of:
            return
        assert self._plan is not None
        self._of[parameter].waiting -= 1
        while self._sent < len(self._plan.buckets):
            following = self._plan.buckets[self._sent]
            if not following.overlapped or following.waiting:
                return
            self._send(following)

    def _send(self, bucket: Bucket) -> None:
        bucket.send(self._runtime.gradient_group)
        self._sent += 1

    def _send_rest(self) -> None:
        """Send the buckets that are left; all processes do so behind the same pass."""
        for bucket in self._plan.buckets[self._sent :] if self._plan else ():
            self._send(bucket)

    def _once_more(self, plan: Plan) -> None:
        """Set aside what was summed before a pass that was not expected; every process gets here, or none."""
        if not self._sent:
            return
        for bucket in plan.buckets:
            bucket.receive()
            bucket.before = bucket.flat.clone()
            bucket.flat.zero_()
        self._sent = 0

    def _sum_new(self, idle: Sequence[nn.Parameter]) -> bool:
        """Sum gradients of parameters that had none so far; return whether there were any in any process."""
        if not idle:
            return False
        message = torch.tensor([float(p in self._ever) for p in idle], device=self._runtime.device)
        self._runtime.sum([message])
        new = [p for p, processes in zip(idle, message.tolist(), strict=True) if processes]
        for p in new:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        self._runtime.sum([p.grad for p in new if p.grad is not None])
        return bool(new)

    def _planned(self) -> Plan:
        """Lay the gradients of a step that was not planned into buckets."""
        places = {p: place for place, p in enumerate(self._reached)}
        lead = self._runtime.main
        table = torch.tensor(
            [[p in self._ever, p in places, places.get(p, 0) if lead else 0] for p in self._whole],
            dtype=torch.int64,
            device=self._runtime.device,
        )
        self._runtime.sum([table])
        known = list(zip(self._whole, table.tolist(), strict=True))
        idle = [p for p, (ever, _, _) in known if not ever]
        last = sorted(
            (place, i) for i, (_, (_, reached, place)) in enumerate(known) if reached == self._runtime.processes
        )
        early = [p for p, (ever, reached, _) in known if ever and reached < self._runtime.processes]
        buckets = [
            *(Bucket(ps, True) for ps in split((self._whole[i] for _, i in last), self._bucket_bytes)),
            *(Bucket(ps, False) for ps in split(early, self._bucket_bytes)),
        ]
        self._plan = Plan(self._pass, buckets, idle)
        self._of = {p: bucket for bucket in buckets for p in bucket.parameters}
        for bucket in buckets:
            bucket.take(keep=True)
        return self._plan


def gradients_of(parameters: Iterable[nn.Parameter], runtime: Runtime) -> Gradients:
    """Return what sums the gradients of a step in this run."""
    return Gradients(parameters) if runtime.processes == 1 else GradientSum(parameters, runtime)


def split(parameters: Iterable[nn.Parameter], limit: int) -> list[list[nn.Parameter]]:
    """Split parameters, in their order, into lists of one dtype and device: of at most ``limit`` bytes, or one each."""
    lists: list[list[nn.Parameter]] = []
    kind, size = None, 0
    for p in parameters:
        bytes_ = p.numel() * p.element_size()
        if (p.dtype, p.device) != kind or size + bytes_ > limit:
            lists.append([])
            kind, size = (p.dtype, p.device), 0
        lists[-1].append(p)
        size += bytes_
    return lists


def _strides(p: Tensor) -> Sequence[int]:
    """Return the strides of a gradient: those of its parameter, which lies in memory without holes."""
    return torch.empty_like(p, device="meta").stride()
