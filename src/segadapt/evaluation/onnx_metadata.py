"""Metadata of an ONNX file: classes, input, working size, origin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from segadapt.core.types import Size
from segadapt.data.resize import Resize
from segadapt.models.inference import InferenceConfig
from segadapt.models.store import LoadedModel
from segadapt.version import __version__

KEY = "segadapt"
"""Entry of the file's ``metadata_props`` that holds everything as one JSON text."""


def onnx_metadata(loaded: LoadedModel, inference: InferenceConfig, fixed: Size | None) -> dict[str, str]:
    """Return the entries for the ``metadata_props`` of an exported model.

    ``segadapt`` is a JSON text with: ``classes``, ``ids`` (values in the user's own masks, if known) and ``colors``
    by train id; ``input`` with name, layout, type,
    channels, range, working size and how images are brought to it, and how bands of files become 8 bits (``files``,
    null for ordinary images); ``output``; ``inference``, how the model predicts
    in segadapt, of which the file holds one pass; ``provenance`` and ``version``. ``classes`` and ``input`` are there
    in plain words as well.

    Args:
        loaded: the model that is exported.
        inference: how it predicts.
        fixed: (height, width) of the images if the file takes no other, else None.
    """
    space = loaded.space
    size = fixed or (loaded.working_size if loaded.working_size is not None else inference.size)
    about = {
        "format": "segadapt-onnx-1",
        "version": __version__,
        "classes": list(space.names),
        "ids": list(space.ids),
        "colors": [list(color) for color in space.colors],
        "input": {
            "name": "images",
            "layout": "NCHW",
            "type": "float32",
            "channels": _channels(loaded.model.bands),
            "files": loaded.input,
            "range": [0, 1],
            "size": _size(size),
            "resize": {"smaller": "area", "larger": "cubic"},
            "any_size": fixed is None,
        },
        "output": {
            "logits": "float32 [N, classes, height, width], at the size of the input",
            "labels": "uint8 [N, height, width], the place in classes",
            "align_corners": inference.align_corners,
        },
        "inference": inference.model_dump(mode="json"),
        "provenance": loaded.provenance,
    }
    return {
        KEY: json.dumps(about),
        "classes": json.dumps(about["classes"]),
        "input": input_line(size, fixed, loaded.model.bands),
    }


def input_line(size: Resize, fixed: Size | None, bands: int = 3) -> str:
    """Return the input of an exported model in words."""
    given = _size(size)
    if given["longest"]:
        working = f"longest side at most {given['longest']}"
    elif size is None:
        working = "the size of the image"
    else:
        working = " x ".join(str(given[side] or "in proportion") for side in ("height", "width"))
    kind = "fixed size" if fixed is not None else "working size"
    return f"images: {_channels(bands)}, float32 in [0, 1], NCHW; {kind} (height x width): {working}"


def _channels(bands: int) -> str:
    return "RGB" if bands == 3 else f"{bands} bands"


def add_metadata(path: Path, entries: dict[str, str]) -> None:
    """Add entries to the ``metadata_props`` of an ONNX file."""
    import onnx

    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, entries)
    onnx.save(model, str(path))


def _size(size: Resize) -> dict[str, Any]:
    """Return a working size with a key for each way to give it; sides that follow from the others are null."""
    height, width = size if isinstance(size, tuple) else (None, None)
    return {"height": height, "width": width, "longest": size if isinstance(size, int) else None}
