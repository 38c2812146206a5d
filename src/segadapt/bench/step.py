"""Measure the cost of a training step beyond the network passes that it cannot do without.

A method runs on noise through the same loop that trains with it. Every call of one of its networks
is recorded: which network, on which input, and which outputs get a gradient. These calls alone, with
the same gradients to propagate, are then timed in alternation with whole steps; the difference is the
cost of losses, pseudo labels, their record, moving averages and the optimiser.
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

import torch
from torch import Tensor, nn

from segadapt.bench.noise import IMAGES, NoiseStage, noise_stage, stage_config
from segadapt.core.types import Size
from segadapt.data.loader import Samples
from segadapt.engine.loop import Loop
from segadapt.engine.runtime import Runtime, forget_peak_memory, machine, peak_memory_mb, wait_for
from segadapt.engine.speed import Precision, SpeedConfig, compile_networks, set_speed
from segadapt.labels import CITYSCAPES
from segadapt.methods.method import Method
from segadapt.methods.registry import method_info
from segadapt.methods.stage_config import StageConfig
from segadapt.models.build import build_segmenter
from segadapt.models.segmenter import Segmenter


@dataclass
class Call:
    """A pass of a network within a step.

    Attributes:
        network: the network.
        given: input of the network, one map or several; ``requires_grad`` as in the step.
        trained: whether a gradient goes through it.
        encoder: whether only its encoder runs.
        used: names of the outputs that get a gradient.
    """

    network: nn.Module
    given: list[Tensor]
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
    speed: Mapping[str, Any] | None = None,
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
        speed: further settings of :class:`~segadapt.engine.speed.SpeedConfig`.

    Returns:
        The job (``method``, ``network``, ``image``, ``crop``, ``batch``, ``precision``), ``calls`` in words,
        median milliseconds ``passes_ms``, ``step_ms`` and ``data_ms`` (from decoded images to an augmented
        batch), ``overhead`` as the median of step / passes - 1 with ``overhead_quartiles``,
        ``images_per_second`` where batches are made in line with the steps, ``peak_memory_mb`` of ``passes`` and
        ``step`` in MB, for a stage with prototypes ``over_host``, and the machine with its versions.

    Raises:
        RequestError: there is no such method, network or setting.

    Example::

        result = bench_step("cbst", crop=(180, 240), repeats=5)
        print(f"{result['overhead']:.1%} more than the network passes alone")
    """
    runtime = Runtime(accelerator, precision)
    set_speed(runtime, SpeedConfig(**{"precision": precision, **(speed or {})}))
    network = network or method_info(method).network
    stage = {"method": method, "batch_size": batch, "augmentation": {"crop": crop}, **(settings or {})}
    config = stage_config(stage)

    def build() -> Segmenter:
        return build_segmenter(network, classes)

    return {"method": method, "network": network, **time_stage(config, build, runtime, repeats, size=size)}


def time_stage(
    config: StageConfig,
    build: Callable[[], Segmenter],
    runtime: Runtime,
    repeats: int,
    *,
    size: Size,
    source_size: Size | None = None,
    images: int = IMAGES,
) -> dict[str, Any]:
    """Time the steps of a stage, and their network passes alone; see :func:`bench_step`.

    A stage with the prototypes of MPCL is timed beside the same stage without them, its host, too.

    Args:
        config: settings of the stage.
        build: makes a network with random weights.
        runtime: device and precision.
        repeats: timed pairs, at least 2.
        size, source_size, images: see :func:`segadapt.bench.noise.noise_stage`.
    """
    compiled = runtime.speed.compile
    runtime.speed = runtime.speed.model_copy(update={"compile": False})  # the passes are recorded first
    networks = [build() for _ in range(1 if config.learns_from is None else 2)]
    with tempfile.TemporaryDirectory() as scratch:
        made = noise_stage(config, networks, runtime, Path(scratch), size=size, source_size=source_size, images=images)
        found = _timings(made, runtime, repeats, compiled)
        host = host_of(config)
        if host is not None:
            others = [build() for _ in range(1 if host.learns_from is None else 2)]
            folder = Path(scratch) / "host"
            beside = noise_stage(host, others, runtime, folder, size=size, source_size=source_size, images=images)
            if compiled:
                compile_networks(beside.loop.method)
            found["over_host"] = over_host(made, beside, runtime, repeats)
    crop = config.augmentation.crop
    return {
        "image": list(size),
        "crop": None if crop is None else list(crop),
        "batch": config.batch_size,
        **found,
        **runtime.speed.model_dump(mode="json"),
        "compile": compiled,
        **machine(),
    }


