"""Rows of a classifier by class name: a model of the same classes in another order is brought into the order wanted.

Which dimensions of which tensors count classes is found by building the network once more with one class more: those
are the dimensions that grow by one. So the rule holds for every network, its prototypes and its attention over classes
included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from segadapt.core.alike import alike
from segadapt.errors import RequestError
from segadapt.labels import LabelSpace
from segadapt.models.build import build_segmenter
from segadapt.models.segmenter import Segmenter
from segadapt.models.store import LoadedModel, stored_space

_FEW = 6


def in_order_of(loaded: LoadedModel, wanted: LabelSpace, path: Path) -> LoadedModel:
    """Return a model whose classes are those of ``wanted``, in its order; the network is changed in place.

    Raises:
        RequestError: the model has other classes, or its network does not tell where they are.
    """
    found = loaded.space
    if found.same_classes(wanted):
        return loaded
    if set(found.names) != set(wanted.names):
        raise RequestError(f"'{path}' {_difference(found, wanted)}")
    order = [found.index(name) for name in wanted.names]
    state = loaded.model.state_dict()
    for key, dimensions in _class_dimensions(loaded.model, path).items():
        for dimension in dimensions:
            state[key] = state[key].index_select(dimension, torch.tensor(order, device=state[key].device))
    loaded.model.load_state_dict(state)
    return replace(loaded, space=wanted)


def name_rows(model: Segmenter, fresh: Segmenter, path: Path, wanted: LabelSpace) -> bool:
    """Correct a network that took its initial weights from a model file of other classes, in place.

    A class that the file names gets its row, wherever it stands there; another one keeps its row of ``fresh``.

    Args:
        model: the network with the weights of the file.
        fresh: the same network without.
        path: the file of weights; nothing is done where it is no model file, or has another number of classes, as its
            classifier then was not taken.
        wanted: classes of the network.

    Returns:
        Whether rows were moved.

    Raises:
        RequestError: the network does not tell where its classes are.
    """
    found = stored_space(path)
    if found is None or len(found) != len(wanted) or found.same_classes(wanted):
        return False
    goals = [place for place, name in enumerate(wanted.names) if name in found.names]
    origins = [found.index(wanted.names[place]) for place in goals]
    state, new = model.state_dict(), fresh.state_dict()
    for key, dimensions in _class_dimensions(model, path).items():
        rows = new[key].clone()
        rows[_cells(rows, dimensions, goals)] = state[key][_cells(rows, dimensions, origins)]
        state[key] = rows
    model.load_state_dict(state)
    return True


def _cells(tensor: Tensor, dimensions: Sequence[int], places: Sequence[int]) -> tuple[Tensor, ...]:
    """Index the cells of some classes: in their dimensions the places, in the others everything."""
    ranges = [places if d in dimensions else range(size) for d, size in enumerate(tensor.shape)]
    return torch.meshgrid(*(torch.tensor(list(r), dtype=torch.long) for r in ranges), indexing="ij")


def _class_dimensions(model: Segmenter, path: Path) -> Mapping[str, list[int]]:
    """Return the dimensions that count classes, by the name of the tensor."""
    description = model.description()
    try:
        with torch.device("meta"):  # shapes only
            one, more = (
                build_segmenter(**{**description, "classes": model.classes + extra}).state_dict() for extra in (0, 1)
            )
        found = {
            key: [d for d, (a, b) in enumerate(zip(value.shape, more[key].shape, strict=True)) if a != b]
            for key, value in one.items()
        }
        grown = [more[key].shape[d] - one[key].shape[d] for key, dimensions in found.items() for d in dimensions]
    except Exception:  # a network of somebody else
        grown = []
    if not grown or set(grown) != {1}:
        raise RequestError(
            f"'{path}' has its classes in another order, and its network '{description.get('name')}' does not tell "
            "which parameters belong to which class; write the classes file in the order of the model"
        )
    return {key: dimensions for key, dimensions in found.items() if dimensions}


def _difference(found: LabelSpace, wanted: LabelSpace) -> str:
    lacking = [name for name in wanted.names if name not in found.names]
    further = [name for name in found.names if name not in wanted.names]
    meant = next((f" (its '{goal}'?)" for name in lacking[:1] if (goal := alike(name, further)) is not None), "")
    parts = [
        f"lacks {_some(lacking)}{meant}" if lacking else "",
        f"has {_some(further)} besides the classes of this run" if further else "",
    ]
    said = " and ".join(part for part in parts if part)
    return f"was trained for other classes: it {said}; name the classes alike, or train from the start"


def _some(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:_FEW]) + (f", ... ({len(names)})" if len(names) > _FEW else "")
