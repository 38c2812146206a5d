"""``data``: check data sets, list readers, render the toy world."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segadapt.cli.common import (
    Classes,
    DataRoot,
    IgnoreId,
    Images,
    Json,
    Labels,
    ListFile,
    MaxPixels,
    Pair,
    Part,
    Plugins,
    Quiet,
    Reader,
    Roots,
    Split,
    Unannotated,
    console,
    data_spec,
    out_folder,
    parse_roots,
    print_json,
    print_rows,
)
from segadapt.errors import RequestError


def check(
    images: Images = None,
    labels: Labels = None,
    classes: Classes = None,
    ignore_id: IgnoreId = "255",
    reader: Reader = "folder",
    data_root: DataRoot = "",
    split: Split = "",
    part: Part = None,
    list_file: ListFile = None,
    pair: Pair = None,
    unannotated: Unannotated = None,
    unlabelled: Annotated[bool, typer.Option(help="Check the images alone.")] = False,
    pictures: Annotated[
        Path | None, typer.Option(help="Write overlay pictures into this folder.", callback=out_folder)
    ] = None,
    show_classes: Annotated[
        Path | None,
        typer.Option(
            help="Instead, write a picture of each value or colour of the masks into this folder, with or without "
            "classes.",
            callback=out_folder,
        ),
    ] = None,
    max_pixels: MaxPixels = None,
    limit: Annotated[int | None, typer.Option(help="Check only this many images, evenly spaced.")] = None,
    root: Roots = None,
    plugin: Plugins = None,
    json: Json = False,
) -> None:
    """Read every file of a data set and list its problems; exit status 2 if there are errors."""
    from segadapt.core.registry import load_plugins
    from segadapt.data.bands import reader_in
    from segadapt.data.check import OTHER_NUMBER, Problem, check_dataset
    from segadapt.data.folder import describe_classes
    from segadapt.data.readers import reader_info
    from segadapt.engine.record import Steps
    from segadapt.runs.opening import open_spec

    load_plugins(plugin or ())
    if show_classes is not None:
        _show_classes(images, labels, show_classes, list_file, json)
        return
    labelled = not unlabelled and not (reader == "folder" and labels is None)
    spec = data_spec(images, labels, classes, ignore_id, reader, data_root, split, limit, list_file, pair, unannotated)
    dataset = open_spec(spec, labelled, parse_roots(root), reader, part=part)
    with Steps("check", len(dataset), quiet=json) as steps:
        report = check_dataset(dataset, pictures, progress=lambda *_: steps.advance())
    if reader != "folder" and limit is None:
        info = reader_info(reader)
        split = split or info.splits[0]
        expected = info.published.get(split, len(dataset))
        if len(dataset) != expected:
            missing = f"'{split}' has {len(dataset)} images here and {expected} as published; is the download complete?"
            report.warnings.append(Problem(OTHER_NUMBER, split, missing))
    found = {**report.to_dict(), "notices": [notice.text for notice in dataset.notices]}
    if json:
        print_json(found)
    else:
        if reader == "folder" and labelled:
            console.print(describe_classes(dataset), soft_wrap=True)
        *lines, verdict = report.lines()
        reading = reader_in(dataset)
        for line in (*([reading.described] if reading else []), *lines, *found["notices"], verdict):
            console.print(line, soft_wrap=True)
    if not report.ok:
        raise RequestError(report.verdict())


def _show_classes(images: Path | None, labels: Path | None, folder: Path, list_file: Path | None, json: bool) -> None:
    """Write a picture of each value or colour of masks, and list them."""
    from segadapt.data.masks.value_pictures import show_signs

    if images is None or labels is None:
        raise RequestError("--show-classes needs folders: give --images and --labels")
    signs, total = show_signs(images, labels, folder, list_file)
    if json:
        print_json({"total": total, "shown": [sign.to_dict() for sign in signs]})
        return
    rows = [[s.sign, f"{100 * s.share:.3f} %", str(s.masks), Path(s.picture).name, s.image] for s in signs]
    print_rows(["in the masks", "of pixels", "masks", "picture", "most in"], rows)
    more = f", the {len(signs)} most frequent are shown" if total > len(signs) else ""
    console.print(f"{total} values or colours{more}; pictures in {folder}", soft_wrap=True)


def readers(json: Json = False) -> None:
    """List the data sets that can be read as downloaded."""
    from segadapt.data.readers import READERS

    if json:
        print_json({name: {"summary": info.summary, "splits": list(info.splits)} for name, info in READERS.items()})
        return
    print_rows(["reader", "splits", "what"], [[n, ", ".join(i.splits), i.summary] for n, i in READERS.items()])


def tile(
    images: Annotated[Path, typer.Argument(help="Folder of images, or one image; GeoTIFF, and whatever GDAL reads.")],
    labels: Annotated[Path | None, typer.Option(help="Folder of their masks, or the mask of the one image.")] = None,
    out: Annotated[Path, typer.Option(help="Gets images/ and labels/.", callback=out_folder)] = Path("tiles"),
    size: Annotated[int, typer.Option("--tile", min=1, help="Height and width of a tile in pixels.")] = 1024,
    overlap: Annotated[float, typer.Option(min=0, max=0.99, help="Share of a tile that the next shows again.")] = 0.0,
    overwrite: Annotated[bool, typer.Option(help="Replace tiles that exist.")] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Cut images too large to train on, and their masks, into GeoTIFF tiles."""
    from segadapt.data.tiling import cut_into_tiles
    from segadapt.engine.record import Steps

    with Steps("tile", 0, quiet=quiet or json) as steps:
        progress = lambda _, total: steps.advance(total=total)  # noqa: E731
        made = cut_into_tiles(images, labels, out, size, overlap, overwrite=overwrite, progress=progress)
    if json:
        print_json(made.to_dict())
    elif not quiet:
        left_out = f"; {made.empty} without data left out" if made.empty else ""
        console.print(
            f"{made.tiles} tiles of {made.images} image{'s' * (made.images != 1)}{left_out} -> {out}", soft_wrap=True
        )


def toy(
    out: Annotated[Path, typer.Option(help="Folder of the toy world.", callback=out_folder)] = Path("toy"),
    source: Annotated[int, typer.Option(min=1, help="Source images (game look).")] = 240,
    target: Annotated[int, typer.Option(min=1, help="Target training images (camera look).")] = 160,
    test: Annotated[int, typer.Option(min=1, help="Target test images.")] = 50,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    height: Annotated[int, typer.Option(min=64)] = 256,
    width: Annotated[int, typer.Option(min=128)] = 512,
    quiet: Quiet = False,
) -> None:
    """Render the toy world in the layouts of GTA5, SYNTHIA and Cityscapes."""
    from segadapt.engine.record import Steps
    from segadapt.toy import write_world

    total = 2 * source + 2 * (target + test)
    with Steps("render", total, quiet=quiet) as steps:
        write_world(out, source, target, test, seed, height, width, announce=lambda *_: steps.advance())
    if not quiet:
        console.print(f"toy world in {out}: gta5/, synthia/, cityscapes/, night/", soft_wrap=True)
