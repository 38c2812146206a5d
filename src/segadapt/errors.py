"""Errors: mistakes in a request, told apart from faults of the program."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RequestError(Exception):
    """The request was wrong: bad path, bad data, bad setting.

    The message is one line: what is wrong, where, and how to fix it. The command prints it without a
    traceback and exits with status 2.
    """


def nearest(word: str, known: Iterable[str]) -> str:
    """Return " (did you mean '...'?)" with the known word nearest to ``word``; "" if none is near."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""


def one_line(problem: BaseException) -> str:
    """Return the type and the message of an exception on one line."""
    return " ".join(f"{type(problem).__name__}: {problem}".split()).rstrip(":")


def first_line(problem: BaseException) -> str:
    """Return the first line of an exception's message, or the name of its type."""
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0]


class RunError(Exception):
    """A run failed; the message says why in one line, and the command exits with status 1.

    Finished work stays on disk, so the run can be resumed.
    """


class PeerGone(RunError):
    """Another process of the run has ended, and says why itself."""


class Interrupted(RunError):
    """The run was asked to stop; its state is saved."""


class Stopped(BaseException):
    """A signal ends the work where it is; not an Exception, so that nothing on its way takes it for a fault."""
