"""Finding the mask of each image of a folder."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from segadapt.data.dataset import Notice
from segadapt.data.folders.listing import walk
from segadapt.data.folders.pair_pattern import SUFFIXES, PairPattern, pictures_below, propose
from segadapt.data.masks.labelling import some
from segadapt.errors import RequestError

MASK_ENDINGS = (
    "_label",
    "_labels",
    "_L",
    "_mask",
    "_masks",
    "_gt",
    "_seg",
    "_labelTrainIds",
    "_labelIds",
    "_gtFine_labelTrainIds",
    "_gtFine_labelIds",
    "_gt_labelTrainIds",
    "_train_id",
)
"""Endings that a mask's name may have behind the name of its image."""

IMAGE_ENDINGS = ("_leftImg8bit", "_rgb_anon", "_image", "_img", "_rgb")
"""Endings that an image's name may have behind the name that it shares with its mask."""


def image_ids(folder: Path, images: Sequence[Path]) -> list[str]:
    """Return paths below the folder without suffix; with it where two would be the same, so that no two are.

    ``b.jpg`` and ``b.png`` differ in their suffix alone; and where these keep it, ``b.jpg.png`` keeps it too.
    """
    whole = [path.relative_to(folder).as_posix() for path in images]
    ids = [path.relative_to(folder).with_suffix("").as_posix() for path in images]
    for _ in range(2 + len(images)):
        twice = {i for i, count in Counter(ids).items() if count > 1}
        if not twice:
            break
        ids = [name if i in twice else i for i, name in zip(ids, whole, strict=True)]
    return ids


def require_folder(folder: Path, kind: str, name: str) -> None:
    """Raise RequestError where the folder of images or masks (``kind``) is missing."""
    if not folder.is_dir():
        wrong = "is a file, not a folder" if folder.exists() else "does not exist"
        raise RequestError(f"{name}: the {kind} folder {folder} {wrong}; check the path")


# ---- by a pattern ----


def images_by(pattern: PairPattern, folder: Path, labels: Path | None, name: str) -> list[Path]:
    """List the images of a folder that fit a pattern, sorted.

    Args:
        pattern: of images and masks. A mask that lies among the images is no image, even if it fits.
        folder: of the images.
        labels: folder of the masks; None where none are wanted, and they may lie among the images.
        name: for messages.

    Raises:
        RequestError: the folder is missing, or no image fits.
    """
    require_folder(folder, "image", name)
    files = pictures_below(folder, leave_out=labels)
    masks = {inside: mask for inside in files if (mask := pattern.mask_of(inside)) is not None}
    if labels is None or labels.resolve() == folder.resolve():
        owners = {mask: inside for inside, mask in masks.items()}
        masks = {i: m for i, m in masks.items() if owners.get(pattern.key(i, 1), i) == i}
    found = [path for inside, path in files.items() if inside in masks]
    if not found:
        raise RequestError(
            f"{name}: none of {len(files)} images in {folder} fits '{pattern.text}'; there are {some(list(files))}"
        )
    return found


def masks_by(pattern: PairPattern, folder: Path, images: Sequence[Path], labels: Path, name: str) -> list[Path]:
    """Find the mask of each image by a pattern.

    Args:
        pattern: that the images fit.
        folder: above the images.
        images: by :func:`images_by`.
        labels: folder of the masks.
        name: for messages.

    Raises:
        RequestError: a mask is missing, it names the nearest file; or a mask may be several files, or of two images.
    """
    require_folder(labels, "mask", name)
    files = pictures_below(labels)
    by_key: dict[str, list[str]] = {}
    for inside in files:
        by_key.setdefault(pattern.key(inside, 1), []).append(inside)
    wanted = [(image.relative_to(folder).as_posix(), image) for image in images]
    keys = [pattern.mask_of(inside) or "" for inside, _ in wanted]
    lacking = [(inside, key) for (inside, _), key in zip(wanted, keys, strict=True) if key not in by_key]
    if lacking:
        inside, key = lacking[0]
        raise RequestError(
            f"{name}: by '{pattern.text}', {len(lacking)} of {len(images)} images have no mask in {labels}: {inside} "
            f"has no {key}{_there_is(key, list(files))}"
        )
    masks = []
    for (inside, image), key in zip(wanted, keys, strict=True):
        several = [entry for entry in by_key[key] if files[entry] != image]
        if len(several) != 1:
            said = f"may have the mask {some(by_key[key])}; write the suffix" if several else "would be its own mask"
            raise RequestError(f"{name}: by '{pattern.text}', {inside} {said}")
        masks.append(files[several[0]])
    _require_own_masks(images, masks, name)
    return masks


def left_out_by(
    pattern: PairPattern, folder: Path, images: Sequence[Path], masks: Sequence[Path] = (), labels: Path | None = None
) -> tuple[Notice, ...]:
    """Return notices on the pictures in the folders of images and masks that are neither, by a pattern."""
    used = {path.resolve() for path in (*images, *masks)}
    notices = []
    for place in dict.fromkeys((folder, labels or folder)):
        others = [inside for inside, path in pictures_below(place).items() if path.resolve() not in used]
        if others:
            said = f"{len(others)} files in {place} do not fit '{pattern.text}' and are left out: {some(others)}"
            notices.append(Notice(said))
    return tuple(notices)


