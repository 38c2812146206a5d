"""What the shipped recipes are, how they are composed, and what is read without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from segadapt import recipes
from segadapt.data.readers import READERS
from segadapt.errors import RequestError
from segadapt.labels import CITYSCAPES
from segadapt.labels import NTHU as NTHU_CLASSES
from segadapt.methods.cbst import CBSTConfig
from segadapt.recipes import ROOT, description, override, read_recipe, recipe_names, resolved_stages, stages_of
from segadapt.runs.config import build_config, folder_config, load_config

ROUNDS = "st st_sp cbst cbst_sp crst_mrkld crst_lrent"
STAGED = f"{ROUNDS} adaptseg proda cpsl bcl dacs daformer hrda mic mpcl"
PROTOTYPES = "mpcl_centroid mpcl_hrda mpcl_hrda_centroid mpcl_mic mpcl_mic_centroid mpcl_mic_hrda"
PUBLISHED = "mic_hrda mpcl_hrda mpcl_mic mpcl_mic_hrda"
FOUNDATION = "vfm_uda vfm_uda_base vfm_uda_source vfm_uda_lora"
SIMPLE = "source_only best st cbst dacs daformer hrda mic mic_hrda mpcl"
NTHU = "source_only best st cbst source_only_resnet38 st_resnet38 cbst_resnet38 adaptseg"
CBST_NETWORKS = " ".join(f"{name}_{net}" for net in ("resnet38", "vgg16") for name in ("source_only", "st", "cbst"))
CBST_SPATIAL = " ".join(f"{name}_sp_{net}" for net in ("resnet38", "vgg16") for name in ("st", "cbst"))
SHIPPED = {
    "camvid_day_dusk": f"source_only best oracle {STAGED} mic_hrda {PROTOTYPES}",
    "camvid_idd": f"source_only best oracle {STAGED} mic_hrda {PROTOTYPES}",
    "cityscapes_acdc": f"source_only best dacs daformer hrda mic mpcl {PUBLISHED} {FOUNDATION}",
    "cityscapes_dark_zurich": f"source_only best dacs daformer hrda mic mpcl {PUBLISHED}",
    "folders": f"source_only best oracle {STAGED}",
    **{f"cityscapes_nthu_{city}": NTHU for city in ("rome", "rio", "tokyo", "taipei")},
    "gta5_bdd100k": f"source_only best {ROUNDS} adaptseg adaptseg_single adaptseg_ls dacs daformer hrda mic mic_hrda",
    "gta5_bddv": "source_only_resnet38 st_resnet38 st_sp_resnet38 cbst_resnet38 cbst_sp_resnet38",
    "gta5_cityscapes": f"source_only best {STAGED} adaptseg_single adaptseg_ls adaptseg_vgg16 cpsl_official "
    f"{PUBLISHED} {FOUNDATION} {CBST_NETWORKS} {CBST_SPATIAL} cbst_sp_mst_resnet38",
    "loveda_rural_urban": SIMPLE,
    "loveda_urban_rural": SIMPLE,
    "potsdam_vaihingen": SIMPLE,
    "synthia_cityscapes": f"source_only best {STAGED} adaptseg_single adaptseg_ls {PUBLISHED} "
    f"{FOUNDATION} {CBST_NETWORKS}",
    "toy": f"source_only best oracle {STAGED} mic_hrda",
    "toy_camvid": f"source_only best oracle {STAGED.replace('st_sp ', '', 1)} mic_hrda {PROTOTYPES}",
}

FOLDERS = {
    "camvid_day_dusk": ("camvid_day_dusk", "toy", "_methods"),
    "camvid_idd": ("camvid_idd", "camvid_day_dusk", "toy", "_methods"),
    "cityscapes_acdc": ("cityscapes_acdc", "gta5_cityscapes", "_methods"),
    "cityscapes_dark_zurich": ("cityscapes_dark_zurich", "cityscapes_acdc", "gta5_cityscapes", "_methods"),
    "folders": ("folders", "toy", "_methods"),
    **{
        f"cityscapes_nthu_{city}": (f"cityscapes_nthu_{city}", "cityscapes_nthu_rome", "gta5_cityscapes", "_methods")
        for city in ("rome", "rio", "tokyo", "taipei")
    },
    "gta5_bdd100k": ("gta5_bdd100k", "gta5_cityscapes", "_methods"),
    "gta5_bddv": ("gta5_bddv", "gta5_bdd100k", "gta5_cityscapes", "_methods"),
    "gta5_cityscapes": ("gta5_cityscapes", "_methods"),
    "loveda_rural_urban": ("loveda_rural_urban", "loveda_urban_rural", "gta5_cityscapes", "_methods"),
    "loveda_urban_rural": ("loveda_urban_rural", "gta5_cityscapes", "_methods"),
    "potsdam_vaihingen": ("potsdam_vaihingen", "loveda_urban_rural", "gta5_cityscapes", "_methods"),
    "synthia_cityscapes": ("synthia_cityscapes", "gta5_cityscapes", "_methods"),
    "toy": ("toy", "_methods"),
    "toy_camvid": ("toy_camvid", "toy", "_methods"),
}
"""Folders that a task takes its files from, the nearest first."""

TOY_DATA = """
description: plain self-training
model: {name: lite}
data:
  source: {reader: gta5, root: toy/gta5, size: [128, 256]}
  target: {reader: cityscapes, root: toy/cityscapes, split: train, size: [128, 256]}
  oracle: {reader: cityscapes, root: toy/cityscapes, split: train, size: [128, 256]}
  test: {reader: cityscapes, root: toy/cityscapes, split: val, size: [128, 256]}
  measure_labels: true
