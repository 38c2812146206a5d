"""LoveDA, ISPRS Potsdam and ISPRS Vaihingen, pictures of the ground from the air, as downloaded.

The splits of the ISPRS benchmark are those of its challenge: the tiles whose labels were given to participants, and the
others, whose labels came later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from segadapt.data.dataset import Dataset
from segadapt.data.decode import decode
from segadapt.data.folders.listing import build, files_in, folder_in
from segadapt.data.ids import with_ignored
from segadapt.data.masks.labelling import IndexLabels, label_colors
from segadapt.errors import RequestError, nearest
from segadapt.labels import IGNORE, ISPRS, LOVEDA, LabelMap

SCENES = ("urban", "rural")
_LOVEDA_IDS = IndexLabels(
    with_ignored({i: i - 1 for i in range(1, 8)}, [0]), "LoveDA classes (1 to 7, and 0 for pixels without data)"
)
_POTSDAM_TRAIN = (
    *("2_10", "2_11", "2_12", "3_10", "3_11", "3_12", "4_10", "4_11", "4_12", "5_10", "5_11", "5_12"),
    *("6_7", "6_8", "6_9", "6_10", "6_11", "6_12", "7_7", "7_8", "7_9", "7_10", "7_11", "7_12"),
)
_POTSDAM_TEST = (
    *("2_13", "2_14", "3_13", "3_14", "4_13", "4_14", "4_15"),
    *("5_13", "5_14", "5_15", "6_13", "6_14", "6_15", "7_13"),
)
_VAIHINGEN_TRAIN = tuple(map(str, (1, 3, 5, 7, 11, 13, 15, 17, 21, 23, 26, 28, 30, 32, 34, 37)))
_VAIHINGEN_TEST = tuple(map(str, (2, 4, 6, 8, 10, 12, 14, 16, 20, 22, 24, 27, 29, 31, 33, 35, 38)))
_COMPLETE = "ISPRS_semantic_labeling_Vaihingen_ground_truth_COMPLETE"
_ERODED = "ISPRS_semantic_labeling_Vaihingen_ground_truth_eroded_COMPLETE"


@dataclass(frozen=True)
class _ISPRSLabels:
    """The colour-coded labels of both cities; black is the border between objects that eroded labels leave out."""

    key: str = "isprs6 by colour"

    def __call__(self, path: Path) -> LabelMap:
        colors = {**{color: i for i, color in enumerate(ISPRS.colors)}, (0, 0, 0): IGNORE}
        fix = "labels of the ISPRS benchmark have six pure colours; unpack that file again, from another archive if it "
        return label_colors(decode(path).values, colors, path, f"{fix}stays so (some copies hold a damaged 4_12)")


def loveda(root: Path, split: str, labelled: bool = True, *, scene: str = "all") -> Dataset:
    """Open LoveDA (Wang et al., 2021): ``<Split>/<Urban|Rural>/images_png`` and ``masks_png``, 1024x1024, 0.3 m.

    An item is called ``<scene>/<number>``.

    Args:
        root: folder with ``Train``, ``Val`` and ``Test``, as the three archives unpack.
        split: ``train`` (1156 urban, 1366 rural), ``val`` (677, 992) or ``test`` (820, 976, no labels).
        labelled: whether labels are wanted; otherwise ``masks_png`` is not touched.
        scene: ``urban``, ``rural``, or ``all`` for both.
    """
    if labelled and split == "test":
        raise RequestError("loveda: labels of the test split are withheld; use 'val', or open it without labels")
    if scene not in (*SCENES, "all"):
        raise RequestError(f"loveda: no scene '{scene}'{nearest(scene, SCENES)}; there are: all, {', '.join(SCENES)}")
    hint = "unpack Train.zip, Val.zip and Test.zip there"
    images: dict[str, Path] = {}
    for name in SCENES if scene == "all" else (scene,):
        place = (split.capitalize(), name.capitalize())
        folder = folder_in(root, *place, "images_png", who="loveda", hint=hint)
        images |= {f"{name}/{path.stem}": path for path in files_in(folder, [".png"], "loveda")}
        if labelled:
            folder_in(root, *place, "masks_png", who="loveda", hint=hint)
    if not labelled:
        return build("loveda", LOVEDA, images, None, _LOVEDA_IDS)
    return build("loveda", LOVEDA, images, lambda _, p: p.parents[1] / "masks_png" / p.name, _LOVEDA_IDS)


def potsdam(
    root: Path, split: str, labelled: bool = True, *, bands: Literal["rgb", "irrg"] = "rgb", eroded: bool = False
) -> Dataset:
    """Open ISPRS Potsdam: ``2_Ortho_RGB`` or ``3_Ortho_IRRG``, and ``5_Labels_all``; 38 tiles of 6000x6000, 0.05 m.

    Args:
        root: folder with the archives unpacked, each into a folder of its name; labels may also lie in ``root`` itself.
        split: ``train`` (24 tiles), ``test`` (14) or ``all``.
        labelled: whether labels are wanted; otherwise no label folder is touched.
        bands: ``rgb``, or ``irrg`` for infrared, red and green, the bands of Vaihingen.
        eroded: read ``5_Labels_all_noBoundary``, in which pixels at the borders of objects are no class.
    """
    if bands not in ("rgb", "irrg"):
        raise RequestError(f"potsdam: bands is 'rgb' or 'irrg', not '{bands}'")
    folder = folder_in(root, "2_Ortho_RGB" if bands == "rgb" else "3_Ortho_IRRG", who="potsdam")
    parts = {"train": _POTSDAM_TRAIN, "test": _POTSDAM_TEST, "all": (*_POTSDAM_TRAIN, *_POTSDAM_TEST)}
    images = _tiles("potsdam", folder, "top_potsdam_", f"_{bands.upper()}.tif", parts[split])
    if not labelled:
        return build("potsdam", ISPRS, images, None, _ISPRSLabels())
    ending = "_label_noBoundary.tif" if eroded else "_label.tif"
    places = ("5_Labels_all_noBoundary",) if eroded else ("5_Labels_all", "5_Labels_for_participants")
    labels = _label_folder("potsdam", root, places, f"top_potsdam_*{ending}")
    return build("potsdam", ISPRS, images, lambda i, _: labels / f"top_potsdam_{i}{ending}", _ISPRSLabels())


def vaihingen(root: Path, split: str, labelled: bool = True, *, eroded: bool = False) -> Dataset:
    """Open ISPRS Vaihingen: ``top/top_mosaic_09cm_area<N>.tif``, 33 tiles of infrared, red and green, 0.09 m.

    Labels lie in a folder named after the archive ``ISPRS_semantic_labeling_Vaihingen_ground_truth_COMPLETE``, which
    itself has none, or in ``gts_for_participants``, or in ``root``.

    Args:
        root: folder with ``top``.
        split: ``train`` (16 tiles), ``test`` (17) or ``all``.
        labelled: whether labels are wanted; otherwise no label folder is touched.
        eroded: read ``..._ground_truth_eroded_COMPLETE``, in which pixels at the borders of objects are no class.
    """
    folder = folder_in(root, "top", who="vaihingen", hint="unpack ISPRS_semantic_labeling_Vaihingen.zip there")
    parts = {"train": _VAIHINGEN_TRAIN, "test": _VAIHINGEN_TEST, "all": (*_VAIHINGEN_TRAIN, *_VAIHINGEN_TEST)}
    start = "top_mosaic_09cm_area"
    images = _tiles("vaihingen", folder, start, ".tif", parts[split])
    if not labelled:
        return build("vaihingen", ISPRS, images, None, _ISPRSLabels())
    ending = "_noBoundary.tif" if eroded else ".tif"
    places = (_ERODED,) if eroded else (_COMPLETE, "gts_for_participants")
    labels = _label_folder("vaihingen", root, places, f"{start}*{ending}")
    return build("vaihingen", ISPRS, images, lambda i, _: labels / f"{start}{i}{ending}", _ISPRSLabels())


def _tiles(who: str, folder: Path, start: str, ending: str, wanted: Sequence[str]) -> dict[str, Path]:
    """Return those tiles of a folder that are wanted, by their number; RequestError where there is none."""
    found = {path.name.removeprefix(start)[: -len(ending)]: path for path in files_in(folder, [ending], who)}
    images = {name: found[name] for name in wanted if name in found}
    if not images:
        raise RequestError(f"{who}: {folder} holds none of the {len(wanted)} tiles {start}{wanted[0]}{ending} and on")
    return images


def _label_folder(who: str, root: Path, places: Sequence[str], names: str) -> Path:
    """Return the first of the folders that is there, or ``root`` where label files lie in it."""
    for place in places:
        if (root / place).is_dir():
            return root / place
    if next(root.glob(names), None) is None:
        raise RequestError(
            f"{who}: {root} has no folder '{places[0]}' and no files {names}; "
            f"unpack the archive {places[0]}.zip into a folder of that name"
        )
    return root
