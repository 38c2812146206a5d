"""``demo``, ``adapt``, ``resume``, ``plan``: from images to an adapted model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from segadapt.cli.common import (
    Classes,
    IgnoreId,
    Json,
    Quiet,
    Roots,
    console,
    out_folder,
    parse_ids,
    parse_roots,
    print_json,
    print_results,
    print_rows,
)
from segadapt.engine.record import Steps
from segadapt.errors import RequestError
from segadapt.report import write_report
from segadapt.runs.config import folder_config, load_config
from segadapt.runs.plan import plan_run
from segadapt.runs.run import Run, resumed

DEMO_IMAGES = 240 + 160 + 50
"""What the demo renders: source, target and test images."""

Recipe = Annotated[
    str | None, typer.Argument(help="A recipe, e.g. toy/cbst, or a YAML file; or leave it out and give two folders.")
]
Overrides = Annotated[list[str] | None, typer.Argument(help="Settings to change, e.g. adapt.rounds=2 seed=1.")]
SourceImages = Annotated[Path | None, typer.Option(help="Folder of labelled images.")]
SourceLabels = Annotated[Path | None, typer.Option(help="Folder of their masks (index or colour).")]
TargetImages = Annotated[Path | None, typer.Option(help="Folder of images without labels.")]
TestImages = Annotated[Path | None, typer.Option(help="Target images to score on, never trained on.")]
TestLabels = Annotated[Path | None, typer.Option(help="Masks of the test images.")]
MethodName = Annotated[str, typer.Option("--method", help="Method for two folders: NAME of a recipe folders/NAME.")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random.")]


def adapt(
    recipe: Recipe = None,
    overrides: Overrides = None,
    source_images: SourceImages = None,
    source_labels: SourceLabels = None,
    target_images: TargetImages = None,
    test_images: TestImages = None,
    test_labels: TestLabels = None,
    classes: Classes = None,
    ignore_id: IgnoreId = "255",
    method: MethodName = "cbst",
    out: Annotated[Path | None, typer.Option(help="Folder of the run.", callback=out_folder)] = None,
    root: Roots = None,
    seed: Seed = None,
    stage: Annotated[str | None, typer.Option(help="Run this stage alone.")] = None,
    reuse: Annotated[
        list[Path] | None,
        typer.Option(help="Runs whose finished stages with equal settings, seed and training data are taken over."),
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Adapt a model: by a recipe, or from two folders."""
    changes = list(overrides or [])
    if source_images or source_labels or target_images:
        if recipe is not None and "=" in recipe:
            changes, recipe = [recipe, *changes], None
        if recipe is not None:
            raise RequestError(
                f"'{recipe}' is no setting: give KEY=VALUE, e.g. adapt.rounds=2; a recipe goes without folders "
                "(--source-images ...)"
            )
        given = {"--source-images": source_images, "--source-labels": source_labels, "--target-images": target_images}
        missing = [option for option, value in given.items() if value is None]
        if missing or source_images is None or source_labels is None or target_images is None:
            raise RequestError(f"{missing[0]} is missing; two-folder adaptation needs {', '.join(given)}")
        if (test_images is None) != (test_labels is None):
            raise RequestError("--test-images and --test-labels go together; give both or neither")
        config = folder_config(
            method,
            source_images,
            source_labels,
            target_images,
            test_images,
            test_labels,
            classes,
            parse_ids(ignore_id),
            [*changes, *([f"seed={seed}"] if seed is not None else [])],
        )
    elif recipe is None:
        raise RequestError(
            "nothing to adapt: give a recipe ('segadapt recipes' lists them) or "
            "--source-images, --source-labels and --target-images"
        )
    else:
        config = load_config(recipe, [*changes, *([f"seed={seed}"] if seed is not None else [])])
    where = out or Path("runs") / config.title / f"seed{config.seed}"
    execute(Run(config, where, parse_roots(root), quiet or json, tuple(reuse or ())), stage, json)


def execute(run: Run, stage: str | None, json: bool) -> dict[str, Any]:
    """Run, write the report, print what came out."""
    results = run.execute(stage)
    if run.runtime.main:
        report = write_report(run.out)
        if json:
            print_json({**results, "run": str(run.out), "report": str(report)})
        else:
            print_results(results, run.out)
    return results


def resume(
    run: Annotated[Path, typer.Argument(help="Folder of an interrupted or finished run.")],
    stage: Annotated[str | None, typer.Option(help="Run this stage alone.")] = None,
    root: Roots = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Go on with a run from its newest checkpoint."""
    execute(resumed(run, quiet or json, parse_roots(root)), stage, json)


def plan(
    recipe: Annotated[str, typer.Argument(help="A recipe.")],
    overrides: Overrides = None,
    root: Roots = None,
    measure: Annotated[bool, typer.Option(help="Time a few steps of every stage on this machine.")] = True,
    json: Json = False,
) -> None:
    """Show the stages of a recipe with their cost before anything starts."""
    planned = plan_run(load_config(recipe, overrides or []), parse_roots(root), measure)
    if json:
        print_json(planned)
        return
    rows = []
    for row in planned["stages"]:
        minutes = "-" if row["minutes"] is None else f"{row['minutes']:.1f}"
        rows.append(
            [
                row["name"],
                row["method"],
                row["initial"],
                str(row["rounds"]),
                str(row["steps"]),
                str(row["batch_size"]),
                minutes,
            ]
        )
    print_rows(["stage", "method", "starts from", "rounds", "steps", "batch", "minutes"], rows, planned["title"])
    data = planned["data"]
    images = f"{data['source']} source, {data['target']} target, {data['test']} test images"
    console.print(f"data: {images}; {len(data['classes'])} classes")


def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for the toy world, the run and the predictions.", callback=out_folder)
    ] = Path("demo"),
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """From nothing to an adapted model: render a toy world, adapt to it, look at the result."""
    from segadapt.evaluate.predict import find_images, predict_path
    from segadapt.models.store import load_model
    from segadapt.toy import write_world

    with Steps("render the toy world", DEMO_IMAGES, quiet=quiet or json) as steps:
        write_world(out / "toy", everything=False, announce=lambda *_: steps.advance())
    config = load_config("toy/cbst")
    run = Run(config, out / "run", {"toy": str(out / "toy")}, quiet or json)
    results = execute(run, None, json)
    best = [row["stage"] for row in results["rows"] if row["role"] == "adapted"][-1]
    model_path = out / "run" / "stages" / best / "model.safetensors"
    loaded = load_model(model_path)
    images = out / "toy" / "cityscapes" / "leftImg8bit" / "val"
    size = config.data.target.size
    with Steps("predict", len(find_images(images)), quiet=quiet or json) as steps:
        predict_path(
            loaded.model,
            loaded.space,
            images,
            out / "predictions",
            config.evaluation,
            run.runtime.device,
            size=size,
            overwrite=True,
            progress=lambda *_: steps.advance(),
        )
    if not json:
        console.print(f"predictions on {images} are in {out / 'predictions'}", soft_wrap=True)
        console.print(f"now try: segadapt predict {model_path} YOUR_IMAGES --out predictions", soft_wrap=True)
