"""The folder of what was found out about files and may be found again: ``~/.cache/segadapt``.

Nothing in it is needed: what is missing, damaged or cannot be written is found out again. Keys are those of contents
(:mod:`segadapt.core.content`), so nothing in it can be out of date.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

STATISTICS = "statistics"
"""Kind of findings: counts of classes in labelled data sets."""
VARIABLE = "SEGADAPT_CACHE"
"""Environment variable with another folder; set but empty, nothing is kept."""


def kept_folder(kind: str) -> Path | None:
    """Return the folder of one kind of findings, which need not exist; None where nothing is to be kept.

    It lies in the folder that ``SEGADAPT_CACHE`` names, else in ``$XDG_CACHE_HOME/segadapt`` or ``~/.cache/segadapt``.
    """
    said = os.environ.get(VARIABLE)
    if said is not None:
        return Path(said).expanduser() / kind if said else None
    with contextlib.suppress(RuntimeError):  # a user without a home
        around = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(around) / "segadapt" / kind
    return None
