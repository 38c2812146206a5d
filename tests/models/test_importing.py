"""Published checkpoints: every layout gives the public implementation's numbers; other files are refused."""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from segadapt.core.files import file_digest
from segadapt.errors import RequestError
from segadapt.evaluation.predict import predict_array
from segadapt.labels import CITYSCAPES, NTHU, SYNTHIA, LabelSpace, distinct_colors
from segadapt.models.dass_net import DASSNet
from segadapt.models.deeplabv2 import DeepLabV2, DeepLabV2VGG
from segadapt.models.importing import import_checkpoint, import_discriminator
from segadapt.models.inference import InferenceConfig
from segadapt.models.proda_net import UNIT, ProDANet
from segadapt.models.segmenter import CAFFE, IMAGENET
from segadapt.models.store import load_model, save_model
from segadapt.runs.config import build_config
from segadapt.runs.run import Run
from tests.golden_vectors import FOLDER
from tests.models.golden import GoldenModel, golden_model
from tests.models.imported import assert_holds, saved
from tests.test_cli import call
from tests.tiny import raw_config

State = dict[str, Tensor]

SEVEN = LabelSpace("seven", tuple("abcdefg"), distinct_colors(7))


def published(variant: dict[str, Any], state: State) -> Any:
    """The object in a file of a container variant; see the README of the golden vectors."""
    drop, prefix = variant.get("drop", []), variant.get("add_prefix", "")
    kept = {prefix + k: v for k, v in state.items() if not any(fnmatch.fnmatchcase(k, pattern) for pattern in drop)}

    def filled(node: Any) -> Any:
        if node == "$SD":
            return kept
        if isinstance(node, dict):
            return {key: filled(value) for key, value in node.items()}
        if isinstance(node, list) and node[0] == "zeros":
            return torch.zeros(node[2], dtype=getattr(torch, node[1]))
        return node

    return filled(variant["skeleton"])


@pytest.fixture(scope="module")
def golden_of() -> Any:
    """Golden networks, the last one kept: its variants follow each other."""
    kept: dict[str, GoldenModel] = {}

    def get(name: str) -> GoldenModel:
        if name not in kept:
            kept.clear()
            kept[name] = golden_model(name)
        return kept[name]

    return get


LAYOUT_OF = {
    "adaptsegnet_deeplab_single": "adaptsegnet",
    "adaptsegnet_deeplabmulti": None,
    "crst_deeplab": "crst",
    "proda_deeplab_imagenet": None,
    "dass_deeplabv2": None,
}
VARIANTS = [
    pytest.param(name, variant, id=f"{name}-{variant['name']}")
    for name in LAYOUT_OF
    for variant in json.loads((FOLDER / "models" / f"{name}.json").read_text())["container"]["variants"]
]


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
@torch.no_grad()
def test_every_published_container_gives_the_golden_outputs(
    name: str, variant: dict[str, Any], golden_of: Any, tmp_path: Path
) -> None:
    golden = golden_of(name)
    path = tmp_path / "checkpoint.pth"
    torch.save(published(variant, golden.state), path)
    loaded = import_checkpoint(path, layout=LAYOUT_OF[name])
    path.unlink()
    assert loaded.space == CITYSCAPES
    assert not loaded.model.training
    model, output = loaded.model, loaded.model.network(golden.input)
    if isinstance(model, DASSNet):
        full = F.interpolate(output.logits, golden.input.shape[-2:], mode="bilinear", align_corners=True)
        golden.assert_close("out_target", full[:, :, ::3, ::3])
        golden.assert_close("feature_target", output.features)
        golden.assert_close("feature_source", model.source_network(golden.input).features)
    elif isinstance(model, ProDANet):
        golden.assert_close("out", output.logits)
        golden.assert_close("feat", output.features)
    else:
        golden.assert_close("logits" if name == "crst_deeplab" else "logits_main", output.logits)
    if output.aux is not None:
        golden.assert_close("logits_aux", output.aux)
    expected = {"cpsl": "cpsl"}.get(variant["name"], name.split("_")[0])
    assert loaded.provenance["imported"]["layout"] == expected


