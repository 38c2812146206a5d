"""Data sets of one's own that are not files: any list or torch Dataset of images, or of images with labels."""

from __future__ import annotations

from itertools import count
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from segadapt.data.dataset import DamagedFile, Dataset, Held, Item, Picture
from segadapt.data.given import as_array, as_picture
from segadapt.data.masks.labelling import some
from segadapt.errors import RequestError, one_line
from segadapt.labels import IGNORE, LabelMap, LabelSpace

_LABEL = "a label map: a PIL image, or an array [H, W] of whole numbers"
_NUMBERS = count()


def in_memory(name: str, dataset: Any, space: LabelSpace, labelled: bool = True, bands: int = 3) -> Dataset:
    """Turn a list, or a torch Dataset that can be indexed, into a data set.

    Elements are read when they are needed, possibly in several processes, and must be the same each time: random
    augmentations belong into the stream (:class:`segadapt.data.streams.Augmentation`), not into the data set.

    Args:
        name: for messages.
        dataset: has ``len(dataset)`` and ``dataset[index]``. An element is an image, or a pair (image, label). The
            image is a PIL image, an array or a tensor, see :func:`segadapt.data.given.as_picture`. The label is a PIL
            image, or an array or tensor [H, W] of integers: train ids of ``space``, and 255 for ignored pixels. PIL
            images are turned as their orientation tag says.
        space: label space of the labels.
        labelled: whether the labels are wanted. Without, the label of a pair is dropped as soon as the pair is
            unpacked.
        bands: number C of bands where images are not RGB; they then are arrays or tensors [H, W, C] or [C, H, W].

    Returns:
        A data set of ``len(dataset)`` items with ids ``000000``, ``000001``, ...

    Raises:
        RequestError: there is no length; later, when an element is read that is not as described. The message names
            the data set and the index.

    Example:
        >>> space = LabelSpace("halves", ("left", "right"), ((255, 0, 0), (0, 0, 255)))
        >>> halves = np.repeat([[0, 0, 1, 1]], 4, axis=0)
        >>> images = [np.zeros((4, 4, 3), np.uint8), np.ones((4, 4, 3), np.uint8)]
        >>> source = in_memory("photos", [(image, halves) for image in images], space)
        >>> source.image(1).shape, source.label(1)[0].tolist()
        ((4, 4, 3), [0, 0, 1, 1])
        >>> target = in_memory("more photos", images, space, labelled=False)
    """
    if isinstance(dataset, (str, PathLike)):
        raise RequestError(f"{name}: '{dataset}' is a path, not a data set; give a folder as {name}_images")
    try:
        length = len(dataset)
    except TypeError:
        raise RequestError(
            f"{name}: a {type(dataset).__name__} has no length; give a list, or a data set with len() and an index"
        ) from None
    elements, collection = _Elements(dataset, len(space), labelled, bands), next(_NUMBERS)
    width = max(6, len(str(length)))
    places = [Held(name, index, collection) for index in range(length)]
    items = tuple(Item(f"{p.index:0{width}d}", p, p if labelled else None) for p in places)
    return Dataset(name, space, items, _Images(elements), _Labels(elements), bands=bands)


class _Pair(NamedTuple):
    held: Held
    image: Picture
    label: LabelMap | None


class _Elements:
    """The elements of a collection as images and label maps; the last one is kept, as its label follows its image."""

    def __init__(self, dataset: Any, classes: int, labelled: bool, bands: int):
        self._dataset, self._classes, self._labelled, self._bands = dataset, classes, labelled, bands
        self._last: _Pair | None = None

    def pair(self, held: Held) -> _Pair:
        """Return one element, checked."""
        last = self._last
        if last is None or last.held != held:
            try:
                last = self._last = self._read(held)
            except OSError as problem:  # of a file that the collection opens, or of a PIL image that is cut off
                raise DamagedFile(f"{held} cannot be read: {problem.strerror or problem}") from None
            except RequestError:
                raise
            except Exception as problem:  # of the code of the collection
                raise RequestError(f"{held} cannot be read: {one_line(problem)}") from problem
        return last

    def _read(self, held: Held) -> _Pair:
        element = self._dataset[held.index]
        paired = isinstance(element, tuple | list)
        if paired and len(element) == 1:  # as torch's TensorDataset has them
            element, paired = element[0], False
        if paired and len(element) != 2:
            raise RequestError(f"{held} has {len(element)} parts; expected an image, or a pair (image, label)")
        image = as_picture(element[0] if paired else element, held, self._bands)
        if not self._labelled:
            return _Pair(held, image, None)
        if not paired:
            raise RequestError(f"{held} has no label; expected a pair (image, label)")
        return _Pair(held, image, _label(element[1], held, self._classes, image.shape[:2]))

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_last": None}


class _Images:
    """``read_image`` of a collection."""

    def __init__(self, elements: _Elements):
        self.elements = elements

    def __call__(self, held: Held) -> Picture:
        return self.elements.pair(held).image


class _Labels:
    """``read_label`` of a collection."""

    key = None
    """Nothing tells whether another collection holds the same labels, so statistics of them are not kept."""

    def __init__(self, elements: _Elements):
        self.elements = elements

    def __call__(self, held: Held) -> LabelMap:
        label = self.elements.pair(held).label
        if label is None:
            raise RequestError(f"{held}: this data set was opened without labels")
        return label


def _label(value: Any, held: Held, classes: int, size: tuple[int, ...]) -> LabelMap:
    if isinstance(value, Image.Image):
        value = np.asarray(ImageOps.exif_transpose(value))
        value = value.astype(np.uint8) if value.dtype == bool else value
    array = as_array(value, held, _LABEL)
    if array.ndim != 2 or array.dtype.kind not in "iu":
        raise RequestError(f"{held} has a label of {array.dtype} and shape {list(array.shape)}; expected {_LABEL}")
    if array.shape != size:
        raise RequestError(f"{held} has a label of shape {list(array.shape)}; its image is {list(size)} pixels")
    wrong = np.unique(array[(array != IGNORE) & ((array < 0) | (array >= classes))])
    if len(wrong):
        raise RequestError(
            f"{held} has the label {some(wrong.tolist())}; expected train ids from 0 to {classes - 1}, and "
            f"{IGNORE} for ignored pixels"
        )
    return np.require(array.astype(np.uint8), requirements=["C", "W"])
