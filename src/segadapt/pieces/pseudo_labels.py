"""Pseudo labels from class probabilities and thresholds, and the compact scores they come from.

A probability map of one 1024 x 2048 image takes 160 MB. So scores are stored at the network's
own stride, as half-precision log-probabilities, and become full maps, whole or within a training
crop, when they are needed. Functions that go through a full map do so in bands of rows.

Self-training (ST), class-balanced self-training (CBST): Zou et al., ECCV 2018. Label entropy
regularisation (LRENT): Zou et al., ICCV 2019.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from segadapt.errors import RequestError
from segadapt.labels import IGNORE
from segadapt.pieces.priors import resize_prior
from segadapt.pieces.windows import WindowLike, in_windows

STORED_POSITIONS = 129 * 257
"""Most positions of a stored score map: a 1024 x 2048 image at stride 8, corner pixels included."""

_BAND_ELEMENTS = 1 << 22
_TINY = torch.finfo(torch.float32).tiny
_LEAST_LOG = -100.0


@torch.no_grad()
def confidence_and_prediction(probabilities: Tensor, prior: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the largest probability of each pixel and its class.

    Args:
        probabilities: [B, K, H, W].
        prior: spatial prior [K, h, w] to multiply with first, resized as by
            :func:`~segadapt.pieces.priors.apply_prior`; None for none.

    Returns:
        Confidence [B, H, W] float32 and prediction [B, H, W] uint8; the first class wins a tie.

    Example:
        >>> confidence, prediction = confidence_and_prediction(torch.randn(1, 19, 64, 128).softmax(1))
    """
    height, width = probabilities.shape[-2:]
    prior = None if prior is None else resize_prior(prior, height, width)
    confidence = probabilities.new_empty(len(probabilities), height, width, dtype=torch.float32)
    prediction = torch.empty_like(confidence, dtype=torch.uint8)
    for rows in _bands(probabilities):
        band = probabilities[..., rows, :].float()
        if prior is not None:
            band = band * prior[:, rows]
        confidence[:, rows], classes = band.max(1)
        prediction[:, rows] = classes
    return confidence, prediction


@torch.no_grad()
def select(probabilities: Tensor, thresholds: Tensor) -> Tensor:
    """Make hard pseudo labels: ``argmax_c P_c / lambda_c`` where that quotient is at least 1 (CBST eq. 8).

    The largest quotient decides the class, not the largest probability. With equal thresholds this is
    self-training with one threshold (eq. 5).

    Args:
        probabilities: [B, K, H, W], weighted by a spatial prior or not, as the thresholds are.
        thresholds: [K] lambda.

    Returns:
        [B, H, W] uint8 train ids, IGNORE where no class reaches its threshold. A pixel exactly at
        its threshold is labelled.

    Example:
        >>> select(torch.tensor([[[[0.6, 0.8]], [[0.4, 0.2]]]]), torch.tensor([0.7, 0.5])).tolist()
        [[[255, 0]]]
    """
    labels = torch.empty_like(probabilities[:, 0], dtype=torch.uint8)
    scale = thresholds.float().clamp(min=_TINY)[:, None, None]
    for rows in _bands(probabilities):
        best, classes = (probabilities[..., rows, :].float() / scale).max(1)
        labels[:, rows] = torch.where(best >= 1, classes, IGNORE)
    return labels


@torch.no_grad()
def confident_labels(probabilities: Tensor, thresholds: Tensor, portion: float) -> Tensor:
    """Make hard pseudo labels as in the code of BCL (Lee et al., ECCV 2022).

    A pixel gets its most probable class where *any* class reaches its threshold, or where the largest
    probability exceeds the one at descending rank ``floor(portion * H * W)`` of the image.

    Args:
        probabilities: [B, K, H, W].
        thresholds: [K].
        portion: share of the pixels of an image that the second rule selects.

    Returns:
        [B, H, W] uint8 train ids, IGNORE elsewhere.
    """
    confidence, labels = confidence_and_prediction(probabilities)
    passes = (probabilities.float() >= thresholds.float()[:, None, None]).any(1)
    flat = confidence.flatten(1)
    rank = max(1, int(portion * flat.shape[1]))
    limit = flat.topk(rank, 1).values[:, -1]
    chosen = passes | (confidence > limit[:, None, None])
    return torch.where(chosen, labels, IGNORE)


