"""Opens the data sets that a configuration names, in the label space of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from segadapt.core.limits import limit_pixels
from segadapt.core.spacing import evenly_spaced
from segadapt.data.bands import BandReader, in_bands, reader_in
from segadapt.data.cache import DecodedCache
from segadapt.data.dataset import Dataset
from segadapt.data.folder import open_folder
from segadapt.data.folders.listing import chosen as named
from segadapt.data.readers import open_dataset, reader_info
from segadapt.engine.bundle import DataBundle
from segadapt.errors import RequestError
from segadapt.labels import LabelSpace, label_space
from segadapt.runs.config import DataConfig, DataSpec
from segadapt.runs.folds import adapted_to, require_one_set, tested_on, without
from segadapt.runs.merged_predictions import require_merges
from segadapt.runs.roots import resolve_root
from segadapt.runs.spaces import in_space, require_several_classes
from segadapt.runs.start import Known
from segadapt.runs.target_labels import chosen

PYTHON = "python"
"""Reader of data sets that a script gives."""


def open_spec(
    spec: DataSpec,
    labelled: bool,
    roots: Mapping[str, str],
    where: str,
    like: LabelSpace | None = None,
    part: str | None = None,
    reading: BandReader | None = None,
    partly: bool = False,
) -> Dataset:
    """Open the data set of a spec; without ``labelled`` no path to a label is ever formed.

    Args:
        spec: settings of the data set.
        labelled: whether its labels are wanted.
        roots: where named data sets lie.
        where: name of its part in the run, for messages.
        like: label space of another data set; masks in folders without a classes file are read as its masks are.
        part: part of the run whose ids in the classes file count, see :data:`segadapt.data.masks.classes_file.PARTS`.
        reading: how other images, e.g. those of the training, were read; these are read alike. None measures.
        partly: images in folders may lack labels; they are left out.
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
            partly=partly,
        )
    else:
        reader_info(spec.reader)
        if not spec.root:
            raise RequestError(f"{where}: reader '{spec.reader}' needs 'root', the folder of the data set")
        root = resolve_root(spec.root, roots)
        dataset = open_dataset(spec.reader, root, spec.split, labelled, **spec.options)
        if spec.list_file:
            dataset = listed(dataset, Path(spec.list_file), root, where)
    if not len(dataset):
        raise RequestError(f"{where}: no images found")
    if spec.limit is not None and spec.limit < len(dataset):
        dataset = dataset.subset(evenly_spaced(len(dataset), spec.limit))
    return in_bands(replace(dataset, name=where) if spec.bands else dataset, spec.bands, reading)


def listed(dataset: Dataset, file: Path, root: Path, where: str) -> Dataset:
    """Return the images of a data set that a list file names by their paths below ``root``, or the ends of these."""
    paths = [item.image for item in dataset.items if isinstance(item.image, Path)]
    wanted = set(named(file, root, paths, where))
    return dataset.subset([index for index, item in enumerate(dataset.items) if item.image in wanted])


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
    def bands(self) -> int:
        """Bands of all images of the run."""
        return self.training.target.bands

    @cached_property
    def contents(self) -> Mapping[str, Sequence[Sequence[str | int]]]:
        """Names and keys of the contents of all files, by part; as they were when this was first asked for."""
        return {part: dataset.fingerprints() for part, dataset in self.datasets.items()}

    @property
    def readings(self) -> dict[str, str]:
        """A line on how images of other than 8-bit RGB are read, for source and target."""
        found = {part: reader_in(data) for part, data in self.datasets.items() if part != "test"}
        return {part: reader.described for part, reader in found.items() if reader is not None and reader.described}

    @property
    def datasets(self) -> dict[str, Dataset]:
        """The data sets by their part in the run, without those that only an oracle opens."""
        training = self.training
        parts = {"source": training.source, "target": training.target, "labelled": training.labelled, "test": self.test}
        return {part: dataset for part, dataset in parts.items() if dataset is not None}


