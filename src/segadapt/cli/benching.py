"""``bench``: speed, memory, and methods side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from segadapt.bench.table import bench_table, markdown
from segadapt.bench.thresholds import bench_thresholds
from segadapt.cli.common import Json, Quiet, Roots, console, parse_roots, print_json
from segadapt.errors import RequestError


def thresholds(
    images: Annotated[int, typer.Option(min=1, help="Number of synthetic confidence maps.")] = 2975,
    height: Annotated[int, typer.Option(min=1)] = 1024,
    width: Annotated[int, typer.Option(min=1)] = 2048,
    classes: Annotated[int, typer.Option(min=1)] = 19,
    sort_images: Annotated[int, typer.Option(min=1, help="Images of the full sort beside it.")] = 8,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    json: Json = False,
) -> None:
    """Class thresholds by streaming histograms, beside a full sort."""
    result = bench_thresholds(images, height, width, classes, sort_images, seed)
    if json:
        print_json(result)
        return
    for name, value in result.items():
        console.print(f"{name:<28} {value:.4g}" if isinstance(value, float) else f"{name:<28} {value}", markup=False)


def table(
    task: Annotated[str, typer.Argument(help="A task, e.g. camvid_day_dusk.")],
    methods: Annotated[str, typer.Option(help="Methods, comma-separated.")] = "source_only,st,cbst,cbst_sp,oracle",
    seeds: Annotated[str, typer.Option(help="Seeds, comma-separated.")] = "0,1,2",
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Settings to change, e.g. source.steps=400.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the runs and the table.")] = None,
    root: Roots = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Run methods with several seeds and write one table; goes on where it stopped."""
    try:
        numbers = [int(s) for s in seeds.split(",")]
    except ValueError:
        raise RequestError(f"--seeds '{seeds}' is not a comma-separated list of integers") from None

    def show(seed: int, row: Mapping[str, Any]) -> None:
        if not json:
            score = "-" if row["scores"] is None else f"{row['scores']['miou']:.1f}"
            console.print(f"{task}: {row['title']}, seed {seed}: mIoU {score}", markup=False)

    made = bench_table(
        task,
        [m.strip() for m in methods.split(",")],
        numbers,
        out or Path("runs") / "bench" / task,
        parse_roots(root),
        overrides or [],
        quiet or json,
        show,
    )
    print_json(made) if json else console.print(markdown(made), markup=False)
