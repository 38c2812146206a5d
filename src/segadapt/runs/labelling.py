"""Pseudo labels for a folder of images, outside any training."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from segadapt.core.files import read_json, write_bytes
from segadapt.core.locking import locked
from segadapt.core.settings import checked
from segadapt.data.bands import in_bands, reader_of
from segadapt.data.dataset import Dataset
from segadapt.data.decode import read_index
from segadapt.data.folder import open_folder
from segadapt.data.masks.mask_format import LEGEND, MaskFormat, mask_format, require_legend_place, write_legend
from segadapt.data.resize import Resize
from segadapt.data.streaming import HELD, Behind, ordered_map
from segadapt.engine.bundle import DataBundle
from segadapt.engine.environment import RoundEnvironment
from segadapt.engine.record import Record
from segadapt.engine.runtime import Runtime
from segadapt.engine.together import Together
from segadapt.errors import RequestError
from segadapt.labels import LabelMap
from segadapt.methods.cbst import CBST, CBSTConfig
from segadapt.models.inference import InferenceConfig
from segadapt.models.store import LoadedModel
from segadapt.runs.spaces import in_space

STAGE = "label"
"""Name of the stage in ``labels.json``; a later call recognises the results of an earlier call by it."""


def label_images(
    loaded: LoadedModel,
    images: Path,
    out: Path,
    *,
    portion: float = 0.2,
    policy: str = "class_balanced",
    labels: Path | None = None,
    classes: Path | None = None,
    pair: str | None = None,
    size: Resize = None,
    inference: InferenceConfig | None = None,
    ids: str = "train",
    overwrite: bool = False,
    runtime: Runtime,
    quiet: bool = True,
    together: Together | None = None,
) -> dict[str, Any]:
    """Write ``out/labels/ID.png``, ``out/legend.json`` and ``out/labels.json``; return the summary.

    The labels are masks as :mod:`segadapt.data.masks.mask_format` has them; 255 is unlabelled, unless own ids are asked
    for.

    Nothing in ``out`` changes before all labels are made; then they may replace the results of an earlier call. The
    summary that is returned also says what the folder of the images holds beside them: ``left_out``, one line a kind.

    Args:
        loaded: the model that predicts.
        images: folder of unlabelled images.
        out: folder of the results.
        portion: share of the pixels to label, in (0, 1]; of every class, or of all for ``global``.
        policy: ``class_balanced`` (CBST) or ``global`` (ST).
        labels: true masks that the pseudo labels are compared with afterwards; thresholds and selection never see
            them.
        classes: classes file of ``labels``.
        pair: pattern of the names of images and masks; see :class:`~segadapt.data.folders.pair_pattern.PairPattern`.
        size: working size of the images; None keeps them.
        inference: how images are predicted; the defaults of InferenceConfig if None.
        ids: ``train``; ``own`` for the ids or colours of the user's masks; or ``cityscapes``.
        overwrite: replace the results of an earlier call; otherwise their presence is an error. Other files are never
            replaced.
        runtime: where to compute.
        quiet: print warnings only.
        together: lets the processes of ``runtime`` end together, and a signal stop them; None for neither.

    Raises:
        RequestError: other files are in the way of the results, the masks do not fit, or no image could be labelled.
    """
    masks = mask_format(loaded.space, ids)
    target = in_bands(open_folder(images, None, None, name="label", pair=pair), None, reader_of(loaded.input))
    truth = None
    if labels is not None:
        truth = in_space(
            open_folder(images, labels, classes, name="label", like=loaded.space.names, part="target", pair=pair),
            loaded.space,
            "label",
        )
        if [i.id for i in truth.items] != [i.id for i in target.items]:
            raise RequestError(f"'{labels}' does not hold a mask for every image of '{images}'")
    _require_free(truth or target, labels, out, overwrite)
    legend = masks.legend(loaded.provenance)
    require_legend_place(out, legend, overwrite)
    settings = {"name": STAGE, "portion": portion, "policy": policy, "inference": inference or InferenceConfig()}
    method = CBST(checked(CBSTConfig, settings, "label"), loaded.model, loaded.space).to(runtime.device).eval()
    together = together or Together(runtime)
    together.meet()  # nothing is written before all have looked for what is in the way
    with _scratch(out, together) as scratch:
        bundle = DataBundle(source=None, target=target, truth=truth, target_size=size, cache_folder=scratch)
        environment = RoundEnvironment(
            bundle,
            loaded.space,
            seed=0,
            runtime=runtime,
            record=Record(scratch, active=False, quiet=quiet),
            folder=scratch,
            look=together.look,
        )
        with torch.no_grad(), environment.storing():
            method.prepare(0, environment)
        summary = environment.finish_preparation(STAGE, 0)
        if summary is None:
            raise RequestError(f"no image in '{images}' could be labelled")
        made = sorted((scratch / "labels").rglob("*.png"))
        together.meet()  # all have listed the labels
        if ids != "train":
            _rewrite(together.share(made), masks, together)
        together.meet()
        if together.main:
            write_legend(scratch, legend, overwrite=True)
            _move((*made, scratch / LEGEND, *scratch.glob("labels.json")), scratch, out)
        together.meet()
    return {**summary, "left_out": [notice.text for notice in target.notices]}


@contextmanager
def _scratch(out: Path, together: Together) -> Iterator[Path]:
    """Make one folder in ``out`` for all processes; the main one removes it when the others have ended."""
    with ExitStack() as stack:
        name = {}
        if together.main:
            stack.enter_context(locked(out))
            name = {"scratch": stack.enter_context(tempfile.TemporaryDirectory(dir=out, prefix=".label-"))}
        stack.enter_context(together.ending())
        yield Path(together.merged(name)["scratch"])


def _rewrite(labels: Sequence[Path], masks: MaskFormat, together: Together) -> None:
    """Write label maps of train ids again as the masks that are asked for."""
    with Behind() as behind:
        for file, label in zip(labels, ordered_map(read_index, labels, memory=HELD), strict=True):
            together.look()
            behind.add(partial(_write_mask, file, label, masks), holds=label.nbytes)


def _write_mask(file: Path, label: LabelMap, masks: MaskFormat) -> None:
    write_bytes(file, masks.encode(label))


def _move(files: Sequence[Path], scratch: Path, out: Path) -> None:
    """Move finished files to their places, the last one last."""
    for file in files:
        place = out / file.relative_to(scratch)
        place.parent.mkdir(parents=True, exist_ok=True)
        file.replace(place)


def _require_free(dataset: Dataset, labels: Path | None, out: Path, overwrite: bool) -> None:
    """Refuse results that would replace an image, a true mask, or another file; an earlier result if that is not asked.

    Raises:
        RequestError: names the file.
    """
    if labels is not None and labels.resolve() == (out / "labels").resolve():
        raise RequestError(f"the pseudo labels would replace the true masks in '{labels}'; name another output folder")
    sources = {path.resolve() for item in dataset.items for path in item.files}
    summary = read_json(out / "labels.json")
    earlier = isinstance(summary, dict) and summary.get("stage") == STAGE
    results = [out / "labels.json", *(out / "labels" / f"{item.id}.png" for item in dataset.items)]
    for file in results:
        if file.resolve() in sources:
            raise RequestError(f"the result '{file}' would replace an image or a mask; name another output folder")
        if file.exists() and not earlier:
            raise RequestError(f"'{file}' exists, and no earlier 'segadapt label' wrote it; name another output folder")
    there = next((file for file in results if file.exists()), None)
    if there is not None and not overwrite:
        raise RequestError(f"'{there}' exists; name another output folder, or allow overwriting (--overwrite)")
