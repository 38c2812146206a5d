"""Mistakes of packages, data sets and networks of one's own are one line, and nothing given is silently left out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import segadapt
from segadapt.core.registry import Registry, load_plugins
from segadapt.data.augmentations import AUGMENTATIONS, augmentation, register_augmentation
from segadapt.errors import RequestError
from segadapt.methods import Method
from segadapt.methods.registry import METHODS, register_method
from segadapt.models import plain
from segadapt.models.segmenter import Preprocessing
from tests.runs.test_run import start

CLASSES = ("a", "b", "c")
LABEL = np.repeat([[0, 0, 1, 1, 2, 2] * 6], 36, axis=0).astype(np.uint8)
IMAGE = np.stack([LABEL * 80] * 3, axis=2)
SHARP = Preprocessing((0.5, 0.5, 0.5), (0.05, 0.05, 0.05))
SHORT = [
    "accelerator=cpu",
    *(f"{s}={{steps: 1, epochs: null, batch_size: 2, augmentation: {{crop: [32, 32]}}}}" for s in ("source", "adapt")),
    "adapt.rounds=1",
]


class Small(nn.Module):
    """A network at stride 4."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, width, 3, stride=4, padding=1)
        self.classifier = nn.Conv2d(width, len(CLASSES), 1)

    def forward(self, x: Tensor) -> Any:
        return self.classifier(self.body(x).relu())


class Tied(nn.Module):
    """Two names for one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 3, 1)
        self.two = self.one

    def forward(self, x: Tensor) -> Any:
        return self.two(self.one(x))


class Raising:
    """A data set with a fault of its own."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        raise KeyError("column")


@pytest.fixture(autouse=True)
def _nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for registry in (METHODS, AUGMENTATIONS):
        monkeypatch.setattr(registry, "_added", {})
    monkeypatch.setattr(plain, "_given", {})


def given(**other: Any) -> dict[str, Any]:
    """Arguments of a run of a second."""
    made: dict[str, Any] = {"source": [(IMAGE, LABEL)] * 2, "target": [IMAGE] * 2, "classes": CLASSES}
    method = {} if "recipe" in other else {"method": "cbst"}
    return {**made, "network": Small(), "overrides": SHORT, **method, **other}


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise ValueError('two\\nlines')", r"cannot be imported: ValueError: two lines; fix that package$"),
        ("import sys; sys.exit(3)", r"cannot be imported: SystemExit: 3; fix that package$"),
        ("import no_such_module", r"No module named 'no_such_module'; fix that package$"),
    ],
)
def test_a_plugin_that_fails_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, words: str
) -> None:
    (tmp_path / "failing_plugin.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(RequestError, match=words):
        load_plugins(["failing_plugin"])
    sys.modules.pop("failing_plugin", None)


def test_two_modules_cannot_share_a_name() -> None:
    registry: Registry[int] = Registry("thing", {}, "segadapt.none", lambda _, found: found)
    registry.register("x", 1, "one")
    registry.register("x", 2, "one")
    registry.register("x", 3, "__main__")
    registry.register("x", 4, "one")
    with pytest.raises(RequestError, match="thing 'x' is registered by 'one' and by 'two'; rename one of them"):
        registry.register("x", 5, "two")
    assert registry["x"] == 4


def test_a_method_without_steps_is_refused_when_it_registers() -> None:
    with pytest.raises(RequestError, match="method 'bare': Bare does not implement streams and step"):

        @register_method("bare")
        class Bare(Method):
            pass


def test_an_augmentation_that_fails_is_named() -> None:
    register_augmentation("none", draws=1)(lambda images, draws: None)  # type: ignore[arg-type,return-value]
    register_augmentation("broken", draws=1)(lambda images, draws: images[:, 7])
    images, draws = torch.zeros(1, 3, 4, 4), torch.zeros(1, 1)
    with pytest.raises(RequestError, match="augmentation 'none' returned a NoneType instead of images"):
        augmentation("none")(images, draws, {})
    with pytest.raises(RequestError, match="augmentation 'broken' failed: IndexError"):
        augmentation("broken")(images, draws, {})


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"source_images": "A", "source_labels": "B"}, "source is given twice"),
        ({"test": []}, "test: the data set that was given is empty"),
        ({"target": []}, "target: the data set that was given is empty"),
        ({"target": Raising()}, r"target\[0\] cannot be read: KeyError: 'column'"),
        ({"source": "A/images"}, "source: 'A/images' is a path, not a data set; give a folder as source_images"),
        ({"network": Small}, "a network must be an instance of torch.nn.Module"),
        ({"network": nn.Identity()}, "has no parameters, so there is nothing to train"),
        ({"network": None, "head": "classifier"}, "head and preprocessing describe a network of one's own"),
        ({"overrides": "model.name=lite"}, "override 'model.name=lite' changes the network that network=... replaces"),
        ({"plugins": "no_such_package"}, "plugin 'no_such_package' cannot be imported"),
        ({"method": "cbts"}, "no method 'cbts' for folders .*'cbst'.*among the plugins"),
        ({"method": Method}, "a method must be a name"),
        ({"recipe": ["adapt.steps=2"], "source": None, "target": None, "classes": None}, "a name or a path"),
        (
            {"recipe": "toy/cbst", "source": None, "target": None},
            "method, classes, pair and ignored ids are for folders",
        ),
    ],
)
def test_wrong_calls_of_adapt_are_one_line(tmp_path: Path, other: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words) as refused:
        segadapt.adapt(**given(**other), out=tmp_path / "run")
    assert "\n" not in str(refused.value)


