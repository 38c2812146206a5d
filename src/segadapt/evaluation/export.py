"""Models as ONNX files, checked against torch."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segadapt.core.files import replacing
from segadapt.errors import RequestError, RunError, first_line
from segadapt.evaluation.onnx_metadata import add_metadata
from segadapt.models.inference import InferenceConfig, evaluation_mode, predict_labels
from segadapt.models.prototype_net import PrototypeNet
from segadapt.models.segmenter import Segmenter

MAX_ERROR = 1e-3
MAX_DISAGREEMENT = 1e-3
OPSET = 18

Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class ExportReport:
    """The comparison of an exported model with torch on random images.

    Attributes:
        path: the ONNX file.
        max_error: largest difference of the logits as a share of the largest logit.
        disagreement: share of the pixels that get another class.
        shapes: the input shapes [B, C, H, W] that were compared.
        exporter: ``dynamo`` or ``torchscript``.
        bytes: size of the file.
        input: what the model takes, in words, if its ``metadata`` say that.
    """

    path: str
    max_error: float
    disagreement: float
    shapes: tuple[Shape, ...]
    exporter: str
    bytes: int
    input: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "shapes": [list(shape) for shape in self.shapes]}


class Deployed(nn.Module):
    """The network as it is exported: with its preprocessing, and class scores at the size of the image.

    Input ``images`` [B, C, H, W] float32 in [0, 1], RGB or the bands of the network; outputs ``logits`` [B, K, H, W]
    float32 and ``labels`` [B, H, W] uint8 train ids. Scores are enlarged as in all predictions of the model.
    """

    def __init__(self, model: Segmenter, align_corners: bool):
        super().__init__()
        self.model = model
        self.align_corners = align_corners

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.model(images).logits
        logits = F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=self.align_corners)
        return logits, logits.argmax(1).to(torch.uint8)


def export_onnx(
    model: Segmenter,
    path: Path,
    height: int,
    width: int,
    dynamic: bool = False,
    inference: InferenceConfig | None = None,
    metadata: Mapping[str, str] | None = None,
) -> ExportReport:
    """Write ``model`` as an ONNX file and compare it with torch through onnxruntime.

    The file holds one pass over the whole image; labels are compared with :func:`predict_labels` of one such pass.

    Args:
        model: the network; where it is and its training flags stay as they are.
        path: the file; weights are inside it.
        height, width: size of the images in pixels.
        dynamic: let batch, height and width vary; otherwise batch 1 at this size only. The check
            then also covers a batch of 2 at another size.
        inference: how the model predicts. Its ``align_corners`` holds here too; several scales, mirrored
            views and windows are for the caller of the exported model.
        metadata: entries for the ``metadata_props`` of the file, see
            :func:`segadapt.evaluation.onnx_metadata.onnx_metadata`.

    Raises:
        RequestError: onnx, onnxscript or onnxruntime is not installed; or it predicts by prototypes with full
            covariances, which ONNX cannot express.
        RunError: the model cannot be exported, or the exported model differs from torch by more
            than 0.1 % (logits, relative to the largest; or share of pixels of another class). No file is left then.
    """
    _require_libraries()
    if height < 1 or width < 1:
        raise RequestError(f"cannot export for images of {height} x {width} pixels; both must be at least 1")
    if isinstance(model, PrototypeNet) and model.kind == "full":
        raise RequestError(
            "ONNX has no Cholesky decomposition, so prototypes with full covariances cannot be exported; export the "
            "classifier, or train with mpcl.kind=gaussian"
        )
    shapes: list[Shape] = [(1, model.bands, height, width)]
    if dynamic:
        shapes.append((2, model.bands, _other_size(height, model.stride), _other_size(width, model.stride)))
    device = next(model.parameters()).device
    try:
        with replacing(path) as temporary, evaluation_mode(model), torch.no_grad():
            # An exporter leaves all parts of a module in the mode of its outermost part.
            deployed = Deployed(model.cpu(), (inference or InferenceConfig()).align_corners).eval()
            exporter, error, disagreement = _write_and_compare(
                deployed, temporary, shapes, dynamic, dict(metadata or {})
            )
    finally:
        model.to(device)
    return ExportReport(
        path=str(path),
        max_error=error,
        disagreement=disagreement,
        shapes=tuple(shapes),
        exporter=exporter,
        bytes=path.stat().st_size,
        input=(metadata or {}).get("input", ""),
    )


def _require_libraries() -> None:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise RequestError(f'export needs {", ".join(missing)}; install with: pip install "segadapt[export]"')


def _other_size(pixels: int, stride: int) -> int:
    """Return another size for the second comparison, a few strides and one pixel larger."""
    return pixels + 3 * stride + 1


def _write_and_compare(
    deployed: Deployed, path: Path, shapes: list[Shape], dynamic: bool, metadata: dict[str, str]
) -> tuple[str, float, float]:
    """Export with the current exporter, or with the older one if its result is not good enough.

    The other way round where sizes vary: the current one then reasons about them for minutes, the older one takes
    seconds, and the comparison at two sizes tells whether it wrote one of them down.
    """
    # A batch of 2 keeps a varying batch dimension from being specialised to 1.
    example = torch.rand(2 if dynamic else 1, *shapes[0][1:])
    problems = []
    exporters = [("dynamo", _write_dynamo), ("torchscript", _write_torchscript)]
    for exporter, attempt in reversed(exporters) if dynamic else exporters:
        try:
            with _silence():
                attempt(deployed, path, example, dynamic)
            add_metadata(path, metadata)
            error, disagreement = _compare(deployed, path, shapes)
        # Each exporter has its own exceptions, and they differ between versions of torch.
        except Exception as problem:
            problems.append(f"{exporter}: {first_line(problem)}")
            continue
        if error <= MAX_ERROR and disagreement <= MAX_DISAGREEMENT:
            return exporter, error, disagreement
        problems.append(f"{exporter}: logits off by {error:.2%}, {disagreement:.2%} of the pixels get another class")
    raise RunError(f"the model cannot be exported to ONNX so that it agrees with torch ({'; '.join(problems)})")


def _write_dynamo(deployed: Deployed, path: Path, example: Tensor, dynamic: bool) -> None:
    axes = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    program = torch.onnx.export(
        deployed,
        (example,),
        dynamo=True,
        input_names=["images"],
        output_names=["logits", "labels"],
        dynamic_shapes=(axes,) if dynamic else None,
        opset_version=OPSET,
        verbose=False,
    )
    assert program is not None
    program.save(str(path), external_data=False)


def _write_torchscript(deployed: Deployed, path: Path, example: Tensor, dynamic: bool) -> None:
    pixels = {2: "height", 3: "width"}
    axes = {
        "images": {0: "batch", **pixels},
        "logits": {0: "batch", **pixels},
        "labels": {0: "batch", 1: "height", 2: "width"},
    }
    torch.onnx.export(
        deployed,
        (example,),
        str(path),
        dynamo=False,
        input_names=["images"],
        output_names=["logits", "labels"],
        dynamic_axes=axes if dynamic else None,
        opset_version=OPSET,
    )


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Hide the exporters' progress prints and warnings; the comparison afterwards decides."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _compare(deployed: Deployed, path: Path, shapes: list[Shape]) -> tuple[float, float]:
    """Return the largest relative difference of the logits, and the largest share of other labels, over the shapes."""
    import onnxruntime

    once = InferenceConfig(align_corners=deployed.align_corners)

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    error = disagreement = 0.0
    for number, shape in enumerate(shapes):
        images = torch.rand(shape, generator=torch.Generator().manual_seed(number))
        logits = deployed(images)[0].numpy()
        labels = predict_labels(deployed.model, images, (shape[2], shape[3]), once)[0].numpy()
        got_logits, got_labels = session.run(["logits", "labels"], {"images": images.numpy()})
        if got_logits.shape != logits.shape:
            raise ValueError(f"output {got_logits.shape} for images {shape} instead of {logits.shape}")
        error = max(error, _relative_difference(got_logits, logits))
        disagreement = max(disagreement, float((got_labels != labels).mean()))
    return error, disagreement


def _relative_difference(got: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> float:
    difference = float(np.abs(got - expected).max() / max(float(np.abs(expected).max()), 1e-12))
    return difference if np.isfinite(difference) else float("inf")
