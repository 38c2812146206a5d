"""Label spaces: the classes of a data set, their colours, and the mapping from one space to another.

A class is a *train id*: an integer ``0 .. len(space) - 1``. ``IGNORE`` (255) marks pixels that
belong to no class; it never enters a loss or a score. Class counts always come from the space; no
other module knows how many classes a data set has.
"""

from __future__ import annotations

import colorsys
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from segadapt.errors import RequestError, nearest

IGNORE = 255
MAX_CLASSES = IGNORE
IGNORED_NAMES = ("void", "ignore", "__ignore__")
"""Names of pixels that belong to no class; labelme writes the last one."""
LONGEST_NAME = 1000
"""Characters of the longest name of a class."""
LARGEST_ID = 65535
"""Largest id that masks can hold: they have at most 16 bits."""

Color = tuple[int, int, int]
LabelMap = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class LabelSpace:
    """An ordered list of classes with display colours and evaluation subsets.

    Args:
        name: short name, e.g. ``cityscapes19``.
        names: class names; the position is the train id.
        colors: one RGB triple (0..255) per class, for pictures.
        subsets: named selections of class names for a mean IoU besides the mean over all classes,
            e.g. the 16 and 13 classes of SYNTHIA.
        ids: one per class, its value in the masks of whoever named the classes; None for a class that they show by
            colour alone. Empty where that is not known, as in model files of earlier versions.
        ignore_id: value of pixels of no class in these masks; None where they have none.
        ignore_color: colour of such pixels in colour masks; None where they have none.

    Raises:
        RequestError: the number of classes is not in 1 .. 255, a name or an id occurs twice, the number of colours or
            ids differs, an id is not in 0 .. 65535, or a subset has an unknown class.

    Example:
        >>> space = LabelSpace("two", ("road", "sky"), ((128, 64, 128), (70, 130, 180)))
        >>> len(space), space.index("sky")
        (2, 1)
    """

    name: str
    names: tuple[str, ...]
    colors: tuple[Color, ...]
    subsets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ids: tuple[int | None, ...] = ()
    ignore_id: int | None = None
    ignore_color: Color | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= MAX_CLASSES:
            raise RequestError(
                f"label space '{self.name}' has {len(self.names)} classes; 1 to {MAX_CLASSES} can be used"
            )
        if not all(isinstance(n, str) and 0 < len(n) <= LONGEST_NAME for n in self.names):
            raise RequestError(f"label space '{self.name}': names of classes have 1 to {LONGEST_NAME} characters")
        if len(set(self.names)) != len(self.names):
            twice = sorted({n for n in self.names if self.names.count(n) > 1})
            raise RequestError(f"label space '{self.name}' names a class twice: {', '.join(twice)}")
        if len(self.colors) != len(self.names):
            raise RequestError(
                f"label space '{self.name}' has {len(self.names)} classes but {len(self.colors)} colours"
            )
        if not all(_is_color(color) for color in (*self.colors, self.ignore_color or (0, 0, 0))):
            raise RequestError(f"label space '{self.name}': a colour is three numbers from 0 to 255")
        self._require_ids()
        for subset in self.subsets.values():
            for name in subset:
                self.index(name)

    def _require_ids(self) -> None:
        known = [i for i in self.ids if i is not None]
        whole = [*known, *(() if self.ignore_id is None else (self.ignore_id,))]
        if not all(isinstance(i, int | np.integer) and not isinstance(i, bool) for i in whole):
            raise RequestError(f"label space '{self.name}': an id is no whole number")
        if self.ids and len(self.ids) != len(self.names):
            raise RequestError(f"label space '{self.name}' has {len(self.names)} classes but {len(self.ids)} ids")
        if len(set(known)) != len(known) or not all(0 <= i <= LARGEST_ID for i in known):
            raise RequestError(f"label space '{self.name}': ids are different numbers from 0 to {LARGEST_ID}")

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Return the train id of the class ``name``.

        Raises:
            RequestError: there is no such class.
        """
        try:
            return self.names.index(name)
        except ValueError:
            raise RequestError(f"no class '{name}' in label space '{self.name}'{nearest(name, self.names)}") from None

    def subset_ids(self, subset: str) -> list[int]:
        """Return the train ids of a named subset, in the order of the subset.

        Raises:
            RequestError: there is no such subset.
        """
        if subset not in self.subsets:
            raise RequestError(
                f"label space '{self.name}' has no subset '{subset}'; it has: {', '.join(self.subsets) or 'none'}"
            )
        return [self.index(name) for name in self.subsets[subset]]

    def palette(self) -> npt.NDArray[np.uint8]:
        """Build a look-up table [256, 3] from label to RGB; ignored and unknown labels are black."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(self)] = np.asarray(self.colors, np.uint8)
        return table

    def colorize(self, label: LabelMap) -> npt.NDArray[np.uint8]:
        """Turn a label map [H, W] into an RGB picture [H, W, 3]."""
        return self.palette()[label]

    def same_classes(self, other: LabelSpace) -> bool:
        """Tell whether the two spaces give every train id the same name."""
        return self.names == other.names

    def numbered(self) -> LabelSpace:
        """Return the space with its train ids as ids where none are known, as in data that hold train ids."""
        return self if self.ids else replace(self, ids=tuple(range(len(self))), ignore_id=IGNORE)

    def reordered(self, names: Sequence[str]) -> LabelSpace:
        """Return the space with its classes in the order of ``names``, which are the same ones."""
        if tuple(names) == self.names:
            return self
        order = [self.index(name) for name in names]
        ids = tuple(self.ids[i] for i in order) if self.ids else ()
        return replace(self, names=tuple(names), colors=tuple(self.colors[i] for i in order), ids=ids)

    def numbered_as(self, other: LabelSpace) -> LabelSpace:
        """Return the space with the ids of ``other``, by name, where that has all of its classes and ids."""
        if not other.ids or not set(self.names) <= set(other.names):
            return self
        ids = tuple(other.ids[other.index(name)] for name in self.names)
        return replace(self, ids=ids, ignore_id=other.ignore_id, ignore_color=other.ignore_color)

    def mapping_to(self, other: LabelSpace, merge: Mapping[str, str] | None = None) -> LabelMap:
        """Build a look-up table [256] from train ids of this space to train ids of ``other``.

        Args:
            other: the space to map to. Classes are matched by name.
            merge: maps a class of this space to a differently named class of ``other``, e.g.
                ``{"truck": "car"}``; to ``ignore`` where its pixels belong to no class.

        Returns:
            [256] uint8; IGNORE for labels without a counterpart.

        Raises:
            RequestError: ``merge`` names a class that its space does not have.
        """
        merge = dict(merge or {})
        for name in merge:
            self.index(name)
        table = np.full(256, IGNORE, np.uint8)
        for train_id, name in enumerate(self.names):
            goal = merge.get(name, name)
            if goal in other.names:
                table[train_id] = other.index(goal)
            elif name in merge and goal.lower() not in IGNORED_NAMES:
                other.index(goal)
        return table

    def to_json(self) -> str:
        """Write the space as JSON text; model files hold it."""
        return json.dumps(
            {
                "name": self.name,
                "names": list(self.names),
                "colors": [list(c) for c in self.colors],
                "subsets": {k: list(v) for k, v in self.subsets.items()},
                "ids": list(self.ids),
                "ignore_id": self.ignore_id,
                "ignore_color": list(self.ignore_color) if self.ignore_color is not None else None,
            }
        )

    @classmethod
    def from_json(cls, text: str, where: str = "a label space") -> LabelSpace:
        """Read what :meth:`to_json` wrote, here or in an earlier version without ids; ``where`` names the file.

        Raises:
            RequestError: it is damaged.
        """
        try:
            return cls._of(json.loads(text))
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as problem:
            said = " ".join(f"{type(problem).__name__}: {problem}".split())[:200]
            raise RequestError(f"{where}: its list of classes is damaged ({said})") from None

    @classmethod
    def _of(cls, raw: Mapping[str, Any]) -> LabelSpace:
        ignore_color = raw.get("ignore_color")
        return cls(
            name=str(raw["name"]),
            names=tuple(raw["names"]),
            colors=tuple((int(r), int(g), int(b)) for r, g, b in raw["colors"]),
            subsets={k: tuple(v) for k, v in raw.get("subsets", {}).items()},
            ids=tuple(raw.get("ids", ())),
            ignore_id=raw.get("ignore_id"),
            ignore_color=tuple(ignore_color) if ignore_color is not None else None,
        )


