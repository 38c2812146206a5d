"""Import checkpoints of AdaptSegNet, CRST, ProDA, CPSL, DASS, DAFormer, HRDA and MIC.

A layout states what the tensors do not tell: how many branches of the classifier are summed, the
preprocessing, and how the authors predicted. Reading runs no code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from segadapt.errors import RequestError, nearest
from segadapt.labels import CITYSCAPES, NTHU, SPACES, SYNTHIA, LabelSpace, distinct_colors, label_space
from segadapt.models.build import build_segmenter
from segadapt.models.class_rows import in_order_of
from segadapt.models.daformer_files import choose_network, family_architecture
from segadapt.models.deeplabv2 import BLOCKS
from segadapt.models.discriminator import Discriminator, discriminator_from, is_discriminator
from segadapt.models.inference import InferenceConfig
from segadapt.models.mit_names import recognised
from segadapt.models.proda_net import UNIT
from segadapt.models.segmenter import CAFFE, IMAGENET, Preprocessing
from segadapt.models.store import LoadedModel
from segadapt.models.unpacking import Checkpoint, State, flat, unpack
from segadapt.models.weights import differences, read_tensors

Head = Literal["single", "two-level", "vgg", "proda", "dass", "daformer", "hrda"]
"""Networks that names and shapes of tensors tell apart."""

_CLASSIFIER: Mapping[Head, str] = {
    "single": "layer5.conv2d_list.0.weight",
    "two-level": "layer6.conv2d_list.0.weight",
    "vgg": "classifier.conv2d_list.0.weight",
    "proda": "layer5.head.1.weight",
    "dass": "layer5.conv2d_list.0.weight",
    "daformer": "decode_head.conv_seg.weight",
    "hrda": "base.decode_head.conv_seg.weight",
}
"""The tensor whose first dimension is the number of classes."""

_BY_CLASSIFIER: tuple[Head, ...] = ("daformer", "hrda", "two-level", "single", "vgg")
"""Networks recognised by the name of that tensor alone, when tried in this order."""


@dataclass(frozen=True)
class Layout:
    """The common properties of the checkpoints of one project.

    Attributes:
        title: name of the project.
        heads: the networks that it publishes.
        preprocessing: the preprocessing they were trained with.
        size: longest side in pixels at which the authors predict an image.
        inference: how the authors predict; projects before DAFormer resize class scores with corners aligned.
        branches: number of branches of the atrous classifier that are summed.
    """

    title: str
    heads: tuple[Head, ...]
    preprocessing: Preprocessing
    size: int
    inference: InferenceConfig
    branches: int = 4


_ONCE = InferenceConfig(align_corners=True)

LAYOUTS: Mapping[str, Layout] = {
    "adaptsegnet": Layout("AdaptSegNet", ("two-level", "single", "vgg"), CAFFE, 1024, _ONCE, branches=2),
    "crst": Layout(
        "CRST",
        ("single",),
        IMAGENET,
        2048,
        InferenceConfig(scales=(0.9, 1.0, 1.2), flip=True, average="logits", align_corners=True),
    ),
    "proda": Layout("ProDA", ("proda",), UNIT, 2048, _ONCE),
    "cpsl": Layout("CPSL", ("proda",), UNIT, 2048, _ONCE),
    "dass": Layout("DASS", ("dass",), CAFFE, 1460, _ONCE),
    "daformer": Layout("DAFormer", ("daformer",), IMAGENET, 1024, InferenceConfig()),
    "hrda": Layout(
        "HRDA",
        ("hrda",),
        IMAGENET,
        2048,
        InferenceConfig(window=(1024, 1024), overlap=0.5, average="logits", windows_at="pixels"),
    ),
}
"""Layouts by name; a file of MIC has the layout of the method that MIC was added to."""


def import_checkpoint(
    path: str | Path,
    *,
    layout: str | None = None,
    space: LabelSpace | str | None = None,
    teacher: bool = False,
) -> LoadedModel:
    """Read a published checkpoint as a model, ready for :func:`~segadapt.models.store.save_model`.

    Args:
        path: a torch or ``.safetensors`` file.
        layout: a name of :data:`LAYOUTS`; None recognises it by names and shapes of tensors. Single-level
            AdaptSegNet and CRST share them, so name the layout for these two.
        space: the classes of the network, in order. None takes Cityscapes, SYNTHIA or the cross-city
            classes, by their number. Where the file itself names its classes, they are matched by name, and None
            takes them as they are.
        teacher: take the teacher instead of the student from a training checkpoint of DAFormer, HRDA or MIC.

    Returns:
        The model in evaluation mode and its label space. Its provenance has the entry ``imported``
        (file, sha256, layout, number of tensors, dropped entries, the numbers stored beside the
        weights), and the authors' way to predict under ``size`` and ``inference``.

    Raises:
        RequestError: the file cannot be read or is not a known checkpoint, or the layout or the label
            space does not fit it.

    Example:
        >>> loaded = import_checkpoint("GTA2Cityscapes_multi.pth", layout="adaptsegnet")
        >>> save_model(Path("adaptsegnet.safetensors"), loaded.model, loaded.space, loaded.provenance)
    """
    path = Path(path).expanduser()
    checkpoint = unpack(path)
    choose_network(checkpoint, teacher)
    head = _head(checkpoint)
    name = _layout_name(checkpoint, head, layout)
    chosen = LAYOUTS[name]
    classes = _classified(checkpoint, head)
    found = _found_space(space, classes, checkpoint)
    _drop_unused(checkpoint, head)
    arguments = {**_architecture(checkpoint.state, head, chosen), "preprocessing": chosen.preprocessing}
    with torch.device("meta"):  # names and shapes only: a file that does not fit is refused at once
        _require_all(build_segmenter(classes=classes, **arguments), checkpoint, chosen)
    model = build_segmenter(classes=classes, **arguments)
    model.load_state_dict(checkpoint.state, strict=False)
    provenance = {
        "run": f"imported/{name}",
        "imported": {
            "file": path.name,
            "sha256": _sha256(path),
            "layout": name,
            "tensors": len(checkpoint.state),
            "dropped": checkpoint.dropped,
            "numbers": checkpoint.numbers,
        },
        "size": chosen.size,
        "inference": chosen.inference.model_dump(mode="json"),
    }
    loaded = LoadedModel(model.eval(), found, provenance)
    return loaded if space is None else in_order_of(loaded, _wanted(space), path)


def import_discriminator(path: str | Path) -> Discriminator:
    """Read the discriminator of an AdaptSegNet file ``*_D1.pth`` or of a ProDA warm-up file, in training mode.

    Raises:
        RequestError: the file cannot be read or has no such discriminator.
    """
    path = Path(path).expanduser()
    raw = read_tensors(path)
    if isinstance(raw, dict) and isinstance(raw.get("FCDiscriminator"), dict):
        raw = raw["FCDiscriminator"].get("model_state")
    state = flat(raw)
    if state is None or not is_discriminator(state):
        raise RequestError(f"'{path}' has no discriminator of AdaptSegNet or ProDA")
    return discriminator_from(state)


# ---- recognising ----


def _head(checkpoint: Checkpoint) -> Head:
    """Recognise the network by names of tensors; RequestError if none fits."""
    state, path = checkpoint.state, checkpoint.path
    if is_discriminator(state):
        raise RequestError(f"'{path}' is a discriminator; give the file of the segmentation network")
    if "layer5.conv2d_list.0.0.weight" in state:
        return "proda"
    if "target_conv1.weight" in state:
        return "dass"
    for head in _BY_CLASSIFIER:
        if _CLASSIFIER[head] in state:
            return head
    resnet = "layer4.0.conv1.weight" in state or any(key.startswith("Scale.") for key in state)
    if resnet or recognised(state) is not None:
        raise RequestError(f"'{path}' holds an encoder to start from, not a trained network; use it as model.weights")
    raise RequestError(
        f"'{path}' is not a checkpoint of {', '.join(LAYOUTS)}: the first of its {len(state)} tensors is "
        f"'{next(iter(state))}'"
    )


def _layout_name(checkpoint: Checkpoint, head: Head, wanted: str | None) -> str:
    """Return the wanted layout if it fits the network, or the one that the file shows."""
    path = checkpoint.path
    candidates = [name for name, layout in LAYOUTS.items() if head in layout.heads]
    if wanted is not None:
        if wanted not in LAYOUTS:
            raise RequestError(f"no layout '{wanted}'{nearest(wanted, LAYOUTS)}; there are: {', '.join(LAYOUTS)}")
        if wanted not in candidates:
            raise RequestError(f"'{path}' is not a checkpoint of {wanted}; its tensors fit {' or '.join(candidates)}")
        return wanted
    if head == "single":
        raise RequestError(
            f"'{path}' may come from AdaptSegNet (2 branches, BGR input) or CRST (4 branches, RGB input), whose "
            f"tensors have the same names; choose one with --layout {' or --layout '.join(candidates)}"
        )
    if head == "proda":  # network and prediction are the same: only the origin differs
        return "cpsl" if "prototypes_ema" in checkpoint.dropped else "proda"
    return candidates[0]


def _classified(checkpoint: Checkpoint, head: Head) -> int:
    """Return the number of classes."""
    weight = checkpoint.state.get(_CLASSIFIER[head])
    if weight is None or weight.dim() != 4:
        raise RequestError(f"'{checkpoint.path}' lacks the classifier '{_CLASSIFIER[head]}'")
    return weight.shape[0]


def _found_space(wanted: LabelSpace | str | None, classes: int, checkpoint: Checkpoint) -> LabelSpace:
    """Return the classes of the network, in its order: as the file names them, or else as ``wanted`` has them.

    Raises:
        RequestError: the number of classes does not fit.
    """
    path, names = checkpoint.path, checkpoint.classes
    if len(names) == classes and len(set(names)) == classes:
        known = next((space for space in SPACES.values() if set(space.names) == set(names)), None)
        if known is not None:
            return known.reordered(names)
        return LabelSpace(
            "checkpoint", names, checkpoint.palette or distinct_colors(classes), ids=tuple(range(classes))
        )
    if wanted is None:
        for space in (CITYSCAPES, SYNTHIA, NTHU):
            if len(space) == classes:
                return space
        raise RequestError(f"'{path}' has {classes} classes, which no built-in label space has; name one with --space")
    space = _wanted(wanted)
    if len(space) != classes:
        raise RequestError(f"'{path}' has {classes} classes, label space '{space.name}' has {len(space)}; give another")
    return space


def _wanted(space: LabelSpace | str) -> LabelSpace:
    return label_space(space) if isinstance(space, str) else space


# ---- building ----


def _architecture(state: State, head: Head, layout: Layout) -> dict[str, Any]:
    """Return name and arguments of the network."""
    if head in ("daformer", "hrda"):
        return family_architecture(state)
    if head == "vgg":
        return {"name": "deeplabv2_vgg16", "branches": layout.branches}
    depth = _depth(state)
    if head == "proda":
        return {"name": f"proda_resnet{depth}", "extra_norm": "bn_pretrain.weight" in state}
    if head == "dass":
        return {"name": "dass_deeplabv2", "depth": depth}
    return {"name": f"deeplabv2_resnet{depth}", "branches": layout.branches, "auxiliary": head == "two-level"}


def _depth(state: State) -> int:
    """Return the depth of the ResNet by the blocks of its third level; if unknown 101, the published depth."""
    blocks = {key.split(".")[1] for key in state if key.startswith("layer3.")}
    return next((depth for depth, counts in BLOCKS.items() if counts[2] == len(blocks)), 101)


def _drop_unused(checkpoint: Checkpoint, head: Head) -> None:
    """Drop the second classifier of DASS, which its network never calls."""
    unused = [key for key in checkpoint.state if head == "dass" and key.startswith("layer6.")]
    for key in unused:
        del checkpoint.state[key]
    if unused:
        checkpoint.dropped.append("layer6")


def _require_all(model: nn.Module, checkpoint: Checkpoint, layout: Layout) -> None:
    """Raise RequestError unless the tensors are finite and just the ones the network has."""
    wrong = differences(model, checkpoint.state)
    if wrong:
        raise RequestError(
            f"'{checkpoint.path}' is not a whole network of {layout.title}: {len(wrong)} tensors are missing, unknown "
            f"or of another shape, the first is '{wrong[0]}'"
        )
    broken = [key for key, value in checkpoint.state.items() if not value.isfinite().all()]
    if broken:
        raise RequestError(f"'{checkpoint.path}' holds numbers that are not finite, the first in '{broken[0]}'")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
