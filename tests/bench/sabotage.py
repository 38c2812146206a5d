"""Run a sample of the fault bench, then spoil the library and see that the bench notices; prints JSON.

In a process of its own, because the bench forks, and a test process has threads.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import segadapt.bench.faults.forked as forked
import segadapt.engine.loop as loop
from segadapt.bench.faults.bench import bench_faults
from segadapt.cli import main

SAMPLE = tuple(int(number) for number in sys.argv[2].split(","))


def points(entry: Any, folder: Path, numbers: tuple[int, ...]) -> dict[str, Any]:
    return bench_faults(entry, 1, 0, folder, workers=2, numbers=numbers)


def begun() -> bool:
    """Return whether this command goes on with a run."""
    out = next(Path(word) for word in reversed(sys.argv) if word.startswith("/") and word.endswith("/run"))
    return (out / "config.json").exists()


def forgets() -> None:
    loop.load_checkpoint = lambda *_: None  # type: ignore[assignment]
    main()


def learns_slower() -> None:
    real = loop.schedule_factor
    if begun():
        loop.schedule_factor = lambda *place: 0.5 * real(*place)
    main()


def breaks() -> None:
    if begun():
        raise ValueError("broken")
    main()


def sleeps() -> None:
    if begun():
        time.sleep(60)
    main()


if __name__ == "__main__":
    folder, kill = Path(sys.argv[1]), int(sys.argv[3])
    found = {"sample": points(main, folder, SAMPLE)}
    for entry in (forgets, learns_slower, breaks):
        found[entry.__name__] = points(entry, folder, (kill,))["points"]
    forked.LIMIT = 2.0
    found["sleeps"] = points(sleeps, folder, (kill,))["points"]
    print(json.dumps(found))
