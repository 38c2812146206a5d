"""Tables of the page on reliability: what ``segadapt bench faults`` and ``segadapt bench fuzz`` found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from segadapt.bench.faults.drawing import KINDS
from segadapt.bench.faults.judging import VERDICTS


def faults(summary: Mapping[str, Any]) -> str:
    """Write the tables of a ``summary.json`` of the fault bench: by kind, by method, by phase."""
    machine, signals, left = summary["machine"], summary["signals"], summary["left"]
    failed = summary["failed"]
    lines = [
        f"{summary['tried']} faults of seed {summary['seed']}, {failed or 'none'} of which ended badly; torch "
        f"{machine['torch']}, Python {machine['python']}, {machine['system']}, {machine['cpu']}.",
        "",
    ]
    for by, title in (("by_kind", "kind"), ("by_method", "method"), ("by_phase", "phase")):
        rows = summary[by]
        names = [*(KINDS if by == "by_kind" else rows)]
        lines += _table(title, {name: rows[name] for name in names if name in rows}, ("tried", *VERDICTS))
    if signals:
        lines.append(
            f"{signals['count']} signals were answered within {signals['most']:.1f} s, half of them within "
            f"{signals['median']:.1f} s."
        )
    if left:
        lines.append(f"After {left} faults the finished run held files that nothing needs (halves of files).")
    return "\n".join(lines)


def fuzz(found: Mapping[str, Any]) -> str:
    """Write the table of a result of ``segadapt bench fuzz``."""
    readers = found["readers"]
    columns = tuple(next(iter(readers.values())))
    bad = len(found["findings"])
    head = f"{sum(counts['tried'] for counts in readers.values())} damaged files of seed {found['seed']}, "
    return "\n".join([f"{head}{bad or 'none'} with a finding.", "", *_table("reader", readers, columns)])


def _table(title: str, rows: Mapping[str, Mapping[str, int]], columns: tuple[str, ...]) -> list[str]:
    head = [title, *columns]
    lines = [head, ["---", *["---:"] * len(columns)]]
    lines += [[f"`{name}`", *(str(counts[column]) for column in columns)] for name, counts in rows.items()]
    return [*(f"| {' | '.join(cells)} |" for cells in lines), ""]


KEPT: Mapping[str, Callable[[Mapping[str, Any]], str]] = {"faults": faults, "fuzz": fuzz}
"""Files in ``benchmarks/measured`` by their stem, and how each becomes the block of this name."""
