"""Measure what adapting a model without source images is worth, beside the same with them.

    python -m benchmarks.no_source --source runs/study --out runs/no_source --root camvid=FOLDER

Every run starts from the source model of its seed in a study (``segadapt bench study``), 400 steps by the rules of
short runs. Runs that are finished in ``--out`` are not run again. Writes benchmarks/measured/no_source.json after every
run, of which ``make tables`` makes a section of docs/no_source.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.no_source_table import METHODS
from segadapt.core.files import read_json, write_json
from segadapt.engine.runtime import machine
from segadapt.runs.config import load_config
from segadapt.runs.run import Run

MEASURED = Path(__file__).parent / "measured" / "no_source.json"
TASK = "camvid_day_dusk"
SETTINGS = ("adapt.augmentation.crop=[96,128]", "data.measure_labels=false")
"""What is not as in the recipe: crops of a quarter of the image."""
STEPS = 400


def main() -> None:
    """Run what is missing, and write the numbers that are there after each run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="folder of a study with rows source_only")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--root", action="append", default=[], help="NAME=FOLDER of a data set")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    roots = dict(root.split("=", 1) for root in options.root)
    for seed in options.seeds:
        model = options.source / TASK / "source_only" / f"seed{seed}" / "stages" / "source" / "model.safetensors"
        for source in (False, True):
            for method in METHODS:
                adapt(method, source, seed, model, roots, options.out)
                measured = {"machine": machine(), "steps": STEPS, "runs": results_in(options.out)}
                write_json(MEASURED, measured)


def adapt(method: str, source: bool, seed: int, model: Path, roots: Mapping[str, str], out: Path) -> None:
    """Adapt the model of a seed with or without source images, unless that was done before."""
    folder = out / method / ("with" if source else "without") / f"seed{seed}"
    results = read_json(folder / "results.json")
    if results and len(results["rows"]) == 2:
        return
    changes = [f"start={json.dumps(str(model.absolute()))}", f"seed={seed}", *SETTINGS]
    changes += [] if source else ["data.source=null"]
    changes += ["oracle=null"] if "oracle" in {stage.name for stage in load_config(f"{TASK}/{method}").stages} else []
    run = Run.open(load_config(f"{TASK}/{method}", changes, steps=STEPS), folder, roots, quiet=True)
    before, after = (row["scores"]["miou"] for row in run.execute(pictures=False)["rows"])
    print(f"{method}, {'with' if source else 'without'} source, seed {seed}: {before:.1f} -> {after:.1f}", flush=True)


def results_in(out: Path) -> list[dict[str, Any]]:
    """Return the scores of all finished runs, sorted."""
    found = []
    for path in sorted(out.glob("*/*/seed*/results.json")):
        rows = read_json(path)["rows"]
        if len(rows) == 2:
            names = path.relative_to(out).parts
            scores = {"before": round(rows[0]["scores"]["miou"], 2), "after": round(rows[1]["scores"]["miou"], 2)}
            seed = int(names[2].removeprefix("seed"))
            found.append({"method": names[0], "source": names[1] == "with", "seed": seed, **scores})
    return found


if __name__ == "__main__":
    main()
