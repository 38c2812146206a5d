"""Processes of a run, started from one that has imported everything: a job per rank, without a command.

A fork of that process begins at once, where a new Python imports torch for seconds.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from segadapt.core.settings import checked
from segadapt.data.dataset import Dataset, Held, Item
from segadapt.engine.bundle import DataBundle
from segadapt.engine.loop import Loop
from segadapt.engine.record import Record
from segadapt.engine.runtime import Runtime, Strategy
from segadapt.labels import LabelSpace
from segadapt.methods.registry import METHODS, stage_settings
from segadapt.models.build import build_segmenter
from tests.tiny import COLORS, NAMES, ONLINE, ROUNDS, scene

NETWORK = "timm:test_resnet"
SPACE = LabelSpace("tiny", NAMES[:3], COLORS[:3])
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["tests.engine.preloaded"])


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def together(processes: int, job: Callable[..., Any], *given: Any, timeout: float = 120.0) -> list[Any]:
    """Run ``job(*given)`` in so many processes, and return what each returns."""
    port, answers = free_port(), _server.SimpleQueue()
    started = [
        _server.Process(target=_one, args=(rank, processes, port, answers, job, given), daemon=True)
        for rank in range(processes)
    ]
    for process in started:
        process.start()
    found: dict[int, Any] = {}
    try:
        for _ in started:
            rank, answer, problem = answers.get()
            assert not problem, problem
            found[rank] = pickle.loads(answer)
        for process in started:
            process.join(timeout)
    finally:
        for process in started:
            process.kill()
    return [found[rank] for rank in range(processes)]


def _one(rank: int, processes: int, port: int, answers: Any, job: Callable[..., Any], given: Any) -> None:
    torch.set_num_threads(1)
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    os.environ |= {name: str(value) for name, value in places.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    try:
        answers.put((rank, pickle.dumps(job(*given)), ""))  # torch would share tensors by files of this process
    except BaseException:
        answers.put((rank, None, traceback.format_exc()))


class Told(NamedTuple):
    """What one process says of a stage: the losses of every step over all processes, and the state at its end."""

    losses: list[dict[str, float]]
    state: dict[str, Tensor]


def images(count: int, shift: float, seed: int, labels: bool) -> Dataset:
    """Coloured rectangles in memory."""
    scenes = [scene(seed + i, len(SPACE), 40, 56, shift) for i in range(count)]
    items = tuple(
        Item(str(i), Held("image", i, seed), Held("label", i, seed) if labels else None) for i in range(count)
    )
    return Dataset("tiny", SPACE, items, lambda held: scenes[held.index][0], lambda held: scenes[held.index][1])


def settings_of(method: str, **more: Any) -> dict[str, Any]:
    """Settings of a stage of two steps, of which rounding makes no more than rounding."""
    return {
        "method": method,
        **ROUNDS.get(method, {}),
        **ONLINE.get(method, {}),
        "steps": 2,
        "batch_size": 4,
        "augmentation": {"crop": [32, 32], "jitter": 0.5},
        "optimiser": {"name": "sgd", "lr": 1e-2},
        "norm": "affine",
        **more,
    }


def loop_of(folder: Path, runtime: Runtime, settings: Mapping[str, Any]) -> Loop:
    """The loop of a stage on the tiny images, with weights that are the same in all processes."""
    cls, values = stage_settings("adapt", settings)
    config = checked(cls, values, "ranks")
    small: dict[str, Any] = {
        "width": 16
    }  # a tenth of the parameters of other tests: every process makes and saves them
    name, arguments = ("hrda:" + NETWORK, {"base": small}) if config.method == "hrda" else (NETWORK, small)
    networks = []
    for seed in range(1 if config.learns_from is None else 2):
        torch.manual_seed(seed)
        networks.append(build_segmenter(name, len(SPACE), **arguments))
        for layer in networks[-1].modules():
            if isinstance(layer, torch.nn.modules.dropout._DropoutNd):
                layer.p = 0.0  # draws other numbers for the parts of a batch
    method = METHODS[config.method].method(config, networks[0], SPACE, *networks[1:])
    data = DataBundle(source=images(8, 0.0, 0, True), target=images(6, 1.0, 100, False), cache_folder=folder / "cache")
    record = Record(folder, runtime.main, quiet=True)
    return Loop(method, data, runtime=runtime, record=record, folder=folder / "stages" / "adapt", seed=1)


def trained(folder: Path, settings: Mapping[str, Any], runtime: Runtime) -> Told:
    """Train a stage."""
    loop, losses = loop_of(folder, runtime, settings), []
    real = loop.step

    def noted(*given: Any) -> Any:
        measured = real(*given)
        values = measured.values.clone()
        runtime.sum([values])
        losses.append(dict(zip(measured.names, values.tolist(), strict=True)))
        return measured

    loop.step = noted  # type: ignore[method-assign]
    loop.run()
    return Told(losses, {name: value.clone() for name, value in loop.method.state_dict().items()})


def trained_all(folder: Path, stages: Mapping[str, Mapping[str, Any]], strategy: Strategy = "auto") -> dict[str, Told]:
    """Train some stages one after the other."""
    runtime = Runtime("cpu", timeout=60, strategy=strategy)
    return {name: trained(folder / name, settings, runtime) for name, settings in stages.items()}