every:
  norm: affine
  augmentation: {crop: [128, 256], scales: [0.7, 1.3], long_side: null, jitter: 0.5}
  inference: {scales: [1.0], align_corners: false}
"""
TOY_ST = f"""{TOY_DATA}
stages:
  source:
    method: source_only
    steps: 800
    batch_size: 4
    optimiser: {{name: adamw, lr: 1.0e-4, weight_decay: 0.01}}
    schedule: {{name: poly, warmup: 50}}
  adapt:
    method: st
    rounds: 3
    steps: 1105
    epochs: null
    batch_size: 2
    norm: frozen
    portion: 0.2
    source_policy: redrawn
    mining_fallback: false
    augmentation: {{crop: [512, 1024], scales: [0.5, 1.5]}}
    optimiser: {{name: sgd, lr: 5.0e-5, head_factor: 10}}
    schedule: {{name: constant}}
    inference: {{scales: [0.9], flip: true, align_corners: true}}
    length: 0.2
    short: {{source_portion: null, optimiser: {{name: matched}}}}
"""
TOY_ST_RUNS = f"""{TOY_DATA}
stages:
  source:
    method: source_only
    steps: 800
    batch_size: 4
    norm: affine
    augmentation: {{crop: [128, 256], scales: [0.7, 1.3], long_side: null, jitter: 0.5}}
    optimiser: {{name: adamw, lr: 1.0e-4, weight_decay: 0.01}}
    schedule: {{name: poly, warmup: 50}}
    inference: {{scales: [1.0], align_corners: false}}
  adapt:
    method: st
    rounds: 3
    steps: 221
    epochs: null
    batch_size: 2
    norm: affine
    portion: 0.2
    source_portion: null
    source_policy: redrawn
    mining_fallback: false
    augmentation: {{crop: [128, 256], scales: [0.7, 1.3], long_side: null, jitter: 0.5}}
    optimiser: {{name: matched, lr: 1.12e-4, head_factor: 10}}
    schedule: {{name: constant}}
    inference: {{scales: [1.0], flip: true, align_corners: false}}
    length: 0.2
    short: {{source_portion: null, optimiser: {{name: matched}}}}
"""
SYNTHIA_MPCL_MIC_HRDA = """
description: several prototypes per class on MIC on HRDA
model: {name: "hrda:daformer_mit_b5", weights: mit_b5, arguments: {detail: [512, 512]}}
data:
  space: cityscapes19
  source: {reader: synthia, root: synthia, size: [1520, 2560]}
  target: {reader: cityscapes, root: cityscapes, split: train, size: [1024, 2048]}
  test: {reader: cityscapes, root: cityscapes, split: val, size: [1024, 2048]}
evaluation: {window: [1024, 1024], overlap: 0.5, average: logits, windows_at: pixels}
stages:
  adapt:
    method: mic
    title: MPCL on MIC on HRDA
    mpcl: {}
    steps: 60000
    batch_size: 2
    rare_share: 0.003084
    crop_margins: [0, 0, 0, 0]
    image_margins: [0.0293, 0.2344, 0.01465, 0.01465]
    augmentation: {crop: [1024, 1024], scales: [1, 1], max_class_share: 0.75}
    optimiser: {name: adamw, lr: 6.0e-5, head_factor: 10, weight_decay: 0.01}
    schedule: {name: poly, power: 1, warmup: 1500}
    checkpoint_every: 1000