def _is_color(color: Any) -> bool:
    return len(color) == 3 and all(isinstance(c, int | np.integer) and 0 <= c <= 255 for c in color)


def hex_color(color: Color) -> str:
    """Return a colour as ``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*color)


def distinct_colors(count: int) -> tuple[Color, ...]:
    """Choose ``count`` well separated RGB colours, for classes without colours."""
    colors = []
    for i in range(count):
        hue, level = (i * 0.618034) % 1.0, 0.95 - 0.35 * (i % 3) / 2
        r, g, b = colorsys.hsv_to_rgb(hue, 0.75, level)
        colors.append((int(r * 255), int(g * 255), int(b * 255)))
    return tuple(colors)


def _colors(text: str) -> tuple[Color, ...]:
    """Return the colours that a text lists as ``rrggbb``."""
    red, green, blue = (bytes.fromhex(text)[channel::3] for channel in range(3))
    return tuple(zip(red, green, blue, strict=True))


def _without(names: Sequence[str], *gone: str) -> tuple[str, ...]:
    return tuple(n for n in names if n not in gone)


_CITYSCAPES: tuple[tuple[str, int, Color], ...] = (
    ("road", 7, (128, 64, 128)),
    ("sidewalk", 8, (244, 35, 232)),
    ("building", 11, (70, 70, 70)),
    ("wall", 12, (102, 102, 156)),
    ("fence", 13, (190, 153, 153)),
    ("pole", 17, (153, 153, 153)),
    ("traffic light", 19, (250, 170, 30)),
    ("traffic sign", 20, (220, 220, 0)),
    ("vegetation", 21, (107, 142, 35)),
    ("terrain", 22, (152, 251, 152)),
    ("sky", 23, (70, 130, 180)),
    ("person", 24, (220, 20, 60)),
    ("rider", 25, (255, 0, 0)),
    ("car", 26, (0, 0, 142)),
    ("truck", 27, (0, 0, 70)),
    ("bus", 28, (0, 60, 100)),
    ("train", 31, (0, 80, 100)),
    ("motorcycle", 32, (0, 0, 230)),
    ("bicycle", 33, (119, 11, 32)),
)
"""Name, label id and colour of the evaluated classes, as the data set's own scripts have them."""
_CITYSCAPES_NAMES = tuple(name for name, _, _ in _CITYSCAPES)
_SYNTHIA_NAMES = _without(_CITYSCAPES_NAMES, "terrain", "truck", "train")
_COMMON_NAMES = _without(_SYNTHIA_NAMES, "wall", "fence", "pole")


