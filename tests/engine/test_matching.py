"""Rates of AdamW by the size of the gradients: the formula, what measuring leaves alone, resuming, processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

import segadapt.engine.loop as loop_module
from segadapt.data.loader import Samples
from segadapt.engine.backward import Backward
from segadapt.engine.loop import Loop
from segadapt.engine.matching import MEASURED, gradient_sizes, match
from segadapt.engine.optim import build_optimiser
from segadapt.methods.stage_config import OptimiserConfig
from segadapt.runs.config import build_config
from segadapt.runs.run import Run, resumed
from tests.engine.test_loop import loop
from tests.methods.small import samples
from tests.processes import commands, in_processes, needs_fork
from tests.runs.test_run import Crash, assert_same, weights
from tests.tiny import LIGHT_ENCODER, raw_config


class Fed:
    """Feeds batches of noise; ``same`` repeats one."""

    def __init__(self, same: bool = False) -> None:
        self.same = same

    def batches(self, first: int, last: int) -> Iterator[Samples]:
        for step in range(first, last):
            yield samples(0 if self.same else step, 2, 12, 16, 0, True)


def matched(folder: Path, **settings: Any) -> tuple[Loop, dict[str, torch.optim.Optimizer]]:
    made = loop(folder, "source_only", optimiser={"name": "matched", **settings})
    return made, dict(made.optimisers(0))


def rates(made: Loop, optimisers: Any, same: bool = False) -> list[float]:
    return made.match(0, optimisers, {"labelled": Fed(same)})["model"]  # type: ignore[dict-item]


# ---- the formula ----


def test_the_rate_restates_the_formula(tmp_path: Path) -> None:
    """Over the measured batches, g of a group is the root of the mean square of all its gradients."""
    made, optimisers = matched(tmp_path, lr=0.01, momentum=0.9, weight_decay=0.02, head_factor=3.0)
    groups = optimisers["model"].param_groups
    squares = [[torch.zeros_like(p) for p in group["params"]] for group in groups]
    for batch in Fed().batches(0, MEASURED):
        made.method.zero_grad()
        made.backward.step({"labelled": batch})
        for totals, group in zip(squares, groups, strict=True):
            for total, p in zip(totals, group["params"], strict=True):
                total += 0 if p.grad is None else p.grad**2 / MEASURED
    sizes = [torch.cat([t.flatten() for t in totals]).mean().sqrt().item() for totals in squares]
    wanted = [0.01 * (3 if i >= len(groups) // 2 else 1) / (1 - 0.9) * g for i, g in enumerate(sizes)]
    decays = [group["weight_decay"] for group in groups]
    assert rates(made, optimisers) == pytest.approx(wanted, rel=1e-5)
    assert [group["lr"] for group in groups] == [group["base_lr"] for group in groups]
    assert [group["weight_decay"] * g for group, g in zip(groups, sizes, strict=True)] == pytest.approx(decays)
    assert max(decays) == 0.02
    assert all(p.grad is None for p in made.method.parameters())


def test_ten_times_the_loss_gets_ten_times_the_rate(tmp_path: Path) -> None:
    found = []
    for weight in (1.0, 10.0):
        made, optimisers = matched(tmp_path)
        step = made.method.step

        def heavier(batch: Any, weight: float = weight, step: Any = step) -> Any:
            for terms in step(batch):
                yield {name: replace(term, weight=weight * term.weight) for name, term in terms.items()}

        made.method.step = heavier  # type: ignore[method-assign]
        found.append(rates(made, optimisers))
    assert found[1] == pytest.approx([10 * rate for rate in found[0]], rel=1e-4)
    assert min(found[0]) > 0


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("size", [1e-4, 0.3])
def test_the_first_update_has_the_size_of_an_update_of_sgd(momentum: float, size: float) -> None:
    """Of SGD whose momentum has built up, under one gradient for long; weights decay as fast."""
    slope = size * torch.randn(500, generator=torch.Generator().manual_seed(0))
    rate, decay = 0.01, 0.001

    def moved(name: str, steps: int) -> tuple[float, torch.Tensor]:
        module = nn.Module()
        module.weight = nn.Parameter(torch.zeros(500, 1))
        config = OptimiserConfig(name=name, lr=rate, momentum=momentum, weight_decay=0)  # type: ignore[arg-type]
        optimiser = build_optimiser(module, config)

        def gradients() -> Iterator[None]:
            for _ in range(3):
                module.weight.grad = slope[:, None].clone()
                yield

        if name == "matched":
            match(optimiser, gradient_sizes({"it": optimiser}, gradients, module)["it"], momentum)
        for _ in range(steps):
            before = module.weight.detach().clone()
            module.weight.grad = slope[:, None].clone()
            optimiser.step()
        change = before - module.weight.detach()
        return change.square().mean().sqrt().item(), change

    ours, direction = moved("matched", 1)
    theirs, _ = moved("sgd", 200)
    assert theirs == pytest.approx(rate / (1 - momentum) * slope.square().mean().sqrt().item(), rel=1e-2)
    assert ours == pytest.approx(theirs, rel=1e-2)
    assert torch.equal(direction.sign().flatten(), slope.sign())
    weight = nn.Parameter(torch.ones(3, 1))
    group = {"params": [weight], "lr": rate, "base_lr": rate, "weight_decay": decay}
    adamw = torch.optim.AdamW([group])
    match(adamw, [size], momentum)
    weight.grad = torch.zeros(3, 1)
    adamw.step()
    assert (1 - weight.detach()).flatten().tolist() == pytest.approx([rate / (1 - momentum) * decay] * 3, rel=2e-2)


def test_what_does_not_move_keeps_its_rate() -> None:
    still, moving = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    groups = [{"params": [p], "lr": 0.1, "base_lr": 0.1, "weight_decay": 0.5} for p in (still, moving)]
    adamw = torch.optim.AdamW(groups)

    def gradients() -> Iterator[None]:
        moving.grad = torch.tensor([3.0, 4.0])
        yield

    sizes = gradient_sizes({"it": adamw}, gradients, nn.Module())["it"]
    assert sizes == pytest.approx([0, 12.5**0.5])
    match(adamw, sizes, 0.0)
    assert [group["weight_decay"] for group in adamw.param_groups] == pytest.approx([0.5, 0.5 / 12.5**0.5])
    assert [group["base_lr"] for group in adamw.param_groups] == pytest.approx([0.1, 0.1 * 12.5**0.5])


# ---- in a run ----


def tiny(folder: Path, method: str, **adapt: Any) -> dict[str, Any]:
    """Settings of a run all of whose optimisers are matched."""
    raw = raw_config(folder, method, encoder=LIGHT_ENCODER, **adapt)
    for stage in raw["stages"].values():
        stage["optimiser"] = {"name": "matched", "lr": 1e-3}
    return raw


def rates_of(run: Path) -> list[dict[str, Any]]:
    events = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    return [
        {k: v for k, v in event.items() if k not in ("time", "event")} for event in events if event["event"] == "rates"
    ]


@pytest.mark.parametrize("method", ["source_only", "proda", "cpsl", "bcl", "mpcl", "hrda"])
def test_measuring_leaves_the_method_as_it_was(tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Running statistics, prototypes, banks: a step changes some of them, measuring puts all of them back."""
    raw = tiny(tmp_path, method)
    for stage in raw["stages"].values():
        stage["norm"] = "train"
    real_match, real_backward = Loop.match, Backward.step
    inside: list[set[str]] = []
    measured = []

    def watched_backward(self: Backward, *given: Any) -> Any:
        buffers = dict(self._method.named_buffers())
        before = {name: buffer.clone() for name, buffer in buffers.items()}
        result = real_backward(self, *given)
        inside.append({name for name, b in buffers.items() if not torch.equal(b, before[name])})
        return result

    def watched_match(self: Loop, *given: Any) -> Any:
        before = {name: value.clone() for name, value in self.method.state_dict().items()}
        inside.clear()
        found = real_match(self, *given)
        assert set().union(*inside), "a step that changes nothing proves nothing"
        measured.append(self.config.name)
        assert_same(before, self.method.state_dict())
        return found

    monkeypatch.setattr(Backward, "step", watched_backward)
    monkeypatch.setattr(Loop, "match", watched_match)
    Run.open(build_config(raw, "tiny"), tmp_path / "run", quiet=True).execute()
    assert set(measured) == set(raw["stages"])