# ---- by names alone ----


def masks_of(folder: Path, images: Sequence[Path], labels: Path, name: str) -> list[Path]:
    """Find the mask of each image.

    Raises:
        RequestError: an image has no mask; it names the nearest file, and the pattern that would pair all.
    """
    found = _found_masks(folder, images, labels, name)
    lacking = [path for path, mask in zip(images, found, strict=True) if mask is None]
    if lacking:
        raise RequestError(_no_masks(folder, images, labels, lacking, name))
    masks = [mask for mask in found if mask is not None]
    _require_own_masks(images, masks, name)
    return masks


def having_masks(
    folder: Path, images: Sequence[Path], labels: Path, name: str, pattern: PairPattern | None
) -> set[Path]:
    """Return the images that have a mask, where not all need one.

    Raises:
        RequestError: none has; it names the nearest file, and the pattern that would pair all.
    """
    require_folder(labels, "mask", name)
    if pattern is not None:
        keys = {pattern.key(inside, 1) for inside in pictures_below(labels)}
        kept = {image for image in images if pattern.mask_of(image.relative_to(folder).as_posix()) in keys}
    else:
        found = _found_masks(folder, images, labels, name)
        kept = {image for image, mask in zip(images, found, strict=True) if mask is not None}
    if not kept:
        raise RequestError(_no_masks(folder, images, labels, images, name))
    return kept


def _found_masks(folder: Path, images: Sequence[Path], labels: Path, name: str) -> list[Path | None]:
    """Return the mask of each image by its name; None for an image without."""
    same = labels.resolve() == folder.resolve()
    by_path: dict[str, Path] = {}
    by_name: dict[str, list[Path]] = {}
    for mask in walk(labels, SUFFIXES):
        if same and not mask.stem.endswith(MASK_ENDINGS):
            continue
        key = mask.relative_to(labels).with_suffix("").as_posix()
        if key in by_path:
            raise RequestError(
                f"{name}: two masks have the same name, {by_path[key]} and {mask.name}; remove one of them, or say "
                f"which with a pattern: --pair '{{}}{images[0].suffix}={{}}{mask.suffix}'"
            )
        by_path[key] = mask
        by_name.setdefault(mask.stem, []).append(mask)
    return [_mask_of(path.relative_to(folder), by_path, by_name) for path in images]


def _no_masks(folder: Path, images: Sequence[Path], labels: Path, lacking: Sequence[Path], name: str) -> str:
    """Return the message on images without a mask, with what would help."""
    files = [inside for inside, path in pictures_below(labels).items() if path not in lacking]
    first = lacking[0].relative_to(folder).as_posix()
    said = (
        f"{name}: {len(lacking)} of {len(images)} images have no mask in {labels}, the first is {lacking[0]}"
        f"{_there_is(first, files)}"
    )
    if len(lacking) < len(images):
        return f"{said}; add the masks, or name the images to use in a list file (list_file)"
    if labels.resolve() == folder.resolve():
        patterns = propose(list(pictures_below(folder)))
    else:
        patterns = propose([path.relative_to(folder).as_posix() for path in images], list(pictures_below(labels)))
    if len(patterns) == 1:
        return f"{said}; to pair them all: --pair '{patterns[0].text}'"
    if patterns:
        ways = " or ".join(f"--pair '{p.text}'" for p in patterns[:3])
        return f"{said}; several patterns would pair them all, say which: {ways}"
    return (
        f"{said}; a mask has the name of its image, perhaps with _label, _L, _mask or _gt behind it, or is named by a "
        "pattern: --pair '{}.jpg={}_mask.png'"
    )


def _there_is(wanted: str, files: Sequence[str]) -> str:
    near = difflib.get_close_matches(wanted, files[:5000], n=2, cutoff=0.3)
    return f"; there is {' and '.join(near)}" if near else ""


def _require_own_masks(images: Sequence[Path], masks: Sequence[Path], name: str) -> None:
    owner: dict[Path, Path] = {}
    for image, mask in zip(images, masks, strict=True):
        if mask in owner:
            raise RequestError(
                f"{name}: the images {owner[mask]} and {image} share the mask {mask}; rename or remove one"
            )
        owner[mask] = image


def _mask_of(image: Path, by_path: dict[str, Path], by_name: dict[str, list[Path]]) -> Path | None:
    stems = [image.stem, *(image.stem.removesuffix(e) for e in IMAGE_ENDINGS if image.stem.endswith(e)), image.name]
    names = [stem + ending for stem in stems for ending in ("", *MASK_ENDINGS)]
    for candidate in names:
        mask = by_path.get((image.parent / candidate).as_posix())
        if mask is not None:
            return mask
    for candidate in names:
        if len(by_name.get(candidate, ())) == 1:
            return by_name[candidate][0]
    return None
