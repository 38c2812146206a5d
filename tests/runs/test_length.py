"""Shorter runs of published recipes: each rule, what is laid over it, and which stages have which length."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

import segadapt
from segadapt.core.settings import Scaling, class_at
from segadapt.errors import RequestError
from segadapt.methods.cbst import CBSTConfig
from segadapt.methods.daformer import DAFormerConfig
from segadapt.methods.mpcl_config import MPCLConfig
from segadapt.methods.registry import METHODS
from segadapt.methods.stage_config import OptimiserConfig, ScheduleConfig, StageConfig
from segadapt.recipes import merge, recipe_names
from segadapt.runs.config import RunConfig, build_config, folder_config, load_config, resolve
from segadapt.runs.length import changed, scaled, scaling_of, shorter
from segadapt.runs.plan import plan_run
from segadapt.runs.run import Run, resumed
from tests.docs.blocks import ROOT, blocks
from tests.test_cli import assert_refused, call
from tests.tiny import raw_config

LENGTHS = st.floats(1e-4, 1)
VALUES = {
    Scaling.STEPS: st.integers(0, 200_000),
    Scaling.PASSES: st.floats(0.01, 100),
    Scaling.MOMENTUM: st.floats(0, 1),
    Scaling.RATE: st.floats(1e-6, 1),
}
SCALED = st.sampled_from(list(VALUES)).flatmap(lambda kind: st.tuples(st.just(kind), VALUES[kind]))

# ---- the rules ----


@pytest.mark.parametrize(
    ("kind", "value", "length", "wanted"),
    [
        (Scaling.STEPS, 40_000, 0.025, 1000),
        (Scaling.STEPS, 1500, 0.025, 38),
        (Scaling.STEPS, 20, 0.001, 1),
        (Scaling.STEPS, 0, 0.5, 0),
        (Scaling.PASSES, 2, 0.2, 0.4),
        (Scaling.MOMENTUM, 0.999, 0.025, 0.9608),  # 0.999 ** 40 = 0.96077
        (Scaling.MOMENTUM, 0.999, 0.001, 0.9),
        (Scaling.MOMENTUM, 0.5, 0.25, 0.5),  # already below the least: it stays
        (Scaling.MOMENTUM, 1.0, 0.01, 1.0),
        (Scaling.RATE, 2.5e-4, 0.01, 2.5e-3),
        (Scaling.RATE, 6e-5, 0.025, 3.79e-4),
    ],
)
def test_each_rule(kind: Scaling, value: float, length: float, wanted: float) -> None:
    found = scaled(value, kind, length)
    assert found == pytest.approx(wanted, rel=1e-12)
    assert isinstance(found, int) == (kind is Scaling.STEPS)


@given(value=st.floats(0.9, 0.9999), length=st.floats(0.01, 1))
def test_an_average_forgets_over_the_same_share_of_the_stage(value: float, length: float) -> None:
    """Of n steps, the share that is left after n is m ** n; a stage of l n steps has m' ** (l n)."""
    found = scaled(value, Scaling.MOMENTUM, length)
    if found > 0.9:
        n = 1 / (1 - value)
        assert found ** (length * n) == pytest.approx(value**n, rel=0.02)
    else:
        assert value ** (1 / length) <= 0.9 + 1e-3


@given(chosen=SCALED)
def test_length_one_changes_nothing(chosen: tuple[Scaling, float]) -> None:
    kind, value = chosen
    if kind is Scaling.MOMENTUM:
        value = 1 - float(f"{1 - value:.3g}")
    elif kind is not Scaling.STEPS:
        value = float(f"{value:.3g}")
    assert scaled(value, kind, 1) == pytest.approx(value, rel=1e-9)


@given(chosen=SCALED, lengths=st.tuples(LENGTHS, LENGTHS))
def test_the_rules_are_monotone(chosen: tuple[Scaling, float], lengths: tuple[float, float]) -> None:
    kind, value = chosen
    low, high = (scaled(value, kind, length) for length in sorted(lengths))
    assert low >= high if kind is Scaling.RATE else low <= high