@pytest.mark.parametrize("name", ["adaptsegnet_discriminator", "proda_discriminator"])
@torch.no_grad()
def test_discriminators_of_published_files(name: str, tmp_path: Path) -> None:
    golden = golden_model(name)
    (variant,) = json.loads((FOLDER / "models" / f"{name}.json").read_text())["container"]["variants"]
    torch.save(published(variant, golden.state), tmp_path / "d.pth")
    golden.assert_close("score", import_discriminator(tmp_path / "d.pth")(golden.input.softmax(1)))
    with pytest.raises(RequestError, match="discriminator; give the file" if name[0] == "a" else "no network"):
        import_checkpoint(tmp_path / "d.pth")
    torch.save({"a": torch.zeros(1)}, tmp_path / "none.pth")
    with pytest.raises(RequestError, match="has no discriminator"):
        import_discriminator(tmp_path / "none.pth")


# ---- smaller networks for what does not need the published size ----


@pytest.fixture(scope="module")
def single() -> State:
    return DeepLabV2(19, 50).state_dict()


@pytest.fixture(scope="module")
def student() -> State:
    """A student of the second stage, with the extra normalisation and 16 classes."""
    return ProDANet(16, 50, extra_norm=True).state_dict()


def test_one_set_of_tensors_two_networks(single: State, tmp_path: Path) -> None:
    """AdaptSegNet and CRST give different meanings to the same names; the file cannot tell which."""
    path = saved(tmp_path / "gta5.pth", single)
    with pytest.raises(RequestError, match=r"2 branches, .* choose one with --layout adaptsegnet or --layout crst"):
        import_checkpoint(path)
    ours, theirs = import_checkpoint(path, layout="adaptsegnet"), import_checkpoint(path, layout="crst")
    assert ours.model.architecture == {**theirs.model.architecture, "branches": 2}
    assert (ours.model.preprocessing, theirs.model.preprocessing) == (CAFFE, IMAGENET)
    assert_holds(ours, single)
    with torch.no_grad():
        x = torch.rand(1, 3, 33, 41)
        assert not torch.allclose(ours.model.network(x).logits, theirs.model.network(x).logits)
    assert ours.provenance["size"] == 1024
    assert ours.provenance["inference"]["align_corners"]
    assert ours.provenance["inference"]["scales"] == [1.0]
    assert theirs.provenance["inference"]["scales"] == [0.9, 1.0, 1.2]
    assert theirs.provenance["inference"]["average"] == "logits"


def test_a_distilled_student_with_everything_beside_it(student: State, tmp_path: Path) -> None:
    discriminator = {"model_state": {"conv1.weight": torch.zeros(2, 2, 3, 3)}}
    content = {
        "ResNet101": {
            "model_state": {f"module.{k}": v for k, v in student.items()},
            "objective_vectors": torch.ones(3),
        },
        "ResNet101_ema": {"model_state": {k: v + 1 for k, v in student.items() if v.dim() == 1}},
        "FCDiscriminator": discriminator,
        "iter": 62_000,
        "best_iou": np.float64(0.555),
    }
    path = saved(tmp_path / "from_synthia.pkl", content)
    loaded = import_checkpoint(path)
    assert_holds(loaded, student)
    assert loaded.space == SYNTHIA
    assert loaded.model.architecture["extra_norm"] is True
    assert loaded.model.preprocessing == UNIT
    assert loaded.provenance["imported"] == {
        "file": "from_synthia.pkl",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "layout": "proda",
        "tensors": len(student),
        "dropped": ["ResNet101_ema", "FCDiscriminator", "objective_vectors"],
        "numbers": {"iter": 62_000, "best_iou": 0.555},
    }
    json.dumps(loaded.provenance, allow_nan=False)


def test_the_vgg_network_and_other_containers(tmp_path: Path) -> None:
    donor = DeepLabV2VGG(13, branches=2)
    save_file({k: v.clone() for k, v in donor.state_dict().items()}, str(tmp_path / "vgg.safetensors"))
    loaded = import_checkpoint(tmp_path / "vgg.safetensors")
    assert isinstance(loaded.model, DeepLabV2VGG)
    assert loaded.model.architecture["branches"] == 2
    assert loaded.space == NTHU
    assert_holds(loaded, donor.state_dict())
    save_model(tmp_path / "ours.safetensors", loaded.model, loaded.space, {})
    with pytest.raises(RequestError, match="a model of segadapt already"):
        import_checkpoint(tmp_path / "ours.safetensors")
    nested = saved(tmp_path / "nested.pth", {"state_dict": donor.state_dict(), "epoch": 3})
    assert import_checkpoint(nested).provenance["imported"]["numbers"] == {"epoch": 3}


