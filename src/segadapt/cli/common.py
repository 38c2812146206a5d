"""Options and output that several commands share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from segadapt.core.limits import limit_pixels
from segadapt.core.text import TextConsole, one_printable_line, printable
from segadapt.errors import RequestError

if TYPE_CHECKING:
    from segadapt.data.dataset import Dataset
    from segadapt.labels import LabelSpace
    from segadapt.runs.config import DataSpec
    from segadapt.runs.results import RunResult

console = TextConsole()

Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin", help="Package to import; the methods, readers and augmentations that it registers are known then."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and the result only.")]
Roots = Annotated[
    list[str] | None,
    typer.Option("--root", help="Where a named data set lies: NAME=FOLDER (or set SEGADAPT_NAME)."),
]
Length = Annotated[float | None, typer.Option(help="Share of the published steps of every stage, in (0, 1].")]
TotalSteps = Annotated[int | None, typer.Option("--steps", help="Instead: about so many steps of all stages together.")]
Budget = Annotated[
    str | None,
    typer.Option(help="Time for the whole run here, e.g. 30m, 2h, 90: chooses network, sizes and length."),
]
FitMemory = Annotated[
    str | None,
    typer.Option(help="Memory to train in, e.g. 11GB: batches that do not fit are computed in parts."),
]
Accelerator = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Images = Annotated[Path | None, typer.Option(help="Folder of images.")]
Labels = Annotated[
    Path | None,
    typer.Option(
        help="Folder of their masks; or annotations (COCO, YOLO, labelme, Supervisely, CVAT): file or folder."
    ),
]
Classes = Annotated[Path | None, typer.Option(help="Classes file: names, ids or colours (YAML, JSON, TXT, CSV).")]
Merge = Annotated[
    list[str] | None,
    typer.Option(
        "--merge", help="Class of the masks that counts as one of the model: truck=car; =ignore leaves it out."
    ),
]
MergePredictions = Annotated[
    list[str] | None,
    typer.Option(
        "--merge-predictions",
        help="Predicted class that counts as another of the model: truck=car; =ignore as none. Or a task or recipe "
        "whose rule it is: cityscapes_nthu_rome.",
    ),
]
IgnoreId = Annotated[str, typer.Option(help="Mask values that belong to no class, comma-separated, or 'none'.")]
Part = Annotated[
    str | None, typer.Option(help="Part of a run whose ids in the classes file count: source, target or test.")
]
Pair = Annotated[
    str | None,
    typer.Option(help="Names of images and masks: IMAGE=MASK, {} for what both share, e.g. '{}_rgb.tif={}_m.gif'."),
]
ListFile = Annotated[Path | None, typer.Option(help="Use only the images that this file lists, one per line.")]
Unannotated = Annotated[
    str | None, typer.Option(help="Class of what annotations do not cover, or 'ignore'; background if left out.")
]
Bands = Annotated[
    str,
    typer.Option(help="Bands of source and target to read: 'all', or numbers as 4,3,2; empty: red, green and blue."),
]
Reader = Annotated[str, typer.Option(help="Or a built-in reader; see 'segadapt data readers'.")]
DataRoot = Annotated[str, typer.Option(help="Its folder, or a name given by --root.")]


def _limited(most: int | None) -> int | None:
    """Apply ``--max-pixels`` to all that is decoded from now on; commands themselves need not look at it."""
    limit_pixels(most)
    return most


MaxPixels = Annotated[
    int | None,
    typer.Option(
        "--max-pixels",
        min=1,
        help="Refuse images of more pixels (default 268 million, about 2.7 GB to decode).",
        callback=_limited,
    ),
]
Split = Annotated[str, typer.Option(help="Its split, e.g. val.")]


def parse_roots(roots: Sequence[str] | None) -> dict[str, str]:
    """Return ``NAME=FOLDER`` options as a mapping."""
    parsed = {}
    for entry in roots or []:
        name, sign, folder = entry.partition("=")
        if not sign or not name or not folder:
            raise RequestError(f"--root {entry} is not of the form NAME=FOLDER, e.g. --root camvid=/data/camvid")
        parsed[name] = folder
    return parsed


def parse_size(text: str, option: str) -> tuple[int, int] | int | None:
    """Return the size that an option gives: ``HEIGHTxWIDTH``, one number, or None for an empty text."""
    if not text:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(p.strip().isdigit() and int(p) > 0 for p in parts):
        raise RequestError(f"{option} '{text}' is not HEIGHTxWIDTH or one number, e.g. 512x1024")
    numbers = [int(p) for p in parts]
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def parse_ids(text: str) -> tuple[int, ...]:
    """Return comma-separated mask values; none of them for ``none``."""
    if text.strip().lower() == "none":
        return ()
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise RequestError(f"--ignore-id '{text}' is neither 'none' nor a comma-separated list of integers") from None


def parse_pairs(pairs: Sequence[str] | None) -> str | dict[str, str] | None:
    """Return the pattern of ``--pair IMAGE=MASK``, or the patterns by part of ``--pair PART:IMAGE=MASK``."""
    parts: dict[str, str] = {}
    for entry in pairs or []:
        part, colon, pattern = entry.partition(":")
        key = part if colon and part in ("source", "target", "test") else ""
        if key in parts or ("" in parts and key) or (parts and not key):
            raise RequestError(
                "--pair is given twice; with several, say whose each is: --pair 'source:IMAGE=MASK' "
                "--pair 'test:IMAGE=MASK'"
            )
        parts[key] = pattern if key else entry
    return parts.get("", parts or None)


def parse_bands(text: str) -> Literal["all"] | tuple[int, ...] | None:
    """Return the bands that an option gives: ``all``, numbers from 1, or None for an empty text."""
    if text.strip().lower() == "all":
        return "all"
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise RequestError(f"--bands '{text}' is neither 'all' nor a list of numbers from 1, e.g. 4,3,2")
    return tuple(int(part) for part in parts) or None


def data_spec(
    images: Path | None,
    labels: Path | None,
    classes: Path | None,
    ignore_id: str,
    reader: str,
    data_root: str,
    split: str,
    limit: int | None = None,
    list_file: Path | None = None,
    pair: str | None = None,
    unannotated: str | None = None,
) -> DataSpec:
    """Return the settings of one data set from the options of a command."""
    from segadapt.core.settings import checked
    from segadapt.runs.config import DataSpec

    values = {
        "reader": reader,
        "root": data_root,
        "split": split,
        "images": str(images) if images else None,
        "labels": str(labels) if labels else None,
        "classes": str(classes) if classes else None,
        "ignore_ids": parse_ids(ignore_id),
        "limit": limit,
        "list_file": str(list_file) if list_file else None,
        "pair": pair,
        "unannotated": unannotated,
    }
    return checked(DataSpec, values, "the data set")


def out_folder(option: typer.CallbackParam, folder: Path | None) -> Path | None:
    """Return the folder of an option for results; RequestError where nothing can be written into it."""
    if folder is not None:
        from segadapt.core.files import require_writable

        require_writable(folder, option.opts[0])
    return folder


def out_file(option: typer.CallbackParam, file: Path | None) -> Path | None:
    """Return the file of an option for a result; RequestError where it is a folder or cannot be written."""
    if file is not None and file.is_dir():
        raise RequestError(f"{option.opts[0]} '{file}' is a folder; name a file in it")
    if file is not None:
        from segadapt.core.files import require_writable

        require_writable(file.parent, option.opts[0])
    return file


def print_notices(dataset: Dataset) -> None:
    """Print on standard error what somebody who uses the data set should be told."""
    for notice in dataset.notices:
        typer.echo(f"segadapt: {one_printable_line(notice.text)}", err=True)


def parse_merge(merge: Sequence[str] | None, option: str = "--merge") -> dict[str, str]:
    """Return ``CLASS=CLASS`` values of an option as a mapping."""
    parsed = {}
    for entry in merge or []:
        name, sign, goal = (part.strip() for part in entry.partition("="))
        if not sign or not name or not goal:
            raise RequestError(f"{option} {entry} is not of the form CLASS=CLASS, e.g. {option} truck=car")
        parsed[name] = goal
    return parsed


def parse_merge_predictions(given: Sequence[str] | None, space: LabelSpace) -> dict[str, str]:
    """Return which predicted class of a model counts as which, by pairs of classes and names of tasks or recipes."""
    from segadapt.runs.merged_predictions import merges_of, require_merges

    option, rules = "--merge-predictions", [value for value in given or () if "=" not in value]
    merged = {name: goal for rule in rules for name, goal in merges_of(rule).items()}
    merged |= parse_merge([value for value in given or () if "=" in value], option)
    require_merges(merged, space, option)
    return merged


def print_json(value: Any) -> None:
    """Print one JSON document on standard output."""
    typer.echo(json.dumps(value, indent=1))


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """Print a table on standard output, below its title."""
    from rich.table import Table

    if title is not None:
        console.print(title, style="italic", soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(printable, row))
    console.print(table)


def print_results(result: RunResult) -> None:
    """Print the results of a run, for a person."""
    from segadapt.runs.ledger import line_of

    rows = []
    for stage in result.stages:
        scores = stage.scores or {}
        percent = [_percent(scores.get(name)) for name in ("miou", "mpa", "pixel_accuracy")]
        rows.append([stage.title, *percent, f"{stage.seconds / 60:.1f}"])
    tested = result.raw["test"]
    title = f"{result.title}, seed {result.seed}: "
    if tested["labelled"]:
        title += f"{tested['images']} test images, {result.raw['selection']}"
    else:
        title += "no labelled test images, so no scores"
    print_rows(["stage", "mIoU", "MPA", "pixel acc.", "minutes"], rows, title)
    for entry in result.raw.get("published", ()):
        console.print(line_of(entry), soft_wrap=True)
    if "guard" in result.raw:
        console.print(f"guard   {result.raw['guard']['line']}", soft_wrap=True)
    if result.stages:
        console.print(f"model   {result.model}", soft_wrap=True)
        for oracle in [
            s for s in result.stages if s.role == "oracle" and not any(s.role == "adapted" for s in result.stages)
        ]:
            console.print(f"oracle  {oracle.model}", soft_wrap=True)
    if result.report is not None:
        console.print(f"report  {result.report}", soft_wrap=True)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
