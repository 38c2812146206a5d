"""Markdown that stays what it is, whatever characters the names in it have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from segadapt.core.text import one_printable_line

_MARKUP = re.compile(r"[\\`*_{}\[\]<>#|~&$@]|:(?=//|\w+:)|(?<=www)\.", re.IGNORECASE)
"""Characters that mean something in Markdown within a line or a cell of a table, those of an address or of an emoji's
name included; a backslash takes that away."""


def plain(value: Any) -> str:
    r"""Return a text that Markdown shows as it is: on one line, no markup, no link, no end of a cell.

    It may stand anywhere but at the start of a line, where a dash or a number would open a list.

    >>> plain("a|b *c*\n# d")
    'a\\|b \\*c\\* \\# d'
    """
    return _MARKUP.sub(r"\\\g<0>", one_printable_line(str(value)))


def grid(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Write a table in Markdown; its cells are Markdown already."""
    cells = [head, ["---"] * len(head), *lines]
    return "\n".join(
        "|" + "|".join(line) + "|" if line[0] == "---" else "| " + " | ".join(line) + " |" for line in cells
    )
