"""Opens the data sets that a configuration names, in the label space of the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from segadapt.data.cache import DecodedCache
from segadapt.data.check import DAMAGED_IMAGE, check_dataset
from segadapt.data.dataset import Dataset, Held
from segadapt.data.folder import open_folder
from segadapt.data.labelling import some
from segadapt.data.readers import open_dataset, reader_info, to_space
from segadapt.engine.bundle import DataBundle
from segadapt.errors import RequestError
from segadapt.labels import LabelSpace, label_space
from segadapt.runs.config import DataConfig, DataSpec
from segadapt.runs.roots import resolve_root

PYTHON = "python"
"""Reader of data sets that a script gives."""

CHECKED_AT_START = 1000
"""Data sets of up to so many images are read once before a run starts."""


def open_spec(
    spec: DataSpec,
    labelled: bool,
    roots: Mapping[str, str],
    where: str,
    like: LabelSpace | None = None,
    part: str | None = None,
) -> Dataset:
    """Open the data set of a spec; without ``labelled`` no path to a label is ever formed.

    Args:
        spec: settings of the data set.
        labelled: whether its labels are wanted.
        roots: where named data sets lie.
        where: name of its part in the run, for messages.
        like: label space of another data set; masks in folders without a classes file are read as its masks are.
        part: part of the run whose ids in the classes file count, see :data:`segadapt.data.classes_file.PARTS`.
    """
    if spec.reader == "folder":
        if spec.images is None:
            raise RequestError(f"{where}: a folder data set needs 'images'")
        if labelled and spec.labels is None:
            raise RequestError(f"{where}: labels are needed here; give 'labels', the folder of the masks")
        if spec.split:
            raise RequestError(
                f"{where}: a folder has no split '{spec.split}'; name its images in a file, one per line, and give "
                "that as list_file"
            )
        dataset = open_folder(
            Path(spec.images),
            Path(spec.labels) if labelled and spec.labels else None,
            Path(spec.classes) if labelled and spec.classes else None,
            spec.ignore_ids,
            name=where,
            like=like.names if like is not None else (),
            part=part,
            list_file=Path(spec.list_file) if spec.list_file else None,
            pair=spec.pair,
            unannotated=spec.unannotated if labelled else None,
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


Given = Mapping[str, Dataset]
"""Data sets that a script gives, by their part in the run: source, target, oracle, test."""


@dataclass(frozen=True)
class OpenedData:
    """The data of a run.

    Attributes:
        training: data that methods train on.
        test: labelled test images, or None.
        space: label space of the run.
    """

    training: DataBundle
    test: Dataset | None
    space: LabelSpace

    @property
    def datasets(self) -> dict[str, Dataset]:
        """The data sets by their part in the run, without those that only an oracle opens."""
        training = {"source": self.training.source, "target": self.training.target}
        return training if self.test is None else {**training, "test": self.test}


def open_data(
    config: DataConfig, roots: Mapping[str, str], cache_folder: Path, given: Given | None = None
) -> OpenedData:
    """Open the data sets of a run and bring their labels into one label space.

    Args:
        config: data part of the run's configuration.
        roots: where named data sets lie.
        cache_folder: folder for statistics of the data, cached by content.
        given: data sets of the parts that have the reader ``python``.

    Raises:
        RequestError: a data set cannot be opened, or no class name is shared.
    """
    opener = _Opener(config, roots, given or {})
    source = opener.open("source", config.source, labelled=True)
    written = source.space
    space = label_space(config.space) if config.space else written
    source = in_space(source, space, "source", config.source.merge)
    target = opener.open("target", config.target, labelled=False).unlabelled()

    def labelled(part: str, spec: DataSpec) -> Dataset:
        return in_space(opener.open(part, spec, labelled=True, like=written), space, part, spec.merge)

    oracle = partial(labelled, "oracle", config.oracle) if config.oracle is not None else None
    truth = None
    if config.measure_labels:
        if oracle is None:
            raise RequestError("data.measure_labels compares with data.oracle, which the recipe does not give")
        truth = oracle()
        if [i.id for i in truth.items] != [i.id for i in target.items]:
            raise RequestError("data.measure_labels needs data.oracle to hold the same images as data.target")
    training = DataBundle(
        source=source,
        target=target,
        oracle=oracle,
        truth=truth,
        source_size=config.source.size,
        target_size=config.target.size,
        cache_folder=cache_folder,
        cache=DecodedCache(config.cache_mb << 20),
        workers=config.workers,
        skip_damaged=config.skip_damaged,
    )
    return OpenedData(training, labelled("test", config.test) if config.test is not None else None, space)


@dataclass(frozen=True)
class _Opener:
    """Opens the data sets of one configuration by their part in the run."""

    config: DataConfig
    roots: Mapping[str, str]
    given: Given

    def open(self, part: str, spec: DataSpec, labelled: bool, like: LabelSpace | None = None) -> Dataset:
        """Open one data set; a labelled folder without a classes file reads its masks as the source's are read."""
        if spec.reader == PYTHON:
            if part not in self.given:
                raise RequestError(
                    f"{part}: this data set was given from a script; run that script again (segadapt.adapt with the "
                    f"same {part}), or give folders"
                )
            dataset = self.given[part]
            if not len(dataset):
                raise RequestError(f"{part}: the data set that was given is empty")
            if labelled and not dataset.labelled:
                raise RequestError(f"{part}: labels are needed here, and the data set that was given has none")
            return dataset if labelled else dataset.unlabelled()
        source = self.config.source
        if labelled and spec.reader == source.reader == "folder" and spec.classes is None:
            spec = spec.model_copy(update={"classes": source.classes, "ignore_ids": source.ignore_ids})
        masks = "target" if part == "oracle" else part  # an oracle sees the labels of the target
        return open_spec(spec, labelled, self.roots, part, like, masks)


