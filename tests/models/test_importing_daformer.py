"""Checkpoints of DAFormer, HRDA and MIC: student or teacher, every container, what does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from segadapt.cli import main
from segadapt.cli.importing import _space
from segadapt.errors import RequestError
from segadapt.labels import CITYSCAPES, SYNTHIA, LabelSpace
from segadapt.models.build import build_segmenter
from segadapt.models.importing import import_checkpoint
from segadapt.models.mit_names import from_mit
from segadapt.models.multires import MultiRes
from segadapt.models.segmenter import IMAGENET
from segadapt.models.store import load_model
from tests.models.imported import assert_holds, saved

State = dict[str, Tensor]


def drawn(name: str, classes: int, seed: int, **arguments: Any) -> State:
    """Return a network's tensors, all moved away from their initial values."""
    generator = torch.Generator().manual_seed(seed)
    state = build_segmenter(name, classes, **arguments).state_dict()
    return {k: torch.rand(v.shape, generator=generator) if v.is_floating_point() else v for k, v in state.items()}


def named(state: State, prefix: str) -> State:
    """Name the tensors as in the public files, written independently."""
    result = {}
    for key, value in state.items():
        hrda = not key.startswith(("encoder.", "decode_head."))
        new = key.removeprefix("base.")
        if new.startswith("encoder."):
            new = new.replace("encoder.", "backbone.", 1)
        elif new.startswith("attention."):
            new = new.replace("attention.", "decode_head.scale_attention.", 1)
        elif hrda:
            new = new.replace("decode_head.", "decode_head.head.", 1)
        result[prefix + new] = value
    return result


@pytest.fixture(scope="module")
def student() -> State:
    return drawn("daformer_mit_b0", 19, 1, width=32)


@pytest.fixture(scope="module")
def teacher() -> State:
    return drawn("daformer_mit_b0", 19, 2, width=32)


@pytest.fixture(scope="module")
def wide() -> State:
    """Build HRDA with 16 classes."""
    return drawn("hrda:daformer_mit_b0", 16, 3, base={"width": 32})


def training_file(student: State, teacher: State) -> dict[str, Any]:
    nets = {**named(student, "model."), **named(teacher, "ema_model.")}
    for other in ("imnet_model.", "mic.teacher.ema_model."):
        nets.update({key: value + 5 for key, value in named(teacher, other).items()})
    return {"meta": {"epoch": 1, "iter": 40000, "CLASSES": ("road",)}, "state_dict": nets, "optimizer": {"state": {}}}


def test_published_files_hold_the_student(student: State, tmp_path: Path) -> None:
    for prefix in ("model.", "module.model.", ""):
        path = saved(tmp_path / "latest.pth", {"state_dict": named(student, prefix)})
        loaded = import_checkpoint(path)
        assert_holds(loaded, student)
    assert loaded.space == CITYSCAPES
    assert loaded.model.architecture["name"] == "daformer_mit_b0"
    assert loaded.model.architecture["width"] == 32
    assert loaded.model.preprocessing == IMAGENET
    assert loaded.provenance["imported"]["layout"] == "daformer"
    assert loaded.provenance["imported"]["dropped"] == []
    assert loaded.provenance["size"] == 1024
    assert loaded.provenance["inference"]["align_corners"] is False
    assert loaded.provenance["inference"]["window"] is None
    with pytest.raises(RequestError, match=r"holds the student and no teacher \(ema_model\); published files have"):
        import_checkpoint(path, teacher=True)


def test_training_files_hold_more(student: State, teacher: State, tmp_path: Path) -> None:
    path = saved(tmp_path / "iter_40000.pth", training_file(student, teacher))
    loaded = import_checkpoint(path)
    assert_holds(loaded, student)
    others = {"meta", "optimizer", "ema_model", "imnet_model", "mic.teacher.ema_model"}
    assert set(loaded.provenance["imported"]["dropped"]) == others
    loaded = import_checkpoint(path, teacher=True)
    assert_holds(loaded, teacher)
    assert set(loaded.provenance["imported"]["dropped"]) == (others | {"model"}) - {"ema_model"}
    content = {"state_dict": {f"module.{key}": v for key, v in named(teacher, "ema_model.").items()}}
    path = saved(tmp_path / "teacher.pth", content)
    with pytest.raises(RequestError, match=r"holds ema_model and no student"):
        import_checkpoint(path)
    assert_holds(import_checkpoint(path, teacher=True), teacher)


@torch.no_grad()
def test_hrda_and_mic(wide: State, tmp_path: Path) -> None:
    path = saved(tmp_path / "hrda.pth", {"state_dict": named(wide, "model.")})
    loaded = import_checkpoint(path)
    assert isinstance(loaded.model, MultiRes)
    assert_holds(loaded, wide)
    assert loaded.space == SYNTHIA
    assert loaded.provenance["imported"]["layout"] == "hrda"
    assert loaded.provenance["size"] == 2048
    inference = loaded.provenance["inference"]
    assert (inference["window"], inference["overlap"], inference["average"]) == ([1024, 1024], 0.5, "logits")
    assert inference["windows_at"] == "pixels"
    assert loaded.model.geometry.detail_size((1024, 1024)) == (512, 512)
    assert loaded.model.description()["base"]["width"] == 32
    again = build_segmenter(**loaded.model.description()).eval()
    again.load_state_dict(loaded.model.state_dict())
    x = torch.rand(1, 3, 64, 96)
    assert torch.equal(again(x).logits, loaded.model(x).logits)
    mic = {"state_dict": {**named(wide, "model."), "mic.teacher.ema_model.backbone.norm1.bias": torch.zeros(32)}}
    assert_holds(import_checkpoint(saved(path, mic)), wide)


