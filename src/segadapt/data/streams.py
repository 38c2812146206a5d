"""The choice of a training sample: which image, and which window of it.

Every choice is a pure function of ``(seed, key, sample number)``. Each kind of choice has random
numbers of its own, so that a choice that is made again and again (a window, until it shows enough)
moves none of the others.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, PositiveInt, field_validator
from torch import Tensor

from segadapt.core.settings import Settings
from segadapt.core.types import Size
from segadapt.data.augment import Window, class_counts, draw_window, focus_pixel
from segadapt.data.augmentations import augmentation
from segadapt.data.dataset import Dataset
from segadapt.data.rare_class_sampling import RareClasses
from segadapt.data.resize import Resize, Scales
from segadapt.data.strong import StrongAugmentation
from segadapt.labels import IGNORE, LabelMap

REDRAWS = 10
"""How often a window is drawn again at most (DAFormer's code, for rare classes as for the largest class)."""

_EPOCH, _SAMPLE, _WEIGHTS, _RARE, _REDRAWS, _COLOURS = range(6)


class Augmentation(Settings):
    """Geometric and photometric augmentation of one training sample.

    Attributes:
        crop: height and width in pixels of the network's input; null takes the whole image.
        scales: the image is enlarged by a factor drawn uniformly from this range before cropping.
        long_side: the scales are relative to an image whose longer side has this many pixels; null takes the working
            size.
        flip: mirror half of the samples.
        jitter: strength of brightness, contrast, saturation and hue changes, in [0, 1] (0 is none; 0.5 is the
            strength that the field calls strong); saturation and hue are those of the first three bands.
        max_class_share: draw the crop again, up to 10 times, until it shows more than one class and
            none covers so large a share of its labelled pixels, in (0, 1] (DAFormer: 0.75 of source crops);
            null takes the first crop, and so do images without labels.
        colour_transfer: ``lab`` moves the mean and the standard deviation of each LAB channel of a random target image
            to every crop of a source image, before everything else (the code of CPSL); ``lab_random`` moves them a
            random part of the way, drawn anew for each crop; ``none`` leaves colours. Target images stay as they are.
            Of other bands than RGB, each band counts as a channel.
        extra: further augmentations by registered name with their settings, e.g. ``{fog: {density: 0.3}}``. They
            change the colours of the crop after ``jitter``, in the alphabetical order of their names; labels stay as
            they are.
    """

    crop: tuple[PositiveInt, PositiveInt] | None = None
    scales: Scales = (0.7, 1.3)
    long_side: int | None = Field(default=None, gt=0)
    flip: bool = True
    jitter: float = Field(default=0.0, ge=0.0, le=1.0)
    max_class_share: float | None = Field(default=None, gt=0.0, le=1.0)
    colour_transfer: Literal["none", "lab", "lab_random"] = "none"
    extra: dict[str, dict[str, Any]] = Field(default={})

    @field_validator("extra")
    @classmethod
    def _known(cls, extra: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, settings in extra.items():
            augmentation(name).check(settings)
        return extra

    @property
    def without_colours(self) -> Augmentation:
        """The same scales, crops and mirroring, with the colours of the image: no ``jitter``, no ``extra``."""
        return self.model_copy(update={"jitter": 0.0, "extra": {}})

    @property
    def extra_draws(self) -> int:
        """The count of random numbers that the further augmentations of one sample need."""
        return sum(augmentation(name).draws for name in self.extra)

    def apply_extra(self, images: Tensor, draws: Tensor) -> Tensor:
        """Apply the further augmentations.

        Args:
            images: [B, C, h, w] in [0, 1].
            draws: [B, ``extra_draws``] uniform in [0, 1), on the device of the images.

        Returns:
            [B, C, h, w] in [0, 1].
        """
        first = 0
        for name in sorted(self.extra):
            found = augmentation(name)
            images = found(images, draws[:, first : first + found.draws], self.extra[name])
            first += found.draws
        return images


@dataclass(frozen=True)
class Part:
    """One data set within a stream.

    Args:
        dataset: where images and labels come from; without labels every pixel is IGNORE.
        domain: 0 for source, 1 for target; kept with every sample.
        resize: working size of its images before augmentation.
        augmentation: see :class:`Augmentation`.
        focus: given a label map, the classes one of which the crop shall be centred on (hard-class
            mining), or an empty sequence.
        focus_probability: share of the samples for which ``focus`` is asked.
        scores: compact class scores of an image for soft labels, by item index.
        weights: [N] draw images with replacement in proportion to these; for a stream of one part.
        rare: draw a class, then an image that has it, then a crop that shows it (again up to
            10 times, the last crop kept); for a stream of one part, instead of ``weights``.
        colours: images whose colours the crops take, one at random for each; see :meth:`Stream.with_colours`.
    """

    dataset: Dataset
    domain: int
    resize: Resize = None
    augmentation: Augmentation = field(default_factory=Augmentation)
    focus: Callable[[LabelMap], Sequence[int]] | None = None
    focus_probability: float = 0.0
    scores: Callable[[int], npt.NDArray[np.float16]] | None = None
    weights: npt.NDArray[np.float64] | None = None
    rare: RareClasses | None = None
    colours: Dataset | None = None

    @property
    def takes_colours(self) -> bool:
        """Whether its crops take the colours of target images; only source crops can."""
        return self.domain == 0 and self.augmentation.colour_transfer != "none"


@dataclass(frozen=True)
class Stream:
    """Batches drawn from the union of ``parts``, without replacement unless its part has weights or rare classes.

    Args:
        parts: the data sets.
        batch_size: samples per step, over all processes together.
        key: separates its randomness from the randomness of other streams.
        strong: also make strong views of the crops.
        whole: also hand out the whole images that the crops come from.
    """

    parts: tuple[Part, ...]
    batch_size: int
    key: str = "pool"
    strong: StrongAugmentation | None = None
    whole: bool = False

    def __post_init__(self) -> None:
        chosen = [part for part in self.parts if part.weights is not None or part.rare is not None]
        if chosen and (len(self.parts) > 1 or (chosen[0].weights is not None and chosen[0].rare is not None)):
            raise ValueError("weights or rare classes, one of the two, are for a stream of one part")

    def __len__(self) -> int:
        """Count the samples in one pass over the union."""
        return sum(len(part.dataset) for part in self.parts)

    def with_colours(self, target: Dataset) -> Stream:
        """Return the stream with the images of the target at hand for those of its parts that take their colours."""
        unlabelled = target.unlabelled()
        parts = tuple(replace(part, colours=unlabelled) if part.takes_colours else part for part in self.parts)
        return replace(self, parts=parts)


class Member(NamedTuple):
    """One image of a stream.

    Attributes:
        part: the part that it comes from.
        place: its index in the data set of the part.
        wanted: the rare class that it was drawn for, if any.
        part_number: index of the part in the stream.
    """

    part: Part
    place: int
    wanted: int | None = None
    part_number: int = 0


class Sampler:
    """The random choices of one stream, by sample number."""

    def __init__(self, stream: Stream, seed: int):
        self.stream = stream
        self._seed = [seed, zlib.crc32(stream.key.encode())]
        self._starts = np.cumsum([0] + [len(p.dataset) for p in stream.parts])
        self._order: tuple[int, npt.NDArray[np.int64]] = (-1, np.zeros(0, np.int64))

    def numbers(self, number: int, kind: int = _SAMPLE) -> np.random.Generator:
        """Return random numbers of one kind for one sample."""
        return np.random.default_rng([*self._seed, kind, number])

    def member(self, number: int) -> Member:
        """Draw the image of a sample."""
        first = self.stream.parts[0]
        if first.rare is not None:
            wanted, drawn = first.rare.draw(self.numbers(number, _RARE))
            return Member(first, drawn, wanted)
        if first.weights is not None:
            chance = self.numbers(number, _WEIGHTS).random()
            bounds = np.cumsum(first.weights) / first.weights.sum()
            return Member(first, int(np.searchsorted(bounds, chance, side="right")))
        total = len(self.stream)
        epoch, place = divmod(number, total)
        if self._order[0] != epoch:
            self._order = (epoch, self.numbers(epoch, _EPOCH).permutation(total))
        chosen = int(self._order[1][place])
        part = int(np.searchsorted(self._starts, chosen, side="right")) - 1
        return Member(self.stream.parts[part], chosen - int(self._starts[part]), part_number=part)

    def colours(self, number: int, images: int) -> tuple[int, float]:
        """Draw the image, of so many, whose colours a sample takes, and a part of the way to them, in [0, 1)."""
        rng = self.numbers(number, _COLOURS)
        return int(rng.integers(images)), float(rng.random())

    def window(self, member: Member, label: LabelMap, rng: np.random.Generator, number: int) -> tuple[Window, Size]:
        """Draw the window of a sample, and the size (height, width) of its crop.

        Args:
            member: the image.
            label: its label map at working size.
            rng: random numbers of the sample, which a first window consumes.
            number: of the sample, for the windows after the first.
        """
        part, (height, width) = member.part, label.shape
        options = part.augmentation
        focus = None
        if part.focus is not None and rng.random() < part.focus_probability:
            focus = focus_pixel(rng, label, part.focus(label))
        crop = options.crop or (height, width)
        unit = options.long_side / max(height, width) if options.long_side else 1.0
        scales = (options.scales[0] * unit, options.scales[1] * unit)

        def candidate(numbers: np.random.Generator) -> Window:
            return draw_window(numbers, (height, width), crop, scales, options.flip, focus)

        first = candidate(rng)
        anything = member.wanted is None and options.max_class_share is None
        if anything or part.dataset.items[member.place].label is None:
            return first, crop
        redraws = self.numbers(number, _REDRAWS)
        return _fitting_window(member, label, crop, first, lambda: candidate(redraws)), crop


def _fitting_window(member: Member, label: LabelMap, crop: Size, first: Window, again: Callable[[], Window]) -> Window:
    """Return the first window, or a later one that shows several classes and enough of the rare class.

    As in DAFormer's code, the search for the rare class goes around the search for several classes, and
    each keeps its last window where none was good enough.
    """

    def varied(window: Window) -> Window:
        limit = member.part.augmentation.max_class_share
        for _ in range(REDRAWS if limit is not None else 0):
            labelled = class_counts(label, window, crop)[:IGNORE]
            if np.count_nonzero(labelled) > 1 and labelled.max() < limit * labelled.sum():
                break
            window = again()
        return window

    window = varied(first)
    rare = member.part.rare
    if rare is None or member.wanted is None:
        return window
    enough = rare.crop_share * crop[0] * crop[1]
    for _ in range(REDRAWS):
        if class_counts(label, window, crop)[member.wanted] > enough:
            break
        window = varied(again())
    return window
