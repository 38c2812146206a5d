"""What is chosen becomes settings below those of a person, is kept with the run, and is not chosen again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import segadapt
from segadapt.api import choosing, planning
from segadapt.core.files import read_json
from segadapt.engine.runtime import Runtime
from segadapt.errors import RequestError
from segadapt.runs import at_hand
from segadapt.runs.at_hand import networks_at_hand
from segadapt.runs.budget import METHOD
from segadapt.runs.choice import Cost, Facts, Option, StageCost
from segadapt.runs.claim import claim_of
from segadapt.runs.config import RunConfig, build_config
from segadapt.runs.opening import open_data
from segadapt.runs.probe import cost_of, facts_of
from tests.tiny import raw_config, write_folder

STREETS_GPU = Facts("cuda", "a GPU, 24 GB", (1024, 2048), (1024, 2048), [], {1024: {"pole": 0.8}})


class Probe:
    """Stands for the measurement: a step of each stage takes 1 s at 256 x 256 pixels."""

    def __init__(self) -> None:
        self.seen: list[RunConfig] = []

    def __call__(self, config: RunConfig, *_: Any, free: list[str], **__: Any) -> Cost:
        self.seen.append(config)
        side = config.stages[0].augmentation.crop
        assert side is not None
        seconds = side[0] * side[1] / 256**2
        stages = [StageCost(s.name, s.steps or 0, seconds, s.length, s.name in free) for s in config.stages]
        return Cost(tuple(stages), 30.0)


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Probe:
    found = Probe()
    monkeypatch.setattr(choosing, "cost_of", found)
    monkeypatch.setattr(planning, "plan_run", lambda config, *_: {"config": config})
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("world")
    write_folder(root / "A", 3, size=(192, 256))
    write_folder(root / "B", 2, size=(192, 256), labels=False)
    return {
        "source_images": root / "A/images",
        "source_labels": root / "A/labels",
        "target_images": root / "B/images",
    }


def planned(world: dict[str, Path], *overrides: str, **more: Any) -> tuple[RunConfig, dict[str, Any] | None]:
    found = segadapt.plan(overrides=list(overrides), **world, **more)
    return found["config"], found["chosen"]


def test_without_a_word_method_and_sizes_are_chosen_and_nothing_is_timed(world: dict[str, Path], probe: Probe) -> None:
    config, chosen = planned(world)
    assert config.title == f"folders/{METHOD}"
    assert (config.data.source.size, config.data.target.size) == (256, 256)
    assert {stage.augmentation.crop for stage in config.stages} == {(128, 128)}
    assert probe.seen == []
    assert chosen is not None
    assert list(chosen["because"]) == ["method", "network", "size", "length"]
    assert json.loads(json.dumps(chosen)) == chosen
    assert planned(world, method=METHOD)[1] is None
    assert planned(world, method=METHOD)[0].data.source.size == 512  # as the recipe has it


def test_a_budget_sets_the_lengths_and_what_belongs_to_them(world: dict[str, Path], probe: Probe) -> None:
    """2400 steps of 0.25 s at 128 x 128; half of them fit into (30 + 300) s, of which a tenth is spared."""
    config, chosen = planned(world, budget=(30 + 300) / 0.9 / 60)
    source, adapt = config.stages
    assert source.steps == pytest.approx(600, rel=0.02)
    assert adapt.steps == pytest.approx(600, rel=0.02)
    assert source.schedule.warmup == pytest.approx(25, abs=1)
    assert source.optimiser.lr == pytest.approx(1e-4 * 2**0.5, rel=0.02)
    assert adapt.optimiser.lr == 3.46e-4, "as at the recipe's length"
    longer, _ = planned(world, budget="2h")
    assert longer.stages[0] == planned(world)[0].stages[0]
    assert longer.stages[1].length > 0.03
    assert longer.stages[1].optimiser.lr < 3.46e-4
    assert chosen is not None
    assert 250 < chosen["seconds"] < 350
    assert planned(world, *chosen["settings"], method=METHOD) == (config, None)  # said, they make the same run


def test_what_a_person_says_counts_more(world: dict[str, Path], probe: Probe) -> None:
    config, chosen = planned(world, "source.steps=100", "adapt.teacher_momentum=0.95", budget="10m")
    assert config.stages[0].steps == 100
    assert config.stages[1].teacher_momentum == 0.95  # type: ignore[attr-defined]
    assert chosen is not None
    assert "source as you said" in chosen["because"]["length"]
    said, why = planned(world, "data.source.size=128", "data.target.size=128", "model.name=timm:resnet10t", budget="1h")
    assert (said.data.source.size, said.stages[0].augmentation.crop) == (128, (64, 64))
    assert said.model.name == "timm:resnet10t"
    assert why is not None
    assert why["because"]["network"] == "timm:resnet10t, as you said"
    assert why["because"]["size"].endswith("crops of 64 x 64, as you said")
    crop, _ = planned(world, "every.augmentation.crop=[40, 60]", method="cbst", budget="1h")
    assert crop.stages[0].augmentation.crop == (40, 60)
    assert crop.data.source.size == 512
    twice, _ = planned(world, method="hrda", budget="1h")  # has sizes and crops of its own
    assert (twice.data.source.size, twice.stages[1].augmentation.crop) == (1024, (512, 512))


@pytest.mark.parametrize(
    ("request_of", "words"),
    [
        ({"budget": "soon"}, "is no time"),
        ({"budget": "1h", "length": 0.1}, "leave out --budget, or --length and --steps"),
        ({"budget": "1h", "steps": 100}, "leave out --budget, or --length and --steps"),
        ({"budget": "1h", "overrides": "length=0.1"}, "leave out --budget, or --length and --steps"),
        ({"budget": "31s"}, "too short"),
    ],
)
def test_budgets_that_cannot_be_are_refused(
    world: dict[str, Path], probe: Probe, request_of: dict[str, Any], words: str
) -> None:
    with pytest.raises(RequestError, match=words):
        segadapt.plan(**world, **request_of)
    with pytest.raises(RequestError, match="a budget is for folders and data sets"):
        segadapt.plan("toy/cbst", budget="1h")


def test_a_run_that_began_keeps_its_choice(world: dict[str, Path], probe: Probe, tmp_path: Path) -> None:
    def ask(more: Any) -> Any:
        return choosing.Asked(choosing_config(world, more), {}, {}, ())

    def choosing_config(world: dict[str, Path], more: Any) -> RunConfig:
        from segadapt.runs.config import folder_config

        parts = {
            "source": {"images": str(world["source_images"]), "labels": str(world["source_labels"])},
            "target": {"images": str(world["target_images"])},
        }
        return folder_config("dacs", parts, more)

    wish = choosing.Wish("20m", "dacs", ())
    first, chosen = choosing.chosen(ask(()), ask, wish, {}, [tmp_path])
    assert len(probe.seen) == 1
    claim_of(first.config, tmp_path).write(first.config, {}, chosen)
    again, kept = choosing.chosen(ask(()), ask, wish, {}, [tmp_path])
    assert (again, kept) == (first, chosen)
    assert len(probe.seen) == 1
    claim_of(again.config, tmp_path).write(again.config, {})  # as resume does
    assert read_json(tmp_path / "config.json")["chosen"] == chosen  # type: ignore[index]
    choosing.chosen(ask(()), ask, choosing.Wish("40m", "dacs", ()), {}, [tmp_path])
    assert len(probe.seen) == 2


def test_the_probe_trains_real_steps_and_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = build_config(raw_config(tmp_path, "dacs"), "tiny")
    runtime = Runtime("cpu")
    opened = open_data(config.data, {}, tmp_path / "cache")
    scratch = tmp_path / "scratch"
    facts = facts_of(opened, runtime, ["lite"])
    assert (facts.device, facts.source, facts.target) == ("cpu", (40, 56), (40, 56))
    assert facts.kept[256] == dict.fromkeys(opened.space.names, 1.0)
    cost = cost_of(config, opened, runtime, {}, scratch, free=["adapt"], patience=0.1)
    assert cost is not None
    assert [(s.name, s.steps, s.free) for s in cost.stages] == [("source", 6, False), ("adapt", 4, True)]
    assert all(s.seconds > 0 for s in cost.stages)
    assert cost.around > 0 < cost.memory_mb
    assert not list(scratch.rglob("*.safetensors"))

    def exhausted(*_: Any) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 38 GB")

    monkeypatch.setattr("segadapt.runs.plan.Loop.step", exhausted)
    assert cost_of(config, opened, runtime, {}, scratch, free=["adapt"], patience=0.1) is None
    assert Option("lite").size == 0


def test_on_a_gpu_weights_that_lie_here_are_chosen_with_rates_of_their_own(
    world: dict[str, Path], probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No GPU is at hand in tests: the choice is made of facts, and of names alone."""
    assert networks_at_hand("lite", "cpu") == ["lite"]
    monkeypatch.setattr(at_hand, "MODELS", {"foundation:NAME": "a family of networks"})
    monkeypatch.setattr(at_hand, "timm_weights_here", lambda name: "small" in name)
    small = [f"foundation:{name}" for name in at_hand.ENCODERS if "small" in name]
    assert networks_at_hand("lite", "cuda") == [*small, "lite"]
    monkeypatch.setattr(choosing, "networks_at_hand", lambda own, device: ["foundation:vit", own])
    gpu = SimpleNamespace(device=torch.device("cuda"), rank=0, processes=1, gather=list)
    monkeypatch.setattr(choosing, "Runtime", lambda *_: gpu)
    monkeypatch.setattr(choosing, "facts_of", lambda opened, runtime, names: replace(STREETS_GPU, networks=names))
    config, chosen = planned(world)
    assert chosen is not None
    assert config.model.name == "foundation:vit"
    assert config.data.workers == "auto"
    plain, _ = planned(world, "model.name=lite")
    assert config.stages[0].optimiser.lr == pytest.approx(plain.stages[0].optimiser.lr / 6, rel=0.01)
    assert config.data.source.size == plain.data.source.size == 1024
    assert planned(world, "data.workers=0")[0].data.workers == 0
