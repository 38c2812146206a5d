"""``card``: the model card of a model file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segadapt.cli.common import out_file
from segadapt.cli.using import Model


def card(
    model: Model,
    stage: Annotated[str, typer.Option(help="Of a run: the model of this stage.")] = "",
    out: Annotated[
        Path | None, typer.Option(help="Write it into this file; printed if left out.", callback=out_file)
    ] = None,
) -> None:
    """Print the model card of a model: data, method, scores, selection, limits."""
    from segadapt.core.files import write_text
    from segadapt.runs.model_card import card_of
    from segadapt.runs.results import find_model

    text = card_of(find_model(model, stage or None))
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_text(out, text)
