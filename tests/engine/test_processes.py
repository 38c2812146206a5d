"""Several processes: every method as in one, networks in shares, batch statistics, silence."""

from __future__ import annotations

import socket
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

import segadapt.engine.loop as loop_module
from segadapt.engine.runtime import Runtime
from segadapt.engine.sharding import Shares, is_share
from segadapt.errors import RequestError, RunError
from segadapt.methods.registry import METHODS
from segadapt.runs.config import build_config
from tests.engine.ranks import Told, loop_of, settings_of, together, trained, trained_all
from tests.tiny import ROUNDS, raw_config

# One name of every class, the last: it has all that the others have. A given model learns nothing.
NAMES = {info.method: name for name, info in METHODS.items() if name not in ("oracle", "given")}.values()
ALIKE = ("source_only", "cbst_sp", "crst_lrent", "adaptseg_ls", "proda", "bcl", "distill")
"""Methods that draw nothing in a step: dealt out or not, a batch is the same."""
STAGES = {name: settings_of(name, **({"rounds": 1} if name in ROUNDS else {})) for name in NAMES}
NORM = settings_of("source_only", norm="train", checkpoint_activations=True)
PARTS = {"batch statistics": {**NORM, "accumulate": 2}, "parts": settings_of("bcl", rounds=1, accumulate=2)}
EQUAL = {**{name: STAGES[name] for name in ALIKE}, "batch statistics": NORM}
"""Stages in which several processes learn what one learns."""
TOLERANCE = 1e-5
"""Of losses and weights: cosines of features near zero magnify rounding; a mean of means would be off by percents."""


def assert_equal(one: Told, other: Told, tolerance: float = 0.0, losses: bool = True, of: str = "") -> None:
    assert not losses or one.losses
    for a, b in zip(one.losses, other.losses, strict=True) if losses else ():
        assert a == pytest.approx(b, rel=10 * tolerance, abs=tolerance)
    for name, value in one.state.items():
        if not name.startswith(of) or (tolerance and not value.is_floating_point()):
            continue
        torch.testing.assert_close(value, other.state[name], rtol=tolerance, atol=tolerance, msg=name)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Told]]:
    return together(2, trained_all, tmp_path_factory.mktemp("two"), {**STAGES, **PARTS})


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Told]]:
    return together(4, trained_all, tmp_path_factory.mktemp("four"), EQUAL)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Told]:
    return trained_all(tmp_path_factory.mktemp("one"), {**EQUAL, "parts of a batch": PARTS["batch statistics"]})


@pytest.mark.parametrize("name", [*STAGES, *PARTS])
def test_processes_stay_alike(two: list[dict[str, Told]], name: str) -> None:
    """Weights, teachers, prototypes, banks, priors: all of the state is the same, whatever each process draws."""
    assert len(two[0][name].losses) == 2
    assert all(torch.isfinite(torch.tensor(list(losses.values()))).all() for losses in two[0][name].losses)
    assert_equal(two[0][name], two[1][name])


@pytest.mark.parametrize("name", EQUAL)
def test_four_processes_learn_what_one_learns(one: dict[str, Told], four: list[dict[str, Told]], name: str) -> None:
    """Each has one image of the batch of four."""
    assert_equal(one[name], four[0][name], TOLERANCE)
    for other in four[1:]:
        assert_equal(four[0][name], other[name])


@pytest.mark.parametrize("name", ALIKE)
def test_two_processes_learn_what_one_learns(one: dict[str, Told], two: list[dict[str, Told]], name: str) -> None:
    assert_equal(one[name], two[0][name], TOLERANCE)


def test_parts_of_a_batch_that_is_dealt_out(one: dict[str, Told], two: list[dict[str, Told]]) -> None:
    """Two images are a part, in two processes too; statistics are those of a part."""
    assert_equal(one["bcl"], two[0]["parts"], TOLERANCE)
    assert_equal(one["parts of a batch"], two[0]["batch statistics"], TOLERANCE)


@pytest.mark.parametrize("name", ["adaptseg_ls", "bcl", "hrda", "mpcl"])
def test_parts_change_nothing(tmp_path: Path, name: str) -> None:
    """Also where a step mixes, samples and pairs the images of a batch, and where the network shows a detail crop."""
    short = {"steps": 1, **({"rounds": 1} if name in ROUNDS else {})}
    whole = trained(tmp_path / "whole", settings_of(name, **short), Runtime("cpu"))
    parts = trained(tmp_path / "parts", settings_of(name, **short, accumulate=3), Runtime("cpu"))
    assert_equal(whole, parts, 1e-5, of="model.")


def test_recomputed_activations_change_nothing(tmp_path: Path) -> None:
    """Not a bit; running statistics move once."""
    plain, again = (settings_of("adaptseg", norm="train", steps=1, checkpoint_activations=c) for c in (False, True))
    whole, other = trained(tmp_path / "1", plain, Runtime("cpu")), trained(tmp_path / "2", again, Runtime("cpu"))
    assert_equal(whole, other)