@given(chosen=SCALED, one=st.floats(0.05, 1), other=st.floats(0.05, 1))
def test_a_shorter_run_of_a_shorter_run(chosen: tuple[Scaling, float], one: float, other: float) -> None:
    kind, value = chosen
    twice, once = scaled(scaled(value, kind, one), kind, other), scaled(value, kind, one * other)
    if kind is Scaling.STEPS:
        assert abs(twice - once) <= 2
    elif kind is Scaling.MOMENTUM:
        assert twice == pytest.approx(once, abs=0.1 if once <= 0.9 else 0.02)
        assert twice >= min(value, 0.9) - 1e-9
    else:
        assert twice == pytest.approx(once, rel=0.02)


@given(value=st.floats(0, 0.999999), length=st.floats(1e-3, 100))
def test_no_average_stands_still_by_rounding(value: float, length: float) -> None:
    assert scaled(value, Scaling.MOMENTUM, length) < 1


def test_settings_inside_settings_follow_and_the_rest_stays() -> None:
    stage = DAFormerConfig(
        name="adapt",
        method="mpcl",
        steps=40_000,
        feature_classes="all",
        optimiser=OptimiserConfig(name="adamw", lr=6e-5),
        schedule=ScheduleConfig(warmup=1500),
        mpcl=MPCLConfig(warmup=400, restart=None, bank=20_000),
    )
    assert shorter(stage, 1) == {}
    assert shorter(stage, 0.01) == {
        "steps": 400,
        "optimiser": {"lr": 6e-4},
        "schedule": {"warmup": 15},
        "teacher_momentum": 0.9048,
        "mpcl": {"momentum": 0.9048, "warmup": 4},
    }


def test_a_subclass_that_changes_a_default_keeps_the_rule() -> None:
    """CBST has a default of its own for ``epochs``; packages may have."""

    class Other(DAFormerConfig):
        teacher_momentum: float = 0.99
        steps: int | None = 5000

    assert shorter(CBSTConfig(name="adapt", method="cbst", epochs=2), 0.25)["epochs"] == 0.5
    found = shorter(Other(name="adapt", method="daformer", feature_classes="all"), 0.5)
    assert (found["teacher_momentum"], found["steps"]) == (0.9801, 2500)


# ---- every setting that could follow says whether it does ----

COUNTS = re.compile(
    r"momentum|warmup|horizon|every|steps|epochs|restart|betas|decay|bank|collect|insert|start|(^|\.)lr"
)
UNMARKED = {
    "optimiser.momentum": "SGD's own; its updates are lr / (1 - momentum), and lr follows",
    "optimiser.betas": "AdamW's own averages, of ten and a thousand steps at any length",
    "optimiser.weight_decay": "acts times the rate, which follows",
    "checkpoint_every": "decides no number",
    "optimiser.layer_decay": "from block to block of the encoder",
    "lr_factor": "from round to round, whatever their steps",
    "bank": "features, not steps; the memory that they take",
    "mpcl.bank": "features of a class",
    "mpcl.insert": "features of an image",
    "mpcl.start": "features of a class, where a first clustering has enough",
    "mpcl.collect": "clean features per class as published; a short recipe sets what its steps bring",
}
UNMARKED |= {
    f"{owner}.{name}": UNMARKED[f"optimiser.{name}"]
    for owner in ("discriminator_optimiser", "head_optimiser")
    for name in ("momentum", "betas", "weight_decay", "layer_decay")
}


