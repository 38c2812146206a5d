"""The command as a user meets it: results, and one line with exit status 2 for every mistake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from rich.console import Console

import segadapt
from segadapt.cli import main
from segadapt.labels import CAMVID, CITYSCAPES
from segadapt.methods.registry import METHODS
from segadapt.models.build import build_segmenter
from segadapt.models.prototype_net import PrototypeNet
from segadapt.models.store import save_model
from segadapt.recipes import recipe_names
from segadapt.runs.config import build_config
from segadapt.runs.run import Run
from tests.data.test_readers import write_gta5
from tests.tiny import raw_config, write_classes, write_folder

FAST = [
    *("model.name=timm:test_resnet", "model.weights=null", "model.arguments={width: 16}", "accelerator=cpu"),
    *("source.steps=4", "source.augmentation.crop=[32, 32]", "adapt.augmentation.crop=[32, 32]"),
    *("adapt.rounds=1", "adapt.epochs=1", "source.batch_size=2", "adapt.batch_size=2", "guard=false"),
]


def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of one command."""
    monkeypatch.setattr("sys.argv", ["segadapt", *map(str, arguments)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    code = ended.value.code
    return (code if isinstance(code, int) else 0 if code is None else 1), out, err


def test_prototypes_predict_where_they_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The scores of a run whose kept model predicts by them; and one line where a stage has none."""
    settings = {"channels": 8, "bank": 200, "start": 20, "warmup": 0}
    results = {}
    for predict in ("classifier", "prototypes"):
        raw = raw_config(tmp_path, "mpcl", mpcl={**settings, "predict": predict})
        results[predict] = Run.open(build_config(raw, "tiny"), tmp_path / predict, quiet=True).execute()["rows"][-1][
            "scores"
        ]
    assert results["classifier"]["iou"] != results["prototypes"]["iou"]
    data = ("--images", str(tmp_path / "test/images"), "--labels", str(tmp_path / "test/labels"))
    data += ("--classes", str(tmp_path / "classes.txt"), "--json")
    for run in ("classifier", "prototypes"):
        code, out, _ = call(monkeypatch, capsys, "evaluate", str(tmp_path / run), "--prototypes", *data)
        assert code == 0
        assert json.loads(out)["iou"] == results["prototypes"]["iou"]
    assert isinstance(segadapt.load(tmp_path / "classifier", prototypes=True).model, PrototypeNet)
    source = str(tmp_path / "classifier/stages/source/model.safetensors")
    code, _, err = call(monkeypatch, capsys, "evaluate", source, "--prototypes", *data)
    assert code == 2
    assert "learnt no prototypes; train a stage with 'mpcl'" in err


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    write_folder(tmp_path / "source", 6)
    write_folder(tmp_path / "target", 4, shift=1.0, seed=100, labels=False)
    write_folder(tmp_path / "test", 3, shift=1.0, seed=200)
    write_classes(tmp_path / "classes.txt")
    return tmp_path


def adapt_arguments(folders: Path, **changes: Any) -> list[str]:
    options: dict[str, Any] = {
        "source-images": folders / "source/images",
        "source-labels": folders / "source/labels",
        "target-images": folders / "target/images",
        "classes": folders / "classes.txt",
        "method": "cbst",
        "out": folders / "run",
    }
    options.update(changes)
    given = [text for name, value in options.items() if value is not None for text in (f"--{name}", str(value))]
    return ["adapt", *given, *FAST]


def assert_refused(result: tuple[int, str, str], *words: str) -> None:
    code, _, err = result
    assert code == 2, result
    assert len(err.strip().splitlines()) == 1, err
    assert err.startswith("segadapt: ")
    for word in words:
        assert word in err, err


def test_two_folders_then_everything_else(
    folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """adapt, resume, predict, label, evaluate, report on class names nobody has seen."""
    extra = {"test-images": folders / "test/images", "test-labels": folders / "test/labels"}
    code, out, err = call(monkeypatch, capsys, *adapt_arguments(folders, **extra), "--json")
    assert code == 0, err
    results = json.loads(out)
    assert [r["stage"] for r in results["rows"]] == ["source", "adapt"]
    assert set(results["rows"][1]["scores"]["iou"]) == {"ground", "box", "disc"}
    assert Path(results["report"]).stat().st_size > 10_000

    code, out, _ = call(monkeypatch, capsys, "resume", str(folders / "run"), "--json")
    assert code == 0
    assert json.loads(out)["rows"] == results["rows"]

    run = str(folders / "run")
    write_folder(folders / "odd", 2, size=(33, 71), labels=False)
    code, out, err = call(
        monkeypatch, capsys, "predict", run, str(folders / "odd/images"), "--out", str(folders / "p"), "--json"
    )
    assert code == 0, err
    assert json.loads(out)["count"] == 2
    index = [p for p in (folders / "p").glob("*.png") if "confidence" not in p.name]
    assert len(index) == 2
    assert cv2.imread(str(index[0]), cv2.IMREAD_UNCHANGED).shape[:2] == (33, 71)

    code, out, err = call(
        monkeypatch, capsys, "label", run, str(folders / "test/images"), "--json",
        *("--out", str(folders / "l"), "--portion", "0.5"),
        *("--labels", str(folders / "test/labels"), "--classes", str(folders / "classes.txt")),
    )  # fmt: skip
    assert code == 0, err
    summary = json.loads(out)
    assert summary["density"] == pytest.approx(0.5, abs=0.02)
    assert 0 <= summary["accuracy"] <= 1
    labels = list((folders / "l/labels").glob("*.png"))
    assert len(labels) == 3
    kept = np.mean([(cv2.imread(str(p), cv2.IMREAD_UNCHANGED) != 255).mean() for p in labels])
    assert kept == pytest.approx(summary["density"], abs=1e-6)

    code, out, err = call(
        monkeypatch, capsys, "evaluate", run, "--images", str(folders / "test/images"),
        *("--labels", str(folders / "test/labels"), "--classes", str(folders / "classes.txt"), "--json"),
    )  # fmt: skip
    assert code == 0, err
    assert json.loads(out)["miou"] == pytest.approx(results["rows"][1]["scores"]["miou"])

    (folders / "fewer.yaml").write_text("- {name: disc, id: 2}\n- {name: ground, id: 0}\n- {name: box, id: 1}\n")
    (folders / "two.yaml").write_text("- {name: disc, id: 2}\n- {name: ground, id: 0}\n- {name: ignore, id: 1}\n")
    for classes, subset in (("fewer.yaml", None), ("two.yaml", "the 2 classes labelled here")):
        code, out, err = call(
            monkeypatch, capsys, "evaluate", run, "--images", str(folders / "test/images"),
            *("--labels", str(folders / "test/labels"), "--classes", str(folders / classes), "--json"),
        )  # fmt: skip
        assert code == 0, err
        found = json.loads(out)
        assert list(found["subsets"]) == ([subset] if subset else [])
        if subset:
            assert found["subsets"][subset] == pytest.approx((found["iou"]["ground"] + found["iou"]["disc"]) / 2)
        else:  # another order of the same classes
            assert found["miou"] == pytest.approx(results["rows"][1]["scores"]["miou"])

    code, _, err = call(monkeypatch, capsys, "report", run, "--out", str(folders / "page.html"))
    assert code == 0, err
    assert (folders / "page.html").exists()


def test_without_a_classes_file_the_classes_are_inferred(
    folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(monkeypatch, capsys, *adapt_arguments(folders, classes=None), "--json")
    assert code == 0, err
    results = json.loads(out)
    assert len(results["space"]["names"]) == 3
    assert results["rows"][1]["scores"] is None


# ---- mistakes ----


def test_missing_folder(folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    result = call(monkeypatch, capsys, *adapt_arguments(folders, **{"target-images": folders / "nowhere"}))
    assert_refused(result, "nowhere")


def test_empty_target(folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (folders / "empty").mkdir()
    assert_refused(
        call(monkeypatch, capsys, *adapt_arguments(folders, **{"target-images": folders / "empty"})), "empty"
    )


def test_image_without_label(
    folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folders / "source/labels/003.png").unlink()
    assert_refused(call(monkeypatch, capsys, *adapt_arguments(folders)), "003")


def test_label_id_outside_the_space(
    folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    label = np.full((40, 56), 77, np.uint8)
    cv2.imwrite(str(folders / "source/labels/002.png"), label)
    assert_refused(call(monkeypatch, capsys, *adapt_arguments(folders)), "002.png", "77")


def test_size_mismatch(folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(folders / "source/labels/001.png"), np.zeros((20, 56), np.uint8))
    assert_refused(call(monkeypatch, capsys, *adapt_arguments(folders)), "001.png", "20", "40")


def test_truncated_jpeg(folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    path = folders / "target/images/bad.jpg"
    cv2.imwrite(str(path), rng.integers(0, 255, (40, 56, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:900])
    assert_refused(call(monkeypatch, capsys, *adapt_arguments(folders)), "bad.jpg")


def test_masks_of_0_and_255(folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (folders / "source/labels").iterdir():
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), np.where(mask == 1, 255, 0).astype(np.uint8))
    assert_refused(call(monkeypatch, capsys, *adapt_arguments(folders, classes=None)), "255", "--ignore-id none")
    code, out, err = call(
        monkeypatch,
        capsys,
        *adapt_arguments(folders, classes=None, out=folders / "binary", **{"ignore-id": "none"}),
        "--json",
    )
    assert code == 0, err
    assert len(json.loads(out)["space"]["names"]) == 2


def test_rgb_masks_without_colours(
    folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (folders / "source/labels").iterdir():
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), np.stack([mask, mask * 2, 255 - mask], -1))
    assert_refused(call(monkeypatch, capsys, *adapt_arguments(folders)), "colour")


def test_unknown_key_in_a_recipe(
    folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = raw_config(folders / "r")
    raw["stages"]["adapt"]["portoin"] = 0.3
    (folders / "r.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    assert_refused(call(monkeypatch, capsys, "adapt", str(folders / "r.yaml")), "portoin", "did you mean 'portion'")


def test_checkpoint_of_another_label_space(
    folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = call(monkeypatch, capsys, *adapt_arguments(folders), "-q")
    assert code == 0, err
    (folders / "other.txt").write_text("sea\nsand\nsky\n")
    model = folders / "run/stages/source/model.safetensors"
    arguments = adapt_arguments(folders, classes=folders / "other.txt", out=folders / "second")
    assert_refused(call(monkeypatch, capsys, *arguments, f"source.initial={model}"), "model.safetensors", "ground")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["adapt"], "recipe"),
        (["adapt", "toy/cbts"], "toy/cbst"),
        (["adapt", "toy/cbst"], "--root toy=FOLDER"),
        (["adapt", "--source-images", "x"], "--source-labels"),
        (["predict", "missing.safetensors", "x"], "missing.safetensors"),
        (["resume", "nowhere"], "not the folder of a run"),
        (["report", "nowhere"], "nowhere"),
        (["adapt", "toy/cbst", "--root", "toy"], "NAME=FOLDER"),
        (["bench", "table", "toy", "--seeds", "a"], "--seeds"),
    ],
)
def test_other_mistakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], word: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(call(monkeypatch, capsys, *arguments), word)


@pytest.mark.parametrize("command", ["methods", "recipes", "models", "doctor"])
def test_listings_are_also_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    code, out, _ = call(monkeypatch, capsys, command)
    assert code == 0
    assert out
    code, out, _ = call(monkeypatch, capsys, command, "--json")
    assert code == 0
    assert json.loads(out)


@pytest.mark.parametrize("columns", [80, 120])
def test_methods_say_paper_stages_and_proof(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    monkeypatch.setattr("segadapt.cli.looking.console", Console(width=columns, highlight=False))
    code, out, err = call(monkeypatch, capsys, "methods")
    assert code == 0, err
    assert max(map(len, out.splitlines())) <= columns
    words = " ".join(out.split())
    found = json.loads(call(monkeypatch, capsys, "methods", "--json")[1])
    assert list(found) == list(METHODS)
    shipped = recipe_names()
    for name, entry in found.items():
        how = " ".join([entry["recipe"], *entry["overrides"]])
        assert entry["paper"] in words
        assert f"{name} {entry['title']}: {entry['summary']} {' > '.join(entry['stages'])} ({how})" in words
        assert all(path in words for paths in entry["proofs"].values() for path in paths)
        assert entry["recipe"] in shipped
        assert name in entry["stages"]
    assert found["dacs"]["paper"].endswith("WACV 2021")
    assert found["mpcl"]["paper"].startswith("Ling")
    assert found["proda"]["stages"] == ["adaptseg_ls", "proda", "distill", "distill"]
    assert found["cpsl_official"]["stages"] == ["adaptseg_ls", "cpsl_official", "distill", "distill"]


def test_plan_says_what_a_recipe_costs(
    folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folders / "r.yaml").write_text(yaml.safe_dump(raw_config(folders / "r"), sort_keys=False))
    code, out, err = call(monkeypatch, capsys, "plan", str(folders / "r.yaml"), "--json")
    assert code == 0, err
    stages = json.loads(out)["stages"]
    assert [(s["name"], s["steps"]) for s in stages] == [("source", 6), ("adapt", 8)]
    assert all(s["minutes"] > 0 for s in stages)


def test_predictions_for_a_test_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for space in (CITYSCAPES, CAMVID):
        model = build_segmenter("timm:resnet10t", len(space), width=16)
        save_model(tmp_path / f"{space.name}.safetensors", model, space, {})
    write_folder(tmp_path / "fog", 2, labels=False)
    for i in (0, 1):
        (tmp_path / f"fog/images/{i:03d}.png").rename(tmp_path / f"fog/images/GOPR1_frame_{i:06d}_rgb_anon.png")
    arguments = [str(tmp_path / "fog"), "--submission", "acdc", "--zip", "--out", str(tmp_path / "sub")]
    model_file = str(tmp_path / "cityscapes19.safetensors")
    code, out, err = call(monkeypatch, capsys, "predict", model_file, *arguments)
    assert code == 0, err
    assert "asks for 2000 images; these are 2" in out
    assert (tmp_path / "sub.zip").is_file()
    labels = sorted(p.name for p in (tmp_path / "sub/labelTrainIds").iterdir())
    assert labels == ["GOPR1_frame_000000_rgb_anon.png", "GOPR1_frame_000001_rgb_anon.png"]
    other = call(monkeypatch, capsys, "predict", str(tmp_path / "camvid11.safetensors"), *arguments, "--overwrite")
    assert_refused(other, "camvid11", "classes of Cityscapes")
    assert_refused(call(monkeypatch, capsys, "predict", model_file, *arguments, "--ids", "cityscapes"), "--ids")
    assert_refused(call(monkeypatch, capsys, "predict", model_file, str(tmp_path / "fog"), "--zip"), "--submission")


def test_data_check_exits_with_2_when_something_is_wrong(
    folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "data",
        "check",
        "--images",
        folders / "source/images",
        "--labels",
        folders / "source/labels",
        "--classes",
        folders / "classes.txt",
    ]
    code, out, _ = call(monkeypatch, capsys, *map(str, arguments))
    assert code == 0
    assert "ground" in out
    content = (folders / "source/images/000.png").read_bytes()
    (folders / "source/images/000.png").write_bytes(content[: len(content) // 2])
    code, out, err = call(monkeypatch, capsys, *map(str, arguments))
    assert code == 2
    assert "000.png" in out + err


def test_data_check_of_one_part_and_of_listed_images(
    folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folders / "parts.yaml").write_text("ground: {ids: {source: [0, 1], test: 0}}\nbox: {ids: {source: 2, test: 1}}\n")
    (folders / "list.txt").write_text("001\n004.png\n")
    data = ("--images", folders / "source/images", "--labels", folders / "source/labels")
    given = [str(word) for word in (*data, "--classes", folders / "parts.yaml", "--list-file", folders / "list.txt")]
    code, out, err = call(monkeypatch, capsys, "data", "check", *given, "--part", "source", "--json")
    assert code == 0, err
    assert json.loads(out)["images"] == 2
    assert_refused(call(monkeypatch, capsys, "data", "check", *given), "--part", "source, target, test")
    code, out, _ = call(monkeypatch, capsys, "data", "check", *given, "--part", "test", "--json")
    assert code == 2
    assert json.loads(out)["error_counts"] == {"unknown label": 2}


def test_data_check_lists_all_damaged_masks_without_a_classes_file_too(
    folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 4):
        (folders / f"source/labels/{number:03d}.png").write_text("no picture")
    data = ("--images", folders / "source/images", "--labels", folders / "source/labels")
    code, out, err = call(monkeypatch, capsys, "data", "check", *map(str, data))
    assert code == 2
    for number in (1, 4):
        assert f"labels/{number:03d}.png is not an image that can be decoded; fetch it again" in out
    assert "2 files cannot be used" in err


def test_data_check_says_when_images_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_gta5(tmp_path)
    arguments = ("data", "check", "--reader", "gta5", "--data-root", str(tmp_path))
    code, out, _ = call(monkeypatch, capsys, *arguments)
    assert code == 0
    assert "'all' has 3 images here and 24964 as published" in out
    assert "as published" not in call(monkeypatch, capsys, *arguments, "--limit", "2")[1]
