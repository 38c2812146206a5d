"""The published row that a run belongs to, and how far its score is from it.

A score is compared where the run is the row's recipe unchanged: its task, network and protocol. Where they differ, what
does is named instead of a distance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from segadapt.recipes.ledger import PublishedRow, rows_of
from segadapt.runs.config import RunConfig, load_config

ALIKE = {
    *("title", "description", "seed", "accelerator", "precision", "guard", "plugins", "data.fold"),
    *("data.workers", "data.cache_mb", "data.skip_damaged", "data.measure_labels", "data.oracle"),
    *("data.source.root", "data.target.root", "data.test.root"),
}
"""Settings that another run of the same protocol may have; of stages ``checkpoint_every`` too."""
_NAMED = 3


def published_rows(config: RunConfig, stages: Sequence[Mapping[str, Any]], folds: int = 0) -> list[dict[str, Any]]:
    """Return, for each finished stage with a published row, that row beside its score, as results.json holds them.

    Args:
        config: configuration of the run; its title is the name of the recipe.
        stages: finished stages: ``stage`` and ``scores``, as the rows of results.json.
        folds: number of folds that the scores are the mean over; 0 for those of one run.

    Returns:
        ``stage``, what the row says, ``score`` of this run over the row's classes (None where it is not known),
        ``difference`` in points, or None with ``why`` it is not comparable.
    """
    by_stage: dict[str, list[PublishedRow]] = {}
    for row in rows_of(config.title):
        by_stage.setdefault(row.stage or config.stages[-1].name, []).append(row)
    found = []
    for stage in stages:
        rows = by_stage.get(stage["stage"], [])
        if rows:
            row, changed = _nearest(rows, config)
            found.append({"stage": stage["stage"], **_beside(row, changed, stage.get("scores"), folds)})
    return found


def _nearest(rows: Sequence[PublishedRow], config: RunConfig) -> tuple[PublishedRow, list[str]]:
    """Return the row whose settings the run has, and no names; else the first one, and the settings that differ."""
    rows = sorted(rows, key=lambda row: (row.test == "server", row.quoted))
    plain = [row for row in rows if not row.overrides]
    first = (plain or rows)[0]
    changed = changes(config, first)
    if changed:
        ablations = (row for row in rows if row.overrides)
        exact = next((row for row in ablations if not changes(config, row)), None)
        if exact is not None:
            return exact, []
    return first, changed


def changes(config: RunConfig, row: PublishedRow) -> list[str]:
    """Return the names of the settings in which a run differs from the recipe of a row, but for :data:`ALIKE`."""
    both = (config, load_config(row.recipe, row.overrides))
    mine, theirs = (flat_settings(one.model_dump(mode="json")) for one in both)
    return sorted(key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key))


def flat_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that make the protocol by their whole names, stages by their own, of a configuration."""
    stages = {stage["name"]: stage for stage in config["stages"]}
    whole = {**{key: value for key, value in config.items() if key != "stages"}, **stages}
    return {key: value for key, value in _leaves(whole, "") if key not in ALIKE and not _alike(key)}


def _alike(key: str) -> bool:
    return key.startswith("data.oracle.") or key.endswith(".checkpoint_every")


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the values of nested mappings with their names joined by dots."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _beside(row: PublishedRow, changed: Sequence[str], scores: Mapping[str, Any] | None, folds: int) -> dict[str, Any]:
    """Return a row with the score of a stage over its classes, and their difference or why there is none."""
    score = _mean(row.classes, scores)
    if changed:
        more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
        why = f"this run has other settings: {', '.join(changed[:_NAMED])}{more}"
    elif row.differs:
        why = row.differs
    elif row.folds != folds:
        here = f"here it is over {folds}" if folds else "and a run is one of them"
        command = f"segadapt bench table {row.task} --methods {row.recipe.rpartition('/')[2]} --folds {row.folds}"
        why = (
            f"published is the mean over {row.folds} folds, {here}: {command}"
            if row.folds
            else f"published on one set, here over {folds} folds"
        )
    elif row.test == "server":
        why = "published on the test server's images, here on others"
    else:
        why = "" if score is not None else "this run has no score over its classes"
    comparable = not why and score is not None and row.score is not None
    return {
        "method": row.method,
        "network": row.network,
        "published": row.score,
        "classes": len(row.classes),
        "source": f"{row.paper}: {row.where}",
        "quoted": row.quoted,
        "note": row.note,
        "score": None if score is None else round(score, 2),
        "difference": round(score - row.score, 2)
        if comparable and score is not None and row.score is not None
        else None,
        "why": why,
    }


def _mean(names: Sequence[str], scores: Mapping[str, Any] | None) -> float | None:
    """Return the mean IoU over classes, without those that occur nowhere; None where one of them is not the run's."""
    iou = (scores or {}).get("iou", {})
    if any(name not in iou for name in names):
        return None
    known = [iou[name] for name in names if iou[name] is not None]
    return sum(known) / len(known) if known else None


def line_of(entry: Mapping[str, Any]) -> str:
    """Return one line on a published row and how far a run is, for a person.

    Example:
        >>> entry = {"method": "CBST", "network": "ResNet-38", "published": 45.2, "source": "Zou: Table 3", "why": ""}
        >>> line_of({**entry, "score": 44.9, "difference": -0.3})
        'published: CBST, ResNet-38, 45.2 mIoU (Zou: Table 3); this run 44.9, 0.3 below'
    """
    text = f"published: {entry['method']}, {entry['network']}, {entry['published']:.1f} mIoU ({entry['source']})"
    if entry["difference"] is None:
        return f"{text}; not compared: {entry['why']}"
    side = "above" if entry["difference"] >= 0 else "below"
    return f"{text}; this run {entry['score']:.1f}, {abs(entry['difference']):.1f} {side}"
