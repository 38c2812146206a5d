"""Bringing labels into the classes of a run or a model: by name, and no class is left out in silence.

A class of a user's own masks that has no counterpart is an error, which names the class that is probably meant; it is
mended by the name in the classes file, or by ``merge``. Published data sets have more classes than some protocols use,
such as the 16 of SYNTHIA; which of them are left out is told in a notice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from segadapt.core.alike import alike
from segadapt.data.dataset import Dataset, Notice
from segadapt.data.masks.few_classes import require_two
from segadapt.data.readers import to_space
from segadapt.errors import RequestError
from segadapt.labels import SPACES, LabelSpace

_NAMED = 6


def in_space(dataset: Dataset, space: LabelSpace, where: str, merge: Mapping[str, str] | None = None) -> Dataset:
    """Return the data set with its labels in the classes of ``space``, matched by name.

    Where its labels lack some of the classes, the mean over the classes that they have is a subset to score.

    Args:
        dataset: any data set.
        space: the label space of the run.
        where: the data set's part in the run, for messages.
        merge: class name of the data set -> class of ``space`` that it counts as, or ``ignore``.

    Raises:
        RequestError: ``space`` has a single class, no class name is shared, or a class of a user's own masks has no
            counterpart.
    """
    require_two(space, where)
    if dataset.space.same_classes(space) and not merge:
        return dataset
    shared = _shared(dataset.space, space, merge)
    left_out = [n for n in dataset.space.names if n not in space.names and n not in (merge or {})]
    published = dataset.space.name in SPACES
    if left_out and (not published or not shared):
        raise RequestError(f"{where}: {_without_counterpart(left_out, space, shared)}")
    if left_out:
        told = f"{where}: pixels of {_some(left_out)} are ignored, as these are no classes of '{space.name}'"
        dataset = replace(dataset, notices=(*dataset.notices, Notice(told)))
    if len(shared) < len(space):
        space = replace(space, subsets={**space.subsets, f"the {len(shared)} classes labelled here": tuple(shared)})
    return to_space(dataset, space, merge)


def require_several_classes(written: LabelSpace, space: LabelSpace, merge: Mapping[str, str] | None) -> None:
    """Raise RequestError where the source labels fewer than two classes of the run."""
    shared = _shared(written, space, merge)
    if len(shared) < 2:
        raise RequestError(
            f"source: of the classes {_some(space.names)}, its masks label '{shared[0]}' alone; at least two are "
            "needed to train, so name the others in its classes file, or merge them"
        )


def _shared(written: LabelSpace, space: LabelSpace, merge: Mapping[str, str] | None) -> list[str]:
    present = set(written.mapping_to(space, merge).tolist())
    return [name for train_id, name in enumerate(space.names) if train_id in present]


def _without_counterpart(left_out: Sequence[str], space: LabelSpace, shared: Sequence[str]) -> str:
    lacking = [name for name in space.names if name not in shared]
    meant = {name: alike(name, lacking) for name in left_out}
    guesses = [f"'{name}' (did you mean '{goal}'?)" for name, goal in meant.items() if goal is not None]
    others = [f"'{name}'" for name, goal in meant.items() if goal is None]
    count = "class" if len(left_out) == 1 else "classes"
    example = next((f"{name}={goal}" for name, goal in meant.items() if goal is not None), f"{left_out[0]}=ignore")
    return (
        f"the {count} {_some([*guesses, *others])} of the masks {'is' if len(left_out) == 1 else 'are'} none of "
        f"{_some(space.names)}; give the names of these in the classes file, or say what counts as what by merge "
        f"({example}; =ignore leaves out)"
    )


def _some(values: Sequence[str]) -> str:
    more = f", ... ({len(values)})" if len(values) > _NAMED else ""
    return ", ".join(values[:_NAMED]) + more