def test_the_label_space_goes_by_the_number_of_classes(tmp_path: Path) -> None:
    path = saved(tmp_path / "seven.pth", DeepLabV2(7, 50, auxiliary=True).state_dict())
    with pytest.raises(RequestError, match=r"has 7 classes, .* --space"):
        import_checkpoint(path)
    with pytest.raises(RequestError, match=r"has 7 classes, label space 'cityscapes19' has 19"):
        import_checkpoint(path, space="cityscapes19")
    with pytest.raises(RequestError, match="did you mean 'cityscapes19'"):
        import_checkpoint(path, space="cityscape")
    assert import_checkpoint(path, space=SEVEN).space == SEVEN


def test_layouts_that_do_not_fit(single: State, student: State, tmp_path: Path) -> None:
    path = saved(tmp_path / "net.pth", single)
    with pytest.raises(RequestError, match=r"no layout 'cst' \(did you mean 'crst'"):
        import_checkpoint(path, layout="cst")
    with pytest.raises(RequestError, match="is not a checkpoint of proda; its tensors fit adaptsegnet or crst"):
        import_checkpoint(path, layout="proda")
    with pytest.raises(RequestError, match="its tensors fit proda or cpsl"):
        import_checkpoint(saved(tmp_path / "p.pkl", {"ResNet101": {"model_state": student}}), layout="crst")


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        (lambda s: s.pop("layer3.2.conv1.weight"), r"not a whole network of CRST: 1 tensors .*'layer3.2.conv1.weight'"),
        (lambda s: s.update({"layer9.weight": torch.zeros(1)}), "the first is 'layer9.weight'"),
        (lambda s: s.update({"conv1.weight": torch.zeros(64, 4, 7, 7)}), "the first is 'conv1.weight'"),
        (lambda s: s.update({"bn1.bias": torch.full((64,), torch.nan)}), "not finite, the first in 'bn1.bias'"),
        (lambda s: s.update({"layer5.conv2d_list.0.weight": torch.zeros(3)}), "lacks the classifier"),
    ],
    ids=["missing", "unknown", "shape", "nan", "classifier"],
)
def test_networks_that_are_not_whole(single: State, change: Any, answer: str, tmp_path: Path) -> None:
    state = dict(single)
    change(state)
    with pytest.raises(RequestError, match=answer) as refusal:
        import_checkpoint(saved(tmp_path / "net.pth", state), layout="crst")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        (torch.zeros(19, 256), r"holds one tensor of shape \(19, 256\) and no network"),
        ({"iter": 1, "best_iou": 0.5}, "holds the entries iter, best_iou and no network"),
        ({}, "holds nothing and no network"),
        ([1, 2], "holds a list and no network"),
        ({"backbone.weight": torch.zeros(1)}, "the first of its 1 tensors is 'backbone.weight'"),
        ({"Scale.conv1.weight": torch.zeros(1)}, "an encoder to start from"),
        ({"state_dict": {"layer4.0.conv1.weight": torch.zeros(1)}}, "an encoder to start from"),
        ({"state": {"w": torch.zeros(1)}, "args": argparse.Namespace(lr=1)}, r"asks for 'argparse.Namespace'"),
    ],
)
def test_what_is_no_checkpoint_is_refused(content: Any, answer: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=answer) as refusal:
        import_checkpoint(saved(tmp_path / "file.pth", content))
    assert "\n" not in str(refusal.value)


def test_truncated_and_missing_files_are_refused(single: State, tmp_path: Path) -> None:
    path = saved(tmp_path / "net.pth", {k: v for k, v in single.items() if v.numel() < 5000})
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(RequestError, match="cannot be read as weights"):
        import_checkpoint(path)
    (tmp_path / "broken.safetensors").write_bytes(b"\x10")
    with pytest.raises(RequestError, match="cannot be read as weights"):
        import_checkpoint(tmp_path / "broken.safetensors")
    with pytest.raises(RequestError, match="no weights file"):
        import_checkpoint(tmp_path / "missing.pth")


# ---- the command ----


