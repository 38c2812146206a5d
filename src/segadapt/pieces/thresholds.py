"""Confidence thresholds per class for self-training, over any number of images in constant memory.

Class-balanced self-training (Zou et al., ECCV 2018, algorithm 2) sorts, for every class, the
confidences of all target pixels predicted as that class and takes the value at a given share of the
list. Here no list is stored or sorted: the same element is found digit by digit. The bits of a
non-negative float32, read as an integer, have the order of the float, so

1. a first look over the images counts the 16 leading value bits of each confidence, per class;
   these counts tell which bin holds the wanted rank;
2. a second look counts the 15 trailing bits of the values of that bin, which gives the exact value.

The result is the element that sorting would give, whatever the distribution (products with spatial
priors of 1e-6, saturated softmax, ties). Memory is 65 536 counters per class.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segadapt.errors import RequestError

_LOW_BITS = 15
_BINS = 1 << 16
_LOW_MASK = (1 << _LOW_BITS) - 1
_FIRST_NON_FINITE_BIN = 0x7F800000 >> _LOW_BITS
_LOOKS = 2


class ClassThresholds(nn.Module):
    """Thresholds lambda_c = exp(-k_c): the confidence at descending rank ``floor(p n_c)`` of class c.

    Zou et al., CBST, ECCV 2018, algorithms 1 and 2. Count the same images in two looks::

        thresholds = ClassThresholds(classes, portion)
        while True:
            for image in images:                                # the same values in each look
                thresholds.count(*confidence_and_prediction(probabilities))
            # several processes: add up thresholds.tensors() over them, in place
            if not thresholds.next_look():
                break
        thresholds.thresholds()

    One look may be enough: after the first :meth:`next_look`, :meth:`thresholds` returns the lower edge
    of the bin that holds the element, less than 0.4 % below it.

    Args:
        classes: K.
        portion: p, the share of the pixels of each class to be selected, in [0, 1].
        every: rank only every n-th confidence of a class in an image, in raster order (the
            published CBST and CRST runs use 4); 1 ranks all.
        pooled: one threshold for all classes together, at rank ``floor(p N)`` of all pixels
            (plain self-training, algorithm 1). ``counts`` still holds counts per class.

    Attributes:
        histogram: [K, 65536] int64, the counters of the current look.
        counts: [K] int64, pixels predicted as each class; known after the first look.
        ranked: [K] int64, the confidences that entered the ranking; equal to ``counts`` unless
            ``every`` > 1.
        selected: [K] int64, ranked confidences at or above the threshold. With ties this may
            exceed :meth:`ranks`.

    Raises:
        RequestError: ``portion`` is outside [0, 1], or ``every`` is below 1.

    Example:
        >>> confidence = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5])
        >>> predicted = torch.tensor([0, 0, 0, 0, 1])
        >>> ranking = ClassThresholds(classes=2, portion=0.5)
        >>> for look in range(2):
        ...     ranking.count(confidence, predicted)
        ...     _ = ranking.next_look()
        >>> [round(t, 4) for t in ranking.thresholds().tolist()]  # class 1 has too few pixels
        [0.8, 1.0]
    """

    histogram: Tensor
    counts: Tensor
    ranked: Tensor
    selected: Tensor
    _above: Tensor
    _bin: Tensor
    _bits: Tensor
    _refused: Tensor

    def __init__(self, classes: int, portion: float, every: int = 1, pooled: bool = False):
        super().__init__()
        if not 0 <= portion <= 1:
            raise RequestError(f"portion of pseudo labels is {portion}; it must lie between 0 and 1")
        if every < 1:
            raise RequestError(f"subsampling of confidences is {every}; it must be at least 1")
        self.classes, self.portion, self.every, self.pooled = classes, portion, every, pooled
        self.look = 0
        self.register_buffer("histogram", torch.zeros(classes, _BINS, dtype=torch.int64))
        for name in ("counts", "ranked", "selected", "_above", "_bits"):
            self.register_buffer(name, torch.zeros(classes, dtype=torch.int64))
        self.register_buffer("_refused", torch.zeros((), dtype=torch.int64))
        self.register_buffer("_bin", torch.zeros(classes, dtype=torch.int32))

    @torch.no_grad()
    def count(self, confidence: Tensor, predicted: Tensor) -> None:
        """Add pixels to the current look; a GPU is not waited for unless ``every`` is above 1.

        Args:
            confidence: [B, H, W], or the [H, W] or [N] pixels of one image; finite. Ranked as
                float32; negative values, which bicubic resizing can produce, count as zero.
            predicted: the class of each pixel in the same shape, any integer type, 0 .. K-1.

        Raises:
            ValueError: all looks are closed, or a class is not below K; of values on a GPU, :meth:`next_look` says so.
        """
        if self.exact:
            raise ValueError("the thresholds are exact already; start with new ClassThresholds to count again")
        if self.every > 1:
            confidence, predicted = self._subsample(confidence, predicted)
        # abs() clears the sign that -0.0 and some NaN carry; it would count for another class.
        bits = confidence.reshape(-1).to(torch.float32).clamp(min=0).abs_().view(torch.int32)
        classes = predicted.reshape(-1).to(torch.int32)
        (self._count_on_gpu if bits.is_cuda else self._count_on_cpu)(classes, bits)

    def _count_on_cpu(self, classes: Tensor, bits: Tensor) -> None:
        """Count one digit of each value, per class."""
        digit = bits >> _LOW_BITS
        if self.look == 1:
            inside = digit == self._bin.index_select(0, classes)
            classes, digit = classes[inside], bits[inside] & _LOW_MASK
        keys = digit.add_(classes, alpha=_BINS)
        counted = torch.bincount(keys, minlength=self.histogram.numel())
        if counted.numel() != self.histogram.numel():
            raise ValueError(self._no_such_class())
        self.histogram += counted.view_as(self.histogram)

    def _count_on_gpu(self, classes: Tensor, bits: Tensor) -> None:
        """Count the same, and never wait to learn how many values or bins there are: :meth:`next_look` checks."""
        there = classes < self.classes
        classes, digit, counts = classes.clamp(max=self.classes - 1), bits >> _LOW_BITS, there
        if self.look == 1:
            counts = there & (digit == self._bin.index_select(0, classes))
            digit = bits & _LOW_MASK
        keys = digit.add_(classes, alpha=_BINS)
        self.histogram.view(-1).index_add_(0, keys, counts.long())
        self._refused += (~there).sum()

    def _no_such_class(self) -> str:
        return f"a predicted class lies outside the {self.classes} classes of the thresholds"

    def _subsample(self, confidence: Tensor, predicted: Tensor) -> tuple[Tensor, Tensor]:
        """Take every n-th pixel per class and image; the first look counts all pixels."""
        images = predicted.shape[0] if predicted.dim() > 2 else 1
        labels = predicted.reshape(images, -1).long()
        if self.look == 0:
            self.counts += torch.bincount(labels.flatten(), minlength=self.classes)
        group = (labels + self.classes * torch.arange(images, device=labels.device)[:, None]).flatten()
        order = group.argsort(stable=True)
        sizes = torch.bincount(group, minlength=images * self.classes)
        starts = sizes.cumsum(0) - sizes
        place = torch.arange(len(group), device=group.device) - starts[group[order]]
        chosen = order[place % self.every == 0]
        return confidence.reshape(-1)[chosen], predicted.reshape(-1)[chosen]

    def tensors(self) -> list[Tensor]:
        """Return the counters that processes which share the images must sum up, in place, before :meth:`next_look`."""
        return [self.histogram, self.counts] if self.look == 0 else [self.histogram]

    @property
    def exact(self) -> bool:
        """True once all looks are closed."""
        return self.look == _LOOKS

    @torch.no_grad()
    def next_look(self) -> bool:
        """Close the current look; return whether the same pixels must be counted again for the exact value.

        Raises:
            ValueError: a confidence was not finite, a class was not below K, or the second look saw other values.
        """
        if self.exact:
            return False
        if bool(self._refused):
            raise ValueError(self._no_such_class())
        inside = self.histogram.sum(1)
        if self.look == 0:
            if bool(self.histogram[:, _FIRST_NON_FINITE_BIN:].any()):
                raise ValueError("a confidence is not finite; the network that predicts has diverged")
            self.ranked.copy_(inside)
            if self.every == 1:
                self.counts.copy_(inside)
        elif not torch.equal(inside, self.selected - self._above):
            raise ValueError("the second look counted other confidences than the first; count the same images in both")
        self._narrow()
        self.histogram.zero_()
        self.look += 1
        return not self.exact

    def _narrow(self) -> None:
        """Find the bin in which the wanted rank lies and make it the next digit of the threshold."""
        reached = self.histogram.flip(1).cumsum(1).flip(1)  # [K, bins]: values in this bin or a higher one
        wanted = self.ranks() - self._pool(self._above)
        crossing = ((self._pool(reached) >= wanted[:, None]).sum(1) - 1).expand(self.classes)
        at = crossing[:, None]
        inside = self.histogram.gather(1, at).squeeze(1)
        self._above += reached.gather(1, at).squeeze(1) - inside
        self.selected.copy_(self._above + inside)
        self._bin.copy_(crossing)
        self._bits += crossing << _LOW_BITS if self.look == 0 else crossing

    def _pool(self, per_class: Tensor) -> Tensor:
        """Return the lengths of the ranked lists: one list per class, or all classes in one list."""
        return per_class.sum(0, keepdim=True) if self.pooled else per_class

    def ranks(self) -> Tensor:
        """Return the int64 ranks ``floor(p n_c)`` [K], or ``floor(p N)`` [1] when pooled."""
        return (self._pool(self.ranked).cpu().double() * self.portion).floor().long().to(self.ranked.device)

    def thresholds(self) -> Tensor:
        """Return the [K] float32 thresholds; 1 for a class with too few pixels to select one.

        They are exact once :attr:`exact` is true.

        Raises:
            ValueError: the first look is not closed.
        """
        if self.look == 0:
            raise ValueError("thresholds need a closed look: count the images, then call next_look()")
        values = self._bits.to(torch.int32).view(torch.float32)
        return torch.where(self.ranks() > 0, values, torch.ones_like(values))