def _cityscapes_like(name: str, names: tuple[str, ...], subsets: Mapping[str, tuple[str, ...]]) -> LabelSpace:
    own = {n: (label_id, color) for n, label_id, color in _CITYSCAPES}
    ids = tuple(own[n][0] for n in names)
    return LabelSpace(name, names, tuple(own[n][1] for n in names), subsets, ids, ignore_id=0)


CITYSCAPES = _cityscapes_like(
    "cityscapes19", _CITYSCAPES_NAMES, {"synthia16": _SYNTHIA_NAMES, "synthia13": _COMMON_NAMES}
)
"""The 19 evaluated classes of Cityscapes in train-id order; GTA5, BDD100K, ACDC and Dark Zurich use them too."""

SYNTHIA = _cityscapes_like("synthia16", _SYNTHIA_NAMES, {"synthia13": _COMMON_NAMES})
"""The 16 classes that SYNTHIA-RAND-CITYSCAPES shares with Cityscapes; subset ``synthia13`` gives mIoU*."""

NTHU = _cityscapes_like("nthu13", _COMMON_NAMES, {})
"""The 13 classes of the NTHU cross-city data set."""

CAMVID = LabelSpace(
    "camvid11",
    ("sky", "building", "pole", "road", "sidewalk", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"),
    _colors("808080 800000 c0c080 804080 0000c0 808000 c08080 404080 400080 404000 0080c0"),
    ids=tuple(range(11)),
    ignore_id=11,
)
"""The 11 classes of CamVid in the order of the SegNet release."""

IDD_LITE = LabelSpace(
    "idd7",
    ("drivable", "non-drivable", "living things", "vehicles", "roadside objects", "far objects", "sky"),
    _colors("804080 f423e8 dc143c 00008e dcbe28 6b8e23 4682b4"),
    ids=tuple(range(7)),
    ignore_id=IGNORE,
)
"""The 7 classes of IDD-Lite, the coarsest level of the India Driving Dataset, in train-id order."""

LOVEDA = LabelSpace(
    "loveda7",
    ("background", "building", "road", "water", "barren", "forest", "agriculture"),
    _colors("ffffff ff0000 ffff00 0000ff 9f81b7 00ff00 ffc380"),
    ids=tuple(range(1, 8)),
    ignore_id=0,
)
"""The 7 classes of LoveDA in the order of its masks, which count from 1; background is a class and is scored."""

ISPRS = LabelSpace(
    "isprs6",
    ("impervious surface", "building", "low vegetation", "tree", "car", "clutter"),
    _colors("ffffff 0000ff 00ffff 00ff00 ffff00 ff0000"),
    {"isprs5": ("impervious surface", "building", "low vegetation", "tree", "car")},
    ignore_color=(0, 0, 0),
)
"""The 6 classes of ISPRS Potsdam and Vaihingen with the colours of their masks; ``isprs5`` is without clutter."""

_PEOPLE = ("person", "pedestrian", "rider", "bicyclist", "living things")
_VEHICLES = ("car", "truck", "bus", "train", "motorcycle", "bicycle", "vehicles")
THINGS = frozenset(("traffic light", "traffic sign", "sign", *_PEOPLE, *_VEHICLES))
"""Names of the classes of countable objects in the spaces above (the thing classes of DAFormer, by name)."""

SPACES: dict[str, LabelSpace] = {s.name: s for s in (CITYSCAPES, SYNTHIA, NTHU, CAMVID, IDD_LITE, LOVEDA, ISPRS)}


def label_space(name: str) -> LabelSpace:
    """Return a built-in label space by name.

    Raises:
        RequestError: there is no such space.
    """
    if name not in SPACES:
        raise RequestError(f"no label space '{name}'{nearest(name, SPACES)}; there are: {', '.join(SPACES)}")
    return SPACES[name]