"""
DARK_ZURICH_DACS = """
description: online self-training on mixed images
model: {name: deeplabv2_resnet101, weights: imagenet, arguments: {stride_in: 3x3}}
data:
  source: {reader: cityscapes, root: cityscapes, split: train, size: [512, 1024]}
  target: {reader: dark_zurich, root: dark_zurich, split: train, size: [540, 960]}
  test: {reader: dark_zurich, root: dark_zurich, split: val, size: [540, 960]}
stages:
  adapt:
    method: dacs
    steps: 40000
    batch_size: 2
    crop_margins: [0, 0, 0, 0]
    augmentation: {crop: [512, 512], scales: [1, 1], max_class_share: 0.75}
    optimiser: {name: adamw, lr: 6.0e-5, head_factor: 10, weight_decay: 0.01}
    schedule: {name: poly, power: 1, warmup: 1500}
    checkpoint_every: 1000
"""


# ---- which there are ----


def test_each_task_offers_its_recipes() -> None:
    assert recipe_names() == sorted(f"{task}/{name}" for task, names in SHIPPED.items() for name in names.split())


def test_no_file_is_left_out_of_the_list() -> None:
    """A file is a recipe of its own task, or of one that is like it."""
    listed = {
        f"{folder}/{name}" for task, names in SHIPPED.items() for folder in FOLDERS[task] for name in names.split()
    }
    files = {str(path.relative_to(ROOT).with_suffix("")) for path in ROOT.glob("*/[!_]*.yaml")}
    assert files - listed == set()
    assert {path.name for path in ROOT.iterdir() if path.is_dir()} - {"__pycache__"} == {*SHIPPED, "_methods"}


@pytest.mark.parametrize("name", SHIPPED["folders"].split())
def test_recipes_for_two_folders_make_a_configuration(name: str) -> None:
    config = folder_config(name, {"source": {"images": "a", "labels": "b"}, "target": {"images": "c"}})
    assert config.title == f"folders/{name}"
    assert [stage.name for stage in config.stages] == [stage for stage, _ in stages_of(f"folders/{name}")]


# ---- composition ----


@pytest.mark.parametrize(
    ("name", "written", "runs"),
    [
        ("toy/st", TOY_ST, TOY_ST_RUNS),
        ("synthia_cityscapes/mpcl_mic_hrda", SYNTHIA_MPCL_MIC_HRDA, SYNTHIA_MPCL_MIC_HRDA),
        ("cityscapes_dark_zurich/dacs", DARK_ZURICH_DACS, DARK_ZURICH_DACS),
    ],
)
def test_a_composed_recipe_equals_one_written_by_hand(name: str, written: str, runs: str) -> None:
    """As it is read; and as it runs, where a stage of another length than the published one follows."""
    assert not (ROOT / f"{name}.yaml").exists()
    assert read_recipe(name) == yaml.safe_load(written)
    assert load_config(name) == build_config({"title": name, **yaml.safe_load(runs)}, name)


def tree(root: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> None:
    """Put another tree of recipes in the place of the shipped one."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    monkeypatch.setattr(recipes, "ROOT", root)


def test_a_task_takes_the_files_that_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "_tasks.yaml": "far: {recipes: [m]}\nnear: {like: far, recipes: [m, n]}\nlost: {recipes: [m, n]}",
        "_methods/m.yaml": "base: _task.yaml\nmethod: m",
        "_methods/n.yaml": "base: _task.yaml\nmethod: n",
        "far/_task.yaml": "a: 1\nb: 1",
        "far/n.yaml": "base: _methods/n.yaml\nc: 1",
        "near/_task.yaml": "base: far/_task.yaml\nb: 2",
        "lost/m.yaml": "base: _task.yaml",
    }
    tree(tmp_path, monkeypatch, files)
    assert recipe_names() == ["far/m", "lost/m", "lost/n", "near/m", "near/n"]
    assert read_recipe("far/m") == {"a": 1, "b": 1, "method": "m"}
    assert read_recipe("near/m") == {"a": 1, "b": 2, "method": "m"}
    assert read_recipe("near/n") == {"a": 1, "b": 2, "method": "n", "c": 1}
    with pytest.raises(RequestError, match="no recipe 'far/n'"):
        read_recipe("far/n")  # its file is there for `near` alone
    with pytest.raises(RequestError, match=r"lost/m\.yaml' builds on '_task\.yaml', which is neither"):
        read_recipe("lost/m")
    (tmp_path / "far/_task.yaml").unlink()
    (tmp_path / "_methods/n.yaml").unlink()
    with pytest.raises(RequestError, match=r"'lost/n' is listed in _tasks\.yaml, but no folder"):
        read_recipe("lost/n")


