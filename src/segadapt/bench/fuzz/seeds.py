"""Valid files, small ones of every kind that is read, made here: what fuzzing damages."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from segadapt.core.files import write_bytes

Files = dict[str, bytes]
"""Contents by name."""
NAMES = ("road", "car", "sky")
_COLORS = ((128, 64, 128), (0, 0, 142), (70, 130, 180))
_SIDE = 24


@cache
def scene() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return a picture [H, W, 3] and its classes [H, W]."""
    label = (np.add.outer(np.arange(_SIDE), np.arange(_SIDE)) // 9 % 3).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 40, (_SIDE, _SIDE, 3))
    return (np.asarray(_COLORS)[label] + noise).clip(0, 255).astype(np.uint8), label


@cache
def images() -> Files:
    """Return pictures in every format that is written without another library."""
    from PIL import Image

    picture = Image.fromarray(scene()[0])
    ways: dict[str, tuple[Any, str, dict[str, Any]]] = {
        "rgb.png": (picture, "PNG", {}),
        "palette.png": (picture.quantize(16), "PNG", {}),
        "alpha.png": (picture.convert("RGBA"), "PNG", {}),
        "deep.png": (Image.fromarray(scene()[0][..., 0].astype(np.uint16) * 257), "PNG", {}),
        "one.png": (picture.convert("1"), "PNG", {}),
        "a.jpg": (picture, "JPEG", {}),
        "progressive.jpg": (picture, "JPEG", {"progressive": True}),
        "cmyk.jpg": (picture.convert("CMYK"), "JPEG", {}),
        "a.gif": (picture.convert("P"), "GIF", {}),
        "a.bmp": (picture, "BMP", {}),
        "a.ppm": (picture, "PPM", {}),
        "a.webp": (picture, "WEBP", {}),
        "a.jp2": (picture, "JPEG2000", {}),
        "none.tif": (picture, "TIFF", {}),
        "lzw.tif": (picture, "TIFF", {"compression": "tiff_lzw"}),
        "deflate.tif": (picture, "TIFF", {"compression": "tiff_adobe_deflate"}),
        "jpeg.tif": (picture, "TIFF", {"compression": "jpeg"}),
        "float.tif": (picture.convert("F"), "TIFF", {}),
        "turned.jpg": (picture, "JPEG", {"exif": _turned()}),
    }
    return {name: _saved(image, form, settings) for name, (image, form, settings) in ways.items()}


def _turned() -> bytes:
    from PIL import Image

    exif = Image.Exif()
    exif[274] = 6
    return exif.tobytes()


def _saved(image: Any, form: str, settings: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **settings)
    return file.getvalue()


@cache
def masks() -> Files:
    """Return masks of :func:`scene`: values, palette, colours, ones that segadapt wrote, and TIFF."""
    from PIL import Image

    from segadapt.data.files.writing import encode_index_png
    from segadapt.data.masks.stamp import Stamp

    label = scene()[1]
    stamp = Stamp(dict(enumerate(NAMES)), {})
    color = Image.fromarray(np.asarray(_COLORS, np.uint8)[label])
    return {
        "grey.png": _saved(Image.fromarray(label), "PNG", {}),
        "palette.png": encode_index_png(label, np.asarray(_COLORS, np.uint8)),
        "stamped.png": stamp.into_png(encode_index_png(label)),
        "color.png": _saved(color, "PNG", {}),
        "deep.tif": _saved(Image.fromarray(label.astype(np.uint16)), "TIFF", {}),
        "a.gif": _saved(color.quantize(8), "GIF", {}),
    }


@cache
def classes() -> Files:
    """Return classes files in the ways that people and tools write them."""
    entries = [
        {"name": n, "ids": [i], "colors": [list(c)]} for i, (n, c) in enumerate(zip(NAMES, _COLORS, strict=True))
    ]
    categories = [{"id": i, "name": name, "supercategory": "x"} for i, name in enumerate(NAMES)]
    texts = {
        "names.yaml": "- road\n- car\n- sky\n",
        "ids.yaml": "road: 0\n'car': 12\nsky: 7\nignore: others\n",
        "colors.yaml": "road: [128, 64, 128]\ncar: '#00008e'\nvoid: [0, 0, 0]\n",
        "entries.yaml": "".join(f"- {{name: {n}, ids: [{i}, {i + 9}], labels: [a{i}]}}\n" for i, n in enumerate(NAMES)),
        "parts.yaml": "- name: road\n  ids: {source: [7, 8], test: 0}\n- name: car\n  ids: {source: 1, test: 1}\n",
        "entries.json": json.dumps(entries),
        "coco.json": json.dumps({"categories": categories}),
        "meta.json": json.dumps({"metainfo": {"classes": list(NAMES), "palette": [list(c) for c in _COLORS]}}),
        "table.csv": "name,id,r,g,b\nroad,0,128,64,128\ncar,1,0,0,142\nsky,2,70,130,180\n",
        "lines.txt": "road,0\ncar,1\nsky,2\n",
        "spaced.txt": "0 road 128 64 128\n1 car 0 0 142\n2 sky 70 130 180\n",
        "cvat.txt": "# label:color_rgb:parts:actions\nroad:128,64,128::\ncar:0,0,142::\nsky:70,130,180::\n",
        "data.py": "METAINFO = dict(classes=('road', 'car', 'sky'), palette=[[1, 2, 3], [4, 5, 6], [7, 8, 9]])\n",
    }
    return {name: text.encode() for name, text in texts.items()}


@cache
def annotated() -> Files:
    """Return annotations of the picture ``a.png`` by several tools."""
    square = [2.0, 2.0, 12.0, 2.0, 12.0, 12.0, 2.0, 12.0]
    points = [[x, y] for x, y in zip(square[::2], square[1::2], strict=True)]
    picture = {"id": 1, "file_name": "a.png", "height": _SIDE, "width": _SIDE}
    runs = {"size": [_SIDE, _SIDE], "counts": [100, 200, _SIDE * _SIDE - 300]}
    coco = {
        "images": [picture],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(NAMES)],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [square], "iscrowd": 0, "area": 100},
            {"id": 2, "image_id": 1, "category_id": 2, "segmentation": runs, "iscrowd": 1, "area": 200},
        ],
    }
    shapes = [{"label": name, "points": points, "shape_type": "polygon"} for name in NAMES]
    labelme = {"version": "5", "shapes": shapes, "imagePath": "a.png", "imageHeight": _SIDE, "imageWidth": _SIDE}
    things = [
        {"classTitle": n, "geometryType": "polygon", "points": {"exterior": points, "interior": []}} for n in NAMES
    ]
    cvat = (
        f'<annotations><image id="0" name="a.png" width="{_SIDE}" height="{_SIDE}">'
        + "".join(f'<polygon label="{n}" points="2,2;12,2;12,12" z_order="{i}"/>' for i, n in enumerate(NAMES))
        + "</image></annotations>"
    )
    texts = {
        "coco.json": json.dumps(coco),
        "a.json": json.dumps(labelme),
        "a.png.json": json.dumps({"description": "", "size": {"height": _SIDE, "width": _SIDE}, "objects": things}),
        "cvat.xml": cvat,
        "a.txt": "0 0.1 0.1 0.5 0.1 0.5 0.5\n1 0.6 0.6 0.9 0.6 0.9 0.9\n",
    }
    return {name: text.encode() for name, text in texts.items()}