def test_a_run_in_another_place_and_class_names_of_folders(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="is not a folder; choose another folder for the run"):
        segadapt.adapt(**given(), out=tmp_path / "file")
    with pytest.raises(RequestError, match="classes must be a classes file"):
        segadapt.adapt(source_images="A", source_labels="B", target_images="C", classes=CLASSES, out=tmp_path / "run")


def test_head_and_preprocessing_stay_with_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = Small()
    described = {"network": network, "preprocessing": SHARP, "head": "classifier"}
    target = torch.utils.data.TensorDataset(torch.from_numpy(IMAGE)[None].repeat(2, 1, 1, 1))
    arguments = given(target=target, test=[(IMAGE, LABEL)], **described)
    result = segadapt.adapt(**arguments, out=tmp_path / "run")
    assert segadapt.adapt(**arguments, out=tmp_path / "run").miou == result.miou
    for changed in ({"preprocessing": Preprocessing()}, {"head": None}):
        with pytest.raises(RequestError, match=r"other settings \(model\.arguments"):
            segadapt.adapt(**{**arguments, **changed}, out=tmp_path / "run")
    monkeypatch.setattr(plain, "_given", {})
    loaded = segadapt.load(result.model, network=Small())
    assert (loaded.model.preprocessing, loaded.model.feature_channels) == (SHARP, 6)
    assert segadapt.evaluate(loaded, [(IMAGE, LABEL)]).miou == pytest.approx(result.miou)
    assert segadapt.predict(loaded, Image.fromarray(IMAGE))[0].shape == LABEL.shape
    with pytest.raises(RequestError, match="holds other parameters than the network 'python:Small' has here"):
        segadapt.load(result.model, network=Small(width=5))
    for data, words in (([], "the data set is empty or has no labels"), ([IMAGE], "has no label")):
        with pytest.raises(RequestError, match=words):
            segadapt.evaluate(loaded, data)
    for wrong, words in ((result, "give its attribute 'model'"), (network, "not a Small")):
        with pytest.raises(RequestError, match=words):
            segadapt.load(wrong)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="device 'gpu' is unknown"):
        segadapt.load(result.model, "gpu", network=Small())


def test_other_weights_do_not_start_a_run_again() -> None:
    name, arguments = plain.give_network(Small())
    plain.require_initial(name, arguments)
    plain.give_network(Small())
    for wrong in ((name, arguments), (f"hrda:{name}", {"base": arguments})):
        with pytest.raises(RequestError, match="starts from other weights"):
            plain.require_initial(*wrong)


@pytest.mark.parametrize(
    "twice",
    [
        ["adapt.network.arguments.detail=[16, 16]"],
        ["model.name=hrda:python:Small", "model.arguments.detail=[16, 16]", "adapt.network=null"],
    ],
    ids=["the network of the stage", "the network of the run"],
)
def test_a_recipe_on_two_resolutions_looks_through_the_given_network(tmp_path: Path, twice: list[str]) -> None:
    short = [*SHORT[:3], *twice, "adapt.feature_distance=0"]
    result = segadapt.adapt(**given(method="hrda", overrides=short), out=tmp_path / "run")
    architectures = [
        segadapt.load(result.model.parents[1] / f"{stage}/model.safetensors").model.architecture
        for stage in ("source", "adapt")
    ]
    names = [architecture["name"] for architecture in architectures]
    assert names == ["hrda:python:Small" if twice[0].startswith("model") else "python:Small", "hrda:python:Small"]
    assert list(architectures[1]["detail"]) == [16, 16]


def test_tied_parameters_are_saved(tmp_path: Path) -> None:
    result = segadapt.adapt(**given(method="source_only", network=Tied(), overrides=SHORT[:2]), out=tmp_path / "run")
    state = segadapt.load(result.model).model.state_dict()
    assert torch.equal(state["module.one.weight"], state["module.two.weight"])


SCRIPT = """
import sys
import numpy as np
from torch import nn
import segadapt
image, label = np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32), np.uint8)
short = ["accelerator=cpu", "source={steps: 1, batch_size: 2, augmentation: {crop: [32, 32]}}"]
data = {"source": [(image, label)] * 2, "target": [image] * 2, "classes": ["a", "b", "c"]}
try:
    segadapt.adapt(**data, method="source_only", network=nn.Conv2d(3, 3, 1), overrides=short, out=sys.argv[1])
except segadapt.RequestError as problem:
    print(problem)
"""


def test_processes_that_start_from_other_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(tmp_path / "script.py"))
    out, err = start(tmp_path, *launch, str(tmp_path / "run")).communicate(timeout=200)
    assert out.count("different settings (model.arguments.initial)") == 2, err
    assert not (tmp_path / "run/config.json").exists()