def test_what_a_reader_changes_stays_its_own() -> None:
    before = read_recipe("toy/st")
    changed = read_recipe("toy/st")
    changed["stages"]["adapt"]["optimiser"]["lr"] = 1.0
    assert read_recipe("toy/st") == before


def test_own_files_build_on_composed_recipes(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("base: toy/st\nstages:\n  adapt: {rounds: 5}\n")
    expected = yaml.safe_load(TOY_ST)
    expected["stages"]["adapt"]["rounds"] = expected["stages"]["adapt"]["short"]["rounds"] = 5
    assert read_recipe(tmp_path / "mine.yaml") == read_recipe(str(tmp_path / "mine")) == expected


def test_the_path_of_a_shipped_file_means_its_recipe() -> None:
    assert read_recipe(ROOT / "synthia_cityscapes/hrda.yaml") == read_recipe("synthia_cityscapes/hrda")


def test_circles_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("base: b.yaml")
    (tmp_path / "b.yaml").write_text("base: a.yaml")
    with pytest.raises(RequestError, match=r"a\.yaml' builds on itself"):
        read_recipe(tmp_path / "a.yaml")
    with pytest.raises(RequestError, match="stages a, b are like each other"):
        resolved_stages({"stages": {"a": {"like": "b"}, "b": {"like": "a"}}}, "here")


# ---- published ones against the numbers of the codes ----

POOLS = {
    "gta5_cityscapes": 600,
    "synthia_cityscapes": 188,
    "gta5_cityscapes/cbst_sp_resnet38": 749,
    "gta5_cityscapes/cbst_sp_vgg16": 749,
    "synthia_cityscapes/cbst_resnet38": 188,
    "synthia_cityscapes/st_vgg16": 188,
}
"""Source images of the first round in the commands of CRST (3 % of a list of 19 984, 2 % of 9400) and CBST (3 % of
24 966, 2 % of 9400); each beside 505 images of the target."""


@pytest.mark.parametrize("name", [f"{task}/{name}" for task in POOLS if "/" not in task for name in ROUNDS.split()])
def test_a_pool_of_self_training_has_the_published_mixture(name: str) -> None:
    check_pool(name, POOLS[name.partition("/")[0]])


@pytest.mark.parametrize("name", [name for name in POOLS if "/" in name])
def test_a_pool_of_the_cbst_networks_has_the_published_mixture(name: str) -> None:
    check_pool(name, POOLS[name])


def check_pool(name: str, wanted: int) -> None:
    config = load_config(name)
    adapt = next(stage for stage in config.stages if isinstance(stage, CBSTConfig))
    source, target = config.data.source, config.data.target
    assert source is not None
    images = READERS[source.reader].published["all"]
    growth = [0.0025 / (0.02 if images < 10_000 else 0.03) * wanted * r for r in range(3)]
    for round_index, more in enumerate(growth):
        share = min(adapt.source_portion + round_index * adapt.source_portion_step, adapt.source_portion_max)
        assert share * images == pytest.approx(wanted + more, abs=2)
    assert target.limit == 505


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        *(
            (f"{task}/{name}", "statistics")
            for task in ("gta5_cityscapes", "synthia_cityscapes")
            for name in ("adaptseg", "adaptseg_ls", "bcl")
        ),
        *((f"gta5_cityscapes/{name}", "frozen") for name in ROUNDS.split()),
        ("gta5_cityscapes/cbst_resnet38", "affine"),
        ("gta5_cityscapes/proda", "frozen"),
    ],
)
def test_batch_normalisation_is_that_of_the_codes(name: str, mode: str) -> None:
    stages = {stage.name: stage for stage in load_config(name).stages}
    assert stages["warmup" if "warmup" in stages else "adapt"].norm == mode


