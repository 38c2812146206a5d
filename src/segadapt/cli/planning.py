"""``plan``: what a run would do and cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from json import dumps
from typing import Annotated, Any

import typer

from segadapt.cli.adapting import (
    GivenModel,
    MethodName,
    Overrides,
    Pairs,
    Recipe,
    Seed,
    SourceImages,
    SourceLabels,
    TargetImages,
    TargetLabels,
    TestImages,
    TestLabels,
    request_of,
)
from segadapt.cli.common import (
    Bands,
    Budget,
    Classes,
    FitMemory,
    IgnoreId,
    Json,
    Length,
    Plugins,
    Roots,
    TotalSteps,
    console,
    parse_bands,
    parse_ids,
    parse_pairs,
    parse_roots,
    print_json,
    print_rows,
)


def plan(
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
    root: Roots = None,
    seed: Seed = None,
    length: Length = None,
    steps: TotalSteps = None,
    budget: Budget = None,
    fit_memory: FitMemory = None,
    measure: Annotated[bool, typer.Option(help="Time a few steps of every stage on this machine.")] = True,
    plugin: Plugins = None,
    json: Json = False,
) -> None:
    """Show the stages of a run with their cost, and what a shorter run changes, before anything starts."""
    recipe, changes = request_of(
        recipe, overrides, source_images, source_labels, target_images, test_images, test_labels, model
    )
    from segadapt.api import plan as planning

    planned = planning(
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
        bands=parse_bands(bands),
        pair=parse_pairs(pair),
        method=method,
        plugins=plugin or (),
        roots=parse_roots(root),
        seed=seed,
        length=length,
        steps=steps,
        budget=budget,
        fit_memory=fit_memory,
        measure=measure,
    )
    if json:
        print_json(planned)
    else:
        _show(planned)


def _show(planned: Mapping[str, Any]) -> None:
    """Print a plan: what was chosen and why, the stages, the data, and what is not as published."""
    from segadapt.runs.reasons import lines_of

    for line in [*lines_of(planned["chosen"]), *planned["notes"], *filter(None, [planned["advice"]])]:
        console.print(line, soft_wrap=True)
    rows = []
    for row in planned["stages"]:
        minutes = "-" if row["minutes"] is None else f"{row['minutes']:.1f}"
        length_of_stage = f"{row['published']} -> {row['steps']}" if row["published"] else str(row["steps"])
        rows.append([row["name"], row["method"], row["initial"], str(row["rounds"]), length_of_stage])
        rows[-1] += [str(row["batch_size"]), minutes]
    print_rows(["stage", "method", "starts from", "rounds", "steps", "batch", "minutes"], rows, planned["title"])
    data = planned["data"]
    few = f" ({data['labelled']} with labels to learn)" if data["labelled"] else ""
    images = f"{data['source']} source, {data['target']} target{few}, {data['test']} test images"
    console.print(f"data: {images}; {len(data['classes'])} classes")
    console.print(_decoding([row["workers"] for row in planned["stages"]]))
    for line in dict.fromkeys(row["weights"] for row in planned["stages"]):
        if line:
            console.print(line, soft_wrap=True)
    if planned["minutes"] is not None:
        console.print(f"{planned['minutes']:.1f} minutes here: steps, passes over the target, scores")
    _show_changes(planned["stages"])


def _decoding(workers: Sequence[int]) -> str:
    """Say which processes decode images in the stages."""
    if not any(workers):
        return "images are decoded by the training process (data.workers)"
    numbers = "/".join(str(number) for number in dict.fromkeys(workers))
    return f"images are decoded by {numbers} process{'es' * (numbers != '1')} for each stream (data.workers)"


def _show_changes(stages: Sequence[Mapping[str, Any]]) -> None:
    """Print what shortened stages have instead of their published settings, and the rates that were measured."""
    changes = [[row["name"], name, *map(_brief, values)] for row in stages for name, *values in row["changes"]]
    if changes:
        print_rows(["stage", "setting", "published", "here"], changes, "\nother than published:")
    rates = [
        [row["name"], network, ", ".join(f"{rate:.2g}" for rate in found)]
        for row in stages
        for network, found in row["rates"].items()
    ]
    if rates:
        title = "\nmatched rates of each parameter group, here of weights before training and without pseudo labels:"
        print_rows(["stage", "network", "rates"], rates, title)


def _brief(value: Any) -> str:
    """Return a setting as a recipe writes it."""
    return dumps(value).replace('"', "")
