"""A trial of two folders: who asks for a few steps of a method does not wait for a whole source-only stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TRIAL = 10
"""An adaptation of at most so many steps shows that everything works, and no scores worth comparing."""
_LENGTHS = ("steps", "epochs", "length")


def as_trial(
    stages: Mapping[str, Any], said: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return stages in which source-only ones train no longer than a trial that overrides ask for.

    Args:
        stages: settings of the stages by name, after overrides; None for those that are left out.
        said: what overrides say of each stage; a source-only stage of which they give a length keeps it.

    Returns:
        The stages, and a line for each that became shorter.

    Example:
        >>> stages = {"source": {"method": "source_only", "steps": 1200}, "adapt": {"method": "dacs", "steps": 1}}
        >>> as_trial(stages, {"adapt": {"steps": 1}})[0]["source"]["steps"]
        1
    """
    asked = [
        stages[name]["steps"]
        for name, settings in said.items()
        if "steps" in settings and stages.get(name) and stages[name]["method"] != "source_only"
    ]
    trials = [steps for steps in asked if isinstance(steps, int) and 0 < steps <= TRIAL]
    changed, notes = dict(stages), []
    for name, stage in stages.items():
        if not trials or len(trials) < len(asked) or not stage or stage["method"] != "source_only":
            continue
        if any(said.get(name, {}).get(key) is not None for key in _LENGTHS) or not isinstance(stage.get("steps"), int):
            continue
        if stage["steps"] > max(trials):
            changed[name] = {**stage, "steps": max(trials)}
            notes.append(
                f"stage '{name}' is as short, {max(trials)} instead of {stage['steps']} steps, as this is a trial; "
                f"{name}.steps={stage['steps']} trains it in full"
            )
    return changed, tuple(notes)
