"""Writing the same scene as each annotation tool does, from corners alone, without the code under test."""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.data.writing import picture, save

HEIGHT, WIDTH = 24, 32
Shape = tuple[str, list[list[int]]]
SCENES: dict[str, list[Shape]] = {
    "a/one": [("lake", [[2, 2], [25, 3], [24, 20], [4, 18]]), ("boat", [[8, 6], [14, 6], [14, 12], [8, 12]])],
    "b.two": [("boat", [[1, 1], [30, 1], [15, 22]])],
}
"""Image (path below the folder, without suffix) -> class and corners (x, y) of each region, the lowest first."""


def write_images(folder: Path, scenes: Mapping[str, Any] = SCENES) -> Path:
    for number, name in enumerate(scenes):
        save(folder / f"{name}.png", picture(HEIGHT, WIDTH, number))
    return folder


def write_json(path: Path, tree: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree))
    return path


def packed_png(mask: np.ndarray, palette: bool = False) -> bytes:
    image = Image.fromarray(mask.astype(np.uint8))
    content = io.BytesIO()
    if palette:  # as Supervisely writes bitmaps: index 0 is transparent
        image.putpalette([0, 0, 0, 255, 255, 255])
        image.save(content, "PNG", transparency=0, bits=8)
    else:
        Image.fromarray(mask).save(content, "PNG")
    return content.getvalue()


# ---- a tool each: they return what is given as labels ----


def coco(folder: Path, scenes: Mapping[str, Sequence[Shape]] = SCENES) -> Path:
    ids = {"boat": 7, "lake": 3}
    images = [
        {"id": 10 + i, "file_name": f"{name}.png", "height": HEIGHT, "width": WIDTH} for i, name in enumerate(scenes)
    ]
    regions = [(10 + i, *shape) for i, shapes in enumerate(scenes.values()) for shape in reversed(shapes)]
    annotations = [
        {
            "id": n,
            "image_id": i,
            "category_id": ids[c],
            "segmentation": [[v for point in points for v in point]],
            "iscrowd": 0,
        }
        for n, (i, c, points) in enumerate(regions)
    ]
    categories = [{"id": i, "name": name} for name, i in ids.items()]
    tree = {"images": images, "annotations": annotations, "categories": categories}
    return write_json(folder / "instances.json", tree)


def yolo(folder: Path, scenes: Mapping[str, Sequence[Shape]] = SCENES) -> Path:
    names = ["boat", "lake"]
    for name, shapes in scenes.items():
        rows = [
            " ".join([str(names.index(c)), *(f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in points)])
            for c, points in reversed(shapes)
        ]
        file = folder / "labels" / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(rows) + "\n")
    (folder / "data.yaml").write_text("nc: 2\nnames: [boat, lake]\n")
    return folder / "labels"


def labelme(folder: Path, scenes: Mapping[str, Sequence[Shape]] = SCENES, data: str | None = None) -> Path:
    for name, shapes in scenes.items():
        regions = [
            {"label": c, "points": points, "shape_type": "polygon", "flags": {}, "group_id": None}
            for c, points in shapes
        ]
        tree = {"version": "5.4.1", "flags": {}, "shapes": regions, "imagePath": f"{name.rpartition('/')[2]}.png"}
        size = {"imageHeight": HEIGHT, "imageWidth": WIDTH}
        write_json(folder / "json" / f"{name}.json", {**tree, "imageData": data, **size})
    return folder / "json"


def supervisely(folder: Path, scenes: Mapping[str, Sequence[Shape]] = SCENES) -> Path:
    for name, shapes in scenes.items():
        objects = [
            {"classTitle": c, "geometryType": "polygon", "points": {"exterior": points, "interior": []}, "tags": []}
            for c, points in shapes
        ]
        tree = {"description": "", "tags": [], "size": {"height": HEIGHT, "width": WIDTH}, "objects": objects}
        write_json(folder / "ann" / f"{name}.png.json", tree)
    write_json(folder / "meta.json", {"classes": [{"title": "lake"}, {"title": "boat"}], "tags": []})
    return folder / "ann"


def cvat(folder: Path, scenes: Mapping[str, Sequence[Shape]] = SCENES) -> Path:
    lines = ["<annotations><version>1.1</version><meta><task><labels>"]
    lines += [f"<label><name>{name}</name></label>" for name in ("boat", "lake")]
    lines.append("</labels></task></meta>")
    for number, (name, shapes) in enumerate(scenes.items()):
        lines.append(f'<image id="{number}" name="{name}.png" width="{WIDTH}" height="{HEIGHT}">')
        for order, (label, points) in reversed(list(enumerate(shapes))):
            text = ";".join(f"{x:.2f},{y:.2f}" for x, y in points)
            lines.append(f'<polygon label="{label}" points="{text}" occluded="0" z_order="{order}"></polygon>')
        lines.append("</image>")
    (folder / "annotations.xml").write_text("\n".join([*lines, "</annotations>"]))
    return folder / "annotations.xml"


TOOLS = {"coco": coco, "yolo": yolo, "labelme": labelme, "supervisely": supervisely, "cvat": cvat}


def bitmap(mask: np.ndarray, left: int, top: int, name: str) -> dict[str, Any]:
    data = base64.b64encode(zlib.compress(packed_png(mask, palette=True))).decode()
    return {"classTitle": name, "geometryType": "bitmap", "bitmap": {"data": data, "origin": [left, top]}}
