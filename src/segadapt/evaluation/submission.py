"""Predictions of withheld test images in the formats of the benchmarks' servers.

The sources of these formats stand in docs/data.md; no server has been asked.
"""

from __future__ import annotations

import itertools
import time
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from segadapt.core.files import replacing, write_bytes
from segadapt.data.dataset import DamagedFile, Picture
from segadapt.data.decode import read_picture
from segadapt.data.files.writing import encode_index_png, encode_picture
from segadapt.data.masks.mask_format import mask_format
from segadapt.data.readers import open_dataset
from segadapt.data.resize import Resize
from segadapt.engine.together import Together
from segadapt.errors import RequestError, nearest
from segadapt.evaluation.inputs import find_inputs
from segadapt.evaluation.placing import require_free
from segadapt.evaluation.predictor import Predicted, Predictor, predict_each
from segadapt.evaluation.scoring import Progress
from segadapt.labels import CITYSCAPES, LabelMap, LabelSpace
from segadapt.models.inference import InferenceConfig
from segadapt.models.segmenter import Segmenter

LABELS, INVALID, CONFIDENCE = "labelTrainIds", "labelTrainIds_invalid", "confidence"


@dataclass(frozen=True)
class Server:
    """The format that the server of a benchmark asks for.

    Attributes:
        ids: ids in the label files: ``train`` or ``cityscapes``.
        folders: folder of the files -> their content, :data:`LABELS` or :data:`CONFIDENCE`.
        marker: folder of the images in the data set's own layout.
        ending: end of the names of the images.
        count: number of images of the test split.
    """

    ids: str
    folders: Mapping[str, str]
    marker: str
    ending: str
    count: int


SERVERS: dict[str, Server] = {
    "cityscapes": Server("cityscapes", {"": LABELS}, "leftImg8bit", "_leftImg8bit.png", 1525),
    "acdc": Server("train", {LABELS: LABELS}, "rgb_anon", "_rgb_anon.png", 2000),
    "dark_zurich": Server(
        "train", {LABELS: LABELS, INVALID: LABELS, CONFIDENCE: CONFIDENCE}, "rgb_anon", "_rgb_anon.png", 151
    ),
}
"""The servers that are known, by the name of their data set."""


@dataclass(frozen=True)
class SubmissionSummary:
    """The files written for a server.

    Attributes:
        benchmark: name of the server's data set.
        count: images predicted.
        expected: images that the server asks for.
        seconds: wall time.
        output: folder of the files.
        archive: the zip file to hand in, or None.
    """

    benchmark: str
    count: int
    expected: int
    seconds: float
    output: str
    archive: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def predict_submission(
    model: Segmenter,
    space: LabelSpace,
    given: Path,
    output: Path,
    benchmark: str,
    config: InferenceConfig | None = None,
    device: torch.device | str | None = None,
    *,
    size: Resize = None,
    archive: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    together: Together | None = None,
) -> SubmissionSummary:
    """Predict the test images of a benchmark into the files that its server wants.

    Files have the name and the size of their image and lie flat in one folder per kind: label ids of
    Cityscapes in ``output`` itself; train ids in ``labelTrainIds``; for Dark Zurich the same again in
    ``labelTrainIds_invalid`` (no pixel is declared invalid) and, in ``confidence``, 16-bit grey with
    65535 times the probability of the predicted class.

    Args:
        model: the network; moved to ``device`` if one is given.
        space: its label space, the classes of Cityscapes in any order.
        given: the data set as downloaded, to predict its test split; or any folder of its images.
        output: folder for the files, made if needed.
        benchmark: a key of :data:`SERVERS`.
        config, device, size: see :func:`segadapt.evaluation.predict.predict_array`.
        archive: also write ``output`` with the ending .zip.
        overwrite: replace files that exist; otherwise their presence is an error.
        progress: called after every image with (done, total).
        together: processes that share the images; ``progress`` counts the share of each.

    Raises:
        RequestError: unknown server, another label space, no images, files in the way, or an image
            that cannot be read (a server refuses incomplete submissions).
    """
    started = time.monotonic()
    server = _server(benchmark)
    _require_cityscapes(space, model)
    images = submission_images(given, output, benchmark)
    packed = output.with_name(f"{output.name}.zip") if archive else None
    _require_own_folder(output, packed, server, images, overwrite)
    table = _ids(space, server)
    together = together or Together()
    together.meet()  # nothing is written before all have looked for what is in the way
    mine, numbers = together.share(images), itertools.count(1)

    def write(path: Path, _: Picture, made: Predicted) -> None:
        label, confidence = made.fetched()
        for folder, holds in server.folders.items():
            content = encode_index_png(table[label]) if holds == LABELS else _confidence_png(confidence)
            write_bytes(output / folder / _name(path), content)

    def refuse(_: Path, problem: DamagedFile) -> None:
        raise problem

    def advance() -> None:
        together.look()
        if progress is not None:
            progress(next(numbers), len(mine))

    predict_each(Predictor.of(model, config, device, size), mine, read_picture, write, refuse, advance)
    together.meet()
    if packed is not None and together.main:
        _pack(output, packed, server, images)
    together.meet()
    seconds = round(time.monotonic() - started, 3)
    return SubmissionSummary(
        benchmark=benchmark,
        count=len(images),
        expected=server.count,
        seconds=seconds,
        output=str(output),
        archive=str(packed) if packed else None,
    )