@pytest.mark.parametrize("name", ["gta5_cityscapes/cbst_sp_resnet38", "gta5_cityscapes/st_vgg16"])
def test_the_cbst_networks_average_probabilities(name: str) -> None:
    config = load_config(name)
    assert config.evaluation.average == "probabilities"
    assert all(stage.inference.average == "probabilities" for stage in config.stages)


def test_the_paper_rows_of_adaptseg_differ_in_network_and_levels() -> None:
    networks = {n: load_config(f"gta5_cityscapes/adaptseg{n}").model for n in ("", "_single", "_vgg16", "_ls")}
    assert {n: m.arguments.get("auxiliary", False) for n, m in networks.items()} == {
        "": True, "_single": False, "_vgg16": False, "_ls": False
    }  # fmt: skip
    assert networks["_vgg16"].name == "deeplabv2_vgg16"
    assert {m.arguments["branches"] for m in networks.values()} == {2}


def test_multi_scale_testing_changes_the_test_alone() -> None:
    plain, tested = (load_config(f"gta5_cityscapes/cbst_sp{n}_resnet38") for n in ("", "_mst"))
    assert tested.evaluation.scales == (0.5, 0.75, 1.0)
    assert tested.stages == plain.stages


@pytest.mark.parametrize("city", ["Rome", "Rio", "Tokyo", "Taipei"])
def test_cross_city_trains_nineteen_classes_and_scores_thirteen(city: str) -> None:
    data = load_config(f"cityscapes_nthu_{city.lower()}/cbst_resnet38").data
    assert data.test is not None
    assert data.space == "cityscapes19"
    assert data.target.options == data.test.options == {"city": city}
    assert (data.target.split, data.test.split, data.target.limit) == ("test", "test", None)
    assert data.fold == "1/10"
    left = [name for name in CITYSCAPES.names if name not in data.merge_predictions]
    assert sorted(left) == sorted(NTHU_CLASSES.names)
    thirteen = load_config(f"cityscapes_nthu_{city.lower()}/adaptseg").data
    assert (thirteen.space, thirteen.merge_predictions, thirteen.target.split) == ("nthu13", {}, "train")
    assert thirteen.fold is None


@pytest.mark.parametrize("task", ["loveda_urban_rural", "loveda_rural_urban"])
def test_loveda_adapts_to_the_other_kind_of_land(task: str) -> None:
    data = load_config(f"{task}/daformer").data
    assert data.source is not None
    assert data.test is not None
    scenes = [spec.options["scene"] for spec in (data.source, data.target, data.test)]
    assert scenes == [task.split("_")[1], task.split("_")[2], task.split("_")[2]]


# ---- methods of other packages ----


def outside() -> list[str]:
    return ["theirs"]


def test_a_method_of_another_package_follows_the_source_model(tmp_path: Path) -> None:
    found = read_recipe("toy/theirs", outside)
    assert found["data"] == read_recipe("toy/source_only")["data"]
    assert stages_of("toy/theirs", known_methods=outside) == [("source", "source_only"), ("adapt", "theirs")]
    source, adapt = resolved_stages(found, "here").values()
    assert adapt == {**source, "method": "theirs", "role": "adapted"}
    assert "toy/theirs" not in recipe_names()
    (tmp_path / "mine.yaml").write_text("base: toy/theirs\nseed: 3\n")
    assert read_recipe(tmp_path / "mine.yaml", outside) == {**found, "seed": 3}


def test_a_method_of_another_package_needs_a_task_with_a_source_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RequestError, match=r"no recipe 'toy/their' \(did you mean 'toy/theirs'\?\)"):
        read_recipe("toy/their", outside)
    with pytest.raises(RequestError, match="no recipe 'nowhere/theirs'"):
        read_recipe("nowhere/theirs", outside)
    tree(tmp_path, monkeypatch, {"_tasks.yaml": "far: {recipes: []}", "far/_task.yaml": "seed: 1"})
    with pytest.raises(RequestError, match="task 'far' has no source stage") as caught:
        read_recipe("far/theirs", outside)
    assert "\n" not in str(caught.value)


# ---- read without torch ----