def settings_of(cls: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Yield every setting with whether it follows the length."""
    for name in cls.model_fields:
        inner = class_at(cls, [name])
        if inner is not None:
            yield from settings_of(inner, f"{prefix}{name}.")
        else:
            yield prefix + name, scaling_of(cls, name) is not None


def test_what_counts_steps_is_marked() -> None:
    found = {pair for name in METHODS.names() for pair in settings_of(METHODS[name].method.Config)}
    assert {name for name, marked in found if COUNTS.search(name) and not marked} == set(UNMARKED)
    assert len([name for name, marked in found if marked]) > 12


# ---- recipes ----

STAGE = {"method": "cbst", "rounds": 2, "steps": 1000, "optimiser": {"name": "sgd", "lr": 1e-3}}


def recipe(folder: Path, stages: Mapping[str, Any], **settings: Any) -> str:
    """Write a recipe between the tiny folders."""
    raw = {**raw_config(folder), **settings, "stages": dict(stages)}
    (folder / "mine.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    return str(folder / "mine.yaml")


def stage_of(config: RunConfig, name: str) -> Any:
    return next(stage for stage in config.stages if stage.name == name)


def test_short_over_every_over_rules_over_published(tmp_path: Path) -> None:
    adapt = {
        **STAGE,
        "length": 0.04,
        "norm": "frozen",
        "portion": 0.3,
        "schedule": {"warmup": 100, "horizon": 2000},
        "short": {"portion": 0.5, "optimiser": {"name": "matched"}, "schedule": {"horizon": 77}},
    }
    every = {"norm": "affine", "checkpoint_every": 9, "schedule": {"horizon": 55, "warmup": 66}}
    stage = stage_of(load_config(recipe(tmp_path, {"adapt": adapt}, every=every)), "adapt")
    assert (stage.steps, stage.rounds) == (40, 2)  # a rule, and what has none
    assert (stage.norm, stage.checkpoint_every) == ("affine", 9)
    assert (stage.schedule.warmup, stage.schedule.horizon) == (66, 77)
    assert (stage.portion, stage.optimiser.name, stage.optimiser.lr) == (0.5, "matched", 0.005)


def test_every_lies_below_a_stage_without_length(tmp_path: Path) -> None:
    every = {"norm": "frozen", "optimiser": {"lr": 0.5, "momentum": 0.7}}
    stages = {"one": {**STAGE, "norm": "affine"}, "two": {"like": "one", "optimiser": {"name": "adamw"}}}
    one, two = load_config(recipe(tmp_path, stages, every=every)).stages
    assert (one.norm, one.optimiser.lr, one.optimiser.momentum) == ("affine", 1e-3, 0.7)
    assert (two.optimiser.name, two.optimiser.lr, two.optimiser.momentum) == ("adamw", 1e-3, 0.7)


def test_overrides_are_exact(tmp_path: Path) -> None:
    """Nothing follows from the length but what the command leaves open."""
    path = recipe(tmp_path, {"adapt": {**STAGE, "length": 0.1, "schedule": {"warmup": 50}, "short": {"portion": 0.4}}})
    given_ = ["adapt.steps=777", "adapt.optimiser.lr=0.25", "adapt.portion=0.9", "adapt.schedule.warmup=3"]
    stage = stage_of(load_config(path, given_), "adapt")
    assert (stage.steps, stage.optimiser.lr, stage.portion, stage.schedule.warmup) == (777, 0.25, 0.9, 3)
    assert stage_of(load_config(path, ["adapt.schedule.power=0.5"]), "adapt").schedule.warmup == 5


@pytest.mark.parametrize("recipe", ["toy/cpsl", "toy/daformer", "gta5_cityscapes/proda"])
def test_settings_that_an_override_leaves_out_keep_their_defaults(recipe: str) -> None:
    name = {"toy/cpsl": "stage1", "toy/daformer": "adapt"}.get(recipe, "warmup")
    other = {"toy/cpsl": "head_optimiser", "gta5_cityscapes/proda": "discriminator_optimiser"}.get(recipe, "optimiser")
    for changes in ([], ["length=0.001"]):
        before = getattr(stage_of(load_config(recipe, changes), name), other)
        after = getattr(stage_of(load_config(recipe, [*changes, f"{name}.{other}.lr=0.125"]), name), other)
        assert after == before.model_copy(update={"lr": 0.125})


def test_a_stage_like_another_has_its_length(tmp_path: Path) -> None:
    stages = {"one": {**STAGE, "length": 0.1, "short": {"portion": 0.4}}, "two": {"like": "one", "steps": 500}}
    one, two = load_config(recipe(tmp_path, stages)).stages
    assert [(s.steps, s.length, s.portion) for s in (one, two)] == [(100, 0.1, 0.4), (50, 0.1, 0.4)]  # type: ignore[attr-defined]
    one, two = load_config(recipe(tmp_path, stages), ["one.length=0.2"]).stages
    assert (one.steps, two.steps) == (200, 100)


# ---- the length of a run ----


def test_the_length_of_a_run_is_the_share_of_what_is_published(tmp_path: Path) -> None:
    """It replaces a stage's own, and reaches every stage of a recipe that gives none."""
    published = recipe(tmp_path, {"one": STAGE, "two": {**STAGE, "steps": 300}})
    assert [s.steps for s in load_config(published, ["length=0.1"]).stages] == [100, 30]
    assert [s.steps for s in load_config(published, ["length=0.1", "two.length=0.5"]).stages] == [100, 150]
    small = recipe(tmp_path, {"one": {**STAGE, "length": 0.5}, "two": {**STAGE, "steps": 300, "length": 0.2}})
    assert [s.steps for s in load_config(small).stages] == [500, 60]
    assert [(s.steps, s.length) for s in load_config(small, ["length=0.1"]).stages] == [(100, 0.1), (30, 0.1)]
    assert [s.steps for s in load_config(small, ["length=1"]).stages] == [1000, 300]
    assert [(s.steps, s.length) for s in load_config(small, ["length=0.1", "two.length=0.2"]).stages] == [
        (100, 0.1),
        (60, 0.2),
    ]


def test_a_stage_that_is_not_published_keeps_its_steps(tmp_path: Path) -> None:
    source = {"method": "source_only", "steps": 1200, "optimiser": {"lr": 0.5}}
    path = recipe(tmp_path, {"source": source, "adapt": {**STAGE, "length": 0.5}, "oracle": {"like": "source"}})
    stages = load_config(path, ["length=0.004"]).stages
    assert [(s.steps, s.length, s.optimiser.lr) for s in stages] == [(1200, 1, 0.5), (4, 0.004, 0.0158), (1200, 1, 0.5)]


@pytest.mark.parametrize("name", [name for name in recipe_names() if name.endswith(("proda", "cbst", "daformer"))])
def test_each_shipped_recipe_has_a_stage_that_follows(name: str) -> None:
    folders = {part: {"images": "a", "labels": "b"} for part in ("source", "target")}
    method = name.removeprefix("folders/")
    before, after = (
        folder_config(method, folders, changes) if name.startswith("folders/") else load_config(name, changes)
        for changes in ([], ["length=0.001"])
    )
    lengths = [stage.length for stage in before.stages]
    own = min(lengths) < 1
    for one, other, length in zip(before.stages, after.stages, lengths, strict=True):
        if own and length == 1:
            assert other == one
        else:
            assert other.length == 0.001
            assert (other.steps or other.epochs) < (one.steps or one.epochs)


def test_short_is_said_for_the_length_of_the_recipe(tmp_path: Path) -> None:
    """With another length its steps and rates follow; what has no rule stays."""
    short = {"steps": 60, "portion": 0.4, "optimiser": {"lr": 0.1}, "schedule": {"warmup": 8}}
    path = recipe(tmp_path, {"adapt": {**STAGE, "length": 0.1, "short": short}})
    for change in ("length=0.025", "adapt.length=0.025"):
        stage = stage_of(load_config(path, [change]), "adapt")
        assert (stage.steps, stage.portion, stage.optimiser.lr, stage.schedule.warmup) == (15, 0.4, 0.2, 2)
    same = stage_of(load_config(path, ["length=0.1"]), "adapt")
    assert same == stage_of(load_config(path), "adapt")


# ---- steps of a run ----


def total(config: RunConfig) -> int:
    return sum(getattr(stage, "rounds", 1) * (stage.steps or 0) for stage in config.stages)


@pytest.mark.parametrize("name", ["gta5_cityscapes/proda", "gta5_cityscapes/bcl", "toy/proda", "toy/cbst", "toy/mpcl"])
def test_steps_of_all_stages_together(name: str) -> None:
    for steps in (1500, 2500):
        config = load_config(name, steps=steps)
        assert total(config) == pytest.approx(steps, abs=12)
        assert config == load_config(name, [f"length={config.length}"])


def test_steps_that_the_command_gives_a_stage_are_counted_as_they_are() -> None:
    config = load_config("toy/proda", ["source.steps=50", "stage1.steps=20"], steps=300)
    assert [s.steps for s in config.stages][::2] == [50, 20, pytest.approx(77, abs=1)]
    assert total(config) == pytest.approx(300, abs=3)


@pytest.mark.parametrize(
    ("recipe", "changes", "steps", "answer"),
    [
        (
            "gta5_cityscapes/cbst",
            [],
            1000,
            r"stage 'adapt' counts passes over the data .* give a length, or adapt.steps=",
        ),
        ("toy/proda", ["stage1.epochs=1"], 2000, "stage 'stage1' counts passes"),
        ("gta5_cityscapes/proda", [], 400_000, "400000 steps are more than the published 249648; give fewer"),
        ("toy/cbst", [], 900, r"not more than those that stages keep \(source 800, oracle 600\); give more"),
        ("toy/cbst", ["adapt.steps=5"], 9000, r"stages keep \(source 800, adapt 15, oracle 600\)"),
        ("toy/cbst", ["length=0.1"], 2000, "length and steps exclude each other; give one of the two"),
        ("toy/cbst", [], 0, "steps must be a whole number above 0, not 0"),
        ("toy/cbst", [], 1.5, "steps must be a whole number above 0, not 1.5"),
    ],
)
def test_steps_that_no_length_gives(recipe: str, changes: list[str], steps: Any, answer: str) -> None:
    with pytest.raises(RequestError, match=answer) as caught:
        load_config(recipe, changes, steps=steps)
    assert "\n" not in str(caught.value)


# ---- mistakes ----

NOT_LAID = ["name: x", "method: st", "length: 0.5", "short: {steps: 3}", "like: one"]


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({"stages": {"adapt": {"short": {"portoin": 1}}}}, "unknown key 'short.portoin' .*'portion'"),
        ({"stages": {"adapt": {"short": {"optimiser": {"lrr": 1}}}}}, "'adapt': unknown key 'short.optimiser.lrr' "),
        ({"stages": {"adapt": {"short": 5}}}, "stage 'adapt': 'short' .* not 5"),
        ({"stages": {"adapt": {"short": {"optimiser": {"lr": -1}}}}}, "stage 'adapt': 'optimiser.lr' .* not -1"),
        ({"stages": {"adapt": {"length": 1, "short": {"steps": 5}}}}, "'adapt': short is for stages with a length"),
        ({"stages": {"adapt": {"length": None, "short": {"steps": 5}}}}, "'adapt': short is for stages with a length"),
        ({"stages": {"source": {"short": {"setps": 5}}}}, "'source': unknown key 'short.setps' .*'steps'"),
        ({"stages": {"adapt": {"length": 0}}}, "stage 'adapt': 'length' input should be greater than 0, not 0"),
        ({"length": 1.5}, "'length' input should be less than or equal to 1, not 1.5"),
        ({"every": 5}, "'every' input should be a valid dictionary, not 5"),
        ({"every": {"portion": 0.3}}, "'source': unknown key 'every.portion'.*; every holds what all stages have"),
        ({"every": {"schedule": {"powr": 1}}}, r"unknown key 'every.schedule.powr' \(did you mean 'power'\?\)"),
        ({"every": {"norm": "none"}}, "stage 'source': 'norm' input should be"),
        *(({"every": yaml.safe_load(text)}, f"every cannot hold '{text.split(':')[0]}'") for text in NOT_LAID),
        *(
            ({"stages": {"adapt": {"short": yaml.safe_load(text)}}}, f"short cannot hold '{text.split(':')[0]}'")
            for text in NOT_LAID
        ),
    ],
)  # fmt: skip
def test_mistakes_name_the_stage(tmp_path: Path, changes: dict[str, Any], answer: str) -> None:
    source = {"method": "source_only", "steps": 6}
    raw = {"stages": {"source": source, "adapt": {**STAGE, "length": 0.1}}}
    path = recipe(tmp_path, merge(raw, changes)["stages"], **{k: v for k, v in changes.items() if k != "stages"})
    with pytest.raises(RequestError, match=answer) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)


