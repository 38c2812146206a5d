"""Stages and cost of a run, before it starts: :func:`plan`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from segadapt.api.asking import OwnData, asker, changes_of
from segadapt.api.choosing import Wish, chosen
from segadapt.data.bands import BandChoice
from segadapt.models.segmenter import IMAGENET, Preprocessing
from segadapt.runs.config import RunConfig, listed
from segadapt.runs.own_data import Classes, PathLike
from segadapt.runs.plan import plan_run
from segadapt.runs.results import find_model


def plan(
    recipe: PathLike | RunConfig | None = None,
    overrides: str | Sequence[str] = (),
    *,
    source_images: PathLike | None = None,
    source_labels: PathLike | None = None,
    target_images: PathLike | None = None,
    target_labels: PathLike | None = None,
    test_images: PathLike | None = None,
    test_labels: PathLike | None = None,
    model: PathLike | None = None,
    source: Any = None,
    target: Any = None,
    test: Any = None,
    classes: Classes | None = None,
    ignore_ids: Sequence[int] = (255,),
    pair: str | Mapping[str, str] | None = None,
    bands: BandChoice = None,
    method: str | None = None,
    network: nn.Module | None = None,
    head: str | None = None,
    preprocessing: Preprocessing = IMAGENET,
    plugins: str | Sequence[str] = (),
    roots: Mapping[str, str] | None = None,
    seed: int | None = None,
    length: float | None = None,
    steps: int | None = None,
    budget: str | float | None = None,
    fit_memory: str | float | None = None,
    measure: bool = True,
) -> dict[str, Any]:
    """Return the stages of a run with their steps and, measured on this machine, their minutes.

    Takes what :func:`segadapt.adapt` takes; nothing is kept on the disk.

    Args:
        recipe, overrides, plugins, roots, seed, length, steps, budget, fit_memory: see :func:`segadapt.adapt`.
        source_images, source_labels, target_images, target_labels, test_images, test_labels: see
            :func:`segadapt.adapt`.
        model, source, target, test, classes, ignore_ids, bands, pair, method: see :func:`segadapt.adapt`.
        network, head, preprocessing: see :func:`segadapt.adapt`.
        measure: time a few steps, a prediction and a scored image of every stage.

    Returns:
        ``stages`` with names, steps, ``step_seconds`` and ``minutes``, the ``data`` in numbers, ``minutes`` of
        the run and, where these are many, ``advice``; ``chosen`` with the reasons for what was chosen.

    Raises:
        RequestError: the request is wrong; the message says where and how to fix it.

    >>> segadapt.plan("toy/cbst", roots={"toy": "demo/toy"})["minutes"]  # doctest: +SKIP
    6.9
    """
    start = None if model is None else find_model(model)
    folders = {
        "source": (source_images, source_labels),
        "target": (target_images, target_labels),
        "test": (test_images, test_labels),
    }
    datasets = {"source": source, "target": target, "test": test}
    described: dict[str, Any] = {"classes": classes, "ignore_ids": ignore_ids, "pair": pair}
    own = OwnData(folders=folders, datasets=datasets, **described, method=method, model=start)
    changes = changes_of(overrides, bands, own, recipe is not None, seed=seed, length=length)
    wish = Wish.of(recipe, changes, method, budget, fit_memory, length=length, steps=steps)
    ask = asker(recipe, own, changes, listed(plugins), steps, (network, head, preprocessing))
    request, choice = chosen(ask(()), ask, wish, roots or {})
    planned = plan_run(request.config, roots or {}, measure, request.published, request.given)
    return {**planned, "notes": list(request.notes), "chosen": choice}
