"""Finding masks and predictions among images, by their names and by what they hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from segadapt.core.spacing import evenly_spaced
from segadapt.data.dataset import DamagedFile
from segadapt.data.decode import Values, decode
from segadapt.data.folders.pairing import IMAGE_ENDINGS, MASK_ENDINGS
from segadapt.data.masks.labelling import color_codes

RESULT_ENDINGS = ("_overlay", "_confidence", "_color")
"""Endings of what ``segadapt predict`` writes beside its index masks."""
_FOLDERS = """
    annotation annotations anno gt gtfine gtcoarse ground_truth groundtruth ground-truth label labels labelids
    labeltrainids mask masks seg segmentation segmentations semantic segmentationclass segmentationobject
"""
MASK_FOLDERS = frozenset(_FOLDERS.split())
"""Names of folders in which masks usually lie, in lower case."""
_ENDINGS = (*MASK_ENDINGS, "_gtFine_color", "_gtFine_instanceIds", "_instanceIds", *RESULT_ENDINGS)
_LOSSY = (".jpg", ".jpeg", ".jfif", ".webp")
_MOST_VALUES = 64
_LEAST_EQUAL = 0.7
_MOST_FOLDERS = 20
_SAMPLE = 3


def looks_like_mask(path: Path) -> bool:
    """Return whether the pixels of a file are those of a mask: few values, in areas. Also for one value alone.

    At most 64 values or colours, and neighbours in a row that are equal in at least 70 % of all places. Nothing that
    a camera takes is so, not even grey or dark pictures; drawings may be. Damaged files do not.
    """
    try:
        values = decode(path).values
    except DamagedFile:
        return False
    return _few_values_in_areas(values)


def all_look_like_masks(paths: Sequence[Path]) -> bool:
    """Return whether a sample of files all look like masks, and not all are of one and the same single value."""
    sample = _spaced(paths, 8)
    if not sample or not all(map(looks_like_mask, sample)):
        return False
    seen = {int(code) for path in sample for code in np.unique(_codes(decode(path).values))}
    return len(seen) > 1


def beside_images(images: Sequence[Path]) -> set[Path]:
    """Return the files that are masks or predictions of images in the same folder.

    A mask has the name of an image with one of the usual endings behind it, or only another suffix, and looks like a
    mask: a photograph ``fog_label.png`` beside ``fog.png`` stays. Of our own predictions, overlay and confidence are
    known by lying there together.
    """
    found: set[Path] = set()
    candidates: dict[Path, Path] = {}  # possible mask -> its image
    for files in _by_folder(images).values():
        stems = defaultdict(list)
        for path in files:
            stems[path.stem].append(path)
        bases = {**{_without(stem, IMAGE_ENDINGS): paths for stem, paths in stems.items()}, **stems}
        for path in files:
            base = _without(path.stem, _ENDINGS)
            together = sum(base + ending in stems for ending in RESULT_ENDINGS) > 1
            others = [other for other in bases.get(base, ()) if other != path]
            if not others or (base == path.stem and path.suffix.lower() in _LOSSY):
                continue
            if together and path.stem.endswith(RESULT_ENDINGS):
                found.add(path)
            else:
                candidates[path] = others[0]
    return found | set(_masks_in(candidates))


def in_mask_folders(root: Path, images: Sequence[Path]) -> set[Path]:
    """Return the files below ``root`` that lie in folders of masks beside folders of their images.

    Such a folder has a usual name (:data:`MASK_FOLDERS`), or its files have the names of images in another one; and a
    sample of it looks like masks, where a sample of another folder does not.
    """
    folders = _by_folder(images)
    if len(folders) < 2:
        return set()
    bare = {folder: {bare_name(path) for path in files} for folder, files in folders.items()}
    named = {f for f in folders if any(part.lower() in MASK_FOLDERS for part in f.relative_to(root).parts)}
    suspects = named | (set(_mirrored(bare)) if len(folders) <= _MOST_FOLDERS else set())
    masks = {f for f in suspects if all(map(looks_like_mask, _spaced(folders[f], _SAMPLE)))}
    others = [f for f in folders if f not in masks]
    if not any(not looks_like_mask(path) for f in others[:_SAMPLE] for path in _spaced(folders[f], _SAMPLE)):
        return set()
    names = set().union(*(bare[f] for f in others))
    return {path for f in masks if f in named or _shares(bare[f], names) for path in folders[f]}


def bare_name(path: Path) -> str:
    """Return the name that an image and its mask share."""
    return _without(_without(path.stem, _ENDINGS), IMAGE_ENDINGS)


# ---- parts ----


def _few_values_in_areas(values: Values) -> bool:
    codes = _codes(values)
    equal = (codes[:, 1:] == codes[:, :-1]).mean() if codes.shape[1] > 1 else 1.0
    return bool(equal >= _LEAST_EQUAL) and len(np.unique(codes)) <= _MOST_VALUES


def _codes(values: Values) -> Values:
    """Return one number per pixel [H, W]."""
    return values if values.ndim == 2 else np.asarray(color_codes(values)).astype(np.uint32)


def _masks_in(candidates: Mapping[Path, Path]) -> Iterator[Path]:
    """Yield the candidates that look like masks of images that do not.

    Of many candidates a sample is looked at: where all of it are masks, or none, so is the rest.
    """
    sample = _spaced(tuple(candidates), 40)
    verdicts = {path: _is_mask_of(path, candidates[path]) for path in sample}
    if len(sample) < len(candidates) and len(set(verdicts.values())) == 1:
        yield from candidates if verdicts[sample[0]] else ()
        return
    for path, image in candidates.items():
        if verdicts[path] if path in verdicts else _is_mask_of(path, image):
            yield path


def _is_mask_of(path: Path, image: Path) -> bool:
    return looks_like_mask(path) and not looks_like_mask(image)


def _mirrored(bare: dict[Path, set[str]]) -> Iterator[Path]:
    """Yield the folders of which half the names occur in another folder."""
    for folder, names in bare.items():
        if any(_shares(names, others) for other, others in bare.items() if other != folder):
            yield folder


def _shares(names: set[str], others: set[str]) -> bool:
    return 2 * len(names & others) >= len(names)


def _without(stem: str, endings: Sequence[str]) -> str:
    """Return a stem without the longest of the endings that it has, unless nothing would be left."""
    fitting = [ending for ending in endings if stem.endswith(ending) and len(stem) > len(ending)]
    return stem[: -len(max(fitting, key=len))] if fitting else stem


def _by_folder(paths: Iterable[Path]) -> dict[Path, list[Path]]:
    found: dict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        found[path.parent].append(path)
    return found


def _spaced(paths: Sequence[Path], most: int) -> list[Path]:
    """Return at most so many of the paths, evenly spaced."""
    return [paths[i] for i in evenly_spaced(len(paths), most)]
