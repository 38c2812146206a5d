"""Endless, exactly resumable streams of training batches.

Everything random about sample number ``n`` of a stream (which image, which crop) is a pure
function of ``(seed, key, n)``. A stream therefore starts anywhere without replaying its
beginning, so a resumed run equals an uninterrupted one, and ``P`` processes read together exactly the
batches that one process would have read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from segadapt.core.types import Size
from segadapt.data.augment import Grid, Window, crop_images
from segadapt.data.cache import DecodedCache
from segadapt.data.collating import Collated, Extra, Raw, Recoloured, collate, size_in_bytes
from segadapt.data.colour_transfer import lab_statistics, transfer_colours
from segadapt.data.dataset import DamagedFile, Picture
from segadapt.data.photometric import color_jitter
from segadapt.data.resize import resize_image, resize_label
from segadapt.data.streams import Augmentation, Member, Part, Sampler, Stream
from segadapt.data.strong import Strong, strong_view
from segadapt.data.workers import AHEAD, ROOMY, Decoders, fitting, shared_memory, too_little
from segadapt.errors import RequestError
from segadapt.labels import IGNORE, LabelMap

__all__ = ["Augmentation", "Feeder", "Part", "Samples", "Stream"]

_SPREAD = 2
"""Bytes of the largest sample of a stream as a multiple of any other, about: a window covers more at a small scale."""
_ATTEMPTS = 16
"""Files in a row that may be damaged where damaged files are skipped."""
T = TypeVar("T")
_Described = tuple[str, int, int]
"""An image whose colours are described: its role, the part of the stream, its place in the data set."""


class Samples(NamedTuple):
    """A training batch on the device.

    Attributes:
        images: [B, C, h, w] float32 in [0, 1].
        labels: [B, h, w] int64 train ids and IGNORE.
        domain: [B] int64, 0 source and 1 target.
        windows: the rectangle of each sample in its own image.
        sizes: (height, width) of each sample's image at working size.
        scores: [B, K, h', w'] compact class scores of the whole images, or None.
        ids: names of the samples, for messages.
        strong: strong views of ``images``, if the stream makes them.
        whole: [B, C, H, W] the whole images at working size, zeros beside smaller ones, if asked for.
    """

    images: Tensor
    labels: Tensor
    domain: Tensor
    windows: list[Window]
    sizes: list[Size]
    scores: Tensor | None
    ids: list[str]
    strong: Strong | None = None
    whole: Tensor | None = None


def _collated(raws: list[Raw | RequestError], whole: bool) -> Collated | RequestError:
    """Return a batch, or what was wrong with the first sample that could not be read."""
    read = [raw for raw in raws if not isinstance(raw, RequestError)]
    return next((raw for raw in raws if isinstance(raw, RequestError)), None) or collate(read, whole)


class _Pool(torch.utils.data.Dataset[Raw | RequestError]):
    """Maps a sample number to a raw sample, or to the RequestError that reading it raised.

    The error is returned, as one that a decoding process raises would arrive as the text of its traceback.
    """

    def __init__(self, stream: Stream, seed: int, cache: DecodedCache, skip_damaged: bool):
        self.stream = stream
        self.sampler = Sampler(stream, seed)
        self.cache = cache
        self.skip_damaged = skip_damaged
        # Asked for here, because a decoding process may not know the augmentations that were registered.
        self.extra_draws = [part.augmentation.extra_draws for part in stream.parts]
        self._kept: dict[_Described, npt.NDArray[np.float32]] = {}

    def __getitem__(self, number: int) -> Raw | RequestError:
        try:
            return self._raw(number)
        except RequestError as problem:
            return problem

    def _raw(self, number: int) -> Raw:
        damaged: list[str] = []

        def attempt(place: int) -> Raw:
            return self._sample(self.sampler.member(number + place), number, damaged)

        return self._readable(attempt, len(self.stream), damaged)._replace(damaged=tuple(damaged))

    def _readable(self, read: Callable[[int], T], choices: int, damaged: list[str]) -> T:
        """Return the first of several choices that can be read; the others are named in ``damaged``."""
        failed: list[str] = []
        for attempt in range(min(_ATTEMPTS, choices)):
            try:
                return read(attempt)
            except DamagedFile as problem:
                if not self.skip_damaged:
                    raise
                failed.append(str(problem))
                damaged.append(str(problem))
        raise RequestError(f"{len(failed)} files in a row cannot be read, the first: {failed[0]}")

    def _sample(self, member: Member, number: int, damaged: list[str]) -> Raw:
        part, index = member.part, member.place
        item = part.dataset.items[index]
        image = self.cache.get(
            ("image", item.image, part.resize), lambda: resize_image(part.dataset.image(index), part.resize)
        )
        if item.label is None:
            label: LabelMap = np.full(image.shape[:2], IGNORE, np.uint8)
        else:
            label = self.cache.get(
                ("label", item.label, part.resize), lambda: resize_label(part.dataset.label(index), part.resize)
            )
            if label.shape != image.shape[:2]:
                label = resize_label(label, (image.shape[0], image.shape[1]))
        rng = self.sampler.numbers(number)
        window, crop = self.sampler.window(member, label, rng, number)
        draws = rng.random(4, dtype=np.float32)
        strong_draws = rng.random(self.stream.strong.numbers if self.stream.strong else 0, dtype=np.float32)
        extra_draws = rng.random(self.extra_draws[member.part_number], dtype=np.float32)
        return Raw(
            image=image,
            label=label,
            window=window,
            crop=crop,
            domain=part.domain,
            jitter=part.augmentation.jitter,
            draws=draws,
            scores=part.scores(index) if part.scores is not None else None,
            strong_draws=strong_draws,
            part=member.part_number,
            extra_draws=extra_draws,
            colours=self._colours(member, image, number, damaged) if part.takes_colours else None,
            id=item.id,
            damaged=(),
        )

    def _colours(self, member: Member, image: Picture, number: int, damaged: list[str]) -> npt.NDArray[np.float32]:
        """Return the LAB statistics [2, 2, C] of an image and of the image whose colours its crop takes."""
        part = member.part
        if not part.colours:
            raise RequestError(
                "augmentation.colour_transfer takes colours from target images, and this stream has none; give them "
                "with Stream.with_colours, or set augmentation.colour_transfer=none"
            )
        target = part.colours
        first = self.sampler.colours(number, len(target))
        own = self._statistics(("own", member.part_number, member.place), lambda: image)

        def wanted(attempt: int) -> npt.NDArray[np.float32]:
            place = (first + attempt) % len(target)
            return self._statistics(("wanted", member.part_number, place), lambda: target.image(place))

        return np.stack([own, self._readable(wanted, len(target), damaged)])

    def _statistics(self, key: _Described, image: Callable[[], Picture]) -> npt.NDArray[np.float32]:
        """Return the LAB statistics of an image; they are kept, so each image is decoded for them once at most."""
        if key not in self._kept:
            self._kept[key] = lab_statistics(image())
        return self._kept[key]


@dataclass
class Feeder:
    """Batches of one stream for one process, from any step on.

    Args:
        stream: the samples and how they are drawn.
        seed: of the run.
        device: where batches end up; augmentation runs there, on the whole batch at once.
        rank, processes: this process and how many there are; each global batch is dealt out.
        workers: decoding processes; 0 decodes in the training process.
        cache: memory for decoded images; decoding processes divide its rest.
        skip_damaged: replace unreadable files by the next sample instead of stopping.
        streams: how many streams are fed at a time, each by ``workers`` processes of its own.
        warn: told where shared memory is too small for so many workers, and fewer are started.
    """

    stream: Stream
    seed: int
    device: torch.device
    rank: int = 0
    processes: int = 1
    workers: int = 0
    cache: DecodedCache = field(default_factory=lambda: DecodedCache(0))
    skip_damaged: bool = False
    streams: int = 1
    warn: Callable[[str], None] = lambda text: None
    damaged: set[str] = field(default_factory=set)

    def batches(self, first: int, last: int) -> Iterator[Samples]:
        """Yield the batches of steps ``first`` to ``last - 1``."""
        if len(self.stream) == 0:
            raise RequestError("there are no training images; check the folders of the recipe")
        size = self.stream.batch_size
        if size < self.processes:
            raise RequestError(
                f"a batch of {size} cannot be dealt out to {self.processes} processes; "
                f"set batch_size to at least {self.processes}"
            )
        numbers = [
            list(range(step * size + self.rank, (step + 1) * size, self.processes)) for step in range(first, last)
        ]
        decoders = self._decoders(numbers)
        cache = self.cache.divided(decoders.processes * self.streams) if decoders.processes else self.cache
        loader: DataLoader[Any] = DataLoader(
            _Pool(self.stream, self.seed, cache, self.skip_damaged),
            batch_sampler=numbers,
            num_workers=decoders.processes,
            collate_fn=partial(_collated, whole=self.stream.whole),
            pin_memory=self.device.type == "cuda",
            prefetch_factor=decoders.ahead or None,
        )
        for raw in loader:
            if isinstance(raw, RequestError):
                raise raw
            self.damaged.update(raw.damaged)
            yield self._finish(raw)

    def _decoders(self, numbers: Sequence[Sequence[int]]) -> Decoders:
        """Return the decoding processes; fewer than wanted where their batches do not fit into shared memory."""
        free = shared_memory(self.streams) if self.workers and numbers else None
        if free is None or free >= ROOMY:
            return Decoders(self.workers, AHEAD if self.workers else 0)
        sample = _Pool(self.stream, self.seed, self.cache, self.skip_damaged)[numbers[0][0]]
        if isinstance(sample, RequestError):
            raise sample
        batch = _SPREAD * size_in_bytes(collate([sample], self.stream.whole)) * len(numbers[0])
        found = fitting(self.workers, batch, free)
        if found.processes < self.workers:
            self.warn(too_little(self.workers, found, batch, free))
        return found

    def _finish(self, raw: Collated) -> Samples:
        whole = raw.images.to(self.device, non_blocking=True)
        images = crop_images(whole, Grid(*(axis.at(self.device) for axis in raw.grid)))
        labels = raw.labels.to(self.device, non_blocking=True).long()
        if raw.recoloured is not None:
            images = self._with_colours(images, raw.recoloured)
        if bool((raw.jitter > 0).any()):
            images = color_jitter(images, raw.jitter, raw.draws)
        images = self._with_extra(images, raw.extra)
        strong = strong_view(images, raw.strong_draws, self.stream.strong) if self.stream.strong else None
        return Samples(
            images=images.contiguous(memory_format=torch.channels_last),
            labels=labels,
            domain=raw.domain.to(self.device),
            windows=raw.windows,
            sizes=raw.sizes,
            scores=raw.scores.to(self.device, non_blocking=True) if raw.scores is not None else None,
            ids=raw.ids,
            strong=strong,
            whole=(whole.float() / 255).contiguous(memory_format=torch.channels_last) if self.stream.whole else None,
        )

    def _with_colours(self, images: Tensor, recoloured: Recoloured) -> Tensor:
        """Give source crops the colours of target images; return all crops."""
        samples = torch.tensor(recoloured.samples).to(self.device, non_blocking=True)
        own, wanted = recoloured.statistics.to(self.device, non_blocking=True).unbind(1)
        return images.index_copy(0, samples, transfer_colours(images[samples], own, wanted))

    def _with_extra(self, images: Tensor, extra: Sequence[Extra]) -> Tensor:
        """Return the crops after the further augmentations of the part that each comes from."""
        for part, samples, draws in extra:
            options = self.stream.parts[part].augmentation
            if options.extra:
                changed = options.apply_extra(images[samples], draws.to(self.device, non_blocking=True))
                images = images.index_copy(0, torch.tensor(samples, device=self.device), changed)
        return images
