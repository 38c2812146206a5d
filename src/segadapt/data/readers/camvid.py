"""CamVid in the layouts in which it is handed around."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from segadapt.data.dataset import Dataset
from segadapt.data.decode import decode
from segadapt.data.folders.listing import build, by_id, files_in, folder_in, read_list
from segadapt.data.ids import CAMVID_VOID, camvid_colors, train_ids, with_ignored
from segadapt.data.masks.labelling import IndexLabels, label_colors
from segadapt.errors import RequestError, nearest
from segadapt.labels import CAMVID, LabelMap

_STILLS, _COLORED = "701_StillsRaw_full", "LabeledApproved_full"
_SPLITS = ("train", "val", "test")
_INDEX = IndexLabels(with_ignored(train_ids(CAMVID), [CAMVID_VOID]), "CamVid classes (0 to 10, 11 void)")


class _Layout(NamedTuple):
    """Image folder or folders, and where the label of an image lies."""

    folders: list[Path]
    label_of: Callable[[str, Path], Path]
    lists: bool


@dataclass(frozen=True)
class _CamvidLabels:
    """Index maps of the SegNet release, or the colour-coded pictures of the original one."""

    key: str = "camvid11 by index or colour"

    def __call__(self, path: Path) -> LabelMap:
        stored = decode(path)
        if stored.values.ndim == 2:
            return _INDEX.look_up(stored.values, path)
        return label_colors(stored.values, camvid_colors(), path, "CamVid labels are PNG files with its 32 colours")


def camvid(root: Path, split: str, labelled: bool = True) -> Dataset:
    """Open CamVid (Brostow et al., 2009), 701 frames, 11 classes.

    Three layouts are told apart: the original release (``701_StillsRaw_full`` and
    ``LabeledApproved_full``, colour-coded), ``images`` and ``labels`` (index maps), and the SegNet
    folders ``train`` and ``trainannot``, ``val`` and ``valannot``, ``test`` and ``testannot``.

    Args:
        root: folder of one of these layouts.
        split: ``all``; or the name without ``.txt`` of a list file in ``root``, one frame per line;
            or, in the SegNet folders, ``train``, ``val`` or ``test``.
        labelled: whether labels are wanted; otherwise no label folder is touched.
    """
    layout = _layout(root, split, labelled)
    files = [path for folder in layout.folders for path in files_in(folder, [".png", ".jpg"], "camvid")]
    images = by_id(files, "camvid")
    if layout.lists and split != "all":
        images = _listed(root, split, images)
    return build("camvid", CAMVID, images, layout.label_of if labelled else None, _CamvidLabels())


def _layout(root: Path, split: str, labelled: bool) -> _Layout:
    if not root.is_dir():
        raise RequestError(f"camvid: the folder {root} does not exist")
    if (root / _STILLS).is_dir():
        colored = folder_in(root, _COLORED, who="camvid") if labelled else root
        return _Layout([root / _STILLS], lambda i, _: colored / f"{i}_L.png", True)
    if (root / "images").is_dir():
        labels = folder_in(root, "labels", who="camvid") if labelled else root
        return _Layout([root / "images"], lambda i, _: labels / f"{i}.png", True)
    present = [part for part in _SPLITS if (root / part).is_dir()]
    if not present:
        raise RequestError(
            f"camvid: {root} has no folder '{_STILLS}', 'images' or 'train'; give the folder that holds it"
        )
    if split not in ("all", *present):
        raise RequestError(
            f"camvid: no split '{split}' in {root}{nearest(split, present)}; there are: all, {', '.join(present)}"
        )
    chosen = present if split == "all" else [split]
    if labelled:
        for part in chosen:
            folder_in(root, f"{part}annot", who="camvid")
    return _Layout([root / p for p in chosen], lambda i, path: root / f"{path.parent.name}annot" / f"{i}.png", False)


def _listed(root: Path, split: str, images: dict[str, Path]) -> dict[str, Path]:
    """Return the images that the list file of a split names."""
    file = root / f"{split}.txt"
    if not file.is_file():
        known = ["all", *sorted(p.stem for p in root.glob("*.txt"))]
        raise RequestError(
            f"camvid: no split '{split}' in {root}{nearest(split, known)}; there are: {', '.join(known)}"
        )
    names = [Path(line.split()[0]).stem for line in read_list(file, "camvid")]
    lacking = [name for name in names if name not in images]
    if lacking:
        raise RequestError(
            f"camvid: {len(lacking)} of {len(names)} frames of {file} are missing, the first is {lacking[0]}"
        )
    return {name: images[name] for name in names}
