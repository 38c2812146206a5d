"""Measure what labels of a few target images are worth, and whether the suggested ones are worth more than others.

    python -m benchmarks.few_labels --source runs/study --out runs/few_labels --root camvid=FOLDER --root toy=FOLDER

Every run is MIC from the source model of its seed in a study (``segadapt bench study``), 200 steps by the rules of
short runs. Random images are drawn by the seed of the run; suggested ones are those that ``segadapt suggest`` names for
the source model. Runs that are finished in ``--out`` are not run again. Writes benchmarks/measured/few_labels.json
after every run, of which ``make tables`` makes a section of docs/few_labels.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import segadapt
from segadapt.core.files import read_json, write_json
from segadapt.engine.runtime import machine
from segadapt.evaluation.suggesting import suggest_images
from segadapt.models.inference import InferenceConfig
from segadapt.runs.config import load_config
from segadapt.runs.opening import open_spec
from segadapt.runs.run import Run

HERE = Path(__file__).parent
TASKS = ("camvid_day_dusk", "toy_camvid")
METHOD = "mic"
SETTINGS = ("source=null", "length=0.005", "adapt.augmentation.crop=[96,128]", "data.measure_labels=false")
"""What is not as in the recipe: no source stage, 200 of 40 000 steps, and crops of a quarter of the image."""
COUNTS = (5, 20)
MOST = 100
"""Labels of the last point of the curve; all target images where there are fewer."""


def main() -> None:
    """Run what is missing, and write the numbers that are there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="folder of a study with rows source_only")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--root", action="append", default=[], help="NAME=FOLDER of a data set")
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2], help="none: write only")
    options = parser.parse_args()
    roots = dict(root.split("=", 1) for root in options.root)
    for seed in options.seeds:
        for task in options.tasks:
            model = options.source / task / "source_only" / f"seed{seed}" / "stages" / "source" / "model.safetensors"
            for row, labelled in rows_of(task, seed, model, roots).items():
                run_row(task, row, seed, labelled, model, roots, options.out)
                write(options.out)
    write(options.out)


def write(out: Path) -> None:
    """Write the scores of all finished runs."""
    write_json(HERE / "measured" / "few_labels.json", {"machine": machine(), "runs": results_in(out)})


def rows_of(task: str, seed: int, model: Path, roots: Mapping[str, str]) -> dict[str, dict[str, Any] | None]:
    """Return the settings ``data.labelled`` of every row of a task; those of the curve have the number alone."""
    loaded = segadapt.load(model)
    spec = load_config(f"{task}/{METHOD}").data.target
    target = open_spec(spec, False, roots, "target")
    most = min(MOST, len(target))
    found = suggest_images(
        loaded.model, target, max(COUNTS), InferenceConfig(**loaded.inference), "cpu", size=spec.size
    )
    names = [suggestion.name for suggestion in found]  # the first five of twenty are those of five
    curve = {f"random {count}": {"images": count, "seed": seed} for count in (*COUNTS, most)}
    suggested = {f"suggested {count}": {"names": names[:count]} for count in COUNTS}
    return {"random 0": None, **curve, **suggested}


def run_row(
    task: str,
    row: str,
    seed: int,
    labelled: Mapping[str, Any] | None,
    model: Path,
    roots: Mapping[str, str],
    out: Path,
) -> None:
    """Adapt from the source model with the labels of a row, unless that was done before."""
    folder = out / task / row.replace(" ", "") / f"seed{seed}"
    results = read_json(folder / "results.json")
    if results and results["rows"]:
        return
    changes = [*SETTINGS, f"adapt.initial={model.absolute()}", f"seed={seed}"]
    changes += [f"data.labelled={json.dumps(labelled)}"] if labelled is not None else []
    run = Run.open(load_config(f"{task}/{METHOD}", changes), folder, roots, quiet=True)
    miou = run.execute(pictures=False)["rows"][-1]["scores"]["miou"]
    print(f"{task}, seed {seed}, {row}: {miou:.1f} mIoU", flush=True)


def results_in(out: Path) -> list[dict[str, Any]]:
    """Return the scores of all finished runs, sorted."""
    found = []
    for path in sorted(out.glob("*/*/seed*/results.json")):
        results = read_json(path)
        if not results["rows"]:
            continue
        row, row_name = results["rows"][-1], path.parent.parent.name
        choice = row_name.rstrip("0123456789")
        found.append(
            {
                "task": path.parent.parent.parent.name,
                "choice": choice,
                "labels": int(row_name.removeprefix(choice)),
                "seed": int(path.parent.name.removeprefix("seed")),
                "miou": round(row["scores"]["miou"], 2),
                "iou": {name: value and round(value, 1) for name, value in row["scores"]["iou"].items()},
                "steps": row["steps"],
            }
        )
    return found


if __name__ == "__main__":
    main()
