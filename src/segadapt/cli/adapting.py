"""``demo``, ``adapt``, ``resume``, ``plan``: from images to an adapted model."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segadapt.cli import completing
from segadapt.cli.common import (
    Bands,
    Budget,
    Classes,
    FitMemory,
    IgnoreId,
    Json,
    Length,
    Plugins,
    Quiet,
    Roots,
    TotalSteps,
    console,
    out_folder,
    parse_bands,
    parse_ids,
    parse_pairs,
    parse_roots,
    print_json,
    print_results,
)
from segadapt.errors import RequestError

if TYPE_CHECKING:
    from segadapt.runs.results import RunResult

DEMO_IMAGES = 240 + 160 + 50
"""Images that the demo renders: source, target and test."""

Recipe = Annotated[
    str | None,
    typer.Argument(
        help="A recipe, e.g. toy/cbst, or a YAML file; or leave it out and give two folders.",
        autocompletion=completing.recipes,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Settings to change, e.g. adapt.rounds=2 seed=1.", autocompletion=completing.settings),
]
SourceImages = Annotated[Path | None, typer.Option(help="Folder of labelled images.")]
SourceLabels = Annotated[
    Path | None, typer.Option(help="Folder of their masks (index or colour), or annotations (docs/folders.md).")
]
Pairs = Annotated[
    list[str] | None,
    typer.Option(
        "--pair",
        help="Names of images and masks: IMAGE=MASK, {} for what both share, e.g. '{}_rgb.tif={}_m.gif'; of one part: "
        "source:IMAGE=MASK.",
    ),
]
TargetImages = Annotated[Path | None, typer.Option(help="Folder of images without labels.")]
TargetLabels = Annotated[
    Path | None, typer.Option(help="Masks of some or all of them, to learn too; --method oracle learns them alone.")
]
TestImages = Annotated[Path | None, typer.Option(help="Target images to score on, never trained on.")]
TestLabels = Annotated[Path | None, typer.Option(help="Masks of the test images.")]
GivenModel = Annotated[
    Path | None,
    typer.Option(
        "--model",
        help="Model file or run to start from; then source images are not needed (docs/no_source.md).",
        autocompletion=completing.runs,
    ),
]
MethodName = Annotated[
    str | None,
    typer.Option(
        "--method",
        help="Method for two folders: NAME of a recipe folders/NAME; chosen if left out, best with --model.",
        autocompletion=completing.folder_methods,
    ),
]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random.")]
Stage = Annotated[str | None, typer.Option(help="Run this stage alone.")]
Reuse = Annotated[
    list[Path] | None,
    typer.Option(
        help="Runs to take finished stages over from, where settings, seed and training data are equal.",
        autocompletion=completing.runs,
    ),
]


def adapt(
    recipe: Recipe = None,
    overrides: Overrides = None,
    source_images: SourceImages = None,
    source_labels: SourceLabels = None,
    target_images: TargetImages = None,
    target_labels: TargetLabels = None,
    test_images: TestImages = None,
    test_labels: TestLabels = None,
    model: GivenModel = None,
    classes: Classes = None,
    ignore_id: IgnoreId = "255",
    pair: Pairs = None,
    bands: Bands = "",
    method: MethodName = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.", callback=out_folder)] = None,
    root: Roots = None,
    seed: Seed = None,
    length: Length = None,
    steps: TotalSteps = None,
    budget: Budget = None,
    fit_memory: FitMemory = None,
    stage: Stage = None,
    reuse: Reuse = None,
    plugin: Plugins = None,
    yes: Annotated[bool, typer.Option("--yes", help="Go on where the data are dubious, without being asked.")] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Adapt a model: by a recipe, or from two folders."""
    recipe, changes = request_of(
        recipe, overrides, source_images, source_labels, target_images, test_images, test_labels, model
    )
    from segadapt.api import adapt as run

    result = run(
        recipe,
        changes,
        source_images=source_images,
        source_labels=source_labels,
        target_images=target_images,
        target_labels=target_labels,
        test_images=test_images,
        test_labels=test_labels,
        model=model,
        classes=classes,
        ignore_ids=parse_ids(ignore_id),
        pair=parse_pairs(pair),
        bands=parse_bands(bands),
        method=method,
        plugins=plugin or (),
        out=out,
        roots=parse_roots(root),
        seed=seed,
        length=length,
        steps=steps,
        budget=budget,
        fit_memory=fit_memory,
        stage=stage,
        reuse=reuse or (),
        accept=yes or partial(_asked, quiet=quiet or json),
        quiet=quiet or json,
    )
    _show(result, json)