def test_null_lays_nothing(tmp_path: Path) -> None:
    path = recipe(tmp_path, {"adapt": {**STAGE, "length": 0.1, "short": {"portion": 0.4}}}, every={"norm": "frozen"})
    stage = stage_of(load_config(path, ["adapt.short=null", "every=null", "adapt.length=null"]), "adapt")
    assert (stage.steps, stage.norm, stage.portion) == (1000, "affine", CBSTConfig(name="x", method="cbst").portion)


def test_the_recipe_of_the_page(tmp_path: Path) -> None:
    (block,) = blocks(ROOT / "docs/short_runs.md", "yaml")
    (tmp_path / "mine.yaml").write_text(block.text)
    source, adapt = load_config(str(tmp_path / "mine.yaml")).stages
    assert (source.steps, source.length) == (800, 1)
    assert (adapt.steps, adapt.optimiser.lr, adapt.initial) == (1000, 3.79e-4, "previous")
    assert adapt.augmentation.crop == (128, 256)
    assert load_config(str(tmp_path / "mine.yaml"), ["length=0.01"]).stages[1].steps == 400


# ---- a run that goes on ----


@pytest.mark.parametrize("change", ["adapt.length=0.5", "length=0.5"])
def test_a_resumed_run_is_not_shortened_again(tmp_path: Path, change: str) -> None:
    stages = raw_config(tmp_path)["stages"]
    stages["source"]["schedule"] = {"warmup": 4}
    stages["adapt"].update(length=0.9, short={"portion": 0.4}, schedule={"warmup": 2})
    config = load_config(recipe(tmp_path, stages), [change])
    assert stage_of(config, "adapt").steps == 2
    assert build_config(config.model_dump(mode="json"), config.title) == config
    Run.open(config, tmp_path / "run", quiet=True)
    assert resumed(tmp_path / "run", quiet=True).config == config