def test_each_network_has_rates_of_its_own(tmp_path: Path) -> None:
    raw = tiny(tmp_path, "adaptseg", discriminator_optimiser={"name": "matched", "lr": 1e-3})
    Run.open(build_config(raw, "tiny"), tmp_path / "run", quiet=True).execute()
    first, second = rates_of(tmp_path / "run")
    assert list(first["rates"]) == ["model"]
    assert len(second["rates"]) == 2
    assert all(rate > 0 for found in second["rates"].values() for rate in found)


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_resumed_round_keeps_its_rates(tmp_path: Path, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped before the first step of the second round, and between steps of it."""
    config = build_config(tiny(tmp_path, "cbst"), "tiny")
    Run.open(config, tmp_path / "whole", quiet=True).execute()
    real, broken, steps = Loop.step, tmp_path / "broken", []

    def crashing(self: Loop, round_index: int, step: int, *given: Any) -> Any:
        if (self.config.name, round_index, step) == ("adapt", 1, after) and not steps:
            steps.append(step)
            raise Crash
        return real(self, round_index, step, *given)

    monkeypatch.setattr(loop_module.Loop, "step", crashing)
    with pytest.raises(Crash):
        Run.open(config, broken, quiet=True).execute()
    resumed(broken, quiet=True).execute()
    assert len(steps) == 1
    assert rates_of(broken) == rates_of(tmp_path / "whole")  # measured once per round, never again
    assert [(r["stage"], r["round"]) for r in rates_of(broken)] == [("source", 0), ("adapt", 0), ("adapt", 1)]
    assert_same(weights(tmp_path / "whole"), weights(broken))


def test_rounds_are_measured_anew(tmp_path: Path) -> None:
    Run.open(build_config(tiny(tmp_path, "cbst"), "tiny"), tmp_path / "run", quiet=True).execute()
    _, first, second = rates_of(tmp_path / "run")
    assert first["rates"] != second["rates"]


@needs_fork
def test_two_processes_measure_the_same_as_one(tmp_path: Path) -> None:
    """Gradients of a batch are summed over the processes before they are squared."""
    raw = tiny(tmp_path, "source_only")
    raw["stages"]["source"].update(batch_size=4, steps=1)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    Run.open(build_config(raw, "tiny"), tmp_path / "one", quiet=True).execute()
    adapt = commands(("adapt", tmp_path / "recipe.yaml", "--out", tmp_path / "two", "-q"))
    for ended in in_processes(2, adapt, tmp_path / "said"):
        assert ended.status == 0, ended.err
    (one,), (other,) = rates_of(tmp_path / "one"), rates_of(tmp_path / "two")
    assert other["rates"]["model"] == pytest.approx(one["rates"]["model"], rel=1e-4)