def check_files(datasets: Mapping[str, Dataset], skip_damaged: bool, warn: Callable[[str], None]) -> None:
    """Say what opening the data sets left out, and read every file of small ones before hours are spent on them.

    Larger ones than :data:`CHECKED_AT_START` are left to ``segadapt data check`` and to training,
    which names a bad file when it meets it.

    Raises:
        RequestError: a file is bad, or labels hold no class at all; damaged images are only warned of with
            ``skip_damaged``.
    """
    for where, dataset in datasets.items():
        for remark in dataset.remarks:
            warn(f"{where}: {remark.text}")
        if len(dataset) > CHECKED_AT_START:
            continue
        report = check_dataset(dataset)
        wrong = [e for e in report.errors if not (skip_damaged and e.kind == DAMAGED_IMAGE)]
        if wrong:
            lists = "" if isinstance(dataset.items[0].image, Held) else "; 'segadapt data check' lists them"
            more = f" (and {len(wrong) - 1} more{lists})" if len(wrong) > 1 else ""
            raise RequestError(f"{where}: {wrong[0].message}{more}")
        if report.labels and not report.pixels.any():
            raise RequestError(
                f"{where}: no mask holds a pixel of any class, all are ignored; check the values of the masks against "
                f"the classes ({some(dataset.space.names)})"
            )
        for problem in report.errors:
            warn(f"{where}: {problem.message}")


def in_space(dataset: Dataset, space: LabelSpace, where: str, merge: Mapping[str, str] | None = None) -> Dataset:
    """Return the data set with its labels in the classes of ``space``, matched by name.

    Where its labels lack some of the classes, the mean over the classes that they have is a subset to score.

    Args:
        dataset: any data set.
        space: the label space of the run.
        where: the data set's part in the run, for messages.
        merge: class name of the data set -> class of ``space`` that it counts as.

    Raises:
        RequestError: no class name is shared.
    """
    if dataset.space.same_classes(space) and not merge:
        return dataset
    present = set(dataset.space.mapping_to(space, merge).tolist())
    shared = [name for train_id, name in enumerate(space.names) if train_id in present]
    if not shared:
        raise RequestError(
            f"{where}: its classes ({', '.join(dataset.space.names[:4])}, ...) have no name in common with "
            f"{', '.join(space.names[:4])}, ...; give a classes file with these names"
        )
    if len(shared) < len(space):
        space = replace(space, subsets={**space.subsets, f"the {len(shared)} classes labelled here": tuple(shared)})
    return to_space(dataset, space, merge)
