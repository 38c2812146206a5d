"""Endless, exactly resumable streams of training batches.

Everything random about sample number ``n`` of a stream (which image, which crop) is a pure
function of ``(seed, key, n)``. A stream therefore starts anywhere without replaying its
beginning, so a resumed run equals an uninterrupted one, and ``P`` processes read together exactly the
batches that one process would have read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from segadapt.core.types import Size
from segadapt.data.augment import Window, crop_batch, crop_labels, pad_batch
from segadapt.data.cache import DecodedCache
from segadapt.data.dataset import DamagedFile
from segadapt.data.photometric import color_jitter
from segadapt.data.resize import resize_image, resize_label
from segadapt.data.streams import Augmentation, Member, Part, Sampler, Stream
from segadapt.data.strong import Strong, strong_view
from segadapt.errors import RequestError
from segadapt.labels import IGNORE, LabelMap

__all__ = ["Augmentation", "Feeder", "Part", "Samples", "Stream"]


class Samples(NamedTuple):
    """A training batch on the device.

    Attributes:
        images: [B, 3, h, w] float32 RGB in [0, 1].
        labels: [B, h, w] int64 train ids and IGNORE.
        domain: [B] int64, 0 source and 1 target.
        windows: the rectangle of each sample in its own image.
        sizes: (height, width) of each sample's image at working size.
        scores: [B, K, h', w'] compact class scores of the whole images, or None.
        ids: names of the samples, for messages.
        strong: strong views of ``images``, if the stream makes them.
        whole: [B, 3, H, W] the whole images at working size, zeros beside smaller ones, if asked for.
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


class _Raw(NamedTuple):
    image: npt.NDArray[np.uint8]
    label: LabelMap
    window: Window
    crop: Size
    domain: int
    jitter: float
    draws: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float16] | None
    strong_draws: npt.NDArray[np.float32]
    part: int
    extra_draws: npt.NDArray[np.float32]
    id: str
    damaged: tuple[str, ...]


class _Pool(torch.utils.data.Dataset[_Raw]):
    """Maps a sample number to a raw sample."""

    def __init__(self, stream: Stream, seed: int, cache: DecodedCache, skip_damaged: bool):
        self.stream = stream
        self.sampler = Sampler(stream, seed)
        self.cache = cache
        self.skip_damaged = skip_damaged
        # Asked for here, because a decoding process may not know the augmentations that were registered.
        self.extra_draws = [part.augmentation.extra_draws for part in stream.parts]

    def __getitem__(self, number: int) -> _Raw:
        damaged: list[str] = []
        for attempt in range(min(16, len(self.stream))):
            member = self.sampler.member(number + attempt)
            try:
                return self._sample(member, number, tuple(damaged))
            except DamagedFile as problem:
                if not self.skip_damaged:
                    raise
                damaged.append(str(problem))
        raise RequestError(f"{len(damaged)} files in a row cannot be read, the first: {damaged[0]}")

    def _sample(self, member: Member, number: int, damaged: tuple[str, ...]) -> _Raw:
        part, index = member.part, member.place
        item = part.dataset.items[index]
        image = self.cache.get((item.image, part.resize), lambda: resize_image(part.dataset.image(index), part.resize))
        if item.label is None:
            label: LabelMap = np.full(image.shape[:2], IGNORE, np.uint8)
        else:
            label = self.cache.get(
                (("label", item.label), part.resize), lambda: resize_label(part.dataset.label(index), part.resize)
            )
            if label.shape != image.shape[:2]:
                label = resize_label(label, (image.shape[0], image.shape[1]))
        rng = self.sampler.numbers(number)
        window, crop = self.sampler.window(member, label, rng, number)
        draws = rng.random(4, dtype=np.float32)
        strong_draws = rng.random(self.stream.strong.numbers if self.stream.strong else 0, dtype=np.float32)
        extra_draws = rng.random(self.extra_draws[member.part_number], dtype=np.float32)
        return _Raw(
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
            id=item.id,
            damaged=damaged,
        )


class _Extra(NamedTuple):
    """Samples of a batch that come from one part, and the numbers [N, n] for its further augmentations."""

    part: int
    samples: list[int]
    draws: Tensor


