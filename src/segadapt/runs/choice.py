"""Facts, options, costs and the choice of a default run, plain values; and the sizes that data want."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

SIZES = (256, 384, 512, 768, 1024, 1536, 2048)
"""Longest sides of images to choose from, in pixels."""
KEPT = 0.7
"""IoU of a class of a mask with itself, shrunk and enlarged again, from which on nothing counts as lost."""
LONGEST = 0.99
"""Share of the published steps up to which a run is lengthened; at 1 a recipe may start from other weights."""
SPARED = 0.1
"""Share of the time that is kept free, as speeds change while a machine works."""


@dataclass(frozen=True)
class Facts:
    """Data and machine, as far as they decide.

    Attributes:
        device: ``cpu``, ``cuda`` or ``mps``; ``machine`` names it for people.
        source, target: (height, width) of their images, the median.
        networks: names of the networks whose weights are at hand, the strongest first, the fastest last.
        kept: by size of :data:`SIZES`, the IoU of each class of the source's masks that is left at it.
        size: longest side that a person said; None where it is to be chosen.
        sized: whether sizes may be chosen at all; False where the recipe, or a person, has sizes of another kind.
        named: whether a person said the network.
    """

    device: str
    machine: str
    source: tuple[int, int]
    target: tuple[int, int]
    networks: Sequence[str]
    kept: Mapping[int, Mapping[str, float]]
    size: int | None = None
    sized: bool = True
    named: bool = False


@dataclass(frozen=True)
class Option:
    """A network, the longest side of the images, and the side of the crop, in pixels; 0 for those of the recipe."""

    network: str
    size: int = 0
    crop: int = 0


@dataclass(frozen=True)
class StageCost:
    """The time of a stage at the recipe's length.

    Attributes:
        name: of the stage.
        steps: of all rounds.
        seconds: of a step.
        length: share of the published steps that the recipe takes; 1 for a stage that is not shortened.
        free: whether its length may be chosen; a person has not said it.
    """

    name: str
    steps: int
    seconds: float
    length: float = 1.0
    free: bool = True

    @property
    def total(self) -> float:
        """Seconds of its steps."""
        return self.steps * self.seconds


@dataclass(frozen=True)
class Cost:
    """Time and memory of a run of an option here, measured.

    Attributes:
        stages: in order.
        around: seconds of everything else: reading, passes over the target, scores, pictures, the report.
        memory_mb: peak memory of a step.
    """

    stages: Sequence[StageCost]
    around: float
    memory_mb: int = 0

    def seconds(self, lengths: Mapping[str, float]) -> float:
        """Return the seconds of a run whose stages have these factors on the recipe's length."""
        return self.around + sum(s.total * lengths.get(s.name, 1.0) for s in self.stages)


@dataclass(frozen=True)
class Choice:
    """A choice and its reasons.

    Attributes:
        option: network and sizes.
        lengths: factor on the recipe's length of each stage, where time decided it.
        seconds: of the whole run, predicted; None where nothing was measured.
        reasons: what they are about and a line on each: ``network``, ``size``, ``length``, ``time``.
    """

    option: Option
    lengths: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)


def wanted_size(facts: Facts) -> int:
    """Return the smallest size at which every class keeps :data:`KEPT`; else the first that shrinks nothing."""
    longest = max(*facts.source, *facts.target)
    for size in SIZES:
        if size >= longest or (size in facts.kept and min(facts.kept[size].values(), default=1.0) >= KEPT):
            return size
    return SIZES[-1]


def crop_of(facts: Facts, size: int) -> int:
    """Return the side of the square crop for a working size: half of the longest side, in steps of 32 pixels."""
    shown = [shrunk(image, size) for image in (facts.source, facts.target)]
    longest, shortest = max(max(s) for s in shown), min(min(s) for s in shown)
    return max(32, min(32 * round(longest / 64), shortest // 32 * 32))


def shrunk(image: tuple[int, int], size: int) -> tuple[int, int]:
    """Return the (height, width) of an image whose longest side shrinks to a size."""
    scale = min(1.0, size / max(image))
    return round(image[0] * scale), round(image[1] * scale)
