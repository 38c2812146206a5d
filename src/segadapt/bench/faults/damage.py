"""Damage to one file of a run between two commands."""

from __future__ import annotations

import random
from pathlib import Path

from segadapt.core.files import write_bytes

WAYS = ("flip", "cut", "empty", "remove", "replace", "shape")
_SHAPES = ("null", "[]", "{}", "3", '"word"', "[[]]", '{"row": 3}', '[{"position": "x"}]', "[" * 3000, '{"a": NaN}')
"""JSON that is no such document."""


def files_of(out: Path) -> list[Path]:
    """Return the files of a run that a later command may read, in order; not the record of curves."""
    found = [path for path in sorted(out.rglob("*")) if path.is_file() and not path.is_symlink()]
    return [path for path in found if path.relative_to(out).parts[0] != "tensorboard" and path.name != "report.html"]


def choose(out: Path, generator: random.Random) -> Path:
    """Choose a file: first its kind, by folder and ending, so that many labels do not hide one manifest."""
    files = files_of(out)
    kinds: dict[tuple[str, ...], list[Path]] = {}
    for path in files:
        parent, whole = path.relative_to(out).parent, path.suffix in (".json", ".safetensors")
        kinds.setdefault((parent.name, path.suffix, path.stem if whole else ""), []).append(path)
    return generator.choice(kinds[generator.choice(sorted(kinds))])


def damage(path: Path, generator: random.Random, others: list[Path]) -> str:
    """Damage a file and return in which way.

    Args:
        path: the file.
        generator: draws the way and the place.
        others: files of other runs of the same kind, to replace it by.
    """
    content = path.read_bytes()
    way = generator.choice([w for w in WAYS if (w != "shape" or path.suffix == ".json") and (content or w == "remove")])
    if way == "remove":
        path.unlink()
    elif way == "shape":
        write_bytes(path, generator.choice(_SHAPES).encode())
    elif way == "replace" and (swapped := [p for p in others if p.name == path.name and p.read_bytes() != content]):
        write_bytes(path, generator.choice(swapped).read_bytes())
    elif way == "empty":
        write_bytes(path, b"")
    elif way == "cut" or len(content) < 8:
        way = "cut"
        write_bytes(path, content[: generator.randrange(len(content))])
    else:
        way = "flip"
        write_bytes(path, flipped(content, generator))
    return way


def flipped(content: bytes, generator: random.Random) -> bytes:
    """Return the content with up to four bits turned; in JSON one digit of a number that matters becomes another."""
    changed = bytearray(content)
    for _ in range(generator.randint(1, 4)):
        changed[generator.randrange(len(changed))] ^= 1 << generator.randrange(8)
    return bytes(changed)
