"""``import``: checkpoints of other projects as model files."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segadapt.cli.common import Json, console, out_file, print_json
from segadapt.errors import RequestError

if TYPE_CHECKING:
    from segadapt.labels import LabelSpace

LAYOUTS = {
    "adaptsegnet": "AdaptSegNet",
    "crst": "CRST",
    "proda": "ProDA",
    "cpsl": "CPSL",
    "dass": "DASS",
    "daformer": "DAFormer",
    "hrda": "HRDA",
}
"""Projects by layout, for the help: as models/importing.py reads them, which a test compares."""
SPACES = ("cityscapes19", "synthia16", "nthu13", "camvid11", "idd7", "loveda7", "isprs6")
"""Label spaces of labels.py, for the help; a test compares them."""


def import_(
    checkpoint: Annotated[Path, typer.Argument(help=f"A checkpoint of {', '.join(LAYOUTS.values())} or MIC.")],
    out: Annotated[Path, typer.Option(help="The model file.", callback=out_file)] = Path("model.safetensors"),
    layout: Annotated[str, typer.Option(help=f"{', '.join(LAYOUTS)}; empty recognises it.")] = "",
    space: Annotated[
        str, typer.Option(help=f"{', '.join(SPACES)}, or a classes file; empty goes by the number of classes.")
    ] = "",
    teacher: Annotated[
        bool, typer.Option("--teacher", help="Of a training checkpoint of DAFormer, HRDA or MIC take the teacher.")
    ] = False,
    json: Json = False,
) -> None:
    """Turn a published checkpoint into a model file."""
    from segadapt.models.importing import import_checkpoint
    from segadapt.models.store import save_model
    from segadapt.runs.model_card import write_card

    if out.suffix != ".safetensors":
        raise RequestError(f"--out '{out}' is not the name of a model file; end it in .safetensors")
    if out.resolve() == checkpoint.resolve():
        raise RequestError(f"--out '{out}' is the checkpoint itself; give the model another name")
    loaded = import_checkpoint(checkpoint, layout=layout or None, space=_space(space), teacher=teacher)
    save_model(out, loaded.model, loaded.space, loaded.provenance)
    write_card(out)
    origin = loaded.provenance["imported"]
    summary = {
        "out": str(out),
        **origin,
        "network": loaded.model.architecture["name"],
        "space": loaded.space.name,
        "classes": list(loaded.space.names),
        "preprocessing": asdict(loaded.model.preprocessing),
        "size": loaded.provenance["size"],
        "inference": loaded.provenance["inference"],
    }
    if json:
        print_json(summary)
        return
    _say("layout", f"{LAYOUTS[origin['layout']]} ({origin['layout']})")
    _say("network", loaded.model.architecture["name"])
    _say("classes", f"{len(loaded.space)} ({loaded.space.name})")
    _say("tensors", str(origin["tensors"]))
    _say("dropped", ", ".join(origin["dropped"]) or "nothing")
    _say("input", _input(summary["preprocessing"]))
    _say("model", str(out))


def _space(text: str) -> LabelSpace | str | None:
    """Return a name, or the classes of a file: by their ids where these are 0, 1, ..., else in the file's order."""
    from segadapt.data.masks.classes_file import read_classes, space_of

    if not text or text in SPACES or not Path(text).is_file():
        return text or None
    space = space_of(Path(text).stem, read_classes(Path(text), "source"))  # names are the same in every part
    numbered = sorted(zip((-1 if i is None else i for i in space.ids), space.names, strict=True))
    in_file = [number for number, _ in numbered] != list(range(len(space)))
    return space if in_file else space.reordered([name for _, name in numbered])


def _input(preprocessing: dict[str, object]) -> str:
    channels = "BGR" if preprocessing["bgr"] else "RGB"
    return f"{channels} 0 to {preprocessing['scale']:g}, mean {preprocessing['mean']}, std {preprocessing['std']}"


def _say(name: str, text: str) -> None:
    console.print(f"{name:<8} {text}", soft_wrap=True)
