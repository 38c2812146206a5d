"""Telling which name a person probably meant by another spelling."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


def alike(name: str, names: Iterable[str]) -> str | None:
    """Return the one of ``names`` that ``name`` is probably meant to be; None if none is near.

    Case, spaces, dashes and underscores do not count. Names with other numbers (``class_1``, ``class_11``) are not
    taken for each other.

    Example:
        >>> alike("Traffic_Light", ["road", "traffic light"]), alike("class_1", ["class_2", "class_11"])
        ('traffic light', None)
    """
    plain = {_bare(other): other for other in names}
    wanted = _bare(name)
    near = [wanted] if wanted in plain else difflib.get_close_matches(wanted, plain, n=3, cutoff=0.8)
    return next((plain[n] for n in near if re.sub(r"\D", "", n) == re.sub(r"\D", "", wanted)), None)


def _bare(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).casefold()
