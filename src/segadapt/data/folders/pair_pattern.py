"""A pattern that pairs images with masks, ``{}_training.tif={}_manual1.gif``, and finding one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from segadapt.data.folders.listing import IMAGE_SUFFIXES, walk
from segadapt.errors import RequestError

SUFFIXES = tuple(dict.fromkeys((*IMAGE_SUFFIXES, ".gif")))
"""Endings that a pattern finds."""
_FORM = "write IMAGE=MASK with {} for what both share, e.g. '{}_training.tif={}_manual1.gif'"
_HOLE = re.compile(r"\{(\w*)\}")
_TOKEN = re.compile(r"\d+|[^\W\d_]+")
_MOST_TOKENS = 16
_MASK_WORD = re.compile(r"mask|label|manual|annot|truth|seg|(?<![a-z])(?:gt|lbl|anno|l)(?![a-z])")


@dataclass(frozen=True)
class PairPattern:
    """The names of images and of their masks, as paths below their folders.

    ``{}`` or ``{name}`` stands for any text that is not empty, ``/`` included. Without names, the first ``{}`` of the
    image is the first one of the mask, and so on; a single one may occur in the mask several times. Either side may
    leave out its suffix.

    Args:
        text: ``IMAGE=MASK``.

    Raises:
        RequestError: the text is no such pattern.
    """

    text: str

    def __post_init__(self) -> None:
        image, sign, mask = self.text.partition("=")
        if not sign or not image or not mask or "=" in mask:
            raise RequestError(f"the pair pattern '{self.text}' is not of the form IMAGE=MASK; {_FORM}")
        here, there = _HOLE.findall(image), _HOLE.findall(mask)
        named = {name for name in (*here, *there) if name}
        if not here or not there:
            raise RequestError(f"the pair pattern '{self.text}' needs {{}} on both sides; {_FORM}")
        if named and "" in (*here, *there):
            raise RequestError(f"the pair pattern '{self.text}' has {{}} with and without names; name all or none")
        if any(name.isdigit() for name in named):
            raise RequestError(f"the pair pattern '{self.text}' has a number for a name; use a word, e.g. {{scene}}")
        if named and set(here) != set(there):
            other = sorted(set(here) ^ set(there))[0]
            raise RequestError(f"the pair pattern '{self.text}' has {{{other}}} on one side only; use it on both")
        if not named and len(here) != len(there) and len(here) != 1:
            raise RequestError(
                f"the pair pattern '{self.text}' has {len(here)} {{}} for the image and {len(there)} for the mask; "
                "name them, e.g. {scene}/{frame}.png={scene}_{frame}.png"
            )

    @property
    def _sides(self) -> tuple[str, str]:
        image, _, mask = self.text.partition("=")
        return image.removeprefix("./"), mask.removeprefix("./")

    @cached_property
    def _image(self) -> re.Pattern[str]:
        """The expression of the image side, which is matched with suffixes in small letters."""
        image, parts, last, seen = _small_suffix(self._sides[0]), [], 0, set[str]()
        for number, hole in enumerate(_HOLE.finditer(image)):
            name = hole.group(1) or f"_{number}"
            parts += [re.escape(image[last : hole.start()]), f"(?P={name})" if name in seen else f"(?P<{name}>.+)"]
            seen.add(name)
            last = hole.end()
        return re.compile("".join(parts) + re.escape(image[last:]), re.DOTALL)

    def mask_of(self, image: str) -> str | None:
        """Return the path of the mask of an image, as :func:`key` writes it; None for what is no image here."""
        found = self._image.fullmatch(self.key(image, 0))
        if found is None:
            return None
        texts = list(found.groupdict().items())
        count = 0

        def fill(hole: re.Match[str]) -> str:
            nonlocal count
            count += 1
            return dict(texts)[hole.group(1)] if hole.group(1) else texts[min(count, len(texts)) - 1][1]

        return _HOLE.sub(fill, _small_suffix(self._sides[1]))

    def key(self, path: str, side: int) -> str:
        """Return a path as the image (0) or the mask side (1) writes it: suffix in small letters, or none."""
        return _small_suffix(path) if _suffix(self._sides[side]) else path[: len(path) - len(_suffix(path))]


def pictures_below(folder: Path, leave_out: Path | None = None) -> dict[str, Path]:
    """Return all pictures below a folder, by their path in it."""
    return {path.relative_to(folder).as_posix(): path for path in walk(folder, SUFFIXES, leave_out)}


def propose(images: Sequence[str], masks: Sequence[str] | None = None) -> list[PairPattern]:
    """Return patterns that give each image a mask of its own, by the longest text that both share.

    Args:
        images: paths below their folder.
        masks: the same; None where they lie among the images. Then the patterns count that pair most of the files, and
            of these the ones that tell masks by a word such as ``label``.
    """
    known = images if masks is None else masks
    if not images or not known:
        return []
    among, first, found = set(known), images[0], dict[str, tuple[int, bool, int]]()
    tokens = list(_TOKEN.finditer(first))[-_MOST_TOKENS:]
    spans = [(a.start(), b.end()) for i, a in enumerate(tokens) for b in tokens[i:]]
    for start, end in sorted(spans, key=lambda span: span[0] - span[1]):
        before, key, behind = first[:start], first[start:end], first[end:]
        fitting = [p for p in images if p.startswith(before) and p.endswith(behind) and len(p) > len(before + behind)]
        most = len(images) if masks is not None else len(images) // 2
        if not _suffix(behind) or len(fitting) > most or (masks is not None and len(fitting) < most):
            continue
        keys = [p[len(before) : len(p) - len(behind)] for p in fitting]
        for mask in known:
            for place in re.finditer(re.escape(key), mask):
                front, back = mask[: place.start()], mask[place.end() :]
                other = masks is not None or (front, back) != (before, behind)
                if other and _suffix(back) and all(front + k + back in among for k in keys):
                    sides = [f"{before}{{}}{behind}", f"{front}{{}}{back}"]
                    text = "=".join(sides if masks is not None else sorted(sides, key=_mask_like))
                    if text.count("=") == 1 and text.count("{") == 2:
                        told = [_mask_like(side)[0] for side in text.split("=")] == [False, True]
                        found.setdefault(text, (len(fitting), told and masks is None, len(key)))
    best = max(found.values(), default=None)
    return [PairPattern(text) for text, score in found.items() if score == best]


def _mask_like(side: str) -> tuple[bool, int]:
    """Return a key that sorts the names of images before those of masks."""
    order = (".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".png", ".gif")
    suffix = _suffix(side).lower()
    return _MASK_WORD.search(side.lower()) is not None, order.index(suffix) if suffix in order else 0


def _suffix(path: str) -> str:
    dot = path.rfind(".")
    return path[dot:] if dot >= 0 and path[dot:].lower() in SUFFIXES else ""


def _small_suffix(path: str) -> str:
    suffix = _suffix(path)
    return path[: len(path) - len(suffix)] + suffix.lower()
