"""``data convert``: labels of any kind to index masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segadapt.cli.common import (
    Classes,
    IgnoreId,
    Json,
    ListFile,
    Pair,
    Part,
    Quiet,
    Unannotated,
    console,
    data_spec,
    out_folder,
    print_json,
)


def convert(
    images: Annotated[Path, typer.Option(help="Folder of images.")],
    labels: Annotated[
        Path,
        typer.Option(help="Annotations (COCO, YOLO, labelme, Supervisely, CVAT), a file or a folder; or any masks."),
    ],
    out: Annotated[Path, typer.Option(help="New folder for masks and classes.yaml.", callback=out_folder)],
    classes: Classes = None,
    part: Part = None,
    ignore_id: IgnoreId = "255",
    pair: Pair = None,
    list_file: ListFile = None,
    unannotated: Unannotated = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Write labels as index masks (palette PNG) named as their images, and the classes file that reads them."""
    from segadapt.data.convert import convert_labels
    from segadapt.engine.record import Steps
    from segadapt.runs.opening import open_spec

    spec = data_spec(images, labels, classes, ignore_id, "folder", "", "", None, list_file, pair, unannotated)
    dataset = open_spec(spec, True, {}, "convert", part=part)
    with Steps("convert", len(dataset), quiet=quiet or json) as steps:
        made = convert_labels(dataset, out, lambda *_: steps.advance())
    if json:
        print_json(made.to_dict())
    elif not quiet:
        for line in made.lines():
            console.print(line, soft_wrap=True)
