"""Tables of settings for the pages in ``docs``, from the settings classes and their docstrings.

A page asks for a table by a line ``<!-- begin settings NAME -->``. NAME is a method, for the settings that it adds to
those of every stage or gives another default; ``stage``, for the settings of every stage; or ``run``, ``data``,
``model`` or ``inference``. ``<!-- begin settings NAME like OTHER -->`` lists only what differs from another method.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from os.path import relpath
from pathlib import Path

from segadapt.core.settings import Setting
from segadapt.methods.registry import METHODS
from segadapt.runs.settings import GROUPS, own_settings, settings_of, shared_settings

OPENING = re.compile(r"<!-- begin settings (\w+)(?: like (\w+))? -->")
ELSEWHERE = ("network.", "inference.", "data.target.", "data.oracle.", "data.test.")
"""Groups whose settings ``docs/settings.md`` shows once, under ``model``, ``inference`` and ``data.source``."""
LONGEST_DEFAULT = 60


def settings_blocks(pages: Mapping[Path, str]) -> dict[tuple[Path, str], tuple[str, str]]:
    """Return opening line and content of every block of settings, by page and name.

    Args:
        pages: texts of the pages.
    """
    found = [(page, match) for page, text in pages.items() for match in OPENING.finditer(text)]
    places = {match[1]: page for page, match in found}
    return {(page, m[1]): (m[0], block(m[1], m[2], page, places)) for page, m in found}


def block(name: str, other: str | None, page: Path, places: Mapping[str, Path]) -> str:
    """Return the table of a name; of what differs from ``other`` where that is given."""
    for wanted in (name, *([other] if other else [])):
        if wanted not in METHODS and wanted not in (*GROUPS, "stage"):
            sys.exit(f"{page.name}: '<!-- begin settings {wanted} -->' names no method and no group of settings")
    rows = listed(name)
    if other is None:
        return table(rows)
    if other not in places:
        sys.exit(
            f"{page.name}: settings {name} like {other}, but no page has a block '<!-- begin settings {other} -->'"
        )
    known = set(listed(other))
    where = f"`{other}`"
    if places[other] != page:
        where = f"[{where}]({relpath(places[other], page.parent)}#settings)"
    return f"`{name}` has the settings of {where}, and changes or adds:\n\n{table([s for s in rows if s not in known])}"


def listed(name: str) -> list[Setting]:
    """Return the settings that the table of a name shows."""
    if name == "stage":
        return opened(shared_settings(), ELSEWHERE)
    if name in GROUPS:
        return [s for s in settings_of(name) if name == "inference" or not s.name.startswith(ELSEWHERE)]
    return opened(own_settings(name), ())


def opened(settings: Sequence[Setting], elsewhere: Sequence[str]) -> list[Setting]:
    """Leave out the settings that are listed elsewhere, and the inside of groups that are null by default."""
    closed = [f"{s.name}." for s in settings if s.default == "null" and s.type.startswith("settings")]
    return [s for s in settings if not s.name.startswith((*closed, *elsewhere))]


def table(settings: Sequence[Setting]) -> str:
    """Write settings as a table in Markdown."""
    lines = ["| setting | type | default | meaning |", "|---|---|---|---|"]
    for s in settings:
        default = s.default
        if len(default) > LONGEST_DEFAULT:
            items = default.strip("[]").split(", ")
            default = f"[{items[0]}, ...], all {len(items)}"
        cells = [f"`{s.name}`", f"`{s.type}`", f"`{default}`", s.meaning]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)
