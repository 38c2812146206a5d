"""Damage for valid files: of bytes, of words, of trees. Every function is a pure function of its random generator."""

from __future__ import annotations

import copy
import json
import math
import struct
import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

Mutation = Callable[[Random, bytes], bytes]
"""Damages the content of a file."""

_BYTES = (0, 1, 0x7F, 0x80, 0xFF)
_NUMBERS = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
"""Where counters overflow and sizes become negative."""
_HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**40, 0.5, -0.0, 1e308, math.inf, math.nan),
    *("", " ", "\0", "\ud800", "\u202e", "[/x]", "[red]", "<script>", "../../x", "a/b", "null", "imagenet", "x" * 5000),
    *([], {}, [[]], [None], {"": None}, {"weights": "imagenet"}, ["a", "a"], [0, 1, 2], [-1, 300, 0.5]),
)
"""Values of wrong types, out of every range, or that mean something to a terminal, a page or a file system."""
_WORDS = (
    *(
        "null",
        "true",
        "~",
        "[]",
        "{}",
        "-1",
        "1e999",
        ".nan",
        "9" * 5000,
        "[/x]",
        "&a [*a]",
        "*a",
        "? ",
        "- - - ",
        "!!int x",
    ),
    *(
        "!!timestamp 2020-99-99",
        "\ud800",
        "\0",
        "\ufeff",
        "../",
        "[" * 200,
        "{a: " * 200,
        "%",
        ",",
        ";",
        "\t",
        ":",
        '"',
    ),
)
_LONGEST_SLICE = 64
_PNG = b"\x89PNG\r\n\x1a\n"


def damaged_bytes(random: Random, data: bytes) -> bytes:
    """Damage bytes in one to four places; half of the PNG files get right checksums again, or nothing else is tried."""
    for _ in range(random.choice((1, 1, 2, 4))):
        data = random.choice(_OF_BYTES)(random, data)
    return with_checksums(data) if data.startswith(_PNG) and random.random() < 0.5 else data


def damaged_text(random: Random, data: bytes) -> bytes:
    """Damage words and lines of a text, or its bytes."""
    if random.random() < 0.25:
        return damaged_bytes(random, data)
    lines = data.decode("utf-8", "surrogateescape").splitlines() or [""]
    for _ in range(random.choice((1, 1, 2, 4))):
        random.choice(_OF_LINES)(random, lines)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def damaged_json(random: Random, data: bytes) -> bytes:
    """Damage the tree of a JSON text, or its bytes."""
    if random.random() < 0.15:
        return damaged_bytes(random, data)
    return json.dumps(damaged_tree(random, json.loads(data))).encode()


def damaged_tree(random: Random, tree: Any) -> Any:
    """Put hostile values into a tree of mappings and lists, in one to three places."""
    holder = {"": copy.deepcopy(tree)}
    for _ in range(random.choice((1, 1, 2, 3))):
        places = list(_places(holder))
        inside, key = random.choice(places)
        random.choice(_OF_TREES)(random, inside, key)
    return holder.get("")


def damaged_model(random: Random, data: bytes) -> bytes:
    """Damage the head of a safetensors file, mostly the texts in it; or its bytes."""
    if random.random() < 0.2:
        return damaged_bytes(random, data[: 1 << 14]) + data[1 << 14 :]
    length = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + length])
    texts = head.get("__metadata__", {})
    if random.random() < 0.8 and texts:
        key = random.choice(sorted(texts))
        try:
            texts[key] = json.dumps(damaged_tree(random, json.loads(texts[key])))
        except ValueError:
            texts[key] = random.choice(("", "{", "null", "[]", "1", texts[key] + "x"))
    else:
        head = damaged_tree(random, head)
    text = json.dumps(head).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def with_checksums(data: bytes) -> bytes:
    """Return a PNG file with right checksums of its chunks, as far as these can be told apart."""
    made, at = [data[:8]], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        body = data[at + 4 : at + 8 + length]
        made.append(data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body)))
        at += 12 + length
    return b"".join(made)


# ---- bytes ----


def _flipped(random: Random, data: bytes) -> bytes:
    at = random.randrange(len(data) or 1)
    return data[:at] + bytes(b ^ (1 << random.randrange(8)) for b in data[at : at + 1]) + data[at + 1 :]


def _set(random: Random, data: bytes) -> bytes:
    at = _early(random, data)
    return data[:at] + bytes([random.choice(_BYTES)]) + data[at + 1 :]


