"""``rank``: the models of runs, compared without labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segadapt.cli import completing
from segadapt.cli.common import Accelerator, Json, Roots, console, out_file, print_json, print_rows

SHOWN = ("steady", "mirrored", "light", "recoloured", "ensemble")
"""Criteria that the table shows beside the one that it is sorted by."""


def rank(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Folders of runs with the same classes and target images.", autocompletion=completing.runs),
    ],
    images: Annotated[
        Path | None, typer.Option(help="Folder of images to compare on; the target images of the runs if left out.")
    ] = None,
    criterion: Annotated[
        str, typer.Option(help="Criterion to sort by, as the table names it; the recommended one if left out.")
    ] = "",
    accelerator: Accelerator = "auto",
    root: Roots = None,
    json: Json = False,
) -> None:
    """Compare the models of all stages of runs without labels."""
    from segadapt.api import rank as ranked
    from segadapt.cli.common import parse_roots
    from segadapt.engine.runtime import Runtime

    device = str(Runtime(accelerator).device)
    made = ranked(runs, images=images, criterion=criterion or None, roots=parse_roots(root), device=device)
    if json:
        print_json(made.to_dict())
        return
    columns = list(dict.fromkeys((made.criterion, *SHOWN)))
    rows = [[f"{m.run}/{m.stage}", *(_number(m.criteria[name]) for name in columns)] for m in made.models]
    print_rows(["model", *columns], rows, f"{made.images} target images, no labels; by '{made.criterion}', best first")
    console.print("higher is meant to be better (docs/knowing_without_labels.md); all criteria: --json", soft_wrap=True)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def criteria(
    folders: Annotated[list[Path], typer.Argument(help="Folders of studies, with runs TASK/ROW/seedN.")],
    out: Annotated[Path, typer.Option(help="JSON file of the results; goes on with what it holds.", callback=out_file)],
    accelerator: Accelerator = "auto",
    root: Roots = None,
    json: Json = False,
) -> None:
    """Measure how well criteria without labels agree with the test scores of all models of studies."""
    from segadapt.bench.agreement import agreement_table
    from segadapt.bench.criteria import measure_criteria
    from segadapt.cli.common import parse_roots
    from segadapt.engine.runtime import Runtime

    device = str(Runtime(accelerator).device)
    say = (lambda line: None) if json else (lambda line: console.print(line, soft_wrap=True, markup=False))
    made = measure_criteria(folders, out, parse_roots(root), device, say)
    print_json(made) if json else console.print(agreement_table(made), soft_wrap=True, markup=False)
