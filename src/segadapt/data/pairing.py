"""Finding the mask of each image of a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segadapt.data.listing import walk
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
    """Return paths below the folder without suffix; with it where two images differ in the suffix alone."""
    plain = [path.relative_to(folder).with_suffix("").as_posix() for path in images]
    seen: dict[str, int] = {}
    for i in plain:
        seen[i] = seen.get(i, 0) + 1
    return [i if seen[i] == 1 else path.relative_to(folder).as_posix() for i, path in zip(plain, images, strict=True)]


def masks_of(folder: Path, images: Sequence[Path], labels: Path, name: str) -> list[Path]:
    """Find the mask of each image; RequestError naming the first image without one."""
    same = labels.resolve() == folder.resolve()
    by_path: dict[str, Path] = {}
    by_name: dict[str, list[Path]] = {}
    for mask in walk(labels):
        if same and not mask.stem.endswith(MASK_ENDINGS):
            continue
        key = mask.relative_to(labels).with_suffix("").as_posix()
        if key in by_path:
            raise RequestError(
                f"{name}: two masks have the same name, {by_path[key]} and {mask.name}; remove one of them"
            )
        by_path[key] = mask
        by_name.setdefault(mask.stem, []).append(mask)
    found = [_mask_of(path.relative_to(folder), by_path, by_name) for path in images]
    lacking = [path for path, mask in zip(images, found, strict=True) if mask is None]
    if lacking:
        raise RequestError(
            f"{name}: {len(lacking)} of {len(images)} images have no mask in {labels}, the first is {lacking[0]}; "
            "a mask has the name of its image, perhaps with _label, _L, _mask or _gt behind it"
        )
    masks = [mask for mask in found if mask is not None]
    _require_own_masks(images, masks, name)
    return masks


def _require_own_masks(images: Sequence[Path], masks: Sequence[Path], name: str) -> None:
    owner: dict[Path, Path] = {}
    for image, mask in zip(images, masks, strict=True):
        if mask in owner:
            raise RequestError(
                f"{name}: the images {owner[mask]} and {image} share the mask {mask}; rename or remove one"
            )
        owner[mask] = image


def _mask_of(image: Path, by_path: dict[str, Path], by_name: dict[str, list[Path]]) -> Path | None:
    stems = [image.stem, *(image.stem.removesuffix(e) for e in IMAGE_ENDINGS if image.stem.endswith(e))]
    names = [stem + ending for stem in stems for ending in ("", *MASK_ENDINGS)]
    for candidate in names:
        mask = by_path.get((image.parent / candidate).as_posix())
        if mask is not None:
            return mask
    for candidate in names:
        if len(by_name.get(candidate, ())) == 1:
            return by_name[candidate][0]
    return None