def test_the_stages_of_a_recipe(tmp_path: Path) -> None:
    assert stages_of("toy/cbst") == [("source", "source_only"), ("adapt", "cbst"), ("oracle", "oracle")]
    assert stages_of("toy/dacs") == [("source", "source_only"), ("adapt", "dacs")]
    assert stages_of("gta5_cityscapes/dacs") == [("adapt", "dacs")]
    assert stages_of("toy/cpsl", ["stage1.method=other", "stage2=null", "stage3=null"]) == [
        ("source", "source_only"),
        ("warmup", "adaptseg_ls"),
        ("stage1", "other"),
    ]
    with pytest.raises(RequestError, match=r"no setting or stage 'stage4' \(did you mean 'stage"):
        stages_of("toy/cpsl", ["stage4=null"])
    (tmp_path / "mine.yaml").write_text("stages: {source: {steps: 3}}")
    with pytest.raises(RequestError, match=r"mine\.yaml': stage 'source' names no method"):
        stages_of(tmp_path / "mine.yaml")


@pytest.mark.parametrize("name", [n for n in recipe_names() if not n.startswith("folders/")])
def test_stages_are_the_ones_of_the_configuration(name: str) -> None:
    assert stages_of(name) == [(stage.name, stage.method) for stage in load_config(name).stages]


def test_empty_stages_are_answered() -> None:
    assert override({"stages": None}, ["seed=1"], ("seed",)) == {"stages": None, "seed": 1}
    with pytest.raises(RequestError, match="here: no stages"):
        resolved_stages({"stages": None}, "here")
    with pytest.raises(RequestError, match="stage 'source' is not a mapping"):
        resolved_stages(override({"stages": {"source": None, "adapt": {}}}, ["source=3"], ()), "here")


def test_the_list_is_quick_and_light() -> None:
    program = """
import sys, time
from segadapt.recipes import description, recipe_names
assert all(description(name) for name in recipe_names())
assert not {"torch", "pydantic", "numpy"} & set(sys.modules)
print(time.process_time())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.5
    assert description("toy/cbst") == "class-balanced self-training"


@pytest.mark.parametrize(
    ("recipe", "transfer", "head", "blur"), [("cpsl", "none", 1, 1), ("cpsl_official", "lab", 5, 1)]
)
def test_published_cpsl(recipe: str, transfer: str, head: float, blur: float) -> None:
    """Every stage has the loader of the code, the colours of target images where the code's recipe is followed."""
    stages = load_config(f"gta5_cityscapes/{recipe}").stages
    assert [s.augmentation.colour_transfer for s in stages] == [transfer] * 4
    assert stages[1].optimiser.head_factor == head
    assert [s.strong.blur for s in stages[1:]] == [blur] * 3  # type: ignore[attr-defined]
    assert [s.strong.jitter for s in stages[1:]] == [0.4] * 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("task", ["gta5_cityscapes", "synthia_cityscapes"])
def test_published_proda_follows_its_code_where_the_paper_differs(task: str) -> None:
    stage = load_config(f"{task}/proda").stages[1]
    assert (stage.prototype_mean, stage.prototype_update) == ("images", "image")  # type: ignore[attr-defined]
    assert stage.optimiser.head_factor == 1


# ---- the hosts of the published tasks ----

ON_TWO_RESOLUTIONS = ("hrda", "mic_hrda", "mpcl_hrda", "mpcl_mic_hrda")
LEAST = {"gta5_cityscapes": 3000 / (1914 * 1052), "synthia_cityscapes": 3000 / (1280 * 760)}
LEAST |= dict.fromkeys(("cityscapes_acdc", "cityscapes_dark_zurich"), 3000 / (2048 * 1024))


@pytest.mark.parametrize("task", LEAST)
@pytest.mark.parametrize(
    "name", ["daformer", "hrda", "mic", "mic_hrda", "mpcl", "mpcl_hrda", "mpcl_mic", "mpcl_mic_hrda"]
)
def test_published_hosts_are_what_their_names_say(task: str, name: str) -> None:
    """Networks, prototypes, masks of a sixteenth of the height, and the 3000 pixels of rare images of each source."""
    config = load_config(f"{task}/{name}")
    stage = config.stages[-1]
    assert config.model.name.startswith("hrda:") == (name in ON_TWO_RESOLUTIONS)
    assert (stage.mpcl is not None) == name.startswith("mpcl")
    assert stage.rare_share == pytest.approx(LEAST[task], rel=1e-3)
    if "mic" in name:
        assert stage.method == "mic"
        assert stage.block in (None, stage.augmentation.crop[0] // 16)  # null is a sixteenth
        assert (stage.masked == "both") == task.startswith("cityscapes")
    else:
        assert stage.method == name.removesuffix("_hrda") or name in ("hrda", "mpcl_hrda")
