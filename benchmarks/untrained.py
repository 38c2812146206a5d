"""Make adapted models that need no training step, good and bad ones, for the study of criteria without labels.

From the source models of a study (``TASK/source_only/seedN``) it makes, below ``--out``, runs ``TASK/ROW/seedN`` with
one adapted stage each, scored on the task's test images, for ``segadapt bench criteria``. With ``--null``, also for two
tasks in which nothing can help: the source model of ``camvid_day_dusk`` on target images that are source images, and on
those of them without a bicyclist::

    python -m benchmarks.untrained runs/study --out runs/untrained --null --root camvid=... --root toy=toy

A row that is there is not made again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from segadapt.cli.common import parse_roots
from segadapt.core.files import read_json, write_json, write_text
from segadapt.core.settings import checked
from segadapt.core.spacing import evenly_spaced
from segadapt.evaluation.scoring import evaluate, working_image
from segadapt.models.inference import InferenceConfig
from segadapt.models.store import LoadedModel, load_model, save_model
from segadapt.pieces.images import to_batch
from segadapt.runs.config import build_config
from segadapt.runs.opening import OpenedData, open_data

BATCH = 4
"""Images of a batch whose statistics are taken."""
BICYCLIST = 10
NULL = {"null_same": "val", "null_rare": "rare"}
"""Tasks in which source and target are the same, with the split of CamVid's day that they adapt to."""


