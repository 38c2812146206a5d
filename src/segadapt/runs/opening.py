"""From the data part of a configuration to opened data sets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from segadapt.core.files import short_hash
from segadapt.data.cache import DecodedCache
from segadapt.data.check import DAMAGED_IMAGE, check_dataset
from segadapt.data.dataset import Dataset, Item
from segadapt.data.folder import open_folder
from segadapt.data.labelling import some
from segadapt.data.readers import open_dataset, reader_info, to_space
from segadapt.engine.bundle import DataBundle
from segadapt.errors import RequestError
from segadapt.labels import LabelSpace, label_space
from segadapt.runs.config import DataConfig, DataSpec, RunConfig, resolve_root

CHECKED_AT_START = 1000
"""Data sets of up to so many images are read once before a run starts."""


def open_spec(
    spec: DataSpec, labelled: bool, roots: Mapping[str, str], where: str, like: LabelSpace | None = None
) -> Dataset:
    """The data set of a spec; without ``labelled`` no path to a label is ever formed.

    Args:
        spec: what to open.
        labelled: whether its labels are wanted.
        roots: where named data sets lie.
        where: its part in the run, for messages.
        like: label space of a data set whose masks folders without a classes file are read like.
    """
    if spec.reader == "folder":
        if spec.images is None:
            raise RequestError(f"{where}: a folder data set needs 'images'")
        if labelled and spec.labels is None:
            raise RequestError(f"{where}: labels are needed here; give 'labels', the folder of the masks")
        dataset = open_folder(
            Path(spec.images),
            Path(spec.labels) if labelled and spec.labels else None,
            Path(spec.classes) if labelled and spec.classes else None,
            spec.ignore_ids,
            name=where,
            like=like.names if like is not None else (),
        )
    else:
        reader_info(spec.reader)
        if not spec.root:
            raise RequestError(f"{where}: reader '{spec.reader}' needs 'root', the folder of the data set")
        dataset = open_dataset(spec.reader, resolve_root(spec.root, roots), spec.split, labelled, **spec.options)
    if not len(dataset):
        raise RequestError(f"{where}: no images found")
    if spec.limit is not None and spec.limit < len(dataset):
        dataset = dataset.subset(np.linspace(0, len(dataset) - 1, spec.limit).round().astype(int).tolist())
    return dataset


def open_data(
    config: DataConfig, roots: Mapping[str, str], cache_folder: Path
) -> tuple[DataBundle, Dataset | None, LabelSpace]:
    """The training data, the test data, and the label space of the run."""
    source = open_spec(config.source, True, roots, "source")
    given = source.space
    space = label_space(config.space) if config.space else given
    source = in_space(source, space, "source", config.source.merge)
    target = open_spec(config.target, False, roots, "target").unlabelled()
    oracle_spec = config.oracle

    def oracle() -> Dataset:
        assert oracle_spec is not None
        opened = open_spec(_with_classes(oracle_spec, config), True, roots, "oracle", given)
        return in_space(opened, space, "oracle", oracle_spec.merge)

    truth = None
    if config.measure_labels:
        if oracle_spec is None:
            raise RequestError("data.measure_labels compares with data.oracle, which the recipe does not give")
        truth = oracle()
        if [i.id for i in truth.items] != [i.id for i in target.items]:
            raise RequestError("data.measure_labels needs data.oracle to hold the same images as data.target")
    test = None
    if config.test is not None:
        test = open_spec(_with_classes(config.test, config), True, roots, "test", given)
        test = in_space(test, space, "test", config.test.merge)
    bundle = DataBundle(
        source=source,
        target=target,
        oracle=oracle if oracle_spec is not None else None,
        truth=truth,
        source_size=config.source.size,
        target_size=config.target.size,
        cache_folder=cache_folder,
        cache=DecodedCache(config.cache_mb << 20),
        workers=config.workers,
        skip_damaged=config.skip_damaged,
    )
    return bundle, test, space


def check_files(datasets: Mapping[str, Dataset], skip_damaged: bool, warn: Callable[[str], None]) -> None:
    """Read every file of small data sets before hours are spent on them.

    Larger ones than :data:`CHECKED_AT_START` are left to ``segadapt data check`` and to training,
    which names a bad file when it meets it.

    Raises:
        RequestError: a file is bad, or labels hold no class at all; damaged images are only warned of with
            ``skip_damaged``.
    """
    for where, dataset in datasets.items():
        if len(dataset) > CHECKED_AT_START:
            continue
        report = check_dataset(dataset)
        wrong = [e for e in report.errors if not (skip_damaged and e.kind == DAMAGED_IMAGE)]
        if wrong:
            more = f" (and {len(wrong) - 1} more; 'segadapt data check' lists them)" if len(wrong) > 1 else ""
            raise RequestError(f"{where}: {wrong[0].message}{more}")
        if report.labels and not report.pixels.any():
            raise RequestError(
                f"{where}: no mask holds a pixel of any class, all are ignored; check the values of the masks against "
                f"the classes ({some(dataset.space.names)})"
            )
        for problem in report.errors:
            warn(f"{where}: {problem.message}")


def _with_classes(spec: DataSpec, config: DataConfig) -> DataSpec:
    """A labelled folder without a classes file reads its masks as the source's are read."""
    if spec.reader == "folder" and spec.classes is None and config.source.reader == "folder":
        return spec.model_copy(update={"classes": config.source.classes, "ignore_ids": config.source.ignore_ids})
    return spec


