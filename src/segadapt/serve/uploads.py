"""Images that were sent: bytes become a file whose name the server made up, and the readers of the house open that.

A name that came with an image is text: it is shown, and archives get a safe name made of it. No file is opened by it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from segadapt.core.files import write_bytes
from segadapt.core.names import safe_name
from segadapt.core.text import one_printable_line
from segadapt.data.files.formats import Unsupported, not_read
from segadapt.errors import RequestError

LONGEST_NAME = 400
"""Characters of a name that are kept, the last ones."""
_DEPTH = 8
"""Folders of a name that are kept, the last ones."""
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def sent_name(header: str) -> str:
    """Return the name of an image from a header that holds it as percent-encoded UTF-8; printable, on one line."""
    return one_printable_line(unquote(header, errors="replace")[-LONGEST_NAME:]) or "image"


def archived_name(name: str) -> str:
    """Return the place of an image in an archive, without its ending, e.g. ``photos/a`` for ``../photos/a.jpg``."""
    parts = [part for part in re.split(r"[/\\]", name) if part.strip(". ")]
    folders = [safe_name(part, "folder") for part in parts[:-1]][-_DEPTH:]
    return "/".join([*folders, safe_name(Path(parts[-1]).stem if parts else "", "image")])


@contextmanager
def kept_for_reading(content: bytes, name: str, folder: Path) -> Iterator[Path]:
    """Yield a file of ``folder`` with the content, which is gone after the block.

    Args:
        content: as it was sent.
        name: as it was sent; it takes the place of the file's own name in messages.
        folder: a folder that only this process uses.

    Raises:
        RequestError: what the block raised, in terms of ``name``.
        RunError: the file cannot be written.
    """
    path = folder / secrets.token_hex(16)
    write_bytes(path, content, flush=False)
    try:
        yield path
    except RequestError as problem:
        kind = None if isinstance(problem, Unsupported) else not_read(Path(_last(name)))
        raise RequestError(f"{name} is {kind}" if kind else _renamed(str(problem), path, name)) from problem
    finally:
        path.unlink(missing_ok=True)


def _renamed(message: str, path: Path, name: str) -> str:
    """Return a message on a file with the name that its sender knows.

    Messages may hold commands that convert a file. Only a name that means nothing to a shell gets into these.
    """
    short = _last(name)
    for own in (str(path), str(path.resolve())):
        message = message.replace(own, name)
    return message.replace(path.name, short if _PLAIN.fullmatch(short) else "IMAGE")


def _last(name: str) -> str:
    """Return what follows the last slash of a name."""
    return re.split(r"[/\\]", name)[-1]
