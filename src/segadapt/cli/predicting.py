"""Options of ``predict``, and what it says."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segadapt.cli.common import console
from segadapt.errors import RequestError

if TYPE_CHECKING:
    from segadapt.evaluation.predict import PredictionSummary

What = Annotated[
    list[str] | None,
    typer.Argument(
        help="Images, videos, folders, patterns in quotes ('shots/**/*.jpg'), or - for paths from standard input."
    ),
]
Lists = Annotated[list[Path] | None, typer.Option("--list", help="Text file of more of them, one path a line.")]
Kinds = Annotated[
    str,
    typer.Option(
        help="What to write, comma-separated: index, overlay, confidence, color; empty: the first three of images, the "
        "overlay of videos."
    ),
]
Unpainted = Annotated[
    list[str] | None, typer.Option(help="Class that overlays show without colour; repeat it, or use commas.")
]
Every = Annotated[int, typer.Option(min=1, help="Predict every n-th frame of a video.")]


def wanted_inputs(what: Sequence[str] | None, lists: Sequence[Path] | None) -> list[str | Path]:
    """Return all that is to be predicted, with the paths of lists and of standard input in it."""
    from segadapt.evaluation.inputs import listed

    wanted: list[str | Path] = [one for name in what or () for one in (_from_stdin() if name == "-" else [name])]
    return [*wanted, *(path for file in lists or () for path in listed(file))]


def _from_stdin() -> list[Path]:
    """Return the paths that another program writes to this one, between line ends or NUL characters."""
    from segadapt.evaluation.inputs import lines_of

    if sys.stdin.isatty():
        raise RequestError("'-' takes paths from another program: find . -name '*.jpg' | segadapt predict MODEL -")
    paths = [Path(line) for line in lines_of(sys.stdin.buffer.read())]
    if not paths:
        raise RequestError("'-' takes paths from standard input, and there are none")
    return paths


def kinds_of(text: str) -> list[str] | None:
    """Return the kinds that ``--kinds`` names; None where it is not given."""
    return [kind.strip() for kind in text.split(",")] if text else None


def said_of(made: PredictionSummary, chosen: bool) -> str:
    """Print what was left out, skipped, cut, or seen in tiles; return the line about the rest.

    Args:
        made: the result.
        chosen: whether kinds of results were asked for.
    """
    for line in made.left_out:
        console.print(line, soft_wrap=True)
    for line in made.skipped:
        console.print(f"skipped: {line}", soft_wrap=True)
    for line in made.mosaics:
        console.print(line, soft_wrap=True)
    for line in made.cut:
        console.print(f"warning: {line}", soft_wrap=True)
    parts = [_count(made.count, "image")] if made.count or not made.videos else []
    if made.videos:
        parts.append(f"{_count(made.frames, 'frame')} of {_count(made.videos, 'video')}")
        if not chosen:
            hint = "of videos, overlays alone are written; for a mask of every frame: --kinds index,overlay"
            console.print(hint, soft_wrap=True)
    return f"{' and '.join(parts)} in {made.seconds:.1f} s -> {made.output}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