def test_from_a_checkpoint_to_predictions(
    single: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, model = saved(tmp_path / "gta5.pth", single), tmp_path / "models" / "gta5.safetensors"
    code, _, err = call(monkeypatch, capsys, "import", path, "--out", model)
    assert code == 2
    assert err.startswith("segadapt: ")
    assert len(err.strip().splitlines()) == 1
    code, out, err = call(monkeypatch, capsys, "import", path, "--out", model, "--layout", "adaptsegnet")
    assert code == 0, err
    for text in (
        "AdaptSegNet",
        "deeplabv2_resnet50",
        "19 (cityscapes19)",
        str(len(single)),
        "BGR 0 to 255, mean (104.",
    ):
        assert text in out, text
    stored = load_model(model)
    assert_holds(stored, single)
    assert stored.provenance["imported"]["file"] == "gta5.pth"
    card = (model.parent / "gta5_card.md").read_text()
    assert "a published checkpoint of adaptsegnet, imported from gta5.pth" in card
    assert file_digest(model) in card

    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), rng.integers(0, 256, (33, 47, 3), np.uint8))
    code, out, err = call(monkeypatch, capsys, "predict", model, tmp_path / "images", "--out", tmp_path / "p", "--json")
    assert code == 0, err
    assert json.loads(out)["count"] == 1
    label = np.asarray(Image.open(tmp_path / "p" / "a.png"))
    image = cv2.cvtColor(cv2.imread(str(tmp_path / "images" / "a.png")), cv2.COLOR_BGR2RGB)
    as_published = InferenceConfig(align_corners=True)
    assert np.array_equal(label, predict_array(stored.model, image, as_published)[0])
    assert not np.array_equal(label, predict_array(stored.model, image)[0])


def test_further_adaptation_starts_from_an_imported_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Evaluate a published network, train it for one step of self-training, evaluate it again."""
    raw = raw_config(tmp_path, "cbst", rounds=1, steps=1, initial=str(tmp_path / "start.safetensors"))
    del raw["stages"]["source"]
    state = DeepLabV2(3, 50).state_dict()
    path = saved(tmp_path / "crst.pth", state)
    arguments = ("--layout", "crst", "--space", tmp_path / "classes.txt")
    assert call(monkeypatch, capsys, "import", path, "--out", tmp_path / "start.safetensors", *arguments)[0] == 0
    given = ("--images", tmp_path / "test/images", "--labels", tmp_path / "test/labels")
    given = (*given, "--classes", tmp_path / "classes.txt", "--json")
    code, out, err = call(monkeypatch, capsys, "evaluate", tmp_path / "start.safetensors", *given)
    assert code == 0, err
    results = Run.open(build_config(raw, "tiny"), tmp_path / "run", quiet=True).execute()
    adapted = load_model(tmp_path / "run/stages/adapt/model.safetensors")
    assert adapted.model.description() == load_model(tmp_path / "start.safetensors").model.description()
    change = (adapted.model.state_dict()["conv1.weight"] - state["conv1.weight"]).abs().max()
    assert 0 < change < 1e-2, "one small step away from the imported weights"
    code, out, err = call(monkeypatch, capsys, "evaluate", tmp_path / "run", *given)
    assert code == 0, err
    assert json.loads(out)["miou"] == pytest.approx(results["rows"][0]["scores"]["miou"])


def test_the_command_in_json_and_with_a_classes_file(
    student: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path / "net.pkl", {"ResNet101": {"model_state": student}, "iter": 5})
    names = [f"thing {n}" for n in range(16)]
    (tmp_path / "things.txt").write_text("\n".join(names))
    code, out, err = call(
        monkeypatch, capsys, "import", path, "--out", tmp_path / "m.safetensors", "--json",
        *("--space", tmp_path / "things.txt", "--layout", "cpsl"),
    )  # fmt: skip
    assert code == 0, err
    summary = json.loads(out)
    assert summary["classes"] == names
    assert summary["layout"] == "cpsl"
    assert summary["network"] == "proda_resnet50"
    assert summary["tensors"] == len(student)
    assert summary["preprocessing"] == {"mean": [0, 0, 0], "std": [1, 1, 1], "scale": 1, "bgr": False}
    assert load_model(tmp_path / "m.safetensors").space.names == tuple(names)
    for wrong, said in ((tmp_path, "is a folder"), (tmp_path / "m.pth", "not the name of a model file")):
        code, _, err = call(monkeypatch, capsys, "import", path, "--out", wrong)
        assert code == 2
        assert said in err
    code, _, err = call(monkeypatch, capsys, "import", tmp_path / "m.safetensors", "--out", tmp_path / "m.safetensors")
    assert code == 2
    assert "the checkpoint itself" in err