def test_a_network_sees_one_part_at_a_time(tmp_path: Path) -> None:
    loop, seen = loop_of(tmp_path, Runtime("cpu"), settings_of("dacs", steps=1, accumulate=2)), []
    loop.method.model.encoder.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    loop.run()
    assert seen == [2] * 8  # two passes, two parts, each seen twice


def test_recomputing_needs_blocks(tmp_path: Path) -> None:
    settings = settings_of("source_only", checkpoint_activations=True)
    loop = loop_of(tmp_path, Runtime("cpu"), settings)
    loop.method.model.encoder = torch.nn.Conv2d(3, 3, 1)
    with pytest.raises(RequestError, match=r"stage 'adapt': the encoder of .* has no blocks.*accumulate"):
        loop_module.Backward(loop.method, loop.runtime, ())


# ---- shares ----


class Crash(BaseException):
    """Stands for a sudden end of the process."""


def _crashed(folder: Path, settings: dict[str, Any], strategy: Any, steps: int) -> int:
    """Stop after so many steps, all of which were saved; return how many parameters are shares."""
    loop = loop_of(folder, Runtime("cpu", timeout=60, strategy=strategy), settings)
    real, done = loop.step, iter(range(steps))

    def step(*given: Any) -> Any:
        if next(done, None) is None:
            raise Crash
        return real(*given)

    loop.step = step  # type: ignore[method-assign]
    with pytest.raises(Crash):
        loop.run()
    return sum(is_share(p) for p in loop.method.parameters())


SHARED = {name: STAGES[name] for name in ("bcl", "mpcl")} | {
    "norm": settings_of("source_only", norm="train", checkpoint_activations=True)
}


def test_networks_in_shares_learn_the_same(two: list[dict[str, Told]], tmp_path: Path) -> None:
    first, second = together(2, trained_all, tmp_path, SHARED, "fsdp")
    for name in SHARED:
        assert_equal(first[name], second[name])
    assert_equal(two[0]["bcl"], first["bcl"], TOLERANCE)
    assert first["mpcl"].losses == [pytest.approx(losses, rel=1e-4) for losses in two[0]["mpcl"].losses]


def test_a_run_goes_on_with_whole_networks_and_with_shares(tmp_path: Path) -> None:
    settings = settings_of("source_only", steps=3, checkpoint_every=1)
    whole = trained(tmp_path / "whole", settings, Runtime("cpu"))
    assert set(together(2, _crashed, tmp_path / "run" / "x", settings, "fsdp", 1)) == {len(list(_parameters(tmp_path)))}
    assert together(2, _crashed, tmp_path / "run" / "x", settings, "ddp", 1) == [0, 0]
    done, _ = together(2, trained_all, tmp_path / "run", {"x": settings}, "fsdp")
    assert_equal(whole, done["x"], 1e-5, losses=False)


def _parameters(folder: Path) -> Any:
    return loop_of(folder / "counted", Runtime("cpu"), settings_of("source_only")).method.parameters()


def test_shares_of_parts_are_refused(tmp_path: Path) -> None:
    raw = raw_config(tmp_path, "cbst", accumulate=2)
    with pytest.raises(RequestError, match=r"tiny: networks in shares compute whole batches; set adapt.accumulate=1"):
        build_config({**raw, "strategy": "fsdp"}, "tiny")


def test_one_process_has_whole_networks(tmp_path: Path) -> None:
    loop = loop_of(tmp_path, Runtime("cpu", strategy="fsdp"), settings_of("source_only"))
    assert not any(is_share(p) for p in loop.method.parameters())
    assert isinstance(loop.shares, Shares)


# ---- silence ----


def _waiting(how: str) -> str:
    runtime = Runtime("cpu", timeout=60)
    runtime.barrier()
    torch.distributed.distributed_c10d._set_pg_timeout(timedelta(seconds=0.5))  # type: ignore[attr-defined]
    if runtime.rank == 1 and how == "hangs":
        time.sleep(2)
        return ""
    if runtime.rank == 1:
        torch.distributed.destroy_process_group()
        return ""
    with pytest.raises(RunError) as told:
        runtime.sum([torch.ones(1)])
    return str(told.value)


@pytest.mark.parametrize(("how", "words"), [("hangs", "did not answer in time"), ("ends", "has ended")])
def test_a_process_that_hangs_or_ends_is_one_line_in_the_others(how: str, words: str) -> None:
    line = together(2, _waiting, how)[0]
    assert line.startswith("waiting for the other processes: another process")
    assert words in line
    assert "\n" not in line


def test_a_process_that_never_comes_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    for name, value in {**place, "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(
        RunError, match=r"process 0 of the run waited 1 seconds for the others, which have not all come"
    ):
        Runtime("cpu", timeout=1.0)
    assert not torch.distributed.is_initialized()
