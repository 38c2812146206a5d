"""Recipes and overrides: what they resolve to, and what a mistake is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from segadapt.errors import RequestError
from segadapt.methods.cbst import CBSTConfig
from segadapt.recipes import merge, read_recipe, recipe_names
from segadapt.runs.config import apply_overrides, build_config, folder_config, load_config, resolve_folders
from segadapt.runs.roots import resolve_root
from tests.tiny import raw_config


def test_merge_goes_into_mappings_and_replaces_the_rest() -> None:
    assert merge({"a": {"b": 1, "c": [1, 2]}, "d": 1}, {"a": {"c": [3]}, "e": 2}) == {
        "a": {"b": 1, "c": [3]},
        "d": 1,
        "e": 2,
    }


def test_a_recipe_builds_on_another(tmp_path: Path) -> None:
    (tmp_path / "below.yaml").write_text("seed: 1\nmodel: {name: lite, weights: imagenet}\n")
    (tmp_path / "above.yaml").write_text("base: below.yaml\nmodel: {weights: null}\n")
    assert read_recipe(tmp_path / "above.yaml") == {"seed": 1, "model": {"name": "lite", "weights": None}}


def test_overrides_reach_stages_and_settings() -> None:
    config = load_config(
        "toy/cbst", ["adapt.rounds=2", "adapt.optimiser.lr=1e-5", "seed=7", "data.target.size=[64, 128]"]
    )
    adapt = next(s for s in config.stages if s.name == "adapt")
    assert isinstance(adapt, CBSTConfig)
    assert (adapt.rounds, adapt.optimiser.lr, config.seed, config.data.target.size) == (2, 1e-5, 7, (64, 128))
    assert adapt.optimiser.name == "matched"


def test_the_length_given_last_counts(tmp_path: Path) -> None:
    source, adapt = load_config("toy/cbst", ["source.epochs=1.5", "adapt.steps=3"]).stages[:2]
    assert (source.steps, source.epochs) == (None, 1.5)
    assert adapt.steps == 3
    (tmp_path / "mine.yaml").write_text("base: toy/cbst\nstages:\n  source: {epochs: 2}\n")
    mine = load_config(str(tmp_path / "mine.yaml")).stages[0]
    assert (mine.steps, mine.epochs) == (None, 2)
    again = load_config(str(tmp_path / "mine.yaml"), ["source.steps=5"]).stages[0]
    assert again.steps == 5
    assert load_config("toy/cbst", ["source.steps=null", "source.epochs=1"]).stages[0].epochs == 1
    (tmp_path / "both.yaml").write_text("base: toy/cbst\nstages:\n  source: {epochs: 2, steps: 3}\n")
    with pytest.raises(RequestError, match=r"both\.yaml': stage 'source' gets both steps and epochs"):
        load_config(str(tmp_path / "both.yaml"))


def test_a_stage_like_another() -> None:
    config = load_config("toy/cbst")
    source, oracle = config.stages[0], config.stages[-1]
    assert oracle.role == "oracle"
    assert oracle.batch_size == source.batch_size
    assert oracle.augmentation == source.augmentation


@pytest.mark.parametrize("recipe", [name for name in recipe_names() if not name.startswith("folders/")])
def test_a_resolved_configuration_reads_back_equal(recipe: str) -> None:
    config = load_config(recipe)
    assert build_config(config.model_dump(mode="json"), config.title) == config


@pytest.mark.parametrize(
    ("overrides", "answer"),
    [
        (["adapt.portoin=0.3"], r"stage 'adapt': unknown key 'portoin' \(did you mean 'portion'\?\)"),
        (["adpat.rounds=3"], r"no setting or stage 'adpat' \(did you mean 'adapt'\?\)"),
        (["adapt.rounds=many"], r"stage 'adapt': 'rounds' input should be a valid integer.*'many'"),
        (["adapt.portion=1.5"], r"'portion' input should be less than or equal to 1"),
        (["adapt.optimiser.lrr=1"], r"unknown key 'optimiser.lrr' \(did you mean 'lr'\?\)"),
        (["adapt.method=cbts"], r"no method 'cbts' \(did you mean 'cbst'\?\)"),
        (["data.target.redaer=gta5"], r"unknown key 'data.target.redaer' \(did you mean 'reader'\?\)"),
        (["adapt.rounds"], "not of the form key=value"),
        (["data.target.size=[0,5]"], r"'data.target.size' must be \[height, width\], .*not \[0, 5\]"),
        (["data.target.size=[null,null]"], r"'data.target.size' must be"),
        (["adapt.augmentation.crop=[0,0]"], r"'augmentation.crop.0' input should be greater than 0, not 0"),
        (["adapt.augmentation.crop=[-32,32]"], r"'augmentation.crop.0' input should be greater than 0"),
        (["adapt.augmentation.scales=[2,1]"], r"'augmentation.scales' must be \[smallest, largest\], .*not \[2, 1\]"),
        (["adapt.augmentation.scales=[0,0]"], r"'augmentation.scales' must be"),
        (["adapt.target_scales=[0,1]"], r"'target_scales' must be"),
        (["adapt.optimiser.betas=[0.9,1]"], r"'optimiser.betas.1' input should be less than 1"),
        (["source.steps=3", "source.epochs=1"], "'source.epochs=1': stage 'source' gets both steps and epochs"),
        (["source=null", "adapt=null", "oracle=null"], "every stage is left out; keep at least one"),
        (["data.target.size=1.5"], r"'data.target.size' must be"),
        (["adapt=null", "adapt.method=mpcl", "adapt.mpcl=null"], "without prototypes MPCL is DAFormer"),
        (["adapt.method=crst_lrent", "adapt.spatial_prior=true"], "not defined for the soft labels"),
    ],
)
def test_mistakes_are_named(overrides: list[str], answer: str) -> None:
    with pytest.raises(RequestError, match=answer) as caught:
        load_config("toy/cbst", overrides)
    assert "\n" not in str(caught.value)


def test_unknown_recipes(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"did you mean 'toy/cbst'"):
        load_config("toy/cbts")
    (tmp_path / "bad.yaml").write_text("stages: [")
    with pytest.raises(RequestError, match="not valid YAML"):
        load_config(str(tmp_path / "bad.yaml"))
    (tmp_path / "latin.yaml").write_bytes("title: Stra\u00dfe".encode("latin-1"))
    with pytest.raises(RequestError, match="not a text file in UTF-8"):
        load_config(str(tmp_path / "latin.yaml"))
    (tmp_path / "empty.yaml").write_text("seed: 1\n")
    with pytest.raises(RequestError, match="no stages"):
        load_config(str(tmp_path / "empty.yaml"))


def test_settings_of_a_stage_that_a_recipe_leaves_out() -> None:
    with pytest.raises(
        RequestError, match=r"'stage1\.steps': the recipe has no stage 'stage1'; its stages: source, warmup"
    ):
        load_config("toy/adaptseg", ["stage1.steps=3"])


def test_roots_come_from_options_environment_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_root("camvid", {"camvid": "/data/c"}) == Path("/data/c")
    assert resolve_root("toy/gta5", {"toy": "/data/t"}) == Path("/data/t/gta5")
    monkeypatch.setenv("SEGADAPT_CAMVID", "/env/c")
    assert resolve_root("camvid", {}) == Path("/env/c")
    assert resolve_root(str(tmp_path), {}) == tmp_path
    with pytest.raises(RequestError, match=r"--root gta5=FOLDER, in Python .* or set SEGADAPT_GTA5=FOLDER"):
        resolve_root("gta5", {})


def test_overrides_do_not_change_what_they_are_laid_over(tmp_path: Path) -> None:
    raw = raw_config(tmp_path)
    before = yaml.safe_dump(raw)
    apply_overrides(raw, ["adapt.rounds=9"])
    assert yaml.safe_dump(raw) == before


def test_an_own_recipe_counts_as_it_stands_on_a_shortened_stage(tmp_path: Path) -> None:
    """Whatever ``length``, ``every`` and ``short`` below say of a stage, of one like it, or of a new one like it."""
    said = "{augmentation: {crop: [64, 96]}, optimiser: {name: adamw, lr: 0.5}, LENGTH}"
    (tmp_path / "cbst.yaml").write_text(f"base: toy/cbst\nstages:\n  adapt: {said.replace('LENGTH', 'epochs: 2')}\n")
    adapt = load_config(tmp_path / "cbst.yaml").stages[1]
    assert (adapt.steps, adapt.epochs, adapt.augmentation.crop) == (None, 2, (64, 96))
    assert (adapt.optimiser.name, adapt.optimiser.lr, adapt.augmentation.jitter) == ("adamw", 0.5, 0.5)
    changes = "".join(
        f"  {stage}: {said.replace('LENGTH', more)}\n"
        for stage, more in (("stage2", "steps: 3"), ("stage3", "steps: 4"), ("stage4", "like: stage3, steps: 5"))
    )
    (tmp_path / "proda.yaml").write_text(f"base: toy/proda\nstages:\n{changes}")
    (tmp_path / "above.yaml").write_text("base: proda.yaml\nstages:\n  stage4: {epochs: 1}\n")
    for name, last in (("proda.yaml", 5), ("above.yaml", None)):
        stages = load_config(tmp_path / name).stages[3:]
        assert [s.steps for s in stages] == [3, 4, last]
        assert {(s.augmentation.crop, s.optimiser.name, s.optimiser.lr) for s in stages} == {((64, 96), "adamw", 0.5)}
        assert [s.stride for s in stages] == [2] * 3  # type: ignore[attr-defined]


def test_an_own_length_shortens_what_the_own_recipe_says(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("base: gta5_cityscapes/hrda\nstages: {adapt: {length: 0.1, steps: 20000}}\n")
    adapt = load_config(tmp_path / "mine.yaml").stages[-1]
    assert (adapt.steps, adapt.schedule.warmup, adapt.short) == (2000, 150, {})


def test_own_recipes_build_on_shipped_ones_and_on_files_beside_them(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("base: camvid_day_dusk/cbst\nstages:\n  adapt: {portion: 0.3}\n")
    (tmp_path / "faster.yaml").write_text("base: mine.yaml\nstages:\n  source: {steps: 10}\n")
    config = load_config(str(tmp_path / "faster"))
    assert [s.name for s in config.stages] == ["source", "adapt", "oracle"]
    assert (config.stages[0].steps, config.stages[1].portion) == (10, 0.3)  # type: ignore[attr-defined]
    (tmp_path / "lost.yaml").write_text("base: camvid/cbst\n")
    with pytest.raises(RequestError, match="neither beside it nor a shipped recipe"):
        load_config(str(tmp_path / "lost.yaml"))


def test_hrda_looks_through_the_network_of_the_run() -> None:
    """Another network is then named once; a written configuration is read back as it is."""
    overrides = ("model.name=deeplabv2_resnet50", "model.arguments={branches: 2}")
    config = folder_config("hrda", {p: {"images": "a", "labels": "b"} for p in ("source", "target")}, overrides)
    network = config.stages[-1].network
    assert network is not None
    assert network.name == "hrda:deeplabv2_resnet50"
    assert network.arguments == {"detail": [256, 256], "base": {"branches": 2}}
    assert config.model.name == "deeplabv2_resnet50"
    assert build_config(config.model_dump(mode="json"), "again") == config


@pytest.mark.parametrize(
    ("overrides", "source", "adapt"),
    [
        (["adapt.steps=1"], 1, 1),
        (["adapt.steps=10", "seed=3"], 10, 10),
        (["adapt.steps=11"], 1200, 11),
        (["adapt.steps=1", "source.steps=40"], 40, 1),
        (["source.steps=3"], 3, 800),
    ],
)
def test_a_trial_of_two_folders_trains_the_source_model_as_briefly(
    overrides: list[str], source: int, adapt: int
) -> None:
    data = {part: {"images": "a", "labels": "b"} for part in ("source", "target")}
    config, _, notes = resolve_folders("dacs", data, overrides)
    assert [stage.steps for stage in config.stages] == [source, adapt]
    assert any("trial" in note for note in notes) == (
        overrides[0] in ("adapt.steps=1", "adapt.steps=10") and source == adapt
    )
