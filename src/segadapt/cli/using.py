"""``evaluate``, ``predict``, ``report``, ``export``: uses of a model or a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segadapt.cli import completing
from segadapt.cli.common import (
    Accelerator,
    Classes,
    DataRoot,
    IgnoreId,
    Images,
    Json,
    Labels,
    ListFile,
    MaxPixels,
    Merge,
    MergePredictions,
    Pair,
    Plugins,
    Quiet,
    Reader,
    Roots,
    Split,
    Unannotated,
    console,
    data_spec,
    out_file,
    out_folder,
    parse_merge,
    parse_merge_predictions,
    parse_roots,
    parse_size,
    print_json,
    print_notices,
    print_rows,
)
from segadapt.cli.predicting import Every, Kinds, Lists, Unpainted, What, kinds_of, said_of, wanted_inputs
from segadapt.errors import RequestError

if TYPE_CHECKING:
    from segadapt.data.bands import BandReader
    from segadapt.data.resize import Resize
    from segadapt.engine.runtime import Runtime
    from segadapt.engine.together import Together
    from segadapt.models.inference import InferenceConfig
    from segadapt.models.store import LoadedModel

Model = Annotated[
    Path,
    typer.Argument(help="A model file (model.safetensors), or the folder of a run.", autocompletion=completing.runs),
]
Scales = Annotated[str, typer.Option(help="Test scales, comma-separated, e.g. 0.5,0.75,1.0; empty: the model's own.")]
Flip = Annotated[bool | None, typer.Option(help="Average with the mirrored image; left out: as the model does.")]
Window = Annotated[str, typer.Option(help="Sliding window HEIGHTxWIDTH; empty: as the model does.")]
ByPrototypes = Annotated[
    bool, typer.Option("--prototypes", help="Predict by the prototypes of its stage (MPCL), not by its classifier.")
]
StageOption = Annotated[
    str, typer.Option("--stage", help="Of a run, the stage whose model to take; the recommended one if left out.")
]
IdsOption = Annotated[
    str, typer.Option(help="Values written: 'train' ids 0, 1, ..., the 'own' ids of your masks, or 'cityscapes' ids.")
]
SizeOption = Annotated[
    str, typer.Option(help="Working size: HEIGHTxWIDTH, or one number for the longest side; empty keeps the images.")
]


def inference(loaded: LoadedModel, scales: str, flip: bool | None, window: str) -> InferenceConfig:
    """Return the inference settings of the model file, changed by the options."""
    from segadapt.core.settings import checked
    from segadapt.models.inference import InferenceConfig

    settings = loaded.inference
    if scales:
        try:
            settings["scales"] = tuple(float(s) for s in scales.split(","))
        except ValueError:
            raise RequestError(f"--scales '{scales}' is not a comma-separated list of numbers") from None
    if flip is not None:
        settings["flip"] = flip
    if window:
        size = parse_size(window, "--window")
        settings["window"] = (size, size) if isinstance(size, int) else size
    return checked(InferenceConfig, settings, "inference")


def opened(model: Path, accelerator: str, prototypes: bool = False, stage: str = "") -> tuple[LoadedModel, Runtime]:
    """Join the other processes and open a model on their device."""
    from segadapt.api import load
    from segadapt.engine.runtime import Runtime
    from segadapt.runs.results import said_of_choice

    runtime = Runtime(accelerator)
    loaded = load(model, str(runtime.device), prototypes, stage=stage or None)
    if runtime.main and (said := said_of_choice(model) if not stage else ""):
        typer.echo(said, err=True)
    return loaded, runtime


@contextmanager
def sharing(runtime: Runtime, out: Path | None = None) -> Iterator[Together]:
    """Let the processes of ``torchrun`` share a command's images, and end together when one fails or is stopped.

    Nobody else writes into the folder ``out`` meanwhile.
    """
    from segadapt.core.locking import locked
    from segadapt.engine.stopping import StopRequest
    from segadapt.engine.together import Together

    with (
        StopRequest() as stop,
        Together(runtime, stop) as together,
        locked(out, together.main) if out is not None else nullcontext(),
    ):
        yield together


def hidden(together: Together, quiet: bool, json: bool) -> bool:
    """Return whether this process shows no progress; of several, the main one does."""
    return quiet or json or not together.main


def _reader(loaded: LoadedModel) -> BandReader | None:
    """Return what reads image files as those were read that the model was adapted to; None for ordinary images."""
    from segadapt.data.bands import reader_of

    return reader_of(loaded.input)


def working_size_of(loaded: LoadedModel, size: str) -> Resize:
    """Return the size asked for, or the one the model was evaluated at in its run."""
    return parse_size(size, "--size") if size else loaded.working_size


def evaluate(
    model: Model,
    images: Images = None,
    labels: Labels = None,
    classes: Classes = None,
    ignore_id: IgnoreId = "255",
    merge: Merge = None,
    merge_predictions: MergePredictions = None,
    reader: Reader = "folder",
    data_root: DataRoot = "",
    split: Split = "",
    list_file: ListFile = None,
    pair: Pair = None,
    unannotated: Unannotated = None,
    max_pixels: MaxPixels = None,
    size: SizeOption = "",
    scales: Scales = "",
    flip: Flip = None,
    window: Window = "",
    prototypes: ByPrototypes = False,
    stage: StageOption = "",
    accelerator: Accelerator = "auto",
    root: Roots = None,
    plugin: Plugins = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Score a model on labelled images."""
    from segadapt.core.registry import load_plugins
    from segadapt.data.bands import reader_of
    from segadapt.engine.record import Steps
    from segadapt.evaluation.scoring import evaluate as score
    from segadapt.runs.opening import open_spec
    from segadapt.runs.spaces import in_space

    load_plugins(plugin or ())
    loaded, runtime = opened(model, accelerator, prototypes, stage)
    merged = parse_merge_predictions(merge_predictions, loaded.space)
    spec = data_spec(images, labels, classes, ignore_id, reader, data_root, split, None, list_file, pair, unannotated)
    read = open_spec(spec, True, parse_roots(root), "labels", loaded.space, "test", reader_of(loaded.input))
    dataset = in_space(read, loaded.space, "labels", parse_merge(merge))
    if runtime.main:
        print_notices(dataset)
    with sharing(runtime) as together, Steps("evaluate", len(dataset), quiet=hidden(together, quiet, json)) as steps:
        mine = together.share(range(len(dataset)))

        def advance(done: int, _: int) -> None:
            together.look()
            steps.advance(total=len(mine))

        scores = score(
            loaded.model,
            dataset.subset(mine),
            inference(loaded, scales, flip, window),
            runtime.device,
            size=working_size_of(loaded, size),
            merge=merged,
            reduce=together.sum,
            progress=advance,
        )
    if not together.main:
        return
    if json:
        print_json(scores.to_dict())
        return
    rows = [[name, "-" if value is None else f"{value:.1f}"] for name, value in scores.to_dict()["iou"].items()]
    print_rows(["class", "IoU"], rows)
    summary = f"mIoU {scores.miou:.2f}  MPA {scores.mpa:.2f}  pixel accuracy {scores.pixel_accuracy:.2f}"
    console.print(f"{summary}  ({len(dataset)} images)")
    for name, value in scores.subsets.items():
        console.print(f"mIoU over {name}: {value:.2f}")


