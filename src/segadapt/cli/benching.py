"""``bench``: speed, memory, and methods side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segadapt.cli import completing
from segadapt.cli.common import (
    Accelerator,
    Json,
    Plugins,
    Quiet,
    Roots,
    console,
    out_folder,
    parse_roots,
    parse_size,
    print_json,
    print_rows,
)
from segadapt.errors import RequestError

if TYPE_CHECKING:
    from segadapt.bench.steps import Job

Classes = Annotated[int | None, typer.Option(min=2, help="Number of classes; as many as Cityscapes has if left out.")]


def thresholds(
    images: Annotated[int, typer.Option(min=1, help="Number of synthetic confidence maps.")] = 2975,
    height: Annotated[int, typer.Option(min=1)] = 1024,
    width: Annotated[int, typer.Option(min=1)] = 2048,
    classes: Classes = None,
    sort_images: Annotated[int, typer.Option(min=1, help="Images of the full sort beside it.")] = 8,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    json: Json = False,
) -> None:
    """Time class thresholds by streaming histograms, beside a full sort."""
    from segadapt.bench.thresholds import bench_thresholds
    from segadapt.labels import CITYSCAPES

    result = bench_thresholds(
        images=images,
        height=height,
        width=width,
        classes=classes or len(CITYSCAPES),
        sort_images=sort_images,
        seed=seed,
    )
    if json:
        print_json(result)
        return
    for name, value in result.items():
        console.print(f"{name:<28} {value:.4g}" if isinstance(value, float) else f"{name:<28} {value}")


def step(
    method: Annotated[
        str,
        typer.Argument(help="A method, e.g. proda; none with --all or --task.", autocompletion=completing.methods),
    ] = "",
    all_methods: Annotated[bool, typer.Option("--all", help="All methods in one table.")] = False,
    task: Annotated[str, typer.Option(help="Recipes of this task instead, at their networks and sizes.")] = "",
    recipes: Annotated[str, typer.Option(help="Which of its recipes, comma-separated; all if empty.")] = "",
    network: Annotated[str, typer.Option(help="A network of 'segadapt models'; a small one if empty.")] = "",
    size: Annotated[str, typer.Option(help="Height x width of the images; 360x480, of a task 1024x2048.")] = "",
    crop: Annotated[str, typer.Option(help="Height x width of the crops.")] = "176x240",
    batch: Annotated[int | None, typer.Option(min=1, help="Samples per stream and step; 4, or the recipe's.")] = None,
    repeats: Annotated[int, typer.Option(min=3, help="Timed pairs of step and passes.")] = 10,
    minutes: Annotated[float | None, typer.Option(min=0.0, help="Begin no further method after so long.")] = None,
    classes: Classes = None,
    accelerator: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    speed: Annotated[
        list[str] | None,
        typer.Option("--speed", help="precision, matmul_precision, channels_last or compile, e.g. compile=true."),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Settings of the stage to change, e.g. stride=2.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file for the numbers of several methods.")] = None,
    plugin: Plugins = None,
    json: Json = False,
) -> None:
    """Time a training step on noise, beside the network passes that it consists of."""
    from segadapt.bench.step import bench_step
    from segadapt.bench.steps import method_jobs, recipe_jobs
    from segadapt.core.registry import load_plugins
    from segadapt.labels import CITYSCAPES
    from segadapt.runs.config import apply_overrides

    load_plugins(plugin or ())
    if [bool(method), all_methods, bool(task)].count(True) != 1:
        raise RequestError("name one method, or give --all for all methods, or --task for the recipes of a task")
    if task and (network or overrides):
        raise RequestError("recipes of a --task have networks and settings of their own; leave out --network and --set")
    number = classes or len(CITYSCAPES)
    image, cut = (_two_sides(text, option) for text, option in ((size or "360x480", "--size"), (crop, "--crop")))
    settings = apply_overrides({"stages": {"step": {}}}, [f"step.{o}" for o in overrides or []])["stages"]["step"]
    fast = _speed(speed or [])
    if method:
        result = bench_step(
            method,
            network,
            size=image,
            crop=cut,
            batch=batch or 4,
            repeats=repeats,
            classes=number,
            accelerator=accelerator,
            settings=settings,
            speed=fast,
        )
        print_json(result) if json else _show_step(result)
        return
    if task:
        image = _two_sides(size or "1024x2048", "--size")
        jobs = recipe_jobs(task, words_of(recipes), size=image, batch=batch, classes=number)
    else:
        jobs = method_jobs(network, size=image, crop=cut, batch=batch or 4, classes=number, settings=settings)
    _many_steps(list(jobs), accelerator, repeats, fast, minutes, out, json)


def _many_steps(
    jobs: Sequence[Job],
    accelerator: str,
    repeats: int,
    speed: Mapping[str, Any],
    minutes: float | None,
    out: Path | None,
    json: bool,
) -> None:
    """Time many stages, show each when it is measured, and write all of them down."""
    from segadapt.bench.steps import bench_steps, table
    from segadapt.core.files import write_json

    def show(row: Mapping[str, Any]) -> None:
        if not json:
            said = row.get("problem") or f"step {row['step_ms']:.0f} ms, passes {row['passes_ms']:.0f} ms"
            console.print(f"{row['name']}: {said}", soft_wrap=True, markup=False)

    measured = bench_steps(jobs, accelerator=accelerator, repeats=repeats, speed=speed, minutes=minutes, say=show)
    if out is not None:
        write_json(out, measured)
    print_json(measured) if json else console.print(table(measured), soft_wrap=True, markup=False)


def _speed(words: Sequence[str]) -> dict[str, Any]:
    """Return settings of speed that the command names, checked."""
    from segadapt.core.settings import checked
    from segadapt.engine.speed import SpeedConfig
    from segadapt.runs.config import apply_overrides

    given = apply_overrides({}, list(words))
    checked(SpeedConfig, given, "--speed")
    return given


def _two_sides(text: str, option: str) -> tuple[int, int]:
    """Return height and width of ``360x480``, or of one number for both."""
    side = parse_size(text, option)
    return (side, side) if isinstance(side, int) else side or (0, 0)


def words_of(text: str) -> list[str]:
    """Return the words of a comma-separated list."""
    return [word.strip() for word in text.split(",") if word.strip()]


def _show_step(result: Mapping[str, Any]) -> None:
    low, high = result["overhead_quartiles"]
    for call in result["calls"]:
        console.print(f"  {call}")
    console.print(
        f"passes alone {result['passes_ms']:.0f} ms, step {result['step_ms']:.0f} ms: overhead "
        f"{result['overhead']:.1%} (quartiles {low:.1%} to {high:.1%}); a batch is made in {result['data_ms']:.0f} ms",
        markup=False,
    )
    if "over_host" in result:
        console.print(f"over the step of its host: {result['over_host']['overhead']:.1%}", markup=False)
    memory = result["peak_memory_mb"]
    console.print(f"peak memory {memory['passes']} MB of the passes, {memory['step']} MB of the steps")


def passes(
    images: Annotated[int, typer.Option(min=8, help="Images of a pass.")] = 100,
    size: Annotated[str, typer.Option(help="Their height x width.")] = "64x128",
    network: Annotated[str, typer.Option(help="A network of 'segadapt models'; a stand-in that sleeps if empty.")] = "",
    forward: Annotated[float, typer.Option(min=0, help="Milliseconds of a call of the stand-in.")] = 30.0,
    decode: Annotated[float, typer.Option(min=0, help="Milliseconds of sleep in every decoding, beside it.")] = 25.0,
    classes: Annotated[int, typer.Option(min=2, help="Number of classes.")] = 5,
    repeats: Annotated[int, typer.Option(min=1, help="Times of which the least counts.")] = 3,
    accelerator: Accelerator = "auto",
    json: Json = False,
) -> None:
    """Time passes over sets of images, beside the decoding and the network that they overlap."""
    from segadapt.bench.passes import bench_passes

    side = parse_size(size, "--size")
    result = bench_passes(
        images=images,
        size=(side, side) if isinstance(side, int) else side or (64, 128),
        classes=classes,
        network=network,
        forward_ms=forward,
        decode_ms=decode,
        accelerator=accelerator,
        repeats=repeats,
    )
    if json:
        print_json(result)
        return
    console.print(f"alone: decoding {result['decode_ms']:.1f} ms, network {result['forward_ms']:.1f} ms an image")
    rows = [
        [name, f"{p['ms']:.1f}", f"{p['network_ms']:.1f}", "-" if p["ratio"] is None else f"{p['ratio']:.2f}"]
        for name, p in result["passes"].items()
    ]
    print_rows(["pass", "ms an image", "its network", "of the longest part"], rows)


def study(
    file: Annotated[Path, typer.Argument(help="A study file, e.g. benchmarks/study.yaml.")],
    out: Annotated[Path, typer.Option(help="Folder of the runs and the tables.", callback=out_folder)],
    seeds: Annotated[str, typer.Option(help="Run only these of the file's seeds, comma-separated.")] = "",
    workers: Annotated[int, typer.Option(min=1, help="Runs at a time.")] = 1,
    minutes: Annotated[
        float | None, typer.Option(min=0.0, help="Stop after so long; call again to go on. 0 only writes the tables.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Settings of every row, e.g. model.name=deeplabv2_resnet50.")
    ] = None,
    root: Roots = None,
    json: Json = False,
) -> None:
    """Run the rows of a study file on its tasks, all from the same source models; goes on where it stopped."""
    from segadapt.bench.pages import markdown
    from segadapt.bench.study import read_study, with_settings
    from segadapt.bench.study_runs import run_study

    made = run_study(
        with_settings(read_study(file), overrides or []),
        out,
        parse_roots(root),
        workers=workers,
        minutes=minutes,
        seeds=numbers_of(seeds) if seeds.strip() else None,
        say=lambda line: None if json else console.print(line, soft_wrap=True, markup=False),
    )
    if json:
        print_json(made)
        return
    for table in made.values():
        console.print(markdown(table), soft_wrap=True, markup=False)


def numbers_of(numbers: str, option: str = "--seeds") -> list[int]:
    try:
        return [int(number) for number in numbers.split(",")]
    except ValueError:
        raise RequestError(f"{option} '{numbers}' is not a comma-separated list of integers") from None


def table(
    task: Annotated[str, typer.Argument(help="A task, e.g. camvid_day_dusk.", autocompletion=completing.tasks)],
    methods: Annotated[str, typer.Option(help="Recipes of the task, comma-separated; all of them if empty.")] = "",
    seeds: Annotated[str, typer.Option(help="Seeds, comma-separated.")] = "0,1,2",
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Settings to change, e.g. source.steps=400.")
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(help="Run each recipe on so many folds of the target images; rows are means over them."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the runs and the table.", callback=out_folder)] = None,
    root: Roots = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Run the recipes of a task with several seeds and write one table; goes on where it stopped."""
    from segadapt.bench.pages import markdown
    from segadapt.bench.table import bench_table

    def show(seed: int, row: Mapping[str, Any]) -> None:
        if not json:
            score = "-" if row["scores"] is None else f"{row['scores']['miou']:.1f}"
            fold = row["fold"] and f", fold {row['fold']}"
            console.print(f"{task}: {row['title']}, seed {seed}{fold}: mIoU {score}")

    made = bench_table(
        task,
        [m.strip() for m in methods.split(",")] if methods.strip() else None,
        numbers_of(seeds),
        out or Path("runs") / "bench" / Path(task).resolve().name,
        parse_roots(root),
        overrides=overrides or [],
        folds=folds,
        quiet=quiet or json,
        on_row=show,
    )
    print_json(made) if json else console.print(markdown(made), soft_wrap=True)
