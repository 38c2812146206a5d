"""Number formats and layouts of a run, and compiled networks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, TypeVar

import torch
from torch import nn

from segadapt.core.settings import Settings
from segadapt.errors import RequestError, first_line
from segadapt.models.multires import MultiRes
from segadapt.models.segmenter import Segmenter

if TYPE_CHECKING:
    from segadapt.engine.runtime import Runtime

Precision = Literal["32-true", "bf16-mixed"]
BACKEND = "inductor"
"""Backend of ``torch.compile``."""

_VARIANTS = 64
"""Compiled variants of one network class, above which PyTorch runs further ones uncompiled."""

_Module = TypeVar("_Module", bound=nn.Module)


class SpeedConfig(Settings):
    """How a run computes. These settings change its time and its memory, and its numbers by rounding alone.

    Attributes:
        precision: number format of the network: float32 (``32-true``), or bfloat16 where that is safe (``bf16-mixed``).
        matmul_precision: products of float32 matrices on a GPU: ``highest`` rounds as float32 does, ``high`` multiplies
            in TF32, with ten bits of each factor, several times as fast. Distances, cosines and counts stay exact;
            convolutions are in TF32 either way, as PyTorch has them.
        channels_last: lay out images and convolutions with the channels of a pixel side by side, the faster layout
            on CPUs and on GPUs with TF32 or bfloat16.
        compile: compile the networks (``torch.compile``): the first step of a stage takes a minute or more, the
            others are faster. Needs a compiler: Triton for a GPU, one for C++ for a CPU.
    """

    precision: Precision = "32-true"
    matmul_precision: Literal["highest", "high"] = "highest"
    channels_last: bool = True
    compile: bool = False


def set_speed(runtime: Runtime, speed: SpeedConfig) -> None:
    """Let a process compute as the settings of a run say.

    Raises:
        RequestError: networks shall be compiled, and nothing on this machine can.
    """
    runtime.speed = SpeedConfig(**{name: getattr(speed, name) for name in SpeedConfig.model_fields})
    torch.set_float32_matmul_precision(speed.matmul_precision)
    if speed.compile:
        try:
            torch.compile(_twice, backend=BACKEND)(torch.ones(1, device=runtime.device))
        except Exception as problem:
            raise RequestError(
                f"compile=true: nothing can be compiled here ({first_line(problem)}); install a compiler, or set "
                "compile=false"
            ) from problem


def _twice(x: torch.Tensor) -> torch.Tensor:
    return x + x


def laid_out(method: _Module, runtime: Runtime) -> _Module:
    """Move a method to the device of a run, in the layout and with the compiled networks that its settings ask for."""
    method = method.to(runtime.device)
    if runtime.speed.channels_last:
        method = method.to(memory_format=torch.channels_last)
    if runtime.speed.compile:
        compile_networks(method)
    return method


def compile_networks(method: nn.Module) -> None:
    """Compile the segmentation networks in a method, in place; they are compiled when they are first called.

    Of a network of two resolutions the parts of the network that it wraps are compiled: the places of its detail differ
    from step to step.
    """
    import torch._dynamo.config as limits  # slow to import

    # Networks of one class share their compiled variants: student and teacher, training and not, several sizes.
    for name in ("recompile_limit", "cache_size_limit"):  # of newer and of older versions
        if hasattr(limits, name):
            setattr(limits, name, max(getattr(limits, name), _VARIANTS))
    for part in _parts(method):
        part.compile(backend=BACKEND)


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules below one that are compiled as a whole."""
    for child in module.children():
        if isinstance(child, MultiRes):
            yield from _called(child.base)
        elif isinstance(child, Segmenter):
            yield child
        else:
            yield from _parts(child)


def _called(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the parts that a network calls one by one."""
    for child in network.children():
        if isinstance(child, (nn.ModuleList, nn.ModuleDict)):
            yield from _called(child)
        else:
            yield child
