"""Batches that a network computes in parts, for less memory, and of which a step sees all.

Several small steps would have the mean of each part's pixels, and a method would mix, pair or rank the samples of a
part alone. Here the step stays one step: the network looks at one part after the other without gradients, and the
outputs are joined; the losses are those of the whole batch. In the backward pass it looks at each part again, this time
with gradients, which the known gradient of its outputs is led through. So activations of one part are held at a time,
beside the outputs of all, and what is drawn and counted in a step is the same as without parts. The price is a second
forward pass, as of recomputed activations (Chen et al., 2016); contrastive learning knows it as gradient cache (Gao et
al., 2021). Only what a network itself does with its batch sees parts: batch statistics, and dropout, which draws other
numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from segadapt.engine.gradients import Gradients
from segadapt.models.norm import unchanged_statistics
from segadapt.models.segmenter import Segmenter

Forward = Callable[[Tensor], Any]


@contextmanager
def in_parts(networks: Iterable[nn.Module], parts: int, gradients: Gradients) -> Iterator[None]:
    """Return a context in which networks compute a batch in parts.

    Args:
        networks: networks of images; none is inside another.
        parts: number of parts, at most one per sample.
        gradients: told when the gradients of a part are not yet all.
    """
    networks = list(networks) if parts > 1 else []
    open_calls = _Calls(gradients)
    for network in networks:
        network.__dict__["forward"] = _InParts(network, network.forward, parts, open_calls)
    try:
        yield
    finally:
        gradients.partial = False
        for network in networks:
            del network.__dict__["forward"]


def outermost_networks(module: nn.Module) -> list[Segmenter]:
    """Return the segmentation networks of a method that are not part of another one."""
    networks = [m for m in module.modules() if isinstance(m, Segmenter)]
    within = {inner for network in networks for inner in network.modules() if inner is not network}
    return [network for network in networks if network not in within]


class _Calls:
    """Counts the calls whose backward pass is to come; gradients are whole in the last part of the last of them."""

    def __init__(self, gradients: Gradients) -> None:
        self._gradients, self._open = gradients, 0

    def begin(self) -> None:
        self._open += 1

    @contextmanager
    def part(self, last: bool) -> Iterator[None]:
        """Return a context for the backward pass of one part of a call."""
        self._open -= last
        self._gradients.partial = not last or self._open > 0
        try:
            yield
        finally:
            self._gradients.partial = self._open > 0


class _Joined(NamedTuple):
    """Outputs of all parts.

    Attributes:
        tensors: [B, ...] the different tensors of the output.
        places: which of them each leaf of the output is, or the leaf itself where it is no tensor.
        tree: the structure of the output.
    """

    tensors: list[Tensor]
    places: list[Any]
    tree: TreeSpec

    def output(self, tensors: Sequence[Tensor]) -> Any:
        """Return an output of the network with other tensors."""
        return tree_unflatten([tensors[p.index] if isinstance(p, _Place) else p for p in self.places], self.tree)


class _Place(NamedTuple):
    index: int


class _InParts:
    """The forward pass of a network in parts."""

    def __init__(self, network: nn.Module, forward: Forward, parts: int, calls: _Calls) -> None:
        self.network, self.forward, self.parts, self.calls = network, forward, parts, calls

    def __call__(self, images: Tensor) -> Any:
        parts = min(self.parts, len(images))
        if parts == 1:
            return self.forward(images)
        learns = [p.requires_grad for p in self.network.parameters()]
        call = _Call(self, images.tensor_split(parts), learns)
        if not torch.is_grad_enabled() or not (images.requires_grad or any(learns)):
            joined = call.forward()
            return joined.output(joined.tensors)
        self.calls.begin()
        tensors = _Twice.apply(images, torch.zeros((), requires_grad=True), call)
        assert call.joined is not None
        return call.joined.output(tensors)


class _Call:
    """One call of a network in parts.

    Args:
        way: the network.
        parts: its images.
        learns: which of its parameters learn from this call.
    """

    def __init__(self, way: _InParts, parts: Sequence[Tensor], learns: Sequence[bool]) -> None:
        self.way, self.parts, self.learns = way, parts, learns
        self.device = parts[0].device.type
        self.precision = (torch.is_autocast_enabled(self.device), torch.get_autocast_dtype(self.device))
        self.draws: list[Sequence[Tensor]] = []
        self.joined: _Joined | None = None

    def forward(self) -> _Joined:
        """Compute all parts without gradients."""
        found: list[_Joined] = []
        with torch.no_grad(), self._autocast():
            for part in self.parts:
                if found and getattr(found[0].output(found[0].tensors), "detail", None) is not None:
                    torch.set_rng_state(self.draws[0][0])  # a detail crop lies at the same place in the whole batch
                self.draws.append(_draws(part))
                found.append(_flat(self.way.forward(part)))
        tensors = [torch.cat(of_parts) for of_parts in zip(*(f.tensors for f in found), strict=True)]
        self.joined = found[0]._replace(tensors=[])
        return found[0]._replace(tensors=tensors)

    def backward(self, gradients: Sequence[Tensor | None], to_images: bool) -> Tensor | None:
        """Compute every part again and lead the gradients of its outputs through it; return those of the images."""
        network, first, of_images = self.way.network, 0, []
        with self._learning():
            for number, part in enumerate(self.parts):
                images = part.detach().requires_grad_(to_images)
                devices = [part.device] if part.device.type == "cuda" else []
                with torch.random.fork_rng(devices), unchanged_statistics(network):
                    _set_draws(part, self.draws[number])
                    with torch.enable_grad(), self._autocast():
                        tensors = _flat(self.way.forward(images)).tensors
                rows = slice(first, first + len(part))
                first += len(part)
                pairs = [(x, g[rows]) for x, g in zip(tensors, gradients, strict=True) if g is not None]
                pairs = [(x, g) for x, g in pairs if x.requires_grad]
                with self.way.calls.part(last=number + 1 == len(self.parts)):
                    if pairs:
                        torch.autograd.backward([x for x, _ in pairs], [g for _, g in pairs])
                if to_images:
                    of_images.append(images.grad if images.grad is not None else torch.zeros_like(images))
        return torch.cat(of_images) if to_images else None

    @contextmanager
    def _learning(self) -> Iterator[None]:
        """Return a context in which the parameters learn that learnt when the call was made."""
        both = zip(self.way.network.parameters(), self.learns, strict=True)
        changed = [p for p, learnt in both if p.requires_grad != learnt]
        for p in changed:
            p.requires_grad_(not p.requires_grad)
        try:
            yield
        finally:
            for p in changed:
                p.requires_grad_(not p.requires_grad)

    def _autocast(self) -> AbstractContextManager[Any]:
        """Return the precision of the call; weights that were cast without gradients must not be used with them."""
        enabled, dtype = self.precision
        return torch.autocast(self.device, dtype=dtype, enabled=enabled, cache_enabled=False)


class _Twice(torch.autograd.Function):
    """A call in parts, of which nothing is kept but the images."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, _: Tensor, call: _Call) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.call = call
        return tuple(call.forward().tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, None, None]:
        call, ctx.call = ctx.call, None
        return call.backward(gradients, ctx.needs_input_grad[0]), None, None


def _flat(output: Any) -> _Joined:
    """Take the output of a network apart; a tensor that it names twice is one."""
    leaves, tree = tree_flatten(output)
    tensors: list[Tensor] = []
    known: dict[int, int] = {}
    places: list[Any] = []
    for leaf in leaves:
        if isinstance(leaf, Tensor):
            if id(leaf) not in known:
                known[id(leaf)] = len(tensors)
                tensors.append(leaf)
            leaf = _Place(known[id(leaf)])
        places.append(leaf)
    return _Joined(tensors, places, tree)


def _draws(images: Tensor) -> Sequence[Tensor]:
    """Return the states of the generators that a network may draw from."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(images.device)] if images.is_cuda else states


def _set_draws(images: Tensor, states: Sequence[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if images.is_cuda:
        torch.cuda.set_rng_state(states[1], images.device)