# ---- in Python and on the command line ----


class Opened(Exception):
    """A run that was about to open."""


def test_python_and_command_take_length_and_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[RunConfig] = []

    def open_(config: RunConfig, *_: Any, **__: Any) -> None:
        opened.append(config)
        raise RequestError("enough")

    monkeypatch.setattr("segadapt.api.adapting.Run.open", open_)
    path = recipe(tmp_path, {"one": STAGE, "two": {**STAGE, "steps": 3000}})
    folders = {
        "source_images": tmp_path / "source/images",
        "source_labels": tmp_path / "source/labels",
        "target_images": tmp_path / "target/images",
    }
    words = [word for name, value in folders.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    proda = [*words, "--method", "proda"]
    for number, (options, count) in {
        ("--length", "0.004"): ({"length": 0.004}, 0),
        ("--steps", "4000"): ({"steps": 4000}, 4000),
    }.items():  # fmt: skip
        for call_ in (
            lambda options=options: segadapt.adapt(path, out=tmp_path / "out", **options),
            lambda options=options: segadapt.adapt(method="proda", out=tmp_path / "out", **folders, **options),
        ):
            with pytest.raises(RequestError, match="enough"):
                call_()
        for given_ in ([path], proda):
            code, _, err = call(monkeypatch, capsys, "adapt", *given_, *number, "--out", str(tmp_path / "out"))
            assert (code, "enough" in err) == (2, True), err
        recipes, files = opened[::2], opened[1::2]
        assert recipes[0] == recipes[1]
        assert files[0] == files[1]
        assert [s.length for s in files[0].stages] == [1, *[files[0].length] * 4]
        assert files[0].stages[0].steps == 1200
        if count:
            assert [total(c) for c in (recipes[0], files[0])] == pytest.approx([count, count], abs=4)
        else:
            assert [s.steps for s in recipes[0].stages] == [4, 12]
        opened.clear()
    both = call(monkeypatch, capsys, "adapt", path, "--length", "0.5", "--steps", "9")
    assert_refused(both, "length and steps exclude each other")
    assert_refused(call(monkeypatch, capsys, "plan", path, "--length", "0.5", "--steps", "9"), "exclude each other")
    with pytest.raises(RequestError, match="a configuration is complete"):
        segadapt.adapt(load_config(path), steps=4)
    with pytest.raises(RequestError, match="a configuration is complete"):
        segadapt.adapt(load_config(path), length=0.5)


# ---- the plan ----


def planned_recipe(folder: Path) -> str:
    stages = raw_config(folder, "adaptseg")["stages"]
    stages["source"]["steps"] = 3
    stages["adapt"].update(
        steps=40, length=0.1, short={"optimiser": {"name": "matched"}, "adversarial": 0.5}, schedule={"warmup": 20}
    )
    return recipe(folder, stages)


def test_a_plan_shows_what_the_length_changes(tmp_path: Path) -> None:
    config, published, _ = resolve(planned_recipe(tmp_path), ["adapt.optimiser.lr=0.1"])
    source, adapt = plan_run(config, {}, measure=True, published=published)["stages"]
    assert (source["published"], source["changes"], source["rates"]) == ("", [], {})
    assert (adapt["published"], adapt["steps"]) == ("40", 4)
    changes = {name: values for name, *values in adapt["changes"]}
    assert changes == {
        "steps": [40, 4],
        "optimiser.name": ["adamw", "matched"],
        "schedule.warmup": [20, 2],
        "adversarial": [0.001, 0.5],
        "discriminator_optimiser.lr": [1e-4, 3.16e-4],
    }
    assert list(adapt["rates"]) == ["model"]
    assert all(0 < rate < 1 for rate in adapt["rates"]["model"])
    assert [row["rates"] for row in plan_run(config, {}, measure=False)["stages"]] == [{}, {}]


def test_the_command_shows_the_plan_of_a_short_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = planned_recipe(tmp_path)
    code, out, err = call(monkeypatch, capsys, "plan", path, "--length", "0.05")
    assert code == 0, err
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert any("adapt adaptseg previous 1 40 -> 2 2" in line for line in lines)
    assert {"adapt steps 40 2", "adapt schedule.warmup 20 1", "adapt optimiser.name adamw matched"} <= set(lines)
    assert any(line.startswith("adapt model ") for line in lines)
    plain = recipe(tmp_path, {"adapt": {**STAGE, "steps": 4, "rounds": 1}})
    code, out, err = call(monkeypatch, capsys, "plan", plain, "--no-measure")
    assert code == 0, err
    assert "published" not in out
    assert "->" not in out


def test_changes_leave_out_what_stays() -> None:
    stage = StageConfig(name="adapt", method="cbst", steps=1000, length=0.1, short={"steps": 3})
    assert changed(stage, stage) == []
    other = stage.model_copy(update={"schedule": ScheduleConfig(power=0.5), "length": 1.0, "short": {}})
    assert changed(stage, other) == [("schedule.power", 0.9, 0.5)]
    assert math.isclose(scaled(1, Scaling.RATE, 0.25), 2)
