"""The time of passes over whole sets of images, beside the parts that a pass overlaps: decoding, the network, writing.

A pass that overlaps them takes as long as the longest of them, one that does not as long as their sum. Where no GPU is
at hand, a stand-in for a network sleeps as long as a GPU would compute, and a stand-in for a decoder may sleep as long
as large files take; both leave the processor to others, as the real ones do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segadapt.core.files import write_bytes
from segadapt.core.types import Size
from segadapt.data.dataset import Dataset, Item, Picture
from segadapt.data.decode import read_index, read_picture
from segadapt.data.files.writing import encode_index_png, encode_picture
from segadapt.engine.bundle import DataBundle
from segadapt.engine.environment import RoundEnvironment
from segadapt.engine.record import Record
from segadapt.engine.runtime import Runtime, machine, wait_for
from segadapt.evaluation.predict import predict_path
from segadapt.evaluation.scoring import evaluate
from segadapt.labels import LabelSpace, distinct_colors
from segadapt.methods.ranking import rank_target
from segadapt.methods.rectified import label_target
from segadapt.models.build import build_segmenter
from segadapt.models.inference import InferenceConfig
from segadapt.models.segmenter import Output, Segmenter
from segadapt.pieces.images import to_batch
from segadapt.pieces.pseudo_labels import select
from segadapt.pieces.thresholds import ClassThresholds

_FILES = 8
"""Different files; the images of a pass take turns with them."""


class StandIn(Segmenter):
    """Classes of colours on a grid of an eighth, after a sleep of ``seconds`` a call."""

    stride = 8
    feature_channels = 3

    def __init__(self, classes: int, seconds: float):
        super().__init__(classes)
        self.head = nn.Conv2d(3, classes, 1)
        self.seconds = seconds
        nn.init.normal_(self.head.weight, std=2.0)

    def network(self, x: Tensor) -> Output:
        """Return scores of the colours."""
        features = F.avg_pool2d(x, 8, ceil_mode=True)
        time.sleep(self.seconds)
        return Output(self.head(features), features)


@dataclass(frozen=True)
class _Decoder:
    """Decodes a picture after a sleep of some seconds."""

    sleep: float
    window: None = None
    """Reads parts of mosaics, of which there are none."""

    def __call__(self, path: Path) -> Picture:
        time.sleep(self.sleep)
        return read_picture(path)


def bench_passes(
    *,
    images: int = 60,
    size: Size = (128, 256),
    classes: int = 19,
    network: str = "",
    forward_ms: float = 30.0,
    decode_ms: float = 25.0,
    accelerator: str = "auto",
    seed: int = 0,
) -> dict[str, Any]:
    """Time the passes that label a target set, score a model and predict a folder, an image each.

    Args:
        images: images of a pass.
        size: their (height, width).
        classes: number of classes.
        network: name of a network; empty takes the stand-in.
        forward_ms: time of a call of the stand-in.
        decode_ms: sleep in every decoding beside the decoding itself.
        accelerator: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        seed: seed of pictures and weights.

    Returns:
        The job; ``decode_ms`` and ``forward_ms``, an image, alone and one after the other; and ``passes``: the time of
        each an image in ``ms``, and its ``ratio`` to the longer of the two. ``ranking`` and ``labels`` decode nothing
        and call no network: their ratio is to the same pass over stored scores that counts and writes nothing.
    """
    runtime = Runtime(accelerator)
    torch.manual_seed(seed)
    model = (build_segmenter(network, classes) if network else StandIn(classes, forward_ms / 1e3)).eval()
    model.to(runtime.device)
    with TemporaryDirectory() as folder:
        target = _written(Path(folder), images, size, classes, decode_ms / 1e3, seed)
        alone = _alone(target, model, runtime)
        passes = _passes(target, model, runtime, Path(folder))
    longest = max(alone.values())
    base = passes.pop("stored scores")
    slowest = {"ranking": base, "labels": base}
    return {
        "images": images,
        "size": list(size),
        "classes": classes,
        "network": network or "stand-in",
        **{name: round(value, 2) for name, value in alone.items()},
        "stored_scores_ms": round(base, 2),
        "passes": {
            name: {"ms": round(ms, 2), "ratio": round(ms / slowest.get(name, longest), 3)}
            for name, ms in passes.items()
        },
        "machine": machine(),
    }


def _written(folder: Path, images: int, size: Size, classes: int, sleep: float, seed: int) -> Dataset:
    """Write pictures that compress as photographs do, and label maps; return them as a data set."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir()
    for number in range(images):
        picture, label = (folder / f"{kind}{number % _FILES}.png" for kind in ("picture", "label"))
        if number < _FILES:
            coarse = rng.integers(0, 256, (size[0] // 16 + 1, size[1] // 16 + 1, 3)).astype(np.float32)
            smooth = cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC).clip(0, 255)
            noisy = smooth + rng.normal(0, 4, smooth.shape)
            write_bytes(picture, encode_picture(".png", noisy.clip(0, 255).astype(np.uint8)))
            write_bytes(label, encode_index_png((smooth[..., 0] * (classes / 256)).astype(np.uint8)))
        (folder / f"images/{number:06d}.png").symlink_to(picture)

    places = [(folder / f"images/{i:06d}.png", folder / f"label{i % _FILES}.png") for i in range(images)]
    items = tuple(Item(f"{i:06d}", *place) for i, place in enumerate(places))
    space = LabelSpace("bench", tuple(f"class {c}" for c in range(classes)), distinct_colors(classes))
    return Dataset("bench", space, items, _Decoder(sleep), read_index)


def _alone(target: Dataset, model: Segmenter, runtime: Runtime) -> dict[str, float]:
    """Return the milliseconds of decoding an image and of calling the network for it, one after the other."""
    count = min(len(target), 2 * _FILES)
    pictures = [target.image(0)]
    decode = _milliseconds(lambda: pictures.extend(target.image(i) for i in range(count)), count)
    batch = to_batch(pictures[0], runtime.device)

    def forward() -> None:
        for _ in range(count):
            model(batch)
        wait_for(runtime.device)

    with torch.inference_mode():
        model(batch)
        return {"decode_ms": decode, "forward_ms": _milliseconds(forward, count)}


def _passes(target: Dataset, model: Segmenter, runtime: Runtime, folder: Path) -> dict[str, float]:
    """Return the milliseconds of every pass, an image."""
    config, count = InferenceConfig(), len(target)
    unlabelled = replace(target, items=tuple(replace(item, label=None) for item in target.items))
    bundle = DataBundle(source=None, target=unlabelled, cache_folder=folder)

    def environment(name: str) -> RoundEnvironment:
        record = Record(folder, active=False)
        return RoundEnvironment(bundle, target.space, seed=0, runtime=runtime, record=record, folder=folder / name)

    made, soft = environment("hard"), environment("soft")
    ranking = ClassThresholds(len(target.space), 0.5).to(runtime.device)
    predictions: Any = None

    def scores() -> None:
        nonlocal predictions
        predictions = made.predict_target(model, config)

    def stored() -> None:
        for seen in predictions:
            seen.probabilities.amax(0)

    def labels() -> None:
        thresholds = ranking.thresholds()
        for seen in predictions:
            p = seen.probabilities[None]
            made.keep_label(seen.index, select(p, thresholds)[0], p[0].amax(0))
        made.finish_preparation("bench", 0)

    def soft_labels() -> None:
        for _ in label_target(model, soft, False):
            pass
        soft.finish_preparation("bench", 0)

    def files() -> None:
        reader: Any = target.read_image
        predict_path(model, target.space, folder / "images", folder / "predicted", config, reader=reader)

    steps: dict[str, tuple[Callable[[], object], int]] = {
        "scores": (scores, count),
        "stored scores": (stored, count),
        "ranking": (lambda: rank_target(ranking, predictions, made), 2 * count),
        "labels": (labels, count),
        "soft labels": (soft_labels, count),
        "evaluation": (lambda: evaluate(model, target, config, runtime.device), count),
        "predict": (files, count),
    }

    def waited(work: Callable[[], object]) -> None:
        work()
        wait_for(runtime.device)

    with torch.no_grad():
        return {name: _milliseconds(partial(waited, work), images) for name, (work, images) in steps.items()}


def _milliseconds(work: Callable[[], object], images: int) -> float:
    """Return the time of some work, an image."""
    began = time.monotonic()
    work()
    return (time.monotonic() - began) / images * 1e3