def submission_images(given: Path, output: Path, benchmark: str) -> list[Path]:
    """List the images to predict: the test split of a data set as downloaded, or all of its images below a folder.

    Reference images, which no server asks for, are left out.
    """
    server = _server(benchmark)
    if (given / server.marker).is_dir():
        items = open_dataset(benchmark, given, "test", labelled=False).items
        images = [path for item in items for path in item.files]
    else:
        images = [path for path in find_inputs(given, output).images if path.name.endswith(server.ending)]
    if not images:
        raise RequestError(f"{benchmark}: no image in '{given}' is called *{server.ending}")
    names = [_name(path) for path in images]
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice:
        raise RequestError(f"{benchmark}: two images in '{given}' are called {twice}; a submission has one folder")
    return images


def _server(benchmark: str) -> Server:
    if benchmark not in SERVERS:
        raise RequestError(f"no server '{benchmark}'{nearest(benchmark, SERVERS)}; there are: {', '.join(SERVERS)}")
    return SERVERS[benchmark]


def _require_cityscapes(space: LabelSpace, model: Segmenter) -> None:
    if set(space.names) != set(CITYSCAPES.names):
        raise RequestError(
            f"the servers score the {len(CITYSCAPES)} classes of Cityscapes; this model predicts the {len(space)} of "
            f"'{space.name}', so its predictions cannot be handed in"
        )
    if len(space) != model.classes:
        raise RequestError(f"the model has {model.classes} classes, label space '{space.name}' has {len(space)}")


def _ids(space: LabelSpace, server: Server) -> LabelMap:
    """Return the look-up table [256] from the model's classes to the ids that a server asks for."""
    return np.asarray(mask_format(CITYSCAPES, server.ids).table[space.mapping_to(CITYSCAPES)], np.uint8)


def _name(image: Path) -> str:
    return f"{image.stem}.png"


def _require_own_folder(output: Path, packed: Path | None, server: Server, images: list[Path], overwrite: bool) -> None:
    """Raise RequestError if a file would replace an image, or lie beside files that are not of this submission."""
    wanted = {output / folder / _name(path) for folder in server.folders for path in images}
    require_free((*sorted(wanted), *([packed] if packed else [])), images, overwrite)
    strangers = sorted(p for p in output.rglob("*.png") if p not in wanted) if output.is_dir() else []
    if strangers:
        raise RequestError(f"'{strangers[0]}' is not part of this submission; name another output folder")


def _confidence_png(confidence: npt.NDArray[np.float32]) -> bytes:
    grey = np.rint(np.clip(confidence, 0, 1) * np.iinfo(np.uint16).max).astype(np.uint16)
    return encode_picture(".png", grey)


def _pack(output: Path, packed: Path, server: Server, images: list[Path]) -> None:
    """Write all files of the submission into one archive, with the folders at its top; whole or not at all."""
    # PNG files are compressed already.
    with replacing(packed) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for folder in server.folders:
            for path in images:
                archive.write(output / folder / _name(path), str(Path(folder) / _name(path)))
