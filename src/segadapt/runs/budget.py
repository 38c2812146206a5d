"""The default of two folders: network, working size, crop and length, for data, machine and minutes.

Nothing here measures or opens anything: facts go in, a choice with its reasons comes out
(:mod:`segadapt.runs.choice`), and the speed of an option is asked of a function. The rules:

1. The size that the data want is the smallest one at which every class of the source's masks keeps most of its pixels
   when a mask is shrunk and enlarged again. Images are never enlarged and keep their proportions. A crop has half of
   the longest side, as published (512 of 1024), and no more than the short side.
2. The options are the networks whose weights are at hand, the strongest first, each at the size wanted and then at
   smaller ones. The first with time for :data:`ENOUGH` of the recipe's steps is taken. If none has, the last one is,
   which is the fastest, unless it has no time for :data:`LEAST`.
3. A share below 1 shortens all stages alike. What is left above 1 goes to the published stages, of whose steps the
   recipe takes but a share; the others train until their loss is flat, and keep their steps.

Without minutes the length is the recipe's and nothing is measured: 1 decides, on a CPU up to :data:`UNTIMED`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

from segadapt.errors import RequestError
from segadapt.runs.choice import (
    LONGEST,
    SIZES,
    SPARED,
    Choice,
    Cost,
    Facts,
    Option,
    StageCost,
    crop_of,
    wanted_size,
)
from segadapt.runs.reasons import too_short, why_length, why_option

METHOD = "best"
"""Method of two folders for which none is named."""
BECAUSE = "the library's own, made of what helped on the real tasks here (docs/methods/best.md)"
"""Why it is :data:`METHOD`."""
WITHOUT_SOURCE = "cbst"
"""Method of a model and a target folder for which none is named: without source it gained on all seeds, where methods
with a mean teacher lost (docs/no_source.md)."""
LARGEST = {"cpu": 1024, "mps": 1024}
"""Largest of them on a device; a GPU takes all that its memory holds."""
UNTIMED = 512
"""Largest of them on a CPU where no time is given."""
ENOUGH = 0.5
"""Share of the recipe's steps for which an option has to leave time."""
LEAST = 0.05
"""Share of the recipe's steps below which training is not sensible."""
_UNITS = {"": 1.0, "m": 1.0, "min": 1.0, "h": 60.0, "d": 1440.0, "s": 1 / 60}


def minutes_of(text: str | float) -> float:
    """Return the minutes that a budget says: ``90``, ``30m``, ``2h``, ``1h30m``, ``45s``, ``1.5h``.

    Raises:
        RequestError: it says something else, or no time at all.

    Example:
        >>> minutes_of("2h"), minutes_of("90"), minutes_of("1h30m")
        (120.0, 90.0, 90.0)
    """
    said = str(text).strip().lower().replace(" ", "")
    parts = re.findall(r"(\d+(?:\.\d+)?)(min|[dhms]?)", said)
    if not parts or "".join(number + unit for number, unit in parts) != said:
        raise RequestError(f"budget '{text}' is no time: give minutes, or e.g. 30m, 2h, 1h30m")
    minutes = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if not 0 < minutes < math.inf:
        raise RequestError(f"budget '{text}' is no time above 0: give minutes, or e.g. 30m, 2h")
    return minutes


Measure = Callable[[Option], Cost | None]
"""Times an option; None where its memory is not enough."""


def options(facts: Facts, timed: bool) -> list[Option]:
    """List what may be chosen, the best first."""
    if not facts.sized:
        return [Option(network) for network in facts.networks]
    if facts.size is not None:
        return [Option(network, facts.size, crop_of(facts, facts.size)) for network in facts.networks]
    wanted = wanted_size(facts)
    largest = LARGEST.get(facts.device, SIZES[-1])
    if not timed and facts.device == "cpu":
        largest = UNTIMED
    sizes = [size for size in reversed(SIZES) if size <= min(wanted, largest)]
    stronger = [size for size in sizes if 2 * size >= sizes[0]]  # half of the detail is not given for a network
    return [
        Option(network, size, crop_of(facts, size))
        for network in facts.networks
        for size in (sizes if network == facts.networks[-1] else stronger)
    ]


# ---- lengths ----


def lengths_for(cost: Cost, seconds: float) -> tuple[dict[str, float], float]:
    """Return factors on the lengths of the stages that fill a time, and their share of the recipe's steps.

    Args:
        cost: measured.
        seconds: for the whole run, ``around`` included.

    Returns:
        The factor of each stage that is free, and the least of them; not above 0 where there is no time at all.
    """
    free = [s for s in cost.stages if s.free]
    left = seconds - cost.around - sum(s.total for s in cost.stages if not s.free)
    if not free:
        return {}, 1.0 if left >= 0 else 0.0
    share = left / sum(s.total for s in free)
    if share <= 1:
        return {s.name: share for s in free}, share
    grown = [s for s in free if s.length < 1]
    if not grown:
        return {}, 1.0
    most = min(LONGEST / s.length for s in grown)
    factor = (left - sum(s.total for s in free if s.length >= 1)) / sum(s.total for s in grown)
    return {s.name: min(factor, most) for s in grown}, 1.0


def decide(facts: Facts, seconds: float | None, measure: Measure, spent: Callable[[], float] = lambda: 0.0) -> Choice:
    """Choose network, size, crop and lengths; see the rules above.

    Args:
        facts: data and machine.
        seconds: wanted for the whole run; None for the recipe's length.
        measure: times an option.
        spent: seconds since the run was asked for; measuring takes of the time.

    Raises:
        RequestError: the time is too short for any option, or no option has memory enough.
    """
    found = options(facts, seconds is not None)
    if seconds is None:
        return Choice(found[0], reasons=why_option(facts, found[0], None))
    tried: dict[Option, Cost] = {}
    for number, option in enumerate(found):
        if number + 1 < len(found) and _hopeless(option, tried, facts, _left(seconds, spent())):
            continue
        cost = measure(option)
        if cost is None:
            continue
        tried[option] = cost
        _, share = lengths_for(cost, _left(seconds, spent()))
        if share >= ENOUGH:
            break
    if not tried:
        raise RequestError(
            f"the memory of this machine ({facts.machine}) is not enough for {found[-1].network}, also at the smallest "
            "size; choose a smaller network (model.name), or data.source.size, data.target.size and batch_size"
        )
    option, cost = list(tried.items())[-1]
    lengths, share = lengths_for(cost, _left(seconds, spent()))
    if share < LEAST:
        raise RequestError(too_short(seconds, spent() + cost.seconds({s.name: LEAST for s in cost.stages if s.free})))
    whole = spent() + cost.seconds(lengths)
    reasons = {**why_option(facts, option, tried), **why_length(cost, lengths, whole, seconds)}
    return Choice(option, lengths, whole, reasons)


def _left(seconds: float, spent: float) -> float:
    """Return the seconds that a run may still take."""
    return seconds * (1 - SPARED) - spent


def _hopeless(option: Option, tried: Mapping[Option, Cost], facts: Facts, left: float) -> bool:
    """Tell whether a smaller size is far from enough, by the pixels of one of the same network that was measured."""
    for other, cost in tried.items():
        if other.network == option.network and other.crop:
            ratio = (option.crop / other.crop) ** 2
            shares = lengths_for(_scaled(cost, ratio), left)[1]
            if shares < ENOUGH / 2:
                return True
    return False


def _scaled(cost: Cost, ratio: float) -> Cost:
    """Return the cost of steps on another number of pixels, about."""
    return Cost([StageCost(s.name, s.steps, s.seconds * ratio, s.length, s.free) for s in cost.stages], cost.around)
