"""The command ``segadapt``.

Exit status: 0 done, 1 failed while running, 2 the request was wrong. A user's mistake is answered
with one line and no traceback.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import Any

import typer

from segadapt.cli import (
    adapting,
    benching,
    breaking,
    carding,
    converting,
    importing,
    inspecting,
    labelling,
    looking,
    planning,
    ranking,
    serving,
    suggesting,
    using,
)
from segadapt.core.faults import told_fault
from segadapt.core.signals import was_stopped, watched
from segadapt.core.text import one_printable_line
from segadapt.errors import RequestError, RunError, Stopped
from segadapt.version import __version__

app = typer.Typer(
    name="segadapt",
    help="Adapt a semantic segmentation model to a domain that has images but no labels.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(
    help="Look at data sets, convert labels, make the toy world.", no_args_is_help=True, rich_markup_mode=None
)
bench_app = typer.Typer(help="Measure speed, memory and methods.", no_args_is_help=True, rich_markup_mode=None)

COMMANDS: dict[str, Callable[..., None]] = {
    "demo": adapting.demo,
    "adapt": adapting.adapt,
    "resume": adapting.resume,
    "plan": planning.plan,
    "evaluate": using.evaluate,
    "predict": using.predict,
    "serve": serving.serve,
    "label": labelling.label,
    "suggest": suggesting.suggest,
    "report": using.report,
    "export": using.export,
    "card": carding.card,
    "rank": ranking.rank,
    "import": importing.import_,
    "methods": looking.methods,
    "settings": looking.settings,
    "recipes": looking.recipes,
    "models": looking.models,
    "doctor": looking.doctor,
}
DATA_COMMANDS: dict[str, Callable[..., None]] = {
    "check": inspecting.check,
    "convert": converting.convert,
    "readers": inspecting.readers,
    "tile": inspecting.tile,
    "toy": inspecting.toy,
}
BENCH_COMMANDS: dict[str, Callable[..., None]] = {
    "criteria": ranking.criteria,
    "faults": breaking.faults,
    "fuzz": breaking.fuzz,
    "passes": benching.passes,
    "step": benching.step,
    "study": benching.study,
    "thresholds": benching.thresholds,
    "table": benching.table,
}

for group, commands in ((app, COMMANDS), (data_app, DATA_COMMANDS), (bench_app, BENCH_COMMANDS)):
    for name, command in commands.items():
        group.command(name)(command)
app.add_typer(data_app, name="data")
app.add_typer(bench_app, name="bench")


@app.callback(invoke_without_command=True)
def _top(version: bool = typer.Option(False, "--version", help="Print the version.")) -> None:
    if version:
        typer.echo(f"segadapt {__version__}")
        raise typer.Exit


_UsageError: Any = typer.BadParameter.__mro__[1]
"""Raised by typer for unknown commands and options, and for values that these do not take."""


def _of_usage(mistake: Any) -> str:
    """Return one line about a wrong call."""
    said = mistake.format_message()
    if mistake.ctx is None:
        return str(said)
    return f"{said.rstrip('.')}; see '{mistake.ctx.command_path} --help'"


def _of_files(problem: OSError) -> str:
    """Return one line about a file that could not be read or written."""
    files = " and ".join(f"'{file}'" for file in (problem.filename, problem.filename2) if file is not None)
    said = " ".join(f"{files or 'a file'} cannot be read or written: {problem.strerror or problem}".split())
    return f"{said}; fix that, or choose another place, and start again"


def _complain(message: str) -> None:
    """Print one line on standard error, whatever characters the names in it have."""
    print(f"segadapt: {one_printable_line(message)}", file=sys.stderr)


def main() -> None:
    """Run the command and exit with its status."""
    if "_SEGADAPT_COMPLETE" in os.environ:
        os.environ["COLUMNS"] = "1000"  # a help text in two lines would be two words to a shell
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # a lost connection is one line, not torch's stack of calls
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without Unicode gets escapes instead of an exception
            stream.reconfigure(errors="backslashreplace")
    try:
        with watched(_complain):
            sys.exit(app(prog_name="segadapt", standalone_mode=False))
    except Stopped as signal:
        _complain(str(signal))
        sys.stdout.flush()
        os._exit(1)  # taking torch apart would need another second
    except _UsageError as mistake:
        if type(mistake).__name__ == "NoArgsIsHelpError":  # the help, in several lines
            print(mistake.format_message(), file=sys.stderr)
        else:
            _complain(_of_usage(mistake))
        sys.exit(2)
    except RequestError as mistake:
        _complain(str(mistake))
        sys.exit(2)
    except RunError as failure:
        _complain(str(failure))
        sys.exit(1)
    except OSError as problem:
        _complain(_of_files(problem))
        sys.exit(1)
    except (KeyboardInterrupt, typer.Abort):  # where no signal could be answered, e.g. a library raised it
        _complain("interrupted")
        sys.exit(1)
    except Exception as problem:
        if (line := was_stopped()) is not None:
            _complain(line)
            sys.exit(1)
        told = told_fault(problem, "segadapt", {})
        if told is None:
            raise
        print(one_printable_line(str(told)), file=sys.stderr)
        sys.exit(2 if isinstance(told, RequestError) else 1)
