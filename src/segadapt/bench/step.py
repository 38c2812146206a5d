"""Measure the cost of a training step beyond the network passes that it cannot do without.

A method runs on noise through the same loop that trains with it. Every call of one of its networks
is recorded: which network, on which input, and which outputs get a gradient. These calls alone, with
the same gradients to propagate, are then timed in alternation with whole steps; the difference is the
cost of losses, pseudo labels, moving averages and the optimiser.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segadapt.core.settings import checked
from segadapt.core.types import Size
from segadapt.data.cache import DecodedCache
from segadapt.data.dataset import Dataset, Item
from segadapt.data.loader import Samples
from segadapt.engine.bundle import DataBundle
from segadapt.engine.loop import Loop
from segadapt.engine.record import Record
from segadapt.engine.runtime import Precision, Runtime, machine, peak_memory_mb
from segadapt.labels import CITYSCAPES, LabelSpace
from segadapt.methods.registry import method_info, stage_settings
from segadapt.models.build import build_segmenter
from segadapt.models.discriminator import Discriminator
from segadapt.models.segmenter import Segmenter

IMAGES = 8


@dataclass
class Call:
    """A pass of a network within a step.

    Attributes:
        network: the network.
        given: input of the network; ``requires_grad`` as in the step.
        trained: whether a gradient goes through it.
        encoder: whether only its encoder runs.
        used: names of the outputs that get a gradient.
    """

    network: nn.Module
    given: Tensor
    trained: bool
    encoder: bool = False
    used: set[str] = field(default_factory=set)


def bench_step(
    method: str,
    network: str = "",
    *,
    size: Size = (360, 480),
    crop: Size = (176, 240),
    batch: int = 4,
    repeats: int = 10,
    classes: int = len(CITYSCAPES),
    accelerator: str = "auto",
    precision: Precision = "32-true",
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Time whole steps of a method, and their network passes alone, in alternation.

    Args:
        method: a name listed by ``segadapt methods``.
        network: a name listed by ``segadapt models``, or empty for a small one that the method runs on;
            weights are random.
        size: (height, width) of the images in pixels; methods that look at whole images take longer on
            larger ones.
        crop: (height, width) of the training crops in pixels.
        batch: samples of each stream per step.
        repeats: timed pairs of step and passes, at least 2.
        classes: number of classes; any other than 19 makes up a label space.
        accelerator: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: precision of the network passes, ``32-true`` or ``bf16-mixed``.
        settings: further settings of the stage.

    Returns:
        The job (``method``, ``network``, ``image``, ``crop``, ``batch``, ``precision``), ``calls`` in words,
        median milliseconds ``passes_ms``, ``step_ms`` and ``data_ms`` (from decoded images to an augmented
        batch), ``overhead`` as the median of step / passes - 1 with ``overhead_quartiles``,
        ``peak_memory_mb`` of ``passes`` and ``step`` in MB, and the machine with its versions.

    Raises:
        RequestError: there is no such method, network or setting.

    Example::

        result = bench_step("cbst", crop=(180, 240), repeats=5)
        print(f"{result['overhead']:.1%} more than the network passes alone")
    """
    runtime = Runtime(accelerator, precision)
    network = network or method_info(method).network
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        stage = {"method": method, "batch_size": batch, "augmentation": {"crop": crop}, **(settings or {})}
        loop, batches, drawing = _prepared(
            stage, network, runtime, folder, size=size, classes=classes, count=repeats + 2
        )
        environment = loop.environment(0)
        optimisers = loop.optimisers(0)

        def whole(samples: dict[str, Samples]) -> None:
            loop.step(0, 0, samples, optimisers)
            with torch.no_grad():
                loop.method.after_step(environment)

        with _recorded(loop.method) as calls:
            whole(batches[0])
        alone = [_timed(lambda: _passes(calls, loop), runtime) for _ in range(2)][1:]
        memory = {"passes": peak_memory_mb(runtime.device)}
        steps = []
        whole(batches[1])
        for samples in batches[2:]:
            alone.append(_timed(lambda: _passes(calls, loop), runtime))
            steps.append(_timed(lambda samples=samples: whole(samples), runtime))  # type: ignore[misc]
        memory["step"] = peak_memory_mb(runtime.device)
    ratios = [s / a - 1 for s, a in zip(steps, alone[1:], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "method": method,
        "network": network,
        "image": list(size),
        "crop": list(crop),
        "batch": batch,
        "calls": [_described(call) for call in calls],
        "passes_ms": 1e3 * statistics.median(alone[1:]),
        "step_ms": 1e3 * statistics.median(steps),
        "data_ms": 1e3 * drawing,
        "overhead": middle,
        "overhead_quartiles": [low, high],
        "peak_memory_mb": memory,
        "precision": precision,
        **machine(),
    }


def _prepared(
    stage: Mapping[str, Any], network: str, runtime: Runtime, folder: Path, *, size: Size, classes: int, count: int
) -> tuple[Loop, list[dict[str, Samples]], float]:
    """Set up a stage; return its loop with the first round prepared, ``count`` batches, and the seconds per batch."""
    space = CITYSCAPES
    if classes != len(space):
        space = LabelSpace("noise", tuple(f"class {c}" for c in range(classes)), ((0, 0, 0),) * classes)
    cls, values = stage_settings("bench", {"steps": 10**6, **stage})
    config = checked(cls, values, "bench step")
    networks = [build_segmenter(network, classes) for _ in range(1 if config.learns_from is None else 2)]
    trained = method_info(config.method).method(config, networks[0], space, *networks[1:])
    data = DataBundle(
        source=_noise(space, size, labelled=True),
        target=_noise(space, size, labelled=False),
        cache_folder=folder,
        cache=DecodedCache(1 << 30),
    )
    record = Record(folder / "record", active=False)
    loop = Loop(trained, data, runtime=runtime, record=record, folder=folder, seed=0)
    environment = loop.environment(0)
    trained.eval()
    with torch.no_grad():
        trained.prepare(0, environment)
    trained.train()
    streams = trained.streams(0, environment)
    started = time.perf_counter()
    sources = [loop.feeder(stream).batches(0, count) for stream in streams.values()]
    batches = [dict(zip(streams, drawn, strict=True)) for drawn in zip(*sources, strict=True)]
    _finish(runtime)
    return loop, batches, (time.perf_counter() - started) / len(batches)


def _noise(space: LabelSpace, size: Size, labelled: bool) -> Dataset:
    """Make images of coloured noise, with labels in large cells."""
    rng = np.random.default_rng(int(labelled))
    images = rng.integers(0, 256, (IMAGES, *size, 3), np.uint8)
    cells = rng.integers(0, len(space), (IMAGES, -(-size[0] // 32), -(-size[1] // 32)), np.uint8)
    labels = cells.repeat(32, 1).repeat(32, 2)[:, : size[0], : size[1]]
    items = tuple(Item(str(i), Path(f"{i}"), Path(f"{i}.label") if labelled else None) for i in range(IMAGES))
    return Dataset("noise", space, items, lambda path: images[int(path.stem)], lambda path: labels[int(path.stem)])


@contextmanager
def _recorded(method: nn.Module) -> Any:
    """Yield a list that fills with the calls of the method's networks."""
    calls: list[Call] = []

    def note(network: nn.Module, args: Sequence[Tensor], output: Any) -> None:
        call = Call(network, args[0].detach().clone().requires_grad_(args[0].requires_grad), False)
        calls.append(call)
        for name, value in _outputs(output).items():
            if value.requires_grad:
                call.trained = True
                value.register_hook(lambda _, name=name: call.used.add(name))  # type: ignore[no-untyped-call]

    segmenters = _outermost([module for module in method.modules() if isinstance(module, Segmenter)])
    discriminators = [module for module in method.modules() if isinstance(module, Discriminator)]
    handles = [network.register_forward_hook(note) for network in (*segmenters, *discriminators)]
    for network in segmenters:
        network.__dict__["deep_features"] = _noting(network, calls)
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
        for network in segmenters:
            del network.__dict__["deep_features"]


def _outermost(networks: Sequence[Segmenter]) -> list[Segmenter]:
    """Leave out networks that are part of another one; its pass includes theirs."""
    return [
        n for n in networks if not any(n is inner for other in networks if other is not n for inner in other.modules())
    ]


def _noting(network: Segmenter, calls: list[Call]) -> Callable[[Tensor], Tensor]:
    """Wrap the encoder of a network so that its calls are recorded; references call it, without gradients."""
    encode = network.deep_features

    def noted(images: Tensor) -> Tensor:
        calls.append(Call(network, images.detach().clone(), False, encoder=True))
        return encode(images)

    return noted


def _outputs(output: Any) -> dict[str, Tensor]:
    """Return the outputs of a network by name."""
    if isinstance(output, Tensor):
        return {"scores": output}
    named: dict[str, Any] = output._asdict()
    if output.detail is not None:
        named["detail"] = output.detail.logits
    named |= {f"map {i}": value for i, value in enumerate(named.pop("maps") or ())}
    return {name: value for name, value in named.items() if value is not None}


def _passes(calls: Sequence[Call], loop: Loop) -> None:
    """Run the passes of a step one after the other, each with its backward pass."""
    loop.method.zero_grad(set_to_none=True)
    for call in calls:
        with torch.set_grad_enabled(call.trained), loop.runtime.autocast():
            run: Any = call.network.deep_features if call.encoder else call.network
            outputs = _outputs(run(call.given))
        if call.trained:
            wanted = [outputs[name] for name in sorted(call.used)]
            torch.autograd.backward(wanted, [torch.ones_like(x) for x in wanted])


def _timed(run: Callable[[], None], runtime: Runtime) -> float:
    """Return the seconds that ``run`` takes until the device has done all its work."""
    _finish(runtime)
    started = time.perf_counter()
    run()
    _finish(runtime)
    return time.perf_counter() - started


def _finish(runtime: Runtime) -> None:
    if runtime.device.type == "cuda":
        torch.cuda.synchronize(runtime.device)


def _described(call: Call) -> str:
    batch, _, height, width = call.given.shape
    way = "forward and backward" if call.trained else "forward"
    part = "encoder, " if call.encoder else ""
    return f"{type(call.network).__name__}, {part}{way}, {batch} x {height} x {width}"
