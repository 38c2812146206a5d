"""Learning from labels with any network, also one that looks at a detail crop while it trains."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from segadapt.data.loader import Samples
from segadapt.models.segmenter import Output, Segmenter
from segadapt.pieces.losses import Over, log_probabilities, negative_log_likelihood
from segadapt.pieces.terms import Term


def segmentation_terms(
    output: Output,
    labels: Tensor,
    *,
    weights: Tensor | None = None,
    align_corners: bool = False,
    prefix: str = "",
    over: Over = "valid",
) -> dict[str, Term]:
    """Return the cross entropy of a network's output with a label map, in nats.

        L = (1 - l_d) CE(up(Z), y, w) + l_d CE(up(Z_d), y[box], w[box])          (HRDA, loss of the detail crop)

    Each CE is a mean over pixels. Without a detail crop L is the first CE alone, with weight 1.

    Args:
        output: output of the network; ``detail`` brings the second share, with its box and l_d.
        labels: y [B, H, W] train ids of the images, IGNORE where there is no label.
        weights: w [B, H, W], factor on the loss of each pixel, e.g. the trust in pseudo labels.
        align_corners: convention in which class scores are enlarged to the labels.
        prefix: name of the terms: ``prefix`` and ``prefix/detail``; ``segmentation`` and ``detail`` if empty.
        over: the mean is taken over ``valid`` (labelled) pixels, or over ``all`` pixels as in
            mmsegmentation (DAFormer, HRDA, MIC), where ignored ones make the loss smaller. The weights
            are not counted either way.
    """

    def mean(logits: Tensor, y: Tensor, w: Tensor | None) -> Term:
        return negative_log_likelihood(
            log_probabilities(logits, y.shape[-2:], align_corners, channels_last=True), y, w, over
        )

    name, detail = prefix or "segmentation", output.detail
    term = mean(output.logits, labels, weights)
    if detail is None:
        return {name: term}
    top, left, bottom, right = detail.box
    part = (slice(None), slice(top, bottom), slice(left, right))
    second = mean(detail.logits, labels[part], None if weights is None else weights[part])
    return {
        name: term * (1 - detail.weight),
        f"{prefix}/detail" if prefix else "detail": second * detail.weight,
    }


def source_terms(model: Segmenter, s: Samples | None, align_corners: bool) -> Iterator[dict[str, Term]]:
    """Yield L_s = CE(G(x_s), y_s) of source crops; nothing for None, in a run without source images."""
    if s is not None:
        yield segmentation_terms(model(s.images), s.labels, align_corners=align_corners, prefix="source")
