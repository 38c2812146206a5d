"""The reasons of a choice in plain lines, for a person and for config.json."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from segadapt.runs.choice import KEPT, LONGEST, SPARED, Cost, Facts, Option, shrunk, wanted_size


def why_option(facts: Facts, option: Option, tried: Mapping[Option, Cost] | None) -> dict[str, str]:
    """Return why the network and the size are these."""
    return {"network": _why_network(facts, option, tried), "size": _why_size(facts, option, tried)}


def _why_network(facts: Facts, option: Option, tried: Mapping[Option, Cost] | None) -> str:
    if facts.named:
        return f"{option.network}, as you said"
    stronger = list(facts.networks[: facts.networks.index(option.network)])
    if stronger:
        return f"{option.network}; {', '.join(stronger)} had not the time or the memory here"
    if facts.device == "cpu":
        return f"{option.network}, a small one, as this machine has no GPU ({facts.machine})"
    return f"{option.network}, the strongest whose weights are at hand ({facts.machine})"


def _why_size(facts: Facts, option: Option, tried: Mapping[Option, Cost] | None) -> str:
    if not facts.sized:
        return "as the recipe or you say"
    longest = max(*facts.source, *facts.target)
    height, width = shrunk(facts.source, option.size)
    said = f"images of {facts.source[1]} x {facts.source[0]}"
    said += " as they are" if option.size >= longest else f" are shown at {width} x {height}"
    said += f", crops of {option.crop} x {option.crop}"
    wanted = wanted_size(facts)
    if facts.size is not None:
        return f"{said}, as you said"
    if option.size >= wanted:
        return said if option.size >= longest else f"{said}: no class loses more than {_percent(1 - KEPT)} of it"
    lost = {name: kept for name, kept in facts.kept.get(option.size, {}).items() if kept < KEPT}
    worst = sorted(lost, key=lambda name: lost[name])[:3]
    if worst:
        said += f"; small things lose detail, at most {', '.join(f'{_percent(lost[n])} of {n}' for n in worst)} is left"
    high, wide = shrunk(facts.source, wanted)
    if tried:
        return f"{said}; {wide} x {high} would show more, in more time"
    return (
        f"{said}; {wide} x {high} would show more, in a longer time than one is patient for without a GPU: "
        f"data.source.size={wanted} data.target.size={wanted}, or a --budget of hours"
    )


def why_length(cost: Cost, lengths: Mapping[str, float], whole: float, seconds: float) -> dict[str, str]:
    """Return why the length is this, and what takes the time."""
    steps = ", ".join(f"{s.name} {max(1, round(s.steps * lengths.get(s.name, 1.0)))}" for s in cost.stages)
    recipe, speeds = ", ".join(str(s.steps) for s in cost.stages), ", ".join(f"{s.seconds:.2g} s" for s in cost.stages)
    length = f"{steps} steps (the recipe: {recipe}), as a step takes {speeds} here, measured"
    kept = [s.name for s in cost.stages if not s.free]
    if kept:
        length += f"; {', '.join(kept)} as you said"
    time = f"about {in_words(whole)} of {in_words(seconds)}, of which {in_words(cost.around)} are not training"
    grown = [s for s in cost.stages if lengths.get(s.name, 1.0) * s.length >= LONGEST * 0.999]
    if whole < 0.7 * seconds:
        time += "; more is not used, " + (
            "the published length is reached" if grown else "as the stages have all their steps"
        )
    return {"length": length, "time": time}


def in_words(seconds: float) -> str:
    """Return a time for people.

    Example:
        >>> in_words(42), in_words(150), in_words(5400)
        ('42 s', '2.5 minutes', '1.5 hours')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    number, unit = (seconds / 60, "minute") if seconds < 3600 else (seconds / 3600, "hour")
    return f"{round(number, 1):g} {unit}{'s' * (round(number, 1) != 1)}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def lines_of(choice: Mapping[str, Any] | None) -> list[str]:
    """Return a choice as lines for a person."""
    if choice is None:
        return []
    budget = choice["asked"]["budget"]
    wanted = "" if budget is None else f" and {in_words(60 * budget)}"
    return [
        f"chosen for these data, this machine{wanted}; a setting of your own counts more:",
        *(f"  {about:<8}{text}" for about, text in choice["because"].items()),
    ]


def too_short(seconds: float, needed: float) -> str:
    """Return the words on a time that is too short, with the least one that is sensible, in half minutes."""
    least = math.ceil(needed / (1 - SPARED) / 30) / 2
    return (
        f"a budget of {in_words(seconds)} is too short for these data on this machine: reading, a twentieth of the "
        f"recipe's steps and the report take about {in_words(needed)}; give at least --budget {least:g}m"
    )