def test_one_attention_for_all_classes(tmp_path: Path) -> None:
    state = drawn("hrda:daformer_mit_b0", 19, 4, base={"width": 32}, classwise=False)
    loaded = import_checkpoint(saved(tmp_path / "hrda.pth", {"state_dict": named(state, "model.")}))
    assert_holds(loaded, state)
    assert loaded.model.description()["classwise"] is False


def without(state: State, *starts: str) -> State:
    return {key: value for key, value in state.items() if not key.startswith(starts)}


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        (lambda s: without(s, "model.backbone.norm2.bias"), r"whole network of DAFormer: 1 tensors .*'encoder.norm2"),
        (lambda s: {**s, "model.decode_head.x": torch.zeros(1)}, "first is 'decode_head.x'"),
        (lambda s: {**s, "model.y": torch.zeros(1)}, "first is 'y'"),
        (lambda s: {**s, "model.backbone.norm1.bias": torch.full((32,), torch.inf)}, "not finite"),
        (lambda s: {**s, "model.decode_head.conv_seg.weight": torch.zeros(3)}, "lacks the classifier"),
        (lambda s: without(s, "model.backbone.block3.1."), "not a whole network of DAFormer"),
        (lambda s: without(s, "model.decode_head.conv_seg."), "but no 'decode_head.conv_seg.weight'"),
        (lambda s: without(s, "model.decode_head.fuse_layer"), "but no 'decode_head.fuse_layer.bottleneck"),
        (lambda s: without(s, "model.decode_head."), r"use an encoder alone as model.weights"),
    ],
)
def test_networks_that_are_not_whole(student: State, change: Any, answer: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "net.pth", {"state_dict": change(named(student, "model."))})
    with pytest.raises(RequestError, match=answer) as refusal:
        import_checkpoint(path)
    assert "\n" not in str(refusal.value)


def test_what_is_no_checkpoint_of_theirs(student: State, tmp_path: Path) -> None:
    encoder = {k.removeprefix("encoder."): v for k, v in student.items() if k.startswith("encoder.")}
    for layout in ("nvlabs", "huggingface", "mmseg"):
        path = saved(tmp_path / "mit_b0.pth", from_mit(encoder, layout, ""))
        with pytest.raises(RequestError, match="an encoder to start from"):
            import_checkpoint(path)
    with pytest.raises(RequestError, match="is not a checkpoint of DAFormer, HRDA or MIC; leave out --teacher"):
        import_checkpoint(path, teacher=True)
    path = saved(tmp_path / "net.pth", {"state_dict": named(student, "model.")})
    with pytest.raises(RequestError, match="is not a checkpoint of hrda; its tensors fit daformer"):
        import_checkpoint(path, layout="hrda")


def test_the_command(
    student: State, teacher: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path / "iter_40000.pth", training_file(student, teacher))
    for option, state in (([], student), (["--teacher"], teacher)):
        out = tmp_path / "model.safetensors"
        monkeypatch.setattr("sys.argv", ["segadapt", "import", str(path), "--out", str(out), "--json", *option])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        summary = json.loads(capsys.readouterr().out)
        assert (summary["network"], summary["layout"]) == ("daformer_mit_b0", "daformer")
        assert_holds(load_model(out), state)


def test_classes_that_the_file_names_count(student: State, tmp_path: Path) -> None:
    """In whatever order the file has them; ``space`` gives the order wanted, and other names are refused."""
    backwards = CITYSCAPES.names[::-1]
    content = {"state_dict": named(student, ""), "meta": {"CLASSES": list(backwards), "PALETTE": [[1, 2, 3]] * 19}}
    path = saved(tmp_path / "latest.pth", content)
    loaded = import_checkpoint(path)
    assert_holds(loaded, student)
    assert loaded.space.names == backwards
    assert loaded.space.ids == CITYSCAPES.ids[::-1]
    assert loaded.space.colors == CITYSCAPES.colors[::-1]
    ordered = import_checkpoint(path, space="cityscapes19")
    assert ordered.space == CITYSCAPES
    key = "decode_head.conv_seg.weight"
    assert torch.equal(ordered.model.state_dict()[key], student[key].flip(0))
    ours = LabelSpace("ours", ("Road", *backwards[:-1]), CITYSCAPES.colors)
    with pytest.raises(RequestError, match=r"lacks 'Road' \(its 'road'\?\) and has 'road' besides"):
        import_checkpoint(path, space=ours)
    content["meta"] = {"dataset_meta": {"classes": tuple(f"c{i}" for i in range(19))}}
    assert import_checkpoint(saved(path, content)).space.names[:2] == ("c0", "c1")


def test_a_classes_file_gives_rows_by_ids(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("{sky: 2, road: 0, car: 1}")
    (tmp_path / "b.yaml").write_text("{sky: 23, road: 7, car: 26}")
    spaces = [_space(str(tmp_path / name)) for name in ("a.yaml", "b.yaml")]
    assert [space.names for space in spaces if isinstance(space, LabelSpace)] == [
        ("road", "car", "sky"),
        ("sky", "road", "car"),
    ]