def request_of(
    recipe: str | None,
    overrides: Sequence[str] | None,
    source_images: Path | None,
    source_labels: Path | None,
    target_images: Path | None,
    test_images: Path | None,
    test_labels: Path | None,
    model: Path | None = None,
) -> tuple[str | None, list[str]]:
    """Return the recipe, None for folders, and the settings to change.

    Raises:
        RequestError: the request is neither a recipe nor complete folders.
    """
    changes = list(overrides or [])
    folders = {"--source-images": source_images, "--source-labels": source_labels, "--target-images": target_images}
    if any(folders.values()):
        if recipe is not None and "=" in recipe:
            changes, recipe = [recipe, *changes], None
        _require_folders(folders, recipe, without_source=model is not None and not (source_images or source_labels))
        if (test_images is None) != (test_labels is None):
            raise RequestError("--test-images and --test-labels go together; give both or neither")
    elif recipe is None:
        raise RequestError(
            "nothing to adapt: give a recipe ('segadapt recipes' lists them), --source-images, --source-labels and "
            "--target-images, or --model and --target-images"
        )
    return recipe, changes


def _require_folders(folders: Mapping[str, Path | None], recipe: str | None, without_source: bool) -> None:
    """Refuse folders that lack one, or that come with a recipe."""
    if recipe is not None:
        raise RequestError(
            f"'{recipe}' is not a setting: give KEY=VALUE, e.g. adapt.rounds=2; a recipe goes without folders "
            "(--source-images ...)"
        )
    missing = [option for option, value in folders.items() if value is None]
    if missing and not (without_source and folders["--target-images"]):
        raise RequestError(
            f"{missing[0]} is missing; two-folder adaptation needs {', '.join(folders)}; with --model FILE "
            "--target-images is enough"
        )


def _asked(findings: Sequence[str], quiet: bool) -> bool:
    """Print what is dubious, and ask on a terminal whether to go on; elsewhere the answer is no."""
    from segadapt.engine.record import console as errors

    terminal = sys.stdin.isatty() and sys.stderr.isatty()
    if terminal or (not quiet and len(findings) > 1):
        for finding in findings:
            errors.print(f"dubious: {finding}", style="yellow", soft_wrap=True)
    if not terminal:
        return False
    errors.print("go on? [y/N] ", end="", soft_wrap=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _show(result: RunResult, json: bool) -> None:
    """Print the results, in the process that wrote the report."""
    if result.report is None:
        return
    if json:
        print_json({**result.raw, "data": result.data, "run": str(result.out), "report": str(result.report)})
    else:
        print_results(result)


def resume(
    run: Annotated[
        Path, typer.Argument(help="Folder of an interrupted or finished run.", autocompletion=completing.runs)
    ],
    source_images: SourceImages = None,
    source_labels: SourceLabels = None,
    target_images: TargetImages = None,
    target_labels: TargetLabels = None,
    test_images: TestImages = None,
    test_labels: TestLabels = None,
    classes: Classes = None,
    stage: Stage = None,
    root: Roots = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Go on with a run from its newest checkpoint; folders that moved are given again."""
    from segadapt.api import resume as go_on

    result = go_on(
        run,
        source_images=source_images,
        source_labels=source_labels,
        target_images=target_images,
        target_labels=target_labels,
        test_images=test_images,
        test_labels=test_labels,
        classes=classes,
        stage=stage,
        roots=parse_roots(root),
        quiet=quiet or json,
    )
    _show(result, json)


def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for the toy world, the run and the predictions.", callback=out_folder)
    ] = Path("demo"),
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Render a toy world, adapt a model to it and predict its test images: from nothing to an adapted model."""
    from segadapt.api import adapt as run
    from segadapt.api import load
    from segadapt.engine.record import Steps
    from segadapt.evaluation.predict import predict_path
    from segadapt.models.inference import InferenceConfig
    from segadapt.toy import write_world

    with Steps("render the toy world", DEMO_IMAGES, quiet=quiet or json) as steps:
        write_world(out / "toy", everything=False, announce=lambda *_: steps.advance())
    result = run("toy/cbst", roots={"toy": str(out / "toy")}, out=out / "run", quiet=quiet or json)
    _show(result, json)
    loaded = load(result.model)
    images = out / "toy" / "cityscapes" / "leftImg8bit" / "val"
    with Steps("predict", 0, quiet=quiet or json) as steps:
        predict_path(
            loaded.model,
            loaded.space,
            images,
            out / "predictions",
            InferenceConfig(**loaded.inference),
            size=loaded.working_size,
            overwrite=True,
            progress=lambda _, total: steps.advance(total=total),
        )
    if not json:
        console.print(f"predictions on {images} are in {out / 'predictions'}", soft_wrap=True)
        console.print(f"now try: segadapt predict {result.model} YOUR_IMAGES --out predictions", soft_wrap=True)