def statistics_of_target(loaded: LoadedModel, data: OpenedData, images: int, share: float) -> None:
    """Move the running statistics of batch normalisation to those of target images (Li et al., AdaBN, 2016).

    Args:
        loaded, data: the model, changed in place, and its data.
        images: number of target images.
        share: weight of the target's statistics, in [0, 1].
    """
    layers = [m for m in loaded.model.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [(m.running_mean.clone(), m.running_var.clone()) for m in layers]  # type: ignore[union-attr]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    target, inference = data.training.target, checked(InferenceConfig, loaded.inference, "inference")
    chosen = evenly_spaced(len(target), images)
    with torch.no_grad():
        for first in range(0, len(chosen), BATCH):
            shown = [
                working_image(target.image(i), loaded.working_size, inference) for i in chosen[first : first + BATCH]
            ]
            loaded.model(torch.cat([to_batch(image, "cpu") for image in shown]))
    for layer, (mean, variance) in zip(layers, before, strict=True):
        layer.eval()
        layer.running_mean.lerp_(mean, 1 - share)  # type: ignore[union-attr]
        layer.running_var.lerp_(variance, 1 - share)  # type: ignore[union-attr]


def input_of_target(loaded: LoadedModel, data: OpenedData, share: float) -> None:
    """Normalise images so that mean and deviation of the target's colours become those that the source's had.

    Args:
        loaded, data: the model, changed in place, and its data.
        share: of the way, in [0, 1].
    """
    moments = []
    assert data.training.source is not None
    for dataset in (data.training.source, data.training.target):
        places = evenly_spaced(len(dataset), 40)
        pixels = np.concatenate([dataset.image(i)[::8, ::8].reshape(-1, 3) for i in places]) / 255.0
        moments.append((pixels.mean(0), pixels.std(0)))
    (mean, deviation), (wanted_mean, wanted_deviation) = moments
    old = loaded.model.preprocessing  # of networks with ImageNet's normalisation: RGB in [0, 1]
    ratio = (wanted_deviation / deviation) ** share
    std = np.array(old.std) * ratio
    centre = wanted_mean * share + mean * (1 - share) - (mean - np.array(old.mean)) * ratio
    loaded.model.set_preprocessing(replace(old, mean=tuple(centre.tolist()), std=tuple(std.tolist())))


def balanced(loaded: LoadedModel, data: OpenedData, strength: float) -> None:
    """Favour classes that are rare in the source labels: the classifier's bias gets ``- strength log share``."""
    counts = np.zeros(len(loaded.space))
    source = data.training.source
    assert source is not None
    for index in evenly_spaced(len(source), 40):
        label = source.label(index)
        counts += np.bincount(label.ravel(), minlength=256)[: len(counts)]
    shares = torch.from_numpy(counts / counts.sum()).clamp(min=1e-4).float()
    layer = _classifier(loaded)
    with torch.no_grad():
        layer.bias -= strength * shares.log()  # type: ignore[operator]


def sharpened(loaded: LoadedModel, data: OpenedData, factor: float) -> None:
    """Make the model surer without changing a label: class scores are multiplied."""
    layer = _classifier(loaded)
    with torch.no_grad():
        layer.weight *= factor
        layer.bias *= factor  # type: ignore[operator,assignment]


def noisy(loaded: LoadedModel, data: OpenedData, share: float) -> None:
    """Add noise to all convolutions, of a share of the deviation of their weights: as far too high a rate does."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in loaded.model.modules():
            if isinstance(layer, nn.Conv2d):
                noise = torch.randn(layer.weight.shape, generator=generator)
                layer.weight += share * layer.weight.std() * noise


def _classifier(loaded: LoadedModel) -> nn.Conv2d:
    layers = [m for m in loaded.model.modules() if isinstance(m, nn.Conv2d)]
    return next(m for m in reversed(layers) if m.out_channels == loaded.model.classes and m.bias is not None)


ROWS: dict[str, Callable[[LoadedModel, OpenedData], None]] = {
    "source_only": lambda model, data: None,
    "adabn": lambda model, data: statistics_of_target(model, data, 40, 1.0),
    "adabn_half": lambda model, data: statistics_of_target(model, data, 40, 0.5),
    "noise": lambda model, data: noisy(model, data, 0.15),
    "balanced": lambda model, data: balanced(model, data, 0.5),
    "input": lambda model, data: input_of_target(model, data, 1.0),
    "adabn_one": lambda model, data: statistics_of_target(model, data, 1, 0.8),
    "sharpened": lambda model, data: sharpened(model, data, 3.0),
}
"""Adaptations by name; ``source_only`` is made for tasks in which nothing helps alone."""


def make(source: Path, task: str, out: Path, roots: Mapping[str, str], changes: Mapping[str, Any]) -> None:
    """Make the rows of a source model that are missing.

    Args:
        source: folder of its run.
        task: name of the task.
        out: folder of the results.
        roots: where named data sets lie.
        changes: settings of ``data`` that differ from the source run's, by part.
    """
    held = json.loads((source / "config.json").read_text())
    raw = held["config"]
    raw["data"]["oracle"], raw["data"]["measure_labels"] = None, False
    for part, settings in changes.items():
        raw["data"][part] = {**raw["data"][part], **settings}
    config = build_config(raw, raw["title"])
    places = {**held["roots"], **roots}
    data = open_data(config.data, places, out / "cache")
    assert data.test is not None
    file = source / "stages" / "source" / "model.safetensors"
    own = out / task / "source_only" / source.name / "stages" / "source" / "model.safetensors"
    for row, change in ROWS.items():
        run = out / task / row / source.name
        if (row == "source_only" and not changes) or (run / "results.json").exists():
            continue
        loaded = load_model(file)
        change(loaded, data)
        adapted = row != "source_only"
        name, role = ("adapt", "adapted") if adapted else ("source", "source")
        model = run / "stages" / name / "model.safetensors"
        save_model(model, loaded.model, loaded.space, {**loaded.provenance, "stage": name, "run": f"{task}/{row}"})
        scores = evaluate(loaded.model, data.test, config.evaluation, "cpu", size=config.data.test_size)
        stage = {**raw["stages"][0], "name": name, "role": role, "initial": str((own if changes else file).absolute())}
        write_json(run / "config.json", {**held, "config": {**raw, "stages": [stage]}, "roots": places})
        result = {"stage": name, "role": role, "title": row, "method": row, "scores": scores.to_dict()}
        write_json(run / "results.json", {"seed": raw["seed"], "rows": [result]})
        print(f"{task}/{row}, {source.name}: mIoU {scores.miou:.1f}", flush=True)


def write_splits(camvid: Path, out: Path) -> Path:
    """Write a copy of CamVid's folder, by links, with the split ``rare``: frames of ``day`` without a bicyclist."""
    from PIL import Image

    out.mkdir(parents=True, exist_ok=True)
    for name in ("images", "labels"):
        if not (out / name).exists():
            (out / name).symlink_to((camvid / name).absolute())
    frames = (camvid / "val.txt").read_text().split()
    day = (camvid / "day.txt").read_text().split()[::4]
    without = [n for n in day if not (np.array(Image.open(camvid / "labels" / f"{n}.png")) == BICYCLIST).any()]
    write_text(out / "val.txt", "\n".join(frames) + "\n")
    write_text(out / "rare.txt", "\n".join(without) + "\n")
    return out


def main() -> None:
    """Make what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder of a study with source models")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--null", action="store_true", help="also the tasks in which nothing helps")
    parser.add_argument("--root", action="append", default=[], metavar="NAME=FOLDER")
    given = parser.parse_args()
    roots = parse_roots(given.root)
    sources = sorted(given.study.glob("*/source_only/seed*"))
    for source in sources:
        if (read_json(source / "results.json") or {}).get("rows"):
            make(source, source.parents[1].name, given.out, roots, {})
    if given.null:
        root = write_splits(Path(roots["camvid"]), given.out / "camvid_null")
        for source in sources:
            if source.parents[1].name == "camvid_day_dusk" and source.name == "seed0":
                for task, split in NULL.items():
                    part = {"root": str(root.absolute()), "split": split}
                    make(source, task, given.out, roots, {"target": part, "test": part})


if __name__ == "__main__":
    main()