@cache
def recipes() -> Files:
    """Return recipes of one's own."""
    texts = {
        "own.yaml": "base: toy/cbst\ntitle: own\nseed: 3\nmodel:\n  name: lite\n  weights: null\n"
        "  arguments: {width: 32}\n"
        "stages:\n  source:\n    steps: 20\n    optimiser: {lr: 1.0e-3}\n  adapt:\n    rounds: 2\n    portion: 0.3\n",
        "whole.yaml": "title: whole\ndata:\n  source: {reader: folder, images: a, labels: b}\n"
        "  target: {reader: folder, images: c}\nplugins: []\nevery: {batch_size: 2}\nstages:\n"
        "  source: {method: source_only, steps: 10}\n  more: {like: source, method: st, role: adapted}\n",
        "short.yaml": "base: toy/dacs\nlength: 0.1\nstages:\n  adapt:\n    length: 0.2\n"
        "    short: {batch_size: 1}\n  gone: null\n",
    }
    return {name: text.encode() for name, text in texts.items()}


@cache
def lists() -> Files:
    """Return lists of files."""
    return {"a.txt": b"a.png\n", "b.lst": b"\xef\xbb\xbfa\r\n\r\n"}


@cache
def run_files() -> Files:
    """Return the JSON files of a run's folder, as far as people and reports open them."""
    space = {
        "name": "own",
        "names": list(NAMES),
        "colors": [list(c) for c in _COLORS],
        "subsets": {"two": ["road", "car"]},
    }
    scores = {"miou": 50.0, "mpa": 60.0, "pixel_accuracy": 70.0, "iou": dict.fromkeys(NAMES, 50.0), "subsets": {}}
    row = {"stage": "adapt", "method": "cbst", "title": "CBST", "role": "adapted", "scores": scores, "seconds": 1.0}
    rounds = [
        {"stage": "adapt", "round": 0, "portion": 0.2, "density": 0.2, "classes": [{"name": "road", "density": 0.1}]}
    ]
    results = {
        "title": "own/cbst",
        "seed": 0,
        "space": space,
        "rows": [row],
        "labels": rounds,
        "selection": "last",
        "test": {"name": "t", "images": 1, "labelled": True},
        "target": {"images": 1},
        "machine": {"cpu": "x"},
    }
    entry = {"id": "a", "image": "a.png", "truth": None, "stages": {"adapt": {"label": "a.png"}}}
    return {
        "results.json": json.dumps(results).encode(),
        "config.json": json.dumps(
            {"segadapt": "1", "config": {"title": "own", "stages": [{"name": "adapt"}]}}
        ).encode(),
        "pictures/index.json": json.dumps({"test": [entry], "pseudo": [], "prototypes": []}).encode(),
        "log.jsonl": b'{"event": "step", "stage": "adapt", "step": 1, "loss": 0.5}\n{"event": "stage"}\n',
    }


