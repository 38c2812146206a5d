"""What the teachers of all methods look at: target images in their own colours; and what the record says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segadapt.data import loader
from segadapt.data.augmentations import register_augmentation
from segadapt.engine.loop import Loop
from segadapt.methods.mean_teacher import MeanTeacher
from segadapt.methods.registry import METHODS
from segadapt.models.segmenter import Segmenter
from segadapt.runs.config import build_config
from segadapt.runs.run import Run
from tests.tiny import raw_config

DYE = (1.0, 0.0, 1.0)
ON_STRONG_VIEWS = "distill"
"""Distillation compares student and teacher on one strong view (ProDA eq. 12); its labels come from whole images."""
TEACHING = {"best", "dacs", "daformer", "hrda", "mic", "mpcl", "adaptseg_mic", "proda", "cpsl", "cpsl_official"}


@register_augmentation("dye", draws=0)
def dyed(images: Tensor, draws: Tensor) -> Tensor:
    """Give all pixels one colour that no image has."""
    return torch.tensor(DYE).view(1, 3, 1, 1).expand_as(images)


def teachers(method: nn.Module) -> dict[str, Segmenter]:
    """The networks of a method that label, by their paths."""
    paths = {name: module for name, module in method.named_modules() if isinstance(module, Segmenter)}
    return {name: module for name, module in paths.items() if "teacher" in name and not name.endswith(".base")}


@pytest.mark.parametrize("colours", [{"jitter": 0.5}, {"extra": {"dye": {}}}], ids=["jitter", "extra"])
@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("oracle", "source_only", "given")])
def test_no_teacher_labels_changed_colours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, colours: dict[str, Any]
) -> None:
    seen: list[Tensor] = []
    mean_teachers = 0
    learnt: list[Tensor] = []
    train = Loop._train

    def watch(self: Loop, *args: Any, **options: Any) -> None:
        nonlocal mean_teachers
        mean_teachers = sum(isinstance(module, MeanTeacher) for module in self.method.modules())
        handles = [
            network.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
            for network in teachers(self.method).values()
        ]
        handles.append(self.method.model.register_forward_pre_hook(lambda _, args: learnt.append(args[0].clone())))
        train(self, *args, **options)
        for handle in handles:
            handle.remove()

    monkeypatch.setattr(Loop, "_train", watch)
    monkeypatch.setattr(loader, "color_jitter", lambda images, strength, draws: dyed(images, draws))
    raw = raw_config(tmp_path, method, test=False)
    raw["stages"]["source"] |= {"steps": 1}
    raw["stages"]["adapt"] |= {"steps": 1, "augmentation": {"crop": [32, 32], **colours}}
    if method == "mic":
        raw["stages"]["adapt"]["masked_momentum"] = 0.9  # a second teacher
    Run.open(build_config(raw, "tiny"), tmp_path / "run", quiet=True).execute()

    def changed(images: Tensor) -> bool:
        return bool((images == torch.tensor(DYE).view(1, 3, 1, 1)).all())

    assert any(changed(images) for images in learnt), "nothing was dyed"
    assert bool(seen) == (method in TEACHING or method == ON_STRONG_VIEWS)
    if method != ON_STRONG_VIEWS:
        assert not any(changed(images) for images in seen)

    events = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    steps = [event for event in events if event["event"] == "step" and event["stage"] == "adapt"]
    assert steps
    for step in steps:
        shares = {name: v for name, v in step.get("measured", {}).items() if name.startswith("confident share")}
        assert len(shares) == mean_teachers
        assert all(0 <= share <= 1 for share in shares.values())
