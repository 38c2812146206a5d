"""A small, invented folder of a finished run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from segadapt.labels import LabelSpace

SPACE = LabelSpace(
    "tiny3",
    ("road", "sky & <b>cloud</b>", "train"),
    ((128, 64, 128), (70, 130, 180), (0, 80, 100)),
    {"both": ("road", "train")},
)
WIDTH, HEIGHT = 64, 40
PIXELS = 60


def scores(road: float, sky: float) -> dict[str, Any]:
    return {
        "miou": (road + sky) / 2,
        "mpa": 55.5,
        "pixel_accuracy": 66.6,
        "iou": {"road": road, SPACE.names[1]: sky, "train": None},
        "subsets": {"both": road},
    }


def row(stage: str, role: str, title: str, found: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "stage": stage,
        "method": stage,
        "title": title,
        "role": role,
        "scores": found,
        "seconds": 210.0,
        "steps": 1500,
        "peak_memory_mb": 900,
        "selection": "last checkpoint",
    }


def results() -> dict[str, Any]:
    """Source-only 30.0, adapted 36.0, oracle 40.0: 60 % of the gap is closed."""
    labels = [
        {
            "stage": "cbst",
            "round": turn,
            "portion": 0.2 + 0.1 * turn,
            "density": 0.234 + 0.1 * turn,
            "accuracy": 0.912,
            "miou": None,
            "classes": [
                {
                    "name": name,
                    "threshold": 0.876,
                    "predicted": 123456,
                    "share_selected": 0.25,
                    "density": 0.0123,
                    "accuracy": None if name == "train" else 0.97,
                }
                for name in SPACE.names
            ],
        }
        for turn in range(2)
    ]
    return {
        "format": 1,
        "title": "tiny/cbst",
        "task": "tiny",
        "seed": 7,
        "space": json.loads(SPACE.to_json()),
        "test": {"name": "tiny test", "images": 2, "labelled": True},
        "selection": "last checkpoint",
        "machine": {"cpu": "a small one", "device": "cpu", "torch": "2.6.0", "segadapt": "0.1.0"},
        "rows": [
            row("source", "source", "Source only", scores(40.0, 20.0)),
            row("cbst", "adapted", "CBST", scores(38.0, 34.0)),
            row("oracle", "oracle", "Oracle", scores(45.0, 35.0)),
        ],
        "labels": labels,
    }


def write_results(run: Path, found: dict[str, Any]) -> None:
    run.mkdir(parents=True, exist_ok=True)
    (run / "results.json").write_text(json.dumps(found))


def write_run(run: Path) -> Path:
    """Results, configuration, log with a cut-off last line, and pictures."""
    write_results(run, results())
    config = {"config": {"stages": [{"name": "cbst", "note": "</script><i>"}]}, "roots": {"tiny": "/private/place"}}
    (run / "config.json").write_text(json.dumps(config))
    lines = [
        {"event": "step", "stage": "cbst", "round": turn, "step": step, "time": 1.7e9, "losses": {"a": 2 / step}}
        for turn in range(2)
        for step in (10, 20)
    ]
    lines += [
        {"event": "evaluation", "stage": "cbst", "round": turn, "step": 20 * turn + 20, "scores": {"miou": 33 + turn}}
        for turn in range(2)
    ]
    lines += [online_labels(turn, step, 0.5 + 0.1 * turn) for turn in range(2) for step in (10, 20)]
    (run / "log.jsonl").write_text("\n".join([*map(json.dumps, lines), '{"event": "st']))
    write_pictures(run / "pictures")
    write_prototypes(run / "pictures")
    write_features(run / "pictures" / "features")
    return run


def online_labels(round_index: int, step: int, accuracy: float | None) -> dict[str, Any]:
    known: dict[str, Any] = {"accuracy": accuracy, "mean_accuracy": accuracy, "miou": accuracy}
    sets = {"rectified": {**known, "density": 1.0}, "stored": {**known, "density": 0.25}}
    event = {"event": "online_labels", "stage": "cbst", "round": round_index, "step": step, "sets": sets}
    if accuracy is None:
        return event
    sets["rectified"]["classes"] = [0.5, 0.49, 0.01]
    sets["stored"]["classes"] = [0.75, 0.25, 0.0]
    return {**event, "truth": [0.5, 0.4, 0.1]}


def write_features(folder: Path, stages: Sequence[str] = ("source", "cbst"), by: str = "truth") -> None:
    """Features of :data:`PIXELS` pixels: 24 of the first class, 36 of the second and none of the third."""
    rng = np.random.default_rng(0)
    label = np.repeat(np.array([0, 1], np.uint8), [24, 36])
    (folder / "stages").mkdir(parents=True)
    place = np.full(PIXELS, 0.5, np.float32)
    np.savez(folder / "places.npz", image=np.arange(PIXELS) % 4, y=place, x=place, label=label, by=by)
    for number, stage in enumerate(stages):
        features = rng.normal(size=(PIXELS, 6)) + 4 * number * label[:, None]
        np.savez(folder / "stages" / f"{stage}.npz", features=features.astype(np.float16), separation=0.25 + number)


def write_prototypes(folder: Path) -> None:
    """Two prototypes per class after the stage ``cbst``, pictures of one image; the third class is never predicted."""
    path = folder / "index.json"
    index = json.loads(path.read_text()) if path.exists() else {"test": [], "pseudo": []}
    rng = np.random.default_rng(0)
    names = ["image", "which", "0_0", "0_1", "1_0", "1_1"]
    for name in names:
        write(folder / f"prototypes/{name}.jpg", rng.integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8))
    counts = [[300, 100], [999, 1], [0, 0]]
    classes = [{"name": name, "counts": found} for name, found in zip(SPACE.names, counts, strict=True)]
    drawn = [{**c, "maps": [f"prototypes/{i}_{k}.jpg" for k in range(2)]} for i, c in enumerate(classes[:2])]
    image = {"id": "one", "image": "prototypes/image.jpg", "which": "prototypes/which.jpg", "pixels": 2000}
    entry = {"stage": "cbst", "colors": [[255, 0, 0], [0, 0, 255]], "pictured": 4, "classes": classes}
    index["prototypes"] = [{**entry, "images": [{**image, "classes": drawn}]}]
    path.write_text(json.dumps(index))


def write_pictures(folder: Path) -> None:
    rng = np.random.default_rng(0)
    index: dict[str, list[dict[str, Any]]] = {"test": [], "pseudo": []}
    for name in ("one", "two"):
        truth = rng.integers(0, len(SPACE), (HEIGHT, WIDTH)).astype(np.uint8)
        truth[0] = 255
        worse = truth.copy()
        worse[1:20] = 0
        photo = rng.integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)
        for part, picture in (("image.jpg", photo), ("confidence.jpg", photo)):
            write(folder / f"test/{name}_{part}", picture)
        for part, label in (("truth", truth), ("source", worse), ("cbst", truth)):
            write(folder / f"test/{name}_{part}.png", SPACE.colorize(label))
        stages = {
            s: {"label": f"test/{name}_{s}.png", "confidence": f"test/{name}_confidence.jpg"}
            for s in ("source", "cbst")
        }
        image = f"test/{name}_image.jpg"
        index["test"].append({"id": name, "image": image, "truth": f"test/{name}_truth.png", "stages": stages})
        for turn in range(2):
            index["pseudo"].append(
                {
                    "id": name,
                    "stage": "cbst",
                    "round": turn,
                    "image": image,
                    "label": f"test/{name}_truth.png",
                    "confidence": f"test/{name}_confidence.jpg",
                    "density": 0.2,
                }
            )
    (folder / "index.json").write_text(json.dumps(index))


def write(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