def in_space(dataset: Dataset, space: LabelSpace, where: str, merge: Mapping[str, str] | None = None) -> Dataset:
    """The data set re-labelled by class names; RequestError when no name is shared.

    Where its labels lack some of the classes, the mean over those that they have is a subset to score.

    Args:
        dataset: any data set.
        space: the label space of the run.
        where: the data set's part in the run, for messages.
        merge: class name of the data set -> class of ``space`` that it counts as.
    """
    if dataset.space.same_classes(space) and not merge:
        return dataset
    found = set(dataset.space.mapping_to(space, merge).tolist())
    shared = [name for train_id, name in enumerate(space.names) if train_id in found]
    if not shared:
        raise RequestError(
            f"{where}: its classes ({', '.join(dataset.space.names[:4])}, ...) have no name in common with "
            f"{', '.join(space.names[:4])}, ...; give a classes file with these names"
        )
    if len(shared) < len(space):
        space = replace(space, subsets={**space.subsets, f"the {len(shared)} classes labelled here": tuple(shared)})
    return to_space(dataset, space, merge)


def data_fingerprint(bundle: DataBundle, space: LabelSpace) -> str:
    """A short hash of what a run trains on: names and file sizes, independent of where the files lie."""
    return short_hash(
        [
            space.names,
            bundle.source.name,
            [_file_fingerprint(i) for i in bundle.source.items],
            [_file_fingerprint(i) for i in bundle.target.items],
            bundle.source_size,
            bundle.target_size,
        ]
    )


def files_fingerprint(dataset: Dataset) -> str:
    """A short hash of the names and file sizes of a data set."""
    return short_hash([_file_fingerprint(i) for i in dataset.items])


def labels_read(spec: DataSpec) -> dict[str, Any]:
    """What decides, besides the files of a data set, which classes its labels mean; nothing where all is as usual."""
    read: dict[str, Any] = {"merge": spec.merge, "options": spec.options}
    if spec.reader == "folder" and spec.ignore_ids != DataSpec().ignore_ids:
        read["ignore_ids"] = spec.ignore_ids
    if spec.classes is not None:
        read["classes"] = hashlib.sha256(Path(spec.classes).read_bytes()).hexdigest()
    return {name: value for name, value in read.items() if value}


def score_fingerprint(test: Dataset | None, space: LabelSpace, config: RunConfig) -> str:
    """A short hash of what scores depend on besides the model: test images, their size, inference."""
    what = [
        space.names,
        [_file_fingerprint(i) for i in test.items] if test is not None else None,
        test.space.to_json() if test is not None else None,
        config.data.test_size,
        config.evaluation.model_dump(mode="json"),
        labels_read(config.data.test) if config.data.test is not None else None,
    ]
    return short_hash(what)


def _file_fingerprint(item: Item) -> list[str | int]:
    return [item.id, *(path.stat().st_size for path in (item.image, item.label) if path is not None)]
