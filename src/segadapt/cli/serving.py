"""``serve``: a page that shows what models make of images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from segadapt.cli.common import Accelerator, Quiet, console
from segadapt.cli.using import Model
from segadapt.core.limits import limit_pixels, most_pixels
from segadapt.core.text import one_printable_line
from segadapt.errors import Stopped

if TYPE_CHECKING:
    from segadapt.serve import Server

PIXELS = 50_000_000
"""Pixels of the largest image unless somebody says otherwise; ``segadapt predict`` takes larger ones, in tiles."""


def serve(
    model: Model,
    stage: Annotated[
        str, typer.Option(help="Of a run, the stage to show beside the source model; the adapted one if left out.")
    ] = "",
    host: Annotated[
        str, typer.Option(help="Where to listen; beyond this machine, the address gets a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen to; 0 takes any that is free.")] = 8000,
    ids: Annotated[
        str,
        typer.Option(
            help="Values of masks: 'own' ids of yours (if the model knows them), 'train' or 'cityscapes' ids."
        ),
    ] = "",
    max_mb: Annotated[int, typer.Option("--max-mb", min=1, max=4096, help="Refuse files of more megabytes.")] = 64,
    max_pixels: Annotated[
        int | None, typer.Option("--max-pixels", min=1, help="Refuse images of more pixels (default 50 million).")
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    accelerator: Accelerator = "auto",
    quiet: Quiet = False,
) -> None:
    """Show a page on this machine: drop images on it, and see what the models of a run make of them."""
    from segadapt.engine.runtime import Runtime
    from segadapt.serve import Limits, Server, served_models

    def say(line: str) -> None:
        if not quiet:
            typer.echo(one_printable_line(line), err=True)

    limit_pixels(max_pixels if max_pixels is not None else min(PIXELS, most_pixels()))
    served = served_models(model, stage or None, str(Runtime(accelerator).device), ids or None)
    try:
        with Server(served, host, port, Limits(upload=max_mb << 20), say) as server:
            _announce(server, say)
            if open_:
                import webbrowser

                webbrowser.open(server.address)
            server.serve_forever()
    except Stopped as signal:
        raise Stopped(f"{str(signal).partition(';')[0]}; nothing of the images and results is kept") from None
    finally:
        limit_pixels(None)


def _announce(server: Server, say: Callable[[str], None]) -> None:
    """Print where the page is and what it shows."""
    if server.access.token:
        typer.echo(
            "warning: others on the network can reach this port, and what is sent is not encrypted; whoever knows the "
            f"address can use the page; without --host {server.access.host} this machine alone can",
            err=True,
        )
    if server.served.why:
        say(server.served.why)
    console.print(f"{' and '.join(m.title for m in server.served.models)}: {server.address}", soft_wrap=True)
    say("Ctrl-C ends it")
