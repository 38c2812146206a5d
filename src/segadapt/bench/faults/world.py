"""The smallest world in which every method does all that it does: a few small pictures, a tiny network, a few steps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from segadapt.core.files import write_bytes, write_text
from segadapt.data.files.writing import encode_picture
from segadapt.methods.registry import METHODS

NAMES = ("ground", "box", "disc")
COLOURS = np.asarray(((90, 90, 90), (200, 60, 50), (60, 170, 70)), np.float32)
SIZE = (32, 40)
STAGES = ("source", "adapt")
LEFT_OUT = ("oracle", "given")
"""Methods that train nothing, or want labels of the target."""
NETWORK = {"name": "timm:test_efficientnet", "weights": None, "arguments": {"width": 8}}
TWICE = {"name": "hrda:timm:test_efficientnet", "weights": None, "arguments": {"base": {"width": 8}}}
_ROUNDS: dict[str, Any] = {"rounds": 2, "source_portion": 0.5, "source_portion_max": 0.5, "steps": 3}
_WHOLE = {"feature_classes": "all"}
_SHORTER: dict[str, dict[str, Any]] = {
    **{name: _ROUNDS for name, info in METHODS.items() if str(info.implementation).endswith((":CBST", ":CRST"))},
    "bcl": {"rounds": 2, "steps": 3},
    **dict.fromkeys(("daformer", "hrda", "mic"), _WHOLE),
    "mpcl": {**_WHOLE, "mpcl": {"channels": 8, "bank": 50, "start": 5, "warmup": 0}},
}
"""Settings that a method needs in so small a world, and those that shorten it."""


def methods() -> list[str]:
    """Return the methods that the bench runs: one name of every class, the last, and all whose steps differ."""
    last = {str(info.implementation): name for name, info in METHODS.items() if name not in LEFT_OUT}
    return [name for name in METHODS if name in {*last.values(), "dacs", "daformer", "hrda"}]


def write_world(folder: Path) -> None:
    """Write source, target and test pictures with their masks, and the classes file."""
    for part, count, shift in (("source", 6, 0.0), ("target", 4, 1.0), ("test", 2, 1.0)):
        for number in range(count):
            image, label = picture(100 * len(part) + number, shift)
            write_bytes(folder / part / "images" / f"{number:03d}.png", encode_picture(".png", image[..., ::-1]))
            if part != "target":
                write_bytes(folder / part / "labels" / f"{number:03d}.png", encode_picture(".png", label))
    write_text(folder / "classes.txt", "\n".join(NAMES) + "\n")


def picture(seed: int, shift: float) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Make a picture [H, W, 3] of coloured boxes and its label map [H, W]; ``shift`` moves the colours."""
    generator = np.random.default_rng(seed)
    label = np.zeros(SIZE, np.uint8)
    for train_id in (1, 2, 1, 2):
        y, x = int(generator.integers(0, SIZE[0] - 8)), int(generator.integers(0, SIZE[1] - 8))
        label[y : y + int(generator.integers(5, 12)), x : x + int(generator.integers(5, 14))] = train_id
    image = COLOURS[label] * (1 - 0.3 * shift) + np.asarray((35, -10, -25)) * shift
    image = image + generator.normal(0, 8, image.shape)
    label[:1] = 255
    return image.clip(0, 255).astype(np.uint8), label


def recipe(world: Path, method: str, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the settings of a run of a method in the world; ``changes`` go over the settings of its last stage."""
    common = {
        "batch_size": 4,  # two for each of two processes: batch normalisation needs them
        "augmentation": {"crop": [32, 32], "colour_transfer": "lab"},
        "checkpoint_every": 2,
    }
    stages: dict[str, Any] = {
        "source": {"method": "source_only", "steps": 4, "optimiser": {"name": "adamw", "lr": 1e-3}, **common}
    }
    if method != "source_only":
        settings = {"method": method, "steps": 4, "optimiser": {"name": "adamw", "lr": 5e-4}, **common}
        stages["adapt"] = {**settings, **_SHORTER.get(method, {}), **(changes or {})}
    classes = {"classes": str(world / "classes.txt")}

    def labelled(part: str) -> dict[str, str]:
        return {"images": str(world / part / "images"), "labels": str(world / part / "labels"), **classes}

    return {
        "title": f"faults/{method}",
        "seed": 1,
        "accelerator": "cpu",
        "model": TWICE if method == "hrda" else NETWORK,
        "data": {
            "source": labelled("source"),
            "target": {"images": str(world / "target" / "images")},
            "test": labelled("test"),
        },
        "stages": stages,
    }


def write_recipe(path: Path, settings: Mapping[str, Any]) -> Path:
    """Write a recipe file and return its path."""
    write_text(path, yaml.safe_dump(dict(settings), sort_keys=False))
    return path
