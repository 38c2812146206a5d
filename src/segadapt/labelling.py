"""Pseudo labels for a folder of images, outside any training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segadapt.config import checked
from segadapt.data.folder import open_folder
from segadapt.data.resize import Resize
from segadapt.engine.record import Record
from segadapt.engine.runtime import Runtime
from segadapt.engine.world import DataBundle, RoundWorld
from segadapt.errors import RequestError
from segadapt.methods.cbst import CBST, CBSTConfig
from segadapt.models.inference import InferenceConfig
from segadapt.models.store import LoadedModel
from segadapt.opening import in_space


def label_images(
    loaded: LoadedModel,
    images: Path,
    out: Path,
    portion: float,
    policy: str,
    labels: Path | None,
    classes: Path | None,
    size: Resize,
    inference: InferenceConfig,
    runtime: Runtime,
    quiet: bool,
) -> dict[str, Any]:
    """Write ``out/labels/ID.png`` (index masks, 255 unlabelled) and ``out/labels.json``; return the summary.

    ``labels`` are true masks with which the pseudo labels are compared afterwards; thresholds and
    selection never see them.
    """
    target = open_folder(images, None, None, name="label")
    truth = None
    if labels is not None:
        truth = in_space(open_folder(images, labels, classes, name="label"), loaded.space, "label")
        if [i.id for i in truth.items] != [i.id for i in target.items]:
            raise RequestError(f"'{labels}' does not hold a mask for every image of '{images}'")
    bundle = DataBundle(target, target, None, truth, None, size, out / "cache")
    world = RoundWorld(bundle, loaded.space, 0, runtime, Record(out, False, quiet), out)
    settings = {"name": "label", "portion": portion, "policy": policy, "inference": inference}
    method = CBST(checked(CBSTConfig, settings, "label"), loaded.model, loaded.space).to(runtime.device).eval()
    method.prepare(0, world)
    summary = world.finish_prepare("label", 0)
    if summary is None:
        raise RequestError(f"no image in '{images}' could be labelled")
    return summary
