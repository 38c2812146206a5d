"""Settings of speed: each reaches the device, the networks or the batches; numbers change by rounding alone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from segadapt.engine import speed
from segadapt.engine.runtime import Runtime
from segadapt.engine.speed import SpeedConfig, compile_networks, set_speed
from segadapt.errors import RequestError
from segadapt.models.multires import MultiRes
from segadapt.pieces.precision import exact_products
from segadapt.runs.config import build_config
from segadapt.runs.fingerprint import fingerprints_of
from segadapt.runs.run import Run
from tests.methods.small import Pointwise
from tests.stepping import stepping
from tests.tiny import raw_config


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    torch.set_float32_matmul_precision("highest")


class Counting:
    """A backend of torch.compile that runs the graphs as they are, and counts them."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        self.graphs += 1
        return graph.forward


def losses(tmp_path: Path, case: str, **settings: Any) -> dict[str, float]:
    """Return the losses of one step."""
    runtime = Runtime("cpu")
    set_speed(runtime, SpeedConfig(**settings))
    torch.manual_seed(0)
    made = stepping(case, runtime, tmp_path)
    (batch,) = made.batches(1)
    assert batch["target"].images.is_contiguous(memory_format=torch.channels_last) == runtime.speed.channels_last
    measured = made.loop.step(0, 0, batch, made.optimisers)
    return dict(zip(measured.names, measured.values.tolist(), strict=True))


def test_compiled_networks_give_the_same_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Counting()
    monkeypatch.setattr(speed, "BACKEND", backend)
    plain = losses(tmp_path / "plain", "dacs", channels_last=False)
    assert backend.graphs == 0
    assert losses(tmp_path / "compiled", "dacs", compile=True) == pytest.approx(plain, rel=1e-4, abs=1e-6)
    assert backend.graphs > 1, "one is of the check at the start"


def test_a_compiled_network_is_still_itself() -> None:
    """Its weights have the same names, and a copy of it is a network; of two resolutions the parts are compiled."""
    method = torch.nn.ModuleDict({"model": Pointwise(), "two": MultiRes(Pointwise(), divisor=8)})
    names = list(method.state_dict())
    compile_networks(method)
    assert list(method.state_dict()) == names
    compiled = {name for name, module in method.named_modules() if module._compiled_call_impl is not None}
    assert compiled == {"model", "two.base.encoder", "two.base.classifier", "two.base.extra"}
    twin = copy.deepcopy(method["model"])
    images = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(twin(images).logits, Pointwise()(images).logits)


def test_nothing_can_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no compiler\nand more")

    monkeypatch.setattr(speed, "BACKEND", broken)
    with pytest.raises(RequestError, match=r"compile=true: nothing can be compiled here \(.*set compile=false"):
        set_speed(Runtime("cpu"), SpeedConfig(compile=True))


def test_matmul_precision_reaches_torch_and_spares_what_must_be_exact(tmp_path: Path) -> None:
    config = build_config({**raw_config(tmp_path, "source_only"), "matmul_precision": "high"}, "tiny")
    Run.open(config, tmp_path / "run", quiet=True)
    assert torch.get_float32_matmul_precision() == "high"
    with exact_products(torch.device("cpu")):
        assert torch.get_float32_matmul_precision() == "highest"
    assert torch.get_float32_matmul_precision() == "high"


def test_a_run_of_other_precision_is_another_run(tmp_path: Path) -> None:
    """Its stages are not taken over, nor continued."""
    found = []
    for precision in ("highest", "high"):
        config = build_config({**raw_config(tmp_path, "source_only"), "matmul_precision": precision}, "tiny")
        run = Run.open(config, tmp_path / precision, quiet=True)
        found.append(fingerprints_of(config, run.opened, run.networks)["source"])
    assert found[0] != found[1]
