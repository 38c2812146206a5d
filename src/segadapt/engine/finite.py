"""The last look at a state before it is saved: weights, statistics and moving averages are numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from segadapt.errors import RunError


def require_finite(state: Mapping[str, object], where: str) -> None:
    """Refuse to save what is infinite or no number; one wait for the device, and one look at every number.

    The loss of a step says nothing about the update that follows it: without this look the last update of a stage,
    or the last one before a checkpoint, would be kept unseen.

    Args:
        state: state dicts of networks and optimisers, by name.
        where: the place in the training, for the message.

    Raises:
        RunError: names the first tensor.
    """
    floats = [(name, tensor) for name, tensor in _tensors(state) if tensor.is_floating_point() and tensor.numel()]
    if not floats:
        return
    # An infinity or a missing number makes its sum one too; a sum may also overflow, so a suspect is looked at itself.
    sums = [tensor.detach().sum(dtype=torch.promote_types(tensor.dtype, torch.float32)) for _, tensor in floats]
    suspects = [floats[place] for place, fine in enumerate(_finite(sums)) if not fine]
    wrong = [name for name, tensor in suspects if not bool(torch.isfinite(tensor).all())]
    if not wrong:
        return
    raise RunError(
        f"{where}: {len(wrong)} of {len(floats)} tensors are infinite or no number, first '{wrong[0]}'; "
        "this state is not saved; start again in another --out with a lower optimiser.lr, or with gradient_clip"
    )


def _finite(sums: Sequence[Tensor]) -> list[bool]:
    """Return which numbers are finite, with one message from each device."""
    found: dict[torch.device, list[int]] = {}
    for place, number in enumerate(sums):
        found.setdefault(number.device, []).append(place)
    fine = [True] * len(sums)
    for places in found.values():
        answers = torch.isfinite(torch.stack([sums[place].double() for place in places])).tolist()
        for place, answer in zip(places, answers, strict=True):
            fine[place] = answer
    return fine


def _tensors(state: object, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors inside dicts and lists, with the keys that lead to them."""
    if isinstance(state, Tensor):
        yield name, state
    elif isinstance(state, (Mapping, list, tuple)):
        pairs: Iterable[tuple[object, object]] = state.items() if isinstance(state, Mapping) else enumerate(state)
        for key, value in pairs:
            yield from _tensors(value, f"{name}.{key}" if name else str(key))
