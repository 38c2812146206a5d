"""The confusion matrix of two label maps, from which all scores of labels follow."""

from __future__ import annotations

import torch
from torch import Tensor

from segadapt.errors import RequestError
from segadapt.labels import IGNORE


def confusion_counts(prediction: Tensor, truth: Tensor, classes: int, *, check: bool = True) -> Tensor:
    """Count pixels by true and predicted class, with a row and a column for pixels without one.

    ``counts[t, p]`` is the number of pixels of true class ``t`` that are predicted as ``p``. The confusion matrix is
    ``counts[:K, :K]``; its last row and column make the other numbers available: ``counts[:K].sum(1)`` are the
    pixels of each true class, ``counts.sum(0)[:K]`` the pixels of each predicted class, with or without a truth.
    Counts of several images, steps or processes may be added.

    Args:
        prediction: integer map of any shape; 0 .. K - 1, and IGNORE or anything else above for no class.
        truth: integer map of the same shape; 0 .. K - 1, and IGNORE for pixels whose class is not known.
        classes: number of classes K.
        check: refuse values of ``truth`` that are neither a class nor IGNORE, which waits for the device. Without
            it nothing waits, and such values count as not known; for a training step, where the label map has
            passed :func:`require_classes` before.

    Returns:
        [K + 1, K + 1] int64 on the device of ``truth``: rows the truth, columns the prediction; the last row counts
        pixels whose true class is not known, the last column pixels that are predicted as no class.

    Raises:
        ValueError: the shapes differ.
        RequestError: see ``check``.

    Example:
        >>> prediction, truth = torch.tensor([0, 1, 1, 255]), torch.tensor([0, 0, 255, 1])
        >>> confusion_counts(prediction, truth, 2).tolist()
        [[1, 1, 0], [0, 0, 1], [0, 1, 0]]
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction {tuple(prediction.shape)} and label {tuple(truth.shape)} differ in shape")
    if check:
        require_classes(truth, classes)
    rows = truth.flatten().clamp(max=classes).long()
    columns = prediction.to(truth.device).flatten().clamp(max=classes).long()
    cells = torch.add(columns, rows, alpha=classes + 1)
    # torch.bincount would wait for the GPU to learn how long its result is.
    counts = torch.zeros((classes + 1) ** 2, dtype=torch.int64, device=truth.device)
    return counts.scatter_add_(0, cells, torch.ones_like(cells)).view(classes + 1, classes + 1)


def require_classes(truth: Tensor, classes: int) -> None:
    """Refuse a label map that holds anything but the classes 0 .. ``classes`` - 1 and IGNORE.

    Raises:
        RequestError: names the largest such value.
    """
    unknown = ((truth < 0) | (truth >= classes)) & (truth != IGNORE)
    if bool(unknown.any()):
        raise RequestError(
            f"a label map holds class {int(truth[unknown].max())}, but there are only {classes} classes "
            f"(0 to {classes - 1}, and {IGNORE} for none)"
        )