class _Collated(NamedTuple):
    images: Tensor
    labels: Tensor
    windows: list[Window]
    sizes: list[Size]
    crop: Size
    domain: Tensor
    jitter: Tensor
    draws: Tensor
    scores: Tensor | None
    strong_draws: npt.NDArray[np.float32]
    extra: list[_Extra]
    ids: list[str]
    damaged: list[str]


def _collate(raws: list[_Raw]) -> _Collated:
    crops = {raw.crop for raw in raws}
    crop = crops.pop() if len(crops) == 1 else (max(c[0] for c in crops), max(c[1] for c in crops))
    images, sizes = pad_batch([raw.image for raw in raws])
    labels, _ = pad_batch([raw.label for raw in raws])
    return _Collated(
        images=images,
        labels=labels,
        windows=[_widened(raw.window, raw.crop, crop) for raw in raws],
        sizes=sizes,
        crop=crop,
        domain=torch.tensor([raw.domain for raw in raws]),
        jitter=torch.tensor([raw.jitter for raw in raws]),
        draws=torch.from_numpy(np.stack([raw.draws for raw in raws])),
        scores=_stacked_scores([raw.scores for raw in raws]),
        strong_draws=np.stack([raw.strong_draws for raw in raws]),
        extra=_extra(raws),
        ids=[raw.id for raw in raws],
        damaged=[d for raw in raws for d in raw.damaged],
    )


def _extra(raws: Sequence[_Raw]) -> list[_Extra]:
    found = []
    for part in sorted({raw.part for raw in raws}):
        samples = [i for i, raw in enumerate(raws) if raw.part == part]
        found.append(_Extra(part, samples, torch.from_numpy(np.stack([raws[i].extra_draws for i in samples]))))
    return found


def _stacked_scores(maps: Sequence[npt.NDArray[np.float16] | None]) -> Tensor | None:
    """Stack score maps into one tensor [B, K, h, w]; zero for samples without one.

    Only places relative to the image matter, so maps of other shapes are enlarged to the largest.
    """
    given = [m for m in maps if m is not None]
    if not given:
        return None
    size = (max(m.shape[1] for m in given), max(m.shape[2] for m in given))
    stacked = torch.zeros((len(maps), given[0].shape[0], *size), dtype=torch.float16)
    for place, found in zip(stacked, maps, strict=True):
        if found is not None:
            scores = torch.from_numpy(found)
            if scores.shape[1:] != size:
                scores = F.interpolate(scores[None].float(), size, mode="bilinear")[0].half()
            place.copy_(scores)
    return stacked


def _widened(window: Window, crop: Size, output: Size) -> Window:
    """Return the window of a larger output at the same scale; images of several sizes are padded, not stretched."""
    if crop == output:
        return window
    height, width = window.height * output[0] / crop[0], window.width * output[1] / crop[1]
    left = window.left + window.width - width if window.flip else window.left  # mirrored, it grows to the left
    return Window(window.top, left, height, width, window.flip)


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
        cache = self.cache.divided(self.workers * self.streams) if self.workers else self.cache
        loader: DataLoader[Any] = DataLoader(
            _Pool(self.stream, self.seed, cache, self.skip_damaged),
            batch_sampler=numbers,
            num_workers=self.workers,
            collate_fn=_collate,
            pin_memory=self.device.type == "cuda",
            prefetch_factor=4 if self.workers else None,
        )
        for raw in loader:
            self.damaged.update(raw.damaged)
            yield self._finish(raw)

    def _finish(self, raw: _Collated) -> Samples:
        whole = raw.images.to(self.device, non_blocking=True)
        images = crop_batch(whole, raw.windows, raw.sizes, raw.crop)
        labels = crop_labels(raw.labels.to(self.device, non_blocking=True), raw.windows, raw.sizes, raw.crop)
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

    def _with_extra(self, images: Tensor, extra: Sequence[_Extra]) -> Tensor:
        """Return the crops after the further augmentations of the part that each comes from."""
        for part, samples, draws in extra:
            options = self.stream.parts[part].augmentation
            if options.extra:
                changed = options.apply_extra(images[samples], draws.to(self.device, non_blocking=True))
                images = images.index_copy(0, torch.tensor(samples, device=self.device), changed)
        return images
