"""Speed and memory of the streaming class thresholds, compared with a full sort of the same confidences."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from segadapt.engine.runtime import process_peak
from segadapt.labels import CITYSCAPES
from segadapt.pieces.thresholds import ClassThresholds

_BASE_MAPS = 4


class ConfidenceStream:
    """An endless supply of confidence maps, made at a small fraction of the cost of predicting them.

    Each image is one of a few base maps, rolled and scaled by its own amounts, so that its float32 values
    are new while each class keeps its distribution. Class sizes are as uneven as in street scenes, and
    confident classes are saturated near one, as softmax outputs are. Equal indices give equal images.
    """

    def __init__(self, classes: int, height: int, width: int, seed: int):
        generator = torch.Generator().manual_seed(seed)
        share = torch.logspace(0, -3, classes)
        # Classes lie in blobs, as in images: drawn on a coarse grid and enlarged without blending.
        cells = (max(1, height // 8), max(1, width // 8))
        steepness = torch.linspace(8, 1, classes)
        self.maps: list[tuple[Tensor, Tensor]] = []
        for _ in range(_BASE_MAPS):
            coarse = torch.multinomial(share, cells[0] * cells[1], replacement=True, generator=generator).view(cells)
            rows = torch.arange(height) * cells[0] // height
            predicted = coarse[rows][:, torch.arange(width) * cells[1] // width]
            noise = torch.randn(height, width, generator=generator).mul_(0.5)
            confidence = torch.sigmoid_(noise.mul_(steepness[predicted]).add_(steepness[predicted]))
            self.maps.append((confidence, predicted.to(torch.uint8)))

    def image(self, index: int) -> tuple[Tensor, Tensor]:
        """Return confidence [H, W] float32 in (0, 1) and predicted class [H, W] uint8."""
        confidence, predicted = self.maps[index % _BASE_MAPS]
        shift, shrink = index * 37 % confidence.shape[0], 1 - (index * 7919 % 10007) * 1e-6
        return (confidence * shrink).roll(shift, 0), predicted.roll(shift, 0)


def bench_thresholds(
    *,
    images: int = 2975,
    height: int = 1024,
    width: int = 2048,
    classes: int = len(CITYSCAPES),
    sort_images: int = 8,
    portion: float = 0.2,
    seed: int = 0,
    threads: int | None = None,
) -> dict[str, Any]:
    """Rank the confidences of ``images`` maps in a stream, and of a few of them by sorting too.

    Args:
        images, height, width, classes: the size of the job; the defaults are the Cityscapes training set.
        sort_images: number of images that are also ranked by sorting each class, for comparison.
        portion: share of the pixels of each class to select, in [0, 1].
        seed: seed of the synthetic maps.
        threads: torch threads during the measurement; None keeps the current number.

    Returns:
        The job, and the measurements. ``seconds`` is the time of both looks without the making of the
        maps, which is ``generate_seconds``. ``peak_memory_mb`` is the peak memory of the process in MB
        (10^6 bytes) with everything, imports included; ``added_memory_mb`` is the streaming part of it.
        ``equal_to_sort`` tells whether stream and sort agree to the bit on the images that were sorted.
        ``share_error`` is the largest absolute difference, over classes, between the portion and the share
        of pixels at or above the threshold, over all images.

    Raises:
        RequestError: ``portion`` is outside [0, 1].

    Example::

        result = bench_thresholds(images=100, height=256, width=512)
        print(result["milliseconds_per_image_and_look"], result["equal_to_sort"])
    """
    before_threads = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        stream = ConfidenceStream(classes, height, width, seed)
        before = process_peak()
        whole, count_seconds, generate_seconds = _stream(stream, images, classes, portion)
        streamed = process_peak()
        few, few_seconds, _ = _stream(stream, min(sort_images, images), classes, portion)
        by_sort, sort_seconds = _sort(stream, min(sort_images, images), classes, portion)
    finally:
        torch.set_num_threads(before_threads)
    return {
        "images": images,
        "pixels": images * height * width,
        "classes": classes,
        "portion": portion,
        "threads": threads or before_threads,
        "seconds": count_seconds,
        "images_per_second": images / count_seconds,
        "milliseconds_per_image_and_look": 500 * count_seconds / images,
        "generate_seconds": generate_seconds,
        "peak_memory_mb": streamed / 1e6,
        "added_memory_mb": (streamed - before) / 1e6,
        "counter_memory_mb": whole.histogram.numel() * whole.histogram.element_size() / 1e6,
        "share_error": share_error(whole),
        "sort_images": min(sort_images, images),
        "sort_seconds": sort_seconds,
        "sort_memory_mb": min(sort_images, images) * height * width * 4 / 1e6,
        "stream_seconds_on_sort_images": few_seconds,
        "equal_to_sort": bool(torch.equal(few.thresholds(), by_sort)),
    }


def share_error(ranking: ClassThresholds) -> float:
    """Compute the largest |selected_c / n_c - p| over the classes with at least 1000 confidences.

    Shorter lists cannot resolve a portion of 0.1 %.
    """
    long = ranking.ranked >= 1000
    if not bool(long.any()):
        return 0.0
    shares = ranking.selected[long].double() / ranking.ranked[long]
    return float((shares - ranking.portion).abs().max())


def _stream(
    stream: ConfidenceStream, images: int, classes: int, portion: float
) -> tuple[ClassThresholds, float, float]:
    """Rank images in a stream; return the ranking and the seconds spent counting and making maps."""
    ranking = ClassThresholds(classes, portion)
    counting = generating = 0.0
    while not ranking.exact:
        for (confidence, predicted), seconds in _timed(stream, images):
            generating += seconds
            start = time.perf_counter()
            ranking.count(confidence, predicted)
            counting += time.perf_counter() - start
        start = time.perf_counter()
        ranking.next_look()
        counting += time.perf_counter() - start
    return ranking, counting, generating


def _timed(stream: ConfidenceStream, images: int) -> Iterator[tuple[tuple[Tensor, Tensor], float]]:
    """Yield each image with the seconds that it took to make."""
    for index in range(images):
        start = time.perf_counter()
        pair = stream.image(index)
        yield pair, time.perf_counter() - start


def _sort(stream: ConfidenceStream, images: int, classes: int, portion: float) -> tuple[Tensor, float]:
    """Return the thresholds by algorithm 2 of the CBST paper, which sorts a list per class, and the seconds of it."""
    pairs = [stream.image(index) for index in range(images)]
    start = time.perf_counter()
    thresholds = torch.ones(classes)
    for c in range(classes):
        values = torch.cat([confidence[predicted == c] for confidence, predicted in pairs])
        rank = int(len(values) * portion)
        if rank:
            thresholds[c] = values.sort(descending=True).values[rank - 1]
    return thresholds, time.perf_counter() - start
