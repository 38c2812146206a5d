"""Words of users in what is printed: names of files, folders and classes are text, whatever characters they hold."""

from __future__ import annotations

import unicodedata
from typing import Any

from rich.console import Console

_HIDING = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories that move the cursor, turn the direction of writing, break lines, or are no characters at all."""
_JOINERS = "\u200c\u200d"
"""Format characters that scripts and emoji need."""
_KEPT = "\n\t"


def printable(text: str, kept: str = "") -> str:
    r"""Return a text whose every character can be printed without changing what stands around it.

    Control characters (newlines and the escapes of terminals among them), marks of direction and the halves of
    surrogate pairs, by which Python shows file names that are no UTF-8, become escapes such as ``\x1b``.

    Args:
        text: e.g. a name that a user gave.
        kept: characters to leave as they are, e.g. newlines in a text of several lines.

    >>> printable("a\x1b[31mb\nc")
    'a\\x1b[31mb\\nc'
    """
    if text.isprintable():  # the usual case: no control, format or surrogate characters
        return text
    return "".join(c if c in kept or c in _JOINERS else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in _HIDING:
        return character
    return character.encode("unicode_escape").decode("ascii")


def one_printable_line(text: str) -> str:
    """Return a message on one line: its lines joined by spaces, the rest as by :func:`printable`."""
    return printable(" ".join(text.split()))


class TextConsole(Console):
    """A console that prints text as it is: nothing in it is markup, an emoji's code, or a command to the terminal.

    Args:
        stderr: whether to print on standard error instead of standard output.
    """

    def __init__(self, stderr: bool = False):
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print objects as ``rich.console.Console.print``; texts as by :func:`printable`, with their newlines."""
        super().print(*(printable(o, _KEPT) if isinstance(o, str) else o for o in objects), **options)