@cache
def models() -> Files:
    """Return model files with the smallest encoders that there are, and the file of prototypes of one of them."""
    import timm
    import torch

    from segadapt.labels import LabelSpace
    from segadapt.models.build import build_segmenter
    from segadapt.models.store import save_model

    small = timm.is_model("test_resnet")
    names = {"plain.safetensors": "timm:test_resnet" if small else "lite"}
    names["two.safetensors"] = f"hrda:{names['plain.safetensors']}"
    space = LabelSpace("own", NAMES, _COLORS, {}, tuple(range(len(NAMES))), 255)
    told = {"run": "own", "size": [_SIDE, _SIDE], "inference": {"scales": [1.0], "flip": False}, "input": None}
    found = {}
    with TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        for file, name in names.items():
            path = Path(folder, file)
            save_model(path, build_segmenter(name, len(space)), space, told)
            found[file] = path.read_bytes()
    return found


@cache
def checkpoints() -> Files:
    """Return weights in the files of other projects: flat, nested, with numbers and texts beside them."""
    import torch
    from safetensors.torch import save

    generator = torch.Generator().manual_seed(0)
    state = {f"layer{i}.weight": torch.rand(4, 3, generator=generator) for i in range(3)}
    nested = {
        "state_dict": {f"module.{k}": v for k, v in state.items()},
        "iter": 7,
        "best_iou": 0.5,
        "meta": {"CLASSES": NAMES},
    }
    found = {"flat.safetensors": save(state)}
    for name, value in (("flat.pth", state), ("nested.pth", nested)):
        file = io.BytesIO()
        torch.save(value, file)
        found[name] = file.getvalue()
    file = io.BytesIO()
    torch.save(state, file, _use_new_zipfile_serialization=False)
    return {**found, "old.pth": file.getvalue()}


@cache
def run_checkpoints() -> Files:
    """Return the last checkpoint of a stage, and the list beside it."""
    import torch

    from segadapt.engine.checkpoint import save_checkpoint

    with TemporaryDirectory() as folder:
        state = {"fingerprint": "0" * 16, "position": 3, "model": {"weight": torch.ones(2, 3)}, "names": ["a"]}
        save_checkpoint(Path(folder), 3, state)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


@cache
def videos() -> Files:
    """Return a video; none where this OpenCV cannot write one."""
    import cv2

    with TemporaryDirectory() as folder:
        path = Path(folder, "a.avi")
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
        for shade in range(4):
            writer.write(np.full((48, 64, 3), shade * 60, np.uint8))
        writer.release()
        return {"a.avi": path.read_bytes()} if path.is_file() and path.stat().st_size else {}


def put(folder: Path, files: Files, names: Sequence[str] | None = None) -> None:
    """Write files into a folder."""
    for name, content in files.items():
        if names is None or name in names:
            write_bytes(folder / name, content, flush=False)
