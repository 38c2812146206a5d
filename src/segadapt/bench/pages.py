"""A table of results in Markdown, for the terminal and for the pages of ``benchmarks``."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from segadapt.core.markdown import grid

Row = Mapping[str, Any]

RULE_OF_SIGNS = (
    "Effect: mIoU with the part minus mIoU without it, on the same seed. Sign of ours: + or - where all seeds agree "
    "and the mean is at least the standard deviation of the effects; 0 otherwise; ? with a single seed."
)


def markdown(table: Row) -> str:
    """Write the table as a Markdown page."""
    return f"# {table['task']}\n\n{tables(table)}"


def tables(table: Row) -> str:
    """Write everything that a table of results holds; parts that no row has are left out.

    Args:
        table: as in ``table.json``; ``ablations`` and ``left_out`` are those of a study.
    """
    rows = _named_apart(table["rows"])
    parts = [
        _scores(rows, table["seeds"]),
        _folds(rows),
        _classes(rows, control_of(table) or source_of(table)),
        _published(table.get("published") or []),
        _labels(rows),
        _shares(rows),
        _prototypes(rows),
        _ablations(table.get("ablations") or []),
        _left_out(table.get("left_out") or {}),
        _machine(table["machine"]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def score(row: Row) -> str:
    """Write mean and spread, e.g. ``42.0 ± 0.5``."""
    return f"{row['miou']:.1f}" + (f" ± {row['spread']:.1f}" if row["spread"] is not None else "")


def counted(seeds: Sequence[Any]) -> str:
    """Write a number of seeds in words."""
    return "one seed" if len(seeds) == 1 else f"{len(seeds)} seeds"


def source_of(table: Row) -> Row | None:
    """Return the row of the unadapted model; None where it was not measured."""
    return next((row for row in table["rows"] if row["role"] == "source" and row["result"]), None)


def control_of(table: Row) -> Row | None:
    """Return the first row that trains on the source alone for as long as a method does; None where there is none."""
    return next((row for row in table["rows"] if row["control"]), None)


def gain(row: Row, base: Row) -> float | None:
    """Return by how much a row is above another one, in points: the mean over the seeds that both have."""
    both = [miou - base["seeds"][seed] for seed, miou in row["seeds"].items() if seed in base["seeds"]]
    return statistics.mean(both) if both else None


def sign_of(effects: Iterable[float]) -> str:
    """Return the sign of an effect by :data:`RULE_OF_SIGNS`.

    Args:
        effects: of each seed, in points.

    Example:
        >>> sign_of([1.0, 2.0, 3.0]), sign_of([-1.0, -1.1]), sign_of([-0.1, 2.0, 3.0]), sign_of([9.0])
        ('+', '-', '0', '?')
    """
    values = list(effects)
    if len(values) < 2:
        return "?"
    mean = statistics.mean(values)
    agree = all(value > 0 for value in values) or all(value < 0 for value in values)
    return "0" if not agree or abs(mean) < statistics.stdev(values) else "+" if mean > 0 else "-"


# ---- parts of the page ----


def _number(value: float | None, digits: str = ".1f") -> str:
    return "-" if value is None else f"{value:{digits}}"


def _named_apart(rows: Sequence[Row]) -> list[Row]:
    """Name the recipe in the title of a stage on the way, such as a warm-up, that several recipes trained."""
    titles = [row["title"] for row in rows]
    twice = [not row["result"] and titles.count(row["title"]) > 1 for row in rows]
    return [
        {**row, "title": f"{row['title']} (of {row['method']})"} if again else row
        for row, again in zip(rows, twice, strict=True)
    ]


def _scores(rows: Sequence[Row], numbers: Sequence[int]) -> str:
    """Write all stages with the score of every seed."""
    seeds = [str(s) for s in numbers]
    many = " (mean, sample standard deviation)" if len(seeds) > 1 else ""
    head = ["method", "network", "steps", "mIoU", *(f"seed {s}" for s in seeds), "MPA", "labels right", "minutes"]
    lines = [
        [
            row["title"],
            f"`{row['network']}`",
            _number(row["steps"], ".0f"),
            score(row),
            *(_number(row["seeds"].get(s)) for s in seeds),
            f"{row['mpa']:.1f}",
            _number(row["label_accuracy"], ".1%"),
            _number(row["minutes"]),
            _number(row["peak_memory_mb"], ".0f"),
        ]
        for row in rows
    ]
    return (
        f"mIoU of the last checkpoint on the test images, {counted(seeds)}{many}.\n\n{grid([*head, 'peak MB'], lines)}"
        "\n\nLabels right: accuracy of the last round's pseudo labels. Steps and minutes: of the method's own stage."
    )


def _folds(rows: Sequence[Row]) -> str:
    """Write the mIoU of every fold of the rows that have folds."""
    folded = [row for row in rows if row.get("folds")]
    numbers = list(dict.fromkeys(number for row in folded for number in row["folds"]))
    lines = [
        [row["title"], *(_number(row["folds"].get(number)) for number in numbers), _number(row["fold_spread"])]
        for row in folded
    ]
    text = (
        "mIoU of each fold, and their sample standard deviation. Scores elsewhere are over all folds: the IoU of a "
        "class is the mean over the folds in which it occurs, and mIoU the mean over classes of these."
    )
    head = ["method", *(f"fold {number}" for number in numbers), "spread"]
    return f"{text}\n\n{grid(head, lines)}" if lines else ""


def _published(entries: Sequence[Row]) -> str:
    """Write how far rows are from the published ones that they follow."""
    lines = [
        [
            entry["title"],
            f"{entry['method']}, {entry['network']}",
            _number(entry["published"]),
            _number(entry["score"]),
            entry["why"] if entry["difference"] is None else f"{entry['difference']:+.1f}",
            entry["source"],
        ]
        for entry in entries
    ]
    head = ["method", "published row", "published mIoU", "ours", "difference", "source"]
    return f"Beside the published rows:\n\n{grid(head, lines)}" if lines else ""


def _classes(rows: Sequence[Row], before: Row | None) -> str:
    """Write the IoU of each class, and the class that lost most against the row ``before``."""
    names = list(rows[0]["iou"]) if rows else []
    lines = [
        [row["title"], *(_number(row["iou"][n]) for n in names), *([_loss(row, before)] if before else [])]
        for row in rows
    ]
    note = f"; the largest loss is against *{before['title']}*" if before else ""
    head = ["method", *names, *(["largest loss"] if before else [])]
    return f"IoU by class (mean over seeds{note}):\n\n{grid(head, lines)}"


def _loss(row: Row, before: Row) -> str:
    known = {n: v - before["iou"][n] for n, v in row["iou"].items() if v is not None and before["iou"][n] is not None}
    worst = min(known, key=lambda name: known[name], default="")
    return f"{worst} {known[worst]:+.1f}" if worst and known[worst] <= -0.05 else "-"


def _labels(rows: Sequence[Row]) -> str:
    """Write the quality of labels made during training, one line per kind of label."""
    lines = []
    for row in rows:
        found = row["labels"] or ({"": {}} if row["q"] is not None else {})
        for place, (kind, quality) in enumerate(found.items()):
            cells = [_number(quality.get(key), ".1%") for key in ("accuracy", "miou", "density")]
            lines.append([row["title"], kind or "-", *cells, _number(row["q"], ".2f") if place == 0 else ""])
    head = ["method", "labels", "right", "mIoU", "density", "q"]
    text = (
        "Labels that are made during training, at the end of it. q: share of pixels of which the teacher is surer than "
        "its threshold."
    )
    return f"{text}\n\n{grid(head, lines)}" if lines else ""


def _shares(rows: Sequence[Row]) -> str:
    """Write the share of each class in the predictions below its share in the truth."""
    known = [row for row in rows if row["predicted"]]
    if not known:
        return ""
    truth = known[0]["truth"]
    lines = [["**truth**", *(f"{100 * truth[name]:.1f}" for name in truth), ""]]
    for row in known:
        cells = [_number(None if row["predicted"][n] is None else 100 * row["predicted"][n]) for n in truth]
        lines.append([row["title"], *cells, _excess(row)])
    return (
        "Shares of the classes in the predictions on the test images, in percent, and the class with the largest "
        f"excess over the truth, in points:\n\n{grid(['method', *truth, 'largest excess'], lines)}"
    )


def _excess(row: Row) -> str:
    over = {name: share - row["truth"][name] for name, share in row["predicted"].items() if share is not None}
    most = max(over, key=lambda name: over[name])
    return f"{most} {100 * over[most]:+.1f}"


def _prototypes(rows: Sequence[Row]) -> str:
    """Write how prototypes are used at the end, one column per measure."""
    names = list(dict.fromkeys(name for row in rows for name in row["prototypes"]))
    lines = [
        [row["title"], *(_number(row["prototypes"].get(n), ".2f") for n in names)] for row in rows if row["prototypes"]
    ]
    text = "Prototypes at the end (a use of 1: all of a class are used equally):"
    return f"{text}\n\n{grid(['method', *names], lines)}" if lines else ""


def _ablations(ablations: Sequence[Row]) -> str:
    """Write the effect of each part beside the sign that it has in the paper."""
    if not ablations:
        return ""
    seeds = list(dict.fromkeys(seed for found in ablations for seed in found["effects"]))
    lines = []
    for found in ablations:
        effects = found["effects"]
        cells = ["-" if seed not in effects else f"{effects[seed]:+.1f}" for seed in seeds]
        spread = f" ± {found['spread']:.1f}" if found["spread"] is not None else ""
        mean = f"{found['mean']:+.1f}{spread}"
        lines.append([f"`{found['of']}`", found["part"], *cells, mean, found["sign"], found["paper"] or "-"])
    head = ["method", "part", *(f"seed {seed}" for seed in seeds), "mean effect", "ours", "paper"]
    agree = sum(found["sign"] == found["paper"] for found in ablations)
    total = sum(bool(found["paper"]) for found in ablations)
    overrides = "\n".join(
        f"- {found['part']} of `{found['of']}`: `{' '.join(found['settings'])}`" for found in ablations
    )
    return (
        f"Ablations. {RULE_OF_SIGNS} {agree} of {total} signs are the paper's.\n\n{grid(head, lines)}\n\n"
        f"What leaves out each part:\n\n{overrides}"
    )


def _left_out(left_out: Mapping[str, str]) -> str:
    """Write what a study planned and did not finish, one line per reason."""
    reasons: dict[str, dict[str, list[str]]] = {}
    for run, why in left_out.items():
        row, _, seed = run.rpartition(", seed ")
        reasons.setdefault(why, {}).setdefault(row, []).append(seed)
    lines = []
    for why, runs in reasons.items():
        named = ", ".join(f"`{row}` (seed{'s' * (len(s) > 1)} {', '.join(s)})" for row, s in runs.items())
        lines.append(f"- {why}: {named}")
    return "Left out:\n\n" + "\n".join(lines) if lines else ""


def _machine(machine: Row) -> str:
    if not machine:
        return ""
    return (
        f"Made with segadapt {machine['segadapt']}, torch {machine['torch']}, Python {machine['python']} on "
        f"{machine['cpu']} ({machine['cores']} cores, {machine['device']})."
    )
