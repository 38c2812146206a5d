"""``label``: pseudo labels for a folder of images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segadapt.cli.common import (
    Accelerator,
    Classes,
    Json,
    MaxPixels,
    Pair,
    Quiet,
    console,
    out_folder,
    print_json,
    print_rows,
)
from segadapt.cli.using import (
    Flip,
    IdsOption,
    Model,
    Scales,
    SizeOption,
    hidden,
    inference,
    opened,
    sharing,
    working_size_of,
)


def label(
    model: Model,
    images: Annotated[Path, typer.Argument(help="Folder of unlabelled images.")],
    out: Annotated[Path, typer.Option(help="Where the pseudo labels go.", callback=out_folder)] = Path("pseudo_labels"),
    portion: Annotated[float, typer.Option(help="Share of the pixels to label, of every class.")] = 0.2,
    policy: Annotated[str, typer.Option(help="class_balanced (CBST) or global (ST).")] = "class_balanced",
    labels: Annotated[
        Path | None, typer.Option(help="True masks, only to report accuracy; never used for labelling.")
    ] = None,
    classes: Classes = None,
    pair: Pair = None,
    max_pixels: MaxPixels = None,
    size: SizeOption = "",
    scales: Scales = "",
    flip: Flip = None,
    ids: IdsOption = "train",
    overwrite: Annotated[bool, typer.Option(help="Replace the labels of an earlier call.")] = False,
    accelerator: Accelerator = "auto",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Write pseudo labels for a folder of images."""
    from segadapt.runs.labelling import label_images

    loaded, runtime = opened(model, accelerator)
    with sharing(runtime) as together:
        summary = label_images(
            loaded,
            images,
            out,
            portion=portion,
            policy=policy,
            labels=labels,
            classes=classes,
            pair=pair,
            size=working_size_of(loaded, size),
            inference=inference(loaded, scales, flip, ""),
            ids=ids,
            runtime=runtime,
            overwrite=overwrite,
            quiet=hidden(together, quiet, json),
            together=together,
        )
    if not together.main:
        return
    if json:
        print_json(summary)
        return
    rows = [
        [
            c["name"],
            str(c["predicted"]),
            f"{c['threshold']:.4f}",
            f"{c['share_selected']:.1%}",
            f"{c['density']:.2%}",
            "-" if c["accuracy"] is None else f"{c['accuracy']:.1%}",
        ]
        for c in summary["classes"]
    ]
    print_rows(["class", "predicted px", "threshold", "selected", "of all px", "right"], rows)
    for line in summary["left_out"]:
        console.print(line, soft_wrap=True)
    right = "" if summary["accuracy"] is None else f", {summary['accuracy']:.1%} of them right"
    console.print(f"{summary['density']:.1%} of the pixels labelled{right} -> {out}", soft_wrap=True)
