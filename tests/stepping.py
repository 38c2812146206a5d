"""Steps of every method on a device, watched for what would make the program wait for the device."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from segadapt.bench.noise import NoiseStage, noise_stage, stage_config
from segadapt.core.moving import sent
from segadapt.engine.loop import Loop, Optimisers
from segadapt.engine.runtime import Runtime
from segadapt.methods.few_labels import LABELLED
from segadapt.models.geometry import Size
from segadapt.models.multires import MultiRes
from segadapt.models.segmenter import Segmenter
from tests.methods.small import Pointwise

WAITING = {
    *("_local_scalar_dense", "nonzero", "bincount", "unique_dim", "_unique", "_unique2", "masked_select", "equal"),
    *("_linalg_check_errors", "repeat_interleave.Tensor", "is_nonzero", "argwhere"),
}
"""Operations whose result, or its size, the program has to know before it goes on."""

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    name: (name, {})
    for name in (
        *("source_only", "oracle", "cbst", "crst_mrkld", "crst_lrent", "adaptseg", "proda", "cpsl", "cpsl_official"),
        *("bcl", "dacs", "daformer", "hrda", "mic", "best", "mpcl", "adaptseg_mic", "distill"),
    )
} | {
    "colours": ("source_only", {"augmentation": {"colour_transfer": "lab", "jitter": 0.5, "extra": {"half": {}}}}),
    "strong views": ("distill", {"strong": {"blur": 0.5, "jitter": 0.5, "probability": 1.0, "count": 3}}),
    "proda, soft": ("proda", {"hard": False, "weights": "prediction", "labels": "predicted"}),
    "cpsl, cutmix": ("cpsl", {"cutmix": 1.0, "hard": False}),
    "bcl, learnt": ("bcl", {"target_labels": "hybrid", "features": "logits"}),
    "mic, own teacher": ("mic", {"masked": "both", "masked_momentum": 0.9, "mpcl": {"kind": "full"}}),
    "mpcl on two resolutions": ("hrda", {"mpcl": {"kind": "centroid", "solver": "greenkhorn", "iterations": 3}}),
    "mpcl without a bank": ("mpcl", {"mpcl": {"bank": 0, "source_pass": True, "in_class": False}}),
}
"""Every implementation, and settings that lead a step along other lines: name, method, settings."""

SMALL_PROTOTYPES = {"channels": 4, "prototypes": 2, "bank": 40, "insert": 10}
CROP: Size = (32, 48)


class Watched(TorchDispatchMode):
    """Raise AssertionError at the line that would make the program wait for the device, or copy from ordinary memory.

    On the device ``meta`` no memory is pinned; a copy must then go through :func:`segadapt.core.moving.sent`.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.kind = device.type

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        here = [x for x in tensors if x.device.type == self.kind]
        elsewhere = [x for x in tensors if x.device.type == "cpu"]
        name = str(func).removeprefix("aten.")
        if here and {name, name.partition(".")[0]} & WAITING:
            raise AssertionError(f"{name} waits for the device")
        if here and name.startswith(("index.", "index_put", "_index_put")) and _by_mask(args[1]):
            raise AssertionError(f"{name} with a mask waits for the device to know how many places it has")
        if name.startswith("_to_copy") and kwargs.get("device") is not None:
            self._copy(tensors[0].device, torch.device(kwargs["device"]), tensors[0], kwargs.get("non_blocking"))
        elif name.startswith("copy_"):
            self._copy(args[1].device, args[0].device, args[1], kwargs.get("non_blocking", args[2:] == (True,)))
        elif here and any(x.ndim for x in elsewhere):
            raise AssertionError(f"{name} takes a tensor of the CPU beside tensors of the device")
        return func(*args, **kwargs)

    def _copy(self, start: torch.device, end: torch.device, value: Tensor, without_waiting: Any) -> None:
        if start.type == self.kind and end.type == "cpu":
            raise AssertionError(f"{tuple(value.shape)} goes back to the CPU, which waits for the device")
        if start.type == "cpu" and end.type == self.kind:
            pinned = _called_by_sent() if self.kind == "meta" else value.is_pinned()
            if not (without_waiting and pinned):
                raise AssertionError(f"{tuple(value.shape)} is sent from ordinary memory, or the program waits for it")


def _by_mask(indices: Any) -> bool:
    return any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in indices)


def _called_by_sent() -> bool:
    frame = sys._getframe()
    while frame is not None and frame.f_code is not sent.__code__:
        frame = frame.f_back  # type: ignore[assignment]
    return frame is not None


def network(method: str) -> Segmenter:
    """Make a tiny network that the method runs on."""
    base = Pointwise(auxiliary=method.startswith("adaptseg"))
    return MultiRes(base, divisor=8) if method == "hrda" else base


def stepping(case: str, runtime: Runtime, folder: Path, batch: int = 2) -> NoiseStage:
    """Prepare a stage of a case on its runtime's device, with labelled target crops beside it."""
    method, settings = CASES[case]
    augmentation = {"crop": CROP, "scales": (0.5, 1.5), "flip": True, **settings.get("augmentation", {})}
    stage = {"method": method, "batch_size": batch, **settings, "augmentation": augmentation}
    if method == "mpcl" or "mpcl" in settings:
        stage["mpcl"] = {**SMALL_PROTOTYPES, **settings.get("mpcl", {})}
    if method in ("daformer", "hrda", "mic", "best", "mpcl"):
        stage["feature_classes"] = "all"
    config = stage_config(stage)
    networks = [network(method) for _ in range(1 if config.learns_from is None else 2)]
    made = noise_stage(config, networks, runtime, folder, size=(48, 64), images=4)
    made.loop.data.labelled = made.loop.data.oracle() if made.loop.data.oracle else None
    made.loop.data.truth = made.loop.data.labelled
    return made


def moved_to_meta(made: NoiseStage) -> NoiseStage:
    """Move a stage to the device ``meta``, whose tensors have shapes and no numbers: what asks for one fails."""
    loop, streams = made.loop, made.streams  # streams are made once, at the start of a round
    assert streams
    prototypes = getattr(loop.method, "mpcl", None)
    if prototypes is not None:
        prototypes.memory.active.fill_(True)
        prototypes.memory.count_step()  # a step at which no class can begin
    loop.runtime.device = torch.device("meta")
    loop.method.to("meta")
    made.__dict__["optimisers"] = plain_optimisers(loop)
    return made


def plain_optimisers(loop: Loop) -> Optimisers:
    """Return optimisers that run on any device, of the parameters as they are now."""
    networks = {name: trained.network for name, trained in loop.method.trained().items()}
    return {name: torch.optim.SGD(_trained(n), lr=0.1, foreach=True) for name, n in networks.items()}


def _trained(module: nn.Module) -> list[nn.Parameter]:
    return [p for p in module.parameters() if p.requires_grad]


def steps(made: NoiseStage, count: int) -> set[str]:
    """Run ``count`` steps; return the names of the streams."""
    names: set[str] = set()
    for batch in made.batches(count):
        made.step(batch)
        names |= set(batch)
    assert LABELLED in names or not made.loop.config.learns_labelled
    return names


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    """Let CUDA itself raise an error where the program waits for the device."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
