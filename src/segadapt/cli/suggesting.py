"""``suggest``: which images to label next."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segadapt.cli import completing
from segadapt.cli.common import Accelerator, Json, Pair, Quiet, console, out_file, print_json, print_rows


def suggest(
    model: Annotated[
        Path,
        typer.Option(help="A model file (model.safetensors), or the folder of a run.", autocompletion=completing.runs),
    ],
    images: Annotated[Path, typer.Option(help="Folder of the target images.")],
    count: Annotated[int, typer.Option(min=1, help="Number of images to suggest.")] = 5,
    labelled: Annotated[
        Path | None, typer.Option(help="Masks, or annotations, that there are already; their images are left out.")
    ] = None,
    pair: Pair = None,
    out: Annotated[
        Path | None,
        typer.Option(help="File for the names, one a line; a table where it ends in .csv.", callback=out_file),
    ] = None,
    accelerator: Accelerator = "auto",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Suggest which images to label next: those of which the model is unsure, and unlike each other."""
    from segadapt.api import suggest as suggested
    from segadapt.engine.record import Steps
    from segadapt.engine.runtime import Runtime

    device = str(Runtime(accelerator).device)
    with Steps("look at the images", 0, quiet=quiet or json) as steps:
        found = suggested(
            model,
            images,
            count,
            labelled=labelled,
            pair=pair,
            out=out,
            device=device,
            progress=lambda _, total: steps.advance(total=total),
        )
    if json:
        print_json([one._asdict() for one in found])
        return
    rows = [
        [one.name, f"{one.uncertainty:.3f}", "-" if one.distance is None else f"{one.distance:.1f}"] for one in found
    ]
    print_rows(["image to label", "uncertainty", "distance"], rows)
    if out is not None and not quiet:
        console.print(f"names in {out}", soft_wrap=True)