def _require_fitting(submission: str, ids: str, archive: bool) -> None:
    """Refuse options that contradict each other."""
    if submission and ids != "train":
        raise RequestError("--submission decides on the label values itself; leave out --ids")
    if archive and not submission:
        raise RequestError("--zip packs a submission; say for which server: --submission cityscapes")


def predict(
    model: Model,
    what: What = None,
    lists: Lists = None,
    out: Annotated[Path, typer.Option(help="Where the predictions go.", callback=out_folder)] = Path("predictions"),
    kinds: Kinds = "",
    unpainted: Unpainted = None,
    every: Every = 1,
    max_pixels: MaxPixels = None,
    size: SizeOption = "",
    scales: Scales = "",
    flip: Flip = None,
    window: Window = "",
    ids: IdsOption = "train",
    submission: Annotated[
        str, typer.Option(help="Write the files of a test server: cityscapes, acdc or dark_zurich.")
    ] = "",
    archive: Annotated[bool, typer.Option("--zip", help="With --submission: also pack it, as OUT.zip.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace files that exist.")] = False,
    prototypes: ByPrototypes = False,
    stage: StageOption = "",
    accelerator: Accelerator = "auto",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Predict images and videos: index PNG, overlay and confidence; or the files that a test server wants."""
    _require_fitting(submission, ids, archive)
    from segadapt.engine.record import Steps
    from segadapt.evaluation.predict import predict_path
    from segadapt.evaluation.submission import predict_submission
    from segadapt.evaluation.tiling import view_of

    wanted = wanted_inputs(what, lists)
    if submission and (len(wanted) != 1 or kinds or unpainted):
        raise RequestError("--submission takes one folder, and neither --kinds nor --unpainted")
    loaded, runtime = opened(model, accelerator, prototypes, stage)
    with sharing(runtime, out) as together, Steps("predict", 0, quiet=hidden(together, quiet, json)) as steps:
        how: dict[str, Any] = {
            "together": together,
            "config": inference(loaded, scales, flip, window),
            "device": runtime.device,
            "size": working_size_of(loaded, size),
            "overwrite": overwrite,
            "progress": lambda _, total: steps.advance(total=total),
        }
        if submission:
            sent = predict_submission(
                loaded.model, loaded.space, Path(wanted[0]), out, submission, archive=archive, **how
            )
        else:
            how |= {"kinds": kinds_of(kinds), "unpainted": unpainted or ()}
            how |= {"ids": ids, "every": every, "made_by": loaded.provenance, "reader": _reader(loaded)}
            how["view"] = None if size else view_of(loaded, how["config"].window)
            made = predict_path(loaded.model, loaded.space, wanted, out, **how)
    if not together.main:
        return
    if json:
        print_json(sent.to_dict() if submission else made.to_dict())
        return
    if submission and sent.count != sent.expected:
        console.print(f"the server of {sent.benchmark} asks for {sent.expected} images; these are {sent.count}")
    if not quiet:
        short = f"{sent.count} images in {sent.seconds:.1f} s -> {sent.archive or sent.output}" if submission else ""
        console.print(short or said_of(made, bool(kinds)), soft_wrap=True)


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run.", autocompletion=completing.runs)],
    out: Annotated[
        Path | None, typer.Option(help="The HTML file; report.html in the run's folder if left out.", callback=out_file)
    ] = None,
    json: Json = False,
) -> None:
    """Write the page that shows a run."""
    from segadapt.report import write_report

    path = write_report(run, out)
    print_json({"report": str(path)}) if json else console.print(str(path), soft_wrap=True)


def export(
    model: Model,
    out: Annotated[Path, typer.Option(help="The ONNX file.", callback=out_file)] = Path("model.onnx"),
    height: Annotated[
        int | None, typer.Option(min=1, help="Of the images; the model's working size, or 512, if left out.")
    ] = None,
    width: Annotated[
        int | None, typer.Option(min=1, help="Of the images; the model's working size, or 1024, if left out.")
    ] = None,
    dynamic: Annotated[bool, typer.Option(help="Let batch, height and width vary.")] = True,
    prototypes: ByPrototypes = False,
    json: Json = False,
) -> None:
    """Export a model to ONNX and check it against torch."""
    from segadapt.api import export as write_onnx
    from segadapt.api import load

    loaded = load(model, prototypes=prototypes)
    if not json:
        slow = "; where this takes minutes, --no-dynamic is quicker" if dynamic else ""
        typer.echo(f"exporting, and comparing with torch{slow}", err=True)
    made = write_onnx(loaded, out, height, width, dynamic=dynamic)
    if json:
        print_json(made.to_dict())
    else:
        console.print(f"{out}: agrees with torch, largest relative difference {made.max_error:.2g}", soft_wrap=True)
        console.print(f"takes {made.input}", soft_wrap=True)
        console.print("classes, colours and input are in the file; examples/onnx_predict.py uses them", soft_wrap=True)
