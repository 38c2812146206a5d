"""A tiny world for tests of the engine: coloured rectangles, two domains, a network of one second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from segadapt.runs.config import RunConfig, build_config

NAMES = ("ground", "box", "disc", "bar", "dot", "frame", "stripe")
COLORS = ((90, 90, 90), (200, 60, 50), (60, 170, 70), (60, 80, 200), (210, 190, 60), (170, 70, 180), (70, 190, 190))

SELF_TRAINING = {"rounds": 2, "source_portion": 0.5, "source_portion_max": 0.5}
ROUNDS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("st", "cbst", "st_sp", "cbst_sp", "crst_mrkld", "crst_lrent"), SELF_TRAINING),
    "bcl": {"rounds": 2},
}
"""Methods that work in rounds, and what shortens them."""
ONLINE: dict[str, dict[str, Any]] = {
    "dacs": {},
    "best": {},
    **{name: {"feature_classes": "all"} for name in ("daformer", "hrda", "mic")},
    "mpcl": {"feature_classes": "all", "mpcl": {"channels": 8, "bank": 200, "start": 20, "warmup": 0}},
}
"""Methods that begin with the network's initial weights, and what the classes of this world need."""
ENCODER = "timm:resnet10t"
LIGHT_ENCODER = "timm:test_resnet"
"""A thirteenth of the weights, a quarter of the time of a step; enough for the rectangles of this world."""


def twice(encoder: str = ENCODER) -> dict[str, Any]:
    """The network of two resolutions around the one of this world."""
    return {"name": f"hrda:{encoder}", "weights": None, "arguments": {"base": {"width": 16}}}


TWICE = twice()


def scene(seed: int, classes: int, height: int, width: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """One picture with ``classes`` classes; ``shift`` moves the colours as another camera would."""
    rng = np.random.default_rng(seed)
    label = np.zeros((height, width), np.uint8)
    for c in range(1, classes):
        for _ in range(2):
            y, x = int(rng.integers(0, height - 8)), int(rng.integers(0, width - 8))
            h, w = int(rng.integers(6, height // 2)), int(rng.integers(6, width // 2))
            label[y : y + h, x : x + w] = c
    image = np.asarray(COLORS, np.float32)[label]
    image = image * (1 - 0.35 * shift) + np.asarray([35, -10, -25]) * shift
    image += rng.normal(0, 6 + 12 * shift, image.shape)
    label[:2] = 255
    return image.clip(0, 255).astype(np.uint8), label


def write_folder(
    root: Path,
    count: int,
    classes: int = 3,
    size: tuple[int, int] = (40, 56),
    shift: float = 0.0,
    seed: int = 0,
    labels: bool = True,
) -> None:
    """``root/images`` and, if asked, ``root/labels``."""
    (root / "images").mkdir(parents=True)
    if labels:
        (root / "labels").mkdir()
    for i in range(count):
        image, label = scene(seed + i, classes, *size, shift)
        cv2.imwrite(str(root / "images" / f"{i:03d}.png"), image[..., ::-1])
        if labels:
            cv2.imwrite(str(root / "labels" / f"{i:03d}.png"), label)


def write_classes(path: Path, classes: int = 3) -> Path:
    """A classes file."""
    path.write_text("\n".join(NAMES[:classes]) + "\n")
    return path


def raw_config(
    folder: Path,
    method: str = "cbst",
    classes: int = 3,
    size: tuple[int, int] = (40, 56),
    test: bool = True,
    encoder: str = ENCODER,
    **adapt: Any,
) -> dict[str, Any]:
    """Settings of a run of a few seconds between two freshly written folders."""
    if not (folder / "source").exists():
        write_folder(folder / "source", 8, classes, size, 0.0, 0)
        write_folder(folder / "target", 6, classes, size, 1.0, 100, labels=False)
        write_folder(folder / "test", 3, classes, size, 1.0, 200)
    names = write_classes(folder / "classes.txt", classes)
    spec = {"classes": str(names)}
    crop = [32, 32]
    stages: dict[str, Any] = {
        "source": {
            "method": "source_only",
            "steps": 6,
            "batch_size": 2,
            "augmentation": {"crop": crop},
            "optimiser": {"name": "adamw", "lr": 1e-3},
            "checkpoint_every": 3,
        }
    }
    if method != "source_only":
        stages["adapt"] = {
            "method": method,
            "steps": 4,
            "batch_size": 2,
            **ROUNDS.get(method, {}),
            **ONLINE.get(method, {}),
            "augmentation": {"crop": crop},
            "optimiser": {"name": "adamw", "lr": 5e-4},
            "checkpoint_every": 3,
            **adapt,
        }
    data: dict[str, Any] = {
        "source": {"images": str(folder / "source/images"), "labels": str(folder / "source/labels"), **spec},
        "target": {"images": str(folder / "target/images")},
    }
    if test:
        data["test"] = {"images": str(folder / "test/images"), "labels": str(folder / "test/labels"), **spec}
    return {
        "title": f"tiny/{method}",
        "seed": 1,
        "accelerator": "cpu",
        "model": twice(encoder) if method == "hrda" else {"name": encoder, "weights": None, "arguments": {"width": 16}},
        "data": data,
        "stages": stages,
    }


def config(folder: Path, method: str = "cbst", **options: Any) -> RunConfig:
    """The checked configuration of :func:`raw_config`."""
    return build_config(raw_config(folder, method, **options), "tiny")