def open_data(
    config: DataConfig,
    roots: Mapping[str, str],
    cache_folder: Path | None,
    given: Given | None = None,
    known: Known | None = None,
) -> OpenedData:
    """Open the data sets of a run and bring their labels into one label space.

    Args:
        config: data part of the run's configuration.
        roots: where named data sets lie.
        cache_folder: folder for statistics of the data, cached by content; None keeps none.
        given: data sets of the parts that have the reader ``python``.
        known: stands in for what the source would say, in a run without.

    Raises:
        RequestError: a data set cannot be opened, or no class name is shared.
    """
    limit_pixels(config.max_pixels)
    opener = _Opener(config, roots, given or {})
    source = None if config.source is None else opener.open("source", config.source, labelled=True)
    if source is not None:
        written, reading = source.space, None
    elif known is not None:
        written, reading = known.space, known.reading
    else:
        raise RequestError("no source images and no model file to start from; give one of the two (docs/no_source.md)")
    target = opener.open("target", config.target, labelled=False, reading=reading).unlabelled()
    target = adapted_to(target, config.fold)
    if source is not None:
        _require_same_bands(source, target, "target")

    def opened(part: str, spec: DataSpec) -> Dataset:
        found = opener.open(part, spec, labelled=True, like=written, reading=reader_in(target))
        _require_same_bands(target, found, part)
        return found

    test = tested_on(opened("test", config.test), config.fold) if config.test is not None else None
    if test is not None:
        require_one_set(target, test, config)
    space = label_space(config.space) if config.space else written.numbered()
    if test is not None and not config.space:
        space = space.numbered_as(test.space)  # predictions are written in the ids of the target
    require_merges(config.merge_predictions, space)
    if source is not None and config.source is not None:
        source = in_space(source, space, "source", config.source.merge)
        require_several_classes(written, space, config.source.merge)

    def labelled(part: str, spec: DataSpec) -> Dataset:
        found = opened(part, spec)
        return in_space(without(found, test) if config.fold is not None else found, space, part, spec.merge)

    oracle = partial(labelled, "oracle", config.oracle) if config.oracle is not None else None
    if config.labelled is not None and oracle is None:
        raise RequestError("data.labelled names images of data.oracle, which the recipe does not give")
    few = chosen(oracle(), target, config.labelled) if oracle is not None and config.labelled is not None else None
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
        labelled=few,
        truth=truth,
        source_size=config.source.size if config.source is not None else None,
        target_size=config.target.size,
        cache_folder=cache_folder,
        cache=DecodedCache(config.cache_mb << 20),
        workers=config.workers,
        skip_damaged=config.skip_damaged,
    )
    tested = in_space(test, space, "test", config.test.merge) if test is not None and config.test is not None else None
    return OpenedData(training, tested, space)


@dataclass(frozen=True)
class _Opener:
    """Opens the data sets of one configuration by their part in the run."""

    config: DataConfig
    roots: Mapping[str, str]
    given: Given

    def open(
        self,
        part: str,
        spec: DataSpec,
        labelled: bool,
        like: LabelSpace | None = None,
        reading: BandReader | None = None,
    ) -> Dataset:
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
        if source and labelled and spec.reader == source.reader == "folder" and spec.classes is None:
            spec = spec.model_copy(update={"classes": source.classes, "ignore_ids": source.ignore_ids})
        masks = "target" if part == "oracle" else part  # an oracle sees the labels of the target
        partly = part == "oracle" and self.config.labelled is not None
        return open_spec(spec, labelled, self.roots, part, like, masks, reading, partly)


def _require_same_bands(one: Dataset, other: Dataset, part: str) -> None:
    """Refuse images of other bands than those that the network is built for."""
    if one.bands != other.bands:
        raise RequestError(
            f"{part}: its images are read in {other.bands} bands, the others of the run in {one.bands}; choose as many "
            f"of both: --bands, or data.source.bands and data.target.bands"
        )