def _number(random: Random, data: bytes) -> bytes:
    form = random.choice(("<H", ">H", "<I", ">I"))
    value = random.choice(_NUMBERS) & (0xFFFF if form[1] == "H" else 0xFFFFFFFF)
    at, packed = _early(random, data), struct.pack(form, value)
    return data[:at] + packed + data[at + len(packed) :]


def _cut(random: Random, data: bytes) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _without_slice(random: Random, data: bytes) -> bytes:
    at = random.randrange(len(data) or 1)
    return data[:at] + data[at + random.randint(1, _LONGEST_SLICE) :]


def _twice(random: Random, data: bytes) -> bytes:
    at, length = random.randrange(len(data) or 1), random.randint(1, _LONGEST_SLICE)
    return data[: at + length] + data[at:]


def _noise(random: Random, data: bytes) -> bytes:
    at, length = random.randrange(len(data) or 1), random.randint(1, _LONGEST_SLICE)
    return data[:at] + random.randbytes(length) + data[at + length :]


def _zeros(random: Random, data: bytes) -> bytes:
    at, length = random.randrange(len(data) or 1), random.choice((4, 64, 512))
    return data[:at] + bytes(length) + data[at + length :]


def _early(random: Random, data: bytes) -> int:
    """Choose a place, in the head of the file as often as behind it."""
    return random.randrange(min(len(data), random.choice((64, 512, 1 << 20))) or 1)


_OF_BYTES: Sequence[Mutation] = (_flipped, _set, _number, _number, _cut, _without_slice, _twice, _noise, _zeros)


# ---- lines ----


def _word(random: Random, lines: list[str]) -> None:
    at = random.randrange(len(lines))
    words = lines[at].split(" ")
    words[random.randrange(len(words))] = random.choice(_WORDS)
    lines[at] = " ".join(words)


def _put(random: Random, lines: list[str]) -> None:
    at = random.randrange(len(lines))
    place = random.randrange(len(lines[at]) + 1)
    lines[at] = lines[at][:place] + random.choice(_WORDS) + lines[at][place:]


def _gone(random: Random, lines: list[str]) -> None:
    del lines[random.randrange(len(lines))]
    lines += [""] * (not lines)


def _again(random: Random, lines: list[str]) -> None:
    lines.insert(random.randrange(len(lines)), random.choice(lines))


def _indented(random: Random, lines: list[str]) -> None:
    at = random.randrange(len(lines))
    lines[at] = (
        " " * random.choice((1, 2, 4, 300)) + lines[at].lstrip() if random.random() < 0.8 else lines[at].lstrip()
    )


def _many(random: Random, lines: list[str]) -> None:
    lines += [random.choice(lines)] * random.choice((10, 1000))


_OF_LINES = (_word, _word, _put, _put, _gone, _again, _indented, _many)


# ---- trees ----


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """List every entry of a tree, as the mapping or list that it is in, and its key there."""
    found: list[tuple[Any, Any]] = []
    left = [tree]
    while left:
        inside = left.pop()
        entries = list(inside.items()) if isinstance(inside, dict) else list(enumerate(inside))
        found += [(inside, key) for key, _ in entries]
        left += [value for _, value in entries if isinstance(value, (dict, list))]
    return found


def _replaced(random: Random, inside: Any, key: Any) -> None:
    inside[key] = copy.deepcopy(random.choice(_HOSTILE))


def _removed(random: Random, inside: Any, key: Any) -> None:
    if key != "":
        del inside[key]


def _renamed(random: Random, inside: Any, key: Any) -> None:
    if isinstance(inside, dict) and key != "":
        inside[
            str(random.choice(("", "x", "name", "weights", "\ud800", key.upper() if isinstance(key, str) else "y")))
        ] = inside.pop(key)


def _repeated(random: Random, inside: Any, key: Any) -> None:
    if isinstance(inside[key], list):
        inside[key] = inside[key] * random.choice((2, 300))
    elif isinstance(inside[key], str):
        inside[key] = inside[key] * random.choice((2, 3000))


def _nested(random: Random, inside: Any, key: Any) -> None:
    for _ in range(random.choice((1, 20, 250))):
        inside[key] = [inside[key]] if random.random() < 0.5 else {"x": inside[key]}


_OF_TREES = (_replaced, _replaced, _replaced, _removed, _renamed, _repeated, _nested)
