"""``bench faults`` and ``bench fuzz``: runs that are killed, starved and damaged, and damaged files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segadapt.cli.benching import numbers_of, words_of
from segadapt.cli.common import Json, Quiet, console, out_file, out_folder, print_json, print_rows
from segadapt.errors import RunError


def fuzz(
    inputs: Annotated[int, typer.Option(min=1, help="Damaged files in all.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Decides all of them.")] = 0,
    out: Annotated[
        Path, typer.Option(help="JSON file of the results; a call goes on with it.", callback=out_file)
    ] = Path("fuzz.json"),
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Let every reader read damaged files; exit status 1 if one gave anything but a result or one line."""
    from segadapt.bench.fuzz import KINDS
    from segadapt.bench.fuzz import fuzz as fuzzed
    from segadapt.engine.record import Steps

    with Steps("damaged files", inputs, quiet or json) as steps:
        made = fuzzed(inputs, seed, out, progress=lambda *_: steps.advance())
    if json:
        print_json(made)
    else:
        print_rows(
            ["reader", *KINDS], [[name, *(str(n[kind]) for kind in KINDS)] for name, n in made["readers"].items()]
        )
        for found in made["findings"][:20]:
            console.print(f"{found['reader']} {found['number']}: {found['kind']} {found.get('said', '')}")
    if made["findings"]:
        raise typer.Exit(1)


def faults(
    points: Annotated[int, typer.Option(min=1, help="Number of faults.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Decides every fault.")] = 0,
    out: Annotated[
        Path, typer.Option(help="Folder of the bench; goes on where it stopped.", callback=out_folder)
    ] = Path("runs/bench/faults"),
    minutes: Annotated[float | None, typer.Option(min=0.0, help="Stop after so long; call again to go on.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Faults at a time.")] = 2,
    kind: Annotated[str, typer.Option(help="Kinds of faults, comma-separated; all of them if empty.")] = "",
    method: Annotated[str, typer.Option(help="Methods, comma-separated; all of them if empty.")] = "",
    point: Annotated[str, typer.Option(help="Do these points alone, by number, also again.")] = "",
    json: Json = False,
) -> None:
    """Kill, fill, damage and stop tiny runs of every method; exit with 1 if anything is lost, silent or a traceback."""
    from segadapt.bench.faults.bench import bench_faults, table_of
    from segadapt.cli import main

    result = bench_faults(
        main,
        points,
        seed,
        out,
        minutes=minutes,
        workers=workers,
        kinds=words_of(kind),
        only=words_of(method),
        numbers=numbers_of(point, "--point") if point else (),
        say=lambda line: None if json else console.print(line, soft_wrap=True, markup=False),
    )
    print_json(result) if json else console.print(table_of(result), soft_wrap=True, markup=False)
    if result["failed"]:
        raise RunError(f"{result['failed']} of {result['tried']} faults ended badly; see '{out / 'faults.json'}'")