def _timings(made: NoiseStage, runtime: Runtime, repeats: int, compiled: bool) -> dict[str, Any]:
    """Time steps, the passes that they consist of, and the making of batches, in alternation."""
    forget_peak_memory(runtime.device)
    batches = made.batches(repeats + 2)
    with _recorded(made.loop.method) as calls:
        made.step(next(batches))
    if compiled:
        compile_networks(made.loop.method)
    for _ in range(2):
        _passes(calls, made.loop)
    made.step(next(batches))
    memory = {"step": peak_memory_mb(runtime.device)}
    forget_peak_memory(runtime.device)
    alone: list[float] = []
    steps: list[float] = []
    making: list[float] = []
    for _ in range(repeats):
        alone.append(_timed(lambda: _passes(calls, made.loop), runtime))
        if not steps:
            memory["passes"] = peak_memory_mb(runtime.device)
        drawn: list[dict[str, Samples]] = []
        making.append(_timed(lambda drawn=drawn: drawn.append(next(batches)), runtime))  # type: ignore[misc]
        steps.append(_timed(lambda drawn=drawn: made.step(drawn[0]), runtime))  # type: ignore[misc]
    streams = len(drawn[0])
    middle, step, data = (statistics.median(times) for times in (alone, steps, making))
    low, overhead, high = statistics.quantiles([s / a - 1 for s, a in zip(steps, alone, strict=True)], n=4)
    return {
        "calls": [_described(call) for call in calls],
        "passes_ms": 1e3 * middle,
        "step_ms": 1e3 * step,
        "data_ms": 1e3 * data,
        "images_per_second": streams * made.loop.config.batch_size / (step + data),
        "overhead": overhead,
        "overhead_quartiles": [low, high],
        "peak_memory_mb": memory,
    }


def host_of(config: StageConfig) -> StageConfig | None:
    """Return the stage without the prototypes of MPCL; None for one that has none."""
    if getattr(config, "mpcl", None) is None:
        return None
    method = "daformer" if config.method == "mpcl" else config.method
    return config.model_copy(update={"method": method, "mpcl": None})


def over_host(made: NoiseStage, host: NoiseStage, runtime: Runtime, repeats: int) -> dict[str, Any]:
    """Time the steps of two stages in alternation.

    Returns:
        ``overhead``: median of step / step of the host - 1, and its quartiles as ``overhead_quartiles``.
    """
    pairs = [
        [
            _timed(lambda stage=stage, batch=batch: stage.step(batch), runtime)  # type: ignore[misc]
            for stage, batch in zip((made, host), batches, strict=True)
        ]
        for batches in zip(made.batches(repeats + 2), host.batches(repeats + 2), strict=True)
    ]
    low, middle, high = statistics.quantiles([own / other - 1 for own, other in pairs[2:]], n=4)
    return {"overhead": middle, "overhead_quartiles": [low, high]}


@contextmanager
def _recorded(method: Method) -> Any:
    """Yield a list that fills with the calls of the method's networks."""
    calls: list[Call] = []

    def note(network: nn.Module, args: Sequence[Tensor], output: Any) -> None:
        call = Call(network, [x.detach().clone().requires_grad_(x.requires_grad) for x in _tensors(args[0])], False)
        calls.append(call)
        for name, value in _outputs(output).items():
            if value.requires_grad:
                call.trained = True
                value.register_hook(lambda _, name=name: call.used.add(name))  # type: ignore[no-untyped-call]

    segmenters = _outermost([module for module in method.modules() if isinstance(module, Segmenter)])
    beside = [t.network for t in method.trained().values() if t.network not in segmenters]
    handles = [network.register_forward_hook(note) for network in (*segmenters, *beside)]
    for network in segmenters:
        network.__dict__["deep_features"] = _noting(network, calls)
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
        for network in segmenters:
            del network.__dict__["deep_features"]


def _tensors(given: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    return [given] if isinstance(given, Tensor) else given


def _outermost(networks: Sequence[Segmenter]) -> list[Segmenter]:
    """Leave out networks that are part of another one; its pass includes theirs."""
    return [
        n for n in networks if not any(n is inner for other in networks if other is not n for inner in other.modules())
    ]


def _noting(network: Segmenter, calls: list[Call]) -> Callable[[Tensor], Tensor]:
    """Wrap the encoder of a network so that its calls are recorded; references call it, without gradients."""
    encode = network.deep_features

    def noted(images: Tensor) -> Tensor:
        calls.append(Call(network, [images.detach().clone()], False, encoder=True))
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
            outputs = _outputs(run(call.given[0] if len(call.given) == 1 else call.given))
        if call.trained:
            wanted = [outputs[name] for name in sorted(call.used)]
            torch.autograd.backward(wanted, [torch.ones_like(x) for x in wanted])


def _timed(run: Callable[[], None], runtime: Runtime) -> float:
    """Return the seconds that ``run`` takes until the device has done all its work.

    One thread of a CPU is timed by the time that it computes, which other programs on the machine change least.
    """
    alone = runtime.device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    wait_for(runtime.device)
    started = clock()
    run()
    wait_for(runtime.device)
    return clock() - started


def _described(call: Call) -> str:
    shape = call.given[0].shape
    sides = [shape[0], *shape[2:]] if len(shape) == 4 else shape
    way = "forward and backward" if call.trained else "forward"
    part = "encoder, " if call.encoder else ""
    return f"{type(call.network).__name__}, {part}{way}, {' x '.join(map(str, sides))}"
