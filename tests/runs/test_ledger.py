"""Which published row a run belongs to, and how far it is from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segadapt.cli.common import print_results
from segadapt.labels import CITYSCAPES
from segadapt.recipes.ledger import rows_of
from segadapt.runs.config import load_config
from segadapt.runs.ledger import line_of, published_rows
from segadapt.runs.results import RunResult


def done(stage: str, iou: float | None = 50.0, names: tuple[str, ...] = CITYSCAPES.names) -> list[dict[str, Any]]:
    scores = None if iou is None else {"miou": iou, "iou": dict.fromkeys(names, iou)}
    return [{"stage": stage, "scores": scores}]


def test_a_run_of_the_recipe_is_compared_with_its_row() -> None:
    free = ["seed=3", "accelerator=cpu", "data.workers=0", "data.target.root=/elsewhere", "adapt.checkpoint_every=7"]
    for overrides in ([], free):
        config = load_config("gta5_cityscapes/cbst_resnet38", overrides)
        (found,) = published_rows(config, [*done("source"), *done("adapt", 44.9)])
        assert (found["stage"], found["published"], found["score"], found["difference"]) == ("adapt", 45.2, 44.9, -0.3)
        assert (found["classes"], found["why"]) == (19, "")
        assert line_of(found).endswith("Table 3, page 13); this run 44.9, 0.3 below")


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["adapt.rounds=2"], "adapt.rounds"),
        (["data.target.limit=20"], "data.target.limit"),
        (["model.name=fcn8s_vgg16", "model.weights=null"], "model.name, model.weights"),
        (["length=0.1"], "and "),
    ],
)
def test_a_changed_run_is_not_compared_and_says_what_changed(overrides: list[str], named: str) -> None:
    (found,) = published_rows(load_config("gta5_cityscapes/cbst_resnet38", overrides), done("adapt"))
    assert found["difference"] is None
    assert found["score"] == 50.0
    assert named in found["why"]
    assert f"not compared: {found['why']}" in line_of(found)


def test_an_ablation_is_compared_with_its_own_row() -> None:
    (row,) = [row for row in rows_of("gta5_cityscapes/cpsl") if row.method.endswith("w/o CB")]
    (found,) = published_rows(load_config(row.recipe, row.overrides), done("stage1", 52.0))
    assert (found["published"], found["difference"]) == (51.8, pytest.approx(0.2))
    assert line_of(found).endswith("this run 52.0, 0.2 above")


def test_every_stage_has_its_row() -> None:
    stages = [*done("warmup"), *done("stage1"), *done("stage2"), *done("stage3")]
    found = published_rows(load_config("gta5_cityscapes/proda"), stages)
    assert [(entry["stage"], entry["published"]) for entry in found] == [
        *(("warmup", 41.6), ("stage1", 53.7), ("stage2", 56.9), ("stage3", 57.5))
    ]


def test_scores_are_over_the_classes_of_the_row() -> None:
    """A run with 19 outputs on SYNTHIA stands beside a mean over 16."""
    scores = {"iou": {name: 0.0 if name in ("terrain", "truck", "train") else 60.0 for name in CITYSCAPES.names}}
    (found,) = published_rows(load_config("synthia_cityscapes/daformer"), [{"stage": "adapt", "scores": scores}])
    assert (found["score"], found["classes"]) == (60.0, 16)
    (found,) = published_rows(load_config("synthia_cityscapes/adaptseg"), [{"stage": "adapt", "scores": scores}])
    assert (found["published"], found["classes"], found["score"]) == (46.7, 13, 60.0)


def test_other_images_and_missing_scores_are_said() -> None:
    (found,) = published_rows(load_config("cityscapes_acdc/hrda"), done("adapt"))
    assert (found["difference"], found["why"]) == (None, "published on the test server's images, here on others")
    (found,) = published_rows(load_config("gta5_cityscapes/hrda"), done("adapt", None))
    assert (found["score"], found["difference"]) == (None, None)
    assert "no score" in found["why"]
    (found,) = published_rows(load_config("gta5_cityscapes/dacs"), done("adapt"))
    assert "DAFormer" in found["why"]


def test_the_command_prints_the_row(capsys: pytest.CaptureFixture[str]) -> None:
    config = load_config("gta5_cityscapes/cbst_resnet38")
    rows = [
        {"stage": "adapt", "method": "cbst", "title": "CBST", "role": "adapted", "seconds": 6.0, "steps": 1, **entry}
        for entry in done("adapt", 44.9)
    ]
    raw = {
        "title": config.title, "seed": 0, "rows": rows, "published": published_rows(config, rows),
        "test": {"labelled": True, "images": 500}, "selection": "last checkpoint",
    }  # fmt: skip
    print_results(RunResult.of(raw, Path("run"), None))
    assert "published: CBST, ResNet-38, 45.2 mIoU (Zou et al." in capsys.readouterr().out


def test_other_runs_have_no_row() -> None:
    assert published_rows(load_config("toy/cbst"), done("adapt")) == []