@torch.no_grad()
def soft_labels(probabilities: Tensor, thresholds: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Make soft pseudo labels regularised by their entropy (CRST, LRENT).

    ``y_c = (P_c / lambda_c)^(1/alpha) / Z`` with ``Z`` the sum over classes; a pixel is labelled
    where ``Z > 1``. Computed from logarithms, so that no power under- or overflows.

    Args:
        probabilities: [B, K, H, W] of any floating type.
        thresholds: [K] lambda.
        alpha: temperature, above 0; towards 0 the labels become hard ones as by :func:`select`.

    Returns:
        Soft labels [B, K, H, W] float32, zero vectors where Z <= 1, and the mask [B, H, W] of the labelled pixels.
    """
    if not alpha > 0:
        raise RequestError(f"alpha of the soft labels is {alpha}; it must be above 0 (hard labels need no alpha)")
    soft = torch.empty_like(probabilities, dtype=torch.float32)
    kept = torch.empty_like(probabilities[:, 0], dtype=torch.bool)
    log_thresholds = thresholds.float().clamp(min=_TINY).log()[:, None, None]
    for rows in _bands(probabilities):
        powers = probabilities[..., rows, :].float().clamp(min=_TINY).log_()
        powers.sub_(log_thresholds).div_(alpha)
        top = powers.amax(1, keepdim=True)
        total = powers.sub_(top).exp_().sum(1, keepdim=True)
        valid = top + total.log() > 0
        soft[..., rows, :] = powers.div_(total).mul_(valid)
        kept[:, rows] = valid[:, 0]
    return soft, kept


def encode_scores(log_probabilities: Tensor, positions: int = STORED_POSITIONS) -> Tensor:
    """Return the compact form of the log-probabilities of one image, a new tensor on their device.

    Maps of more than ``positions`` places are averaged down (:func:`fitting_scores`): a 1024 x 2048
    image ends at stride 8 or wider, which is 1.26 MB with 19 classes. Log-probabilities, rather than
    raw logits, put the likely classes near zero, where half precision is finest; log-probabilities
    below -100 are stored as -100.

    Args:
        log_probabilities: [K, h, w] at the network's stride, any floating type and device.
        positions: budget; the bytes are at most ``2 * K * positions``.

    Returns:
        [K, h', w'] float16.
    """
    return fitting_scores(log_probabilities.detach().float().clamp(min=_LEAST_LOG), positions).half()


def fitting_scores(scores: Tensor, positions: int = STORED_POSITIONS) -> Tensor:
    """Average maps [K, h, w] of more than ``positions`` places down by a whole factor; return others as they are."""
    height, width = scores.shape[-2:]
    factor = max(1, math.isqrt(height * width // positions))
    while math.ceil(height / factor) * math.ceil(width / factor) > positions:
        factor += 1
    if factor == 1:
        return scores
    return F.adaptive_avg_pool2d(scores[None].float(), (math.ceil(height / factor), math.ceil(width / factor)))[0]


@torch.no_grad()
def probabilities_from_scores(scores: Tensor, size: Sequence[int], align_corners: bool = False) -> Tensor:
    """Return probabilities at full size: the softmax of the bilinearly resized log scores.

    For a single network pass this equals the softmax of the resized logits, for the two differ by one
    constant per pixel, which stays a constant when resized, and which the softmax removes.

    Args:
        scores: [B, K, h, w] as stored by :func:`encode_scores`, any floating type.
        size: (height, width) in pixels.
        align_corners: geometry of the resizing; True for networks whose corner outputs lie on the
            corner pixels.

    Returns:
        [B, K, height, width] float32.
    """
    height, width = int(size[0]), int(size[1])
    full = F.interpolate(scores.float(), (height, width), mode="bilinear", align_corners=align_corners)
    _softmax_(full)
    return full


@torch.no_grad()
def probabilities_in_window(
    scores: Tensor,
    windows: Sequence[WindowLike],
    sizes: Sequence[Sequence[int]],
    output: Sequence[int],
    align_corners: bool = False,
) -> Tensor:
    """Return probabilities within one window of each image, without making the full map.

    The same numbers as cutting the window out of :func:`probabilities_from_scores` where output
    and window have the same size; elsewhere the score map is sampled at the centres of the output
    pixels. Places outside the image repeat its border.

    Args:
        scores: [B, K, h, w] stored scores of whole images.
        windows: one window per image, in pixels of the full-size image; ``flip`` mirrors the
            output left to right.
        sizes: (height, width) of each full-size image.
        output: (height, width) of the output.
        align_corners: see :func:`probabilities_from_scores`.

    Returns:
        [B, K, height, width] float32.
    """
    sampled = in_windows(scores.float(), windows, sizes, output, align_corners)
    _softmax_(sampled)
    return sampled


def _softmax_(scores: Tensor) -> None:
    """Take the softmax over the classes [B, K, H, W] in place: a full-size map is held once only."""
    scores -= scores.amax(1, keepdim=True)
    scores.exp_()
    scores /= scores.sum(1, keepdim=True)


def _bands(maps: Tensor) -> Iterator[slice]:
    """Yield row ranges of [B, K, H, W] small enough that a copy of one costs little memory."""
    rows = max(1, _BAND_ELEMENTS // max(1, maps[..., 0, :].numel()))
    for start in range(0, maps.shape[-2], rows):
        yield slice(start, start + rows)
