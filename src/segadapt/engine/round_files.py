"""Labels, soft labels and scores that a round stores for its training: flushed, and the same when they are trusted.

After a pass its files are flushed together, and ROUND/files.json keeps a key of the content of each. A run that goes on
inside the round compares them: a key reads at most 48 KB of a file, so 25,000 labels take seconds.
"""

from __future__ import annotations

from pathlib import Path

from typing_extensions import TypedDict

from segadapt.core.content import content_keys
from segadapt.core.documents import read_document, write_document
from segadapt.core.files import flush_folder
from segadapt.engine.runtime import Runtime
from segadapt.errors import RequestError

MANIFEST = "files.json"


class _Manifest(TypedDict):
    files: dict[str, str]


def seal_files(folder: Path, runtime: Runtime) -> None:
    """Flush what all processes stored in the folder of a round, and list it; every process must call this.

    Raises:
        RunError: the system refuses, e.g. because the disk is full.
    """
    if folder.exists():
        flush_folder(folder)  # by each process: only the machine that wrote a file is sure to hold it
    runtime.barrier()
    if runtime.main and folder.exists():
        files = _files(folder)
        keys = content_keys([folder / name for name in files], times=False)
        write_document(folder / MANIFEST, {"files": dict(zip(files, keys, strict=True))})
    runtime.barrier()


def require_files(folder: Path, runtime: Runtime) -> None:
    """Refuse to train on files of a round that are not what its pass stored; every process must call this.

    Raises:
        RequestError: names the first such file.
    """
    said = runtime.gather([_problem(folder) if runtime.main else ""])
    if problem := next(filter(None, said), ""):
        raise RequestError(f"{problem}; put it back from a copy, or remove '{folder.parent}' to train the stage again")


def _problem(folder: Path) -> str:
    """Return what is wrong with the files of a round; "" where they are as they were stored."""
    try:
        held = read_document(folder / MANIFEST, _Manifest, f"it lists the files of '{folder}'")
    except RequestError as problem:
        return str(problem)
    if held is None:
        return f"'{folder / MANIFEST}' is missing" if folder.exists() and _files(folder) else ""
    for name in held["files"]:
        if not (folder / name).is_file():
            return f"'{folder / name}' is missing"
    keys = content_keys([folder / name for name in held["files"]], times=False)
    changed = [name for (name, key), now in zip(held["files"].items(), keys, strict=True) if key != now]
    return f"'{folder / changed[0]}' is not what the pass stored: it was damaged or replaced" if changed else ""


def _files(folder: Path) -> list[str]:
    """List the files below a folder."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if name != MANIFEST)
