"""Mistakes in a request, told apart from faults of the program."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RequestError(Exception):
    """The request was wrong: bad path, bad data, bad setting.

    The message is one line: what is wrong, where, and how to mend it. The command prints it
    without a traceback and exits with status 2.
    """


def nearest(word: str, known: Iterable[str]) -> str:
    """The sentence " (did you mean ...?)" for the known word nearest to ``word``, or ""."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""


class RunError(Exception):
    """Something failed while running, with one line to say what; the command exits with status 1.

    What was finished before stays on the disk; the run can be resumed.
    """


class Interrupted(RunError):
    """The run was asked to stop; its state is saved."""
