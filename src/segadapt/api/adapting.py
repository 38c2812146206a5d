"""From data to an adapted model: :func:`adapt` and :func:`resume`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from segadapt.api.asking import OwnData, asker, changes_of
from segadapt.api.choosing import Wish, chosen
from segadapt.core.files import require_writable
from segadapt.core.names import title_folder
from segadapt.data.bands import BandChoice
from segadapt.engine.record import console
from segadapt.engine.run_files import read_results
from segadapt.models.segmenter import IMAGENET, Preprocessing
from segadapt.report import write_report
from segadapt.runs.config import RunConfig, listed
from segadapt.runs.consent import Accept
from segadapt.runs.judging import judged
from segadapt.runs.moved import Moved
from segadapt.runs.own_data import Classes, PathLike
from segadapt.runs.results import RunResult, find_model
from segadapt.runs.run import Run, resumed


def adapt(
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
    out: PathLike | None = None,
    roots: Mapping[str, str] | None = None,
    seed: int | None = None,
    length: float | None = None,
    steps: int | None = None,
    budget: str | float | None = None,
    fit_memory: str | float | None = None,
    stage: str | None = None,
    reuse: PathLike | Sequence[PathLike] = (),
    accept: Accept = False,
    quiet: bool = True,
) -> RunResult:
    """Adapt a model by a recipe, between two folders, or between two data sets of one's own.

    Finished stages in ``out`` are not run again; an interrupted run goes on from its newest checkpoint.

    Args:
        recipe: name or file of a recipe, or a configuration; None for folders or data sets.
        overrides: settings to change, e.g. ``["adapt.rounds=2", "source.steps=400"]``.
        source_images, source_labels: folders of labelled images and of their masks; or their annotations, a file or a
            folder (docs/folders.md).
        target_images: folder of images without labels.
        target_labels: masks of some or all of them, or annotations, which the stages that adapt learn too;
            ``method="oracle"`` learns them alone. With ``data.measure_labels=true`` they are compared with
            pseudo labels instead, and nothing learns them (docs/few_labels.md).
        test_images, test_labels: labelled target images to score on; nothing trains on them.
        model: model file, or folder of a run, that adapting starts from instead of training on the source. Without
            source images (docs/no_source.md) its classes, sizes and preprocessing are those of the run.
        source, target, test: instead of folders, data sets: a :class:`segadapt.data.Dataset`, or any torch Dataset or
            list of (image, label) pairs, for the target of images alone. See :func:`segadapt.data.in_memory` for the
            types; labels hold train ids ``0 .. K - 1`` and 255 for none.
        classes: classes file of the masks; for data sets the class names in order of their train ids, or a label
            space. Folders without one get classes from the values of their masks.
        ignore_ids: mask values in folders that belong to no class.
        pair: names of images and masks, ``IMAGE=MASK`` with ``{}`` for what both share; for source and test, or by
            part: ``{"source": "{}_training.tif={}_manual1.gif"}``.
        bands: bands to read of source and target images that have other than red, green and blue: ``all``, or numbers
            from 1 in the order wanted; see ``data.source.bands``.
        method: for folders and data sets; None chooses method, network and sizes (docs/budget.md), with ``model`` the
            method alone.
        network: a network of one's own instead of ``model.name``: any module that maps images [B, 3, H, W] to class
            scores [B, K, h, w]. Training starts from its weights and leaves the module itself as it is. A recipe on two
            resolutions (``hrda:NAME``) looks through it twice.
        head: name of the submodule of ``network`` that makes the scores; its input becomes the features.
        preprocessing: makes the input of ``network`` from RGB images in [0, 1].
        plugins: packages that register methods, readers or augmentations when they are imported.
        out: folder of the run; ``runs/TITLE/seedN`` if None.
        roots: folders of named data sets.
        seed: seed of everything random; the recipe's seed if None.
        length, steps: share of the published steps, in (0, 1], or about so many steps of all stages together.
        budget: time for the whole run on this machine, e.g. ``30m``, ``2h`` or minutes: network, sizes and length are
            chosen for it (docs/budget.md).
        fit_memory: memory that training is to fit into, e.g. ``11GB``: batches are computed in parts, or activations
            twice, where they do not fit whole; the numbers of a batch stay what they are (docs/budget.md).
        stage: run this stage alone.
        reuse: runs to take finished stages over from, where settings, seed and training data are equal.
        accept: go on where the data are dubious; or a function that is told the findings and answers whether to.
        quiet: print warnings only.

    Raises:
        RequestError: the request is wrong, or the data are dubious; the message says where and how to fix it.
        RunError: training failed or was stopped; calling again resumes it.

    >>> import segadapt  # doctest: +SKIP
    >>> result = segadapt.adapt("toy/cbst", ["adapt.rounds=2"], roots={"toy": "demo/toy"}, out="run")  # doctest: +SKIP
    >>> result.miou, result.model  # doctest: +SKIP
    (47.7, PosixPath('run/stages/adapt/model.safetensors'))
    """
    plugins, reuse = listed(plugins), listed(reuse)
    folders = {
        "source": (source_images, source_labels),
        "target": (target_images, target_labels),
        "test": (test_images, test_labels),
    }
    datasets = {"source": source, "target": target, "test": test}
    start = None if model is None else find_model(model)
    described: dict[str, Any] = {"classes": classes, "ignore_ids": ignore_ids, "pair": pair}
    own = OwnData(folders=folders, datasets=datasets, **described, method=method, model=start)
    changes = changes_of(overrides, bands, own, recipe is not None, seed=seed, length=length)
    wish = Wish.of(recipe, changes, method, budget, fit_memory, length=length, steps=steps)
    ask = asker(recipe, own, changes, plugins, steps, (network, head, preprocessing))
    first = ask(())
    where = (
        Path(out) if out is not None else Path("runs") / title_folder(first.config.title) / f"seed{first.config.seed}"
    )
    require_writable(where, "folder for the run ('out')")
    kept, say = [where, *map(Path, reuse)], None if quiet else console.print
    request, choice = chosen(first, ask, wish, roots or {}, kept, say)
    how: dict[str, Any] = {"quiet": quiet, "reuse": [Path(r) for r in reuse], "accept": accept, "chosen": choice}
    return _executed(Run.open(request.config, where, roots, given=request.given, notes=request.notes, **how), stage)


def resume(
    run: PathLike,
    *,
    source_images: PathLike | None = None,
    source_labels: PathLike | None = None,
    target_images: PathLike | None = None,
    target_labels: PathLike | None = None,
    test_images: PathLike | None = None,
    test_labels: PathLike | None = None,
    classes: PathLike | None = None,
    stage: str | None = None,
    roots: Mapping[str, str] | None = None,
    quiet: bool = True,
) -> RunResult:
    """Go on with the run in a folder from its newest checkpoint; finished stages are not done again.

    Args:
        run: folder of the run, wherever it lies now.
        source_images, source_labels, target_images, target_labels, test_images, test_labels: where these folders lie
            now; the others lie where they did. They hold the same files.
        classes: where the classes file lies now.
        stage: run this stage alone.
        roots: where named data sets lie now; the others lie where they did.
        quiet: print warnings only.

    Raises:
        RequestError: the folder does not hold a run, or it was given data sets or a network by a script, which then
            has to call :func:`adapt` again.
        RunError: training failed or was stopped.

    >>> segadapt.resume("run").miou  # doctest: +SKIP
    47.7
    """
    folders = {
        "source": {"images": source_images, "labels": source_labels},
        "target": {"images": target_images},
        "oracle": {"labels": target_labels},
        "test": {"images": test_images, "labels": test_labels},
    }
    return _executed(resumed(Path(run), quiet, roots, moved=Moved(folders, classes)), stage)


def _executed(run: Run, stage: str | None) -> RunResult:
    """Run the stages, judge the result and write the report; a finished run that is only read has them already."""
    try:
        results, report = run.execute(stage), None
        if run.hold.read_only:
            page = run.out / "report.html"
            return RunResult.of(read_results(run.out) or results, run.out, page if page.exists() else None)
        if run.runtime.main:
            data, device = run.opened.training, str(run.runtime.device)
            results, warnings = judged(run.out, results, data.target, data.source, device, guarded=run.config.guard)
            for text in warnings:
                run.record.warn(text)
            run.write_cards()
            report = write_report(run.out)
        return RunResult.of(results, run.out, report)
    finally:
        run.hold.end()
