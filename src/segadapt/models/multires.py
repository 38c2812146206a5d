"""HRDA around any network: fuse the whole crop at low resolution with a part of it at full resolution.

Hoyer, Dai, Van Gool: HRDA: Context-Aware High-Resolution Domain-Adaptive Semantic Segmentation,
ECCV 2022. E and D are encoder and decoder of the wrapped network, o its stride, s the scale of the
context; A is the attention head.

    x_c = bilinear(x, s);  Z_c = D(E(x_c)),  a = sigmoid(A(E(x_c)))        [B, K, s H / o, s W / o]
    training:   x_d = one random box of x;  Z_d = D(E(x_d)), zero outside;  a = 0 outside
    otherwise:  Z_d = mean over overlapping windows of D(E(window of x))    [B, K, H / o, W / o]
    Z = up((1 - a) Z_c) + up(a) Z_d
    L = (1 - l_d) CE(up(Z), y) + l_d CE(up(Z_d), y[box])                    (methods/supervision.py)

Context and detail pass the network one after the other, so batch normalisation in training mode sees
two batches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segadapt.core.types import Size
from segadapt.errors import RequestError
from segadapt.models.fusion_head import HeadNorm
from segadapt.models.geometry import Geometry, size_of
from segadapt.models.scale_attention import ScaleAttention
from segadapt.models.segmenter import Detail, Output, Segmenter
from segadapt.pieces.fusion import Box, average_windows, draw_box, fuse_scales, in_cells, kept_within, placed
from segadapt.pieces.resizing import upsample
from segadapt.pieces.windows import in_windows


@runtime_checkable
class EncoderDecoder(Protocol):
    """A network in two halves, so that a second head can read its encoder.

    ``encode`` computes maps with ``encoder_channels`` from preprocessed images, finest first and deepest
    last; ``decode`` computes logits and features from them.
    """

    encoder_channels: Sequence[int]

    def encode(self, x: Tensor) -> Sequence[Tensor]: ...

    def decode(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]: ...


class Part(NamedTuple):
    """The upper left part of a padded image, for :func:`~segadapt.pieces.windows.in_windows`."""

    height: int
    width: int
    top: int = 0
    left: int = 0
    flip: bool = False


class MultiRes(Segmenter):
    """A network that sees context and detail. State dict: ``base.*`` and ``attention.*``.

    Only its own ``training`` flag decides between two behaviours. In training it adds one random detail
    crop, at the same place for the whole batch, and returns it as ``Output.detail``. Otherwise windows
    cover the whole image and ``detail`` is None. For a teacher that labels whole images while its layers
    are in training mode, call :func:`see_whole`.

    ``Output.logits`` have the stride of the wrapped network at full resolution. ``features``, ``aux``, ``maps``
    and ``deep`` come from the context and have its coarser grid: comparing pixels with prototypes needs
    long-range features, and enlarging them would only copy them. The attention reads the encoder's maps
    if the wrapped network has ``encode``, ``decode`` and ``encoder_channels``, and ``Output.features``
    otherwise.

    Sizes in training must be multiples of the divisor. An image of another size is predicted too: its
    border is repeated up to the next multiple, and the result is cropped to the cells of its pixels.

    Args:
        base: the network to wrap.
        scale: scale s of the context, in (0, 1].
        detail: size of the detail crop and of the windows: a float is a share of the image in (0, 1], an
            integer or a pair (height, width) is in pixels. With a share, predict in windows of the training
            crop's size (``inference.window``), so that details are as large as in training.
        divisor: positions of the crop are multiples of this many pixels. None takes the smallest number for
            which both grids have whole cells (8 for stride 4 and scale 0.5); a number must be a multiple
            of it.
        detail_weight: l_d, share of the loss that belongs to the detail, in [0, 1).
        overlap: share of a window that the next one covers again, in [0, 1).
        attention: ``learned``, or a number in [0, 1]: 0 uses the context alone, 1 the detail alone.
        classwise: learn one attention per class; otherwise one for all classes.
        norm: normalisation of the attention, ``batch`` or ``group``. None takes the norm of the wrapped
            network's head if its class has that argument, as DAFormer's has, and otherwise ``group``, which
            depends neither on the batch nor on the mode.
        box: ``reachable``, or ``official``, which never draws the last position.
        windows_at_once: number of windows that pass the network together; None passes all, which batch
            normalisation in training mode needs for the statistics of one batch. A number saves memory and
            changes nothing in evaluation mode.

    Raises:
        RequestError: an argument is out of its range.

    Example:
        >>> model = MultiRes(build_segmenter("daformer_mit_b5", classes=19), detail=512)
    """

    def __init__(
        self,
        base: Segmenter,
        *,
        scale: float = 0.5,
        detail: float | Sequence[int] = 0.5,
        divisor: int | None = None,
        detail_weight: float = 0.1,
        overlap: float = 0.5,
        attention: Literal["learned"] | float = "learned",
        classwise: bool = True,
        norm: HeadNorm | None = None,
        box: Literal["reachable", "official"] = "reachable",
        windows_at_once: int | None = None,
    ) -> None:
        _check(scale, detail_weight, overlap, attention, norm, box, windows_at_once)
        wrapped = dict(base.architecture)
        architecture: dict[str, Any] = {
            "name": f"hrda:{wrapped.pop('name', type(base).__name__)}",
            "scale": scale,
            "detail": detail if isinstance(detail, (int, float)) else list(detail),
            "divisor": divisor,
            "detail_weight": detail_weight,
            "overlap": overlap,
            "attention": attention,
            "classwise": classwise,
            "norm": norm,
            "box": box,
            "windows_at_once": windows_at_once,
            "base": wrapped,
        }
        wrapped.pop("bands", None)
        super().__init__(base.classes, base.preprocessing, architecture)
        self.base = base
        self.take_bands(base.bands)
        self.stride = base.stride
        self.feature_channels = base.feature_channels
        self.geometry = Geometry(base.stride, scale, detail, divisor, overlap)
        self.detail_weight = detail_weight
        self.reach_end = box == "reachable"
        self.windows_at_once = windows_at_once
        channels = list(base.encoder_channels) if isinstance(base, EncoderDecoder) else [base.feature_channels]
        learned = attention == "learned"
        own = norm or base.architecture.get("norm", "group")
        self.attention = ScaleAttention(channels, base.classes if classwise else 1, own) if learned else None
        self.fixed_attention = None if isinstance(attention, str) else float(attention)

    @property
    def auxiliary(self) -> bool:
        """Whether the wrapped network has an auxiliary head; that head sees the context."""
        return bool(getattr(self.base, "auxiliary", False))

    def head_modules(self) -> list[nn.Module]:
        heads = self.base.head_modules()
        return heads if self.attention is None else [*heads, self.attention]

    @property
    def map_channels(self) -> Sequence[int]:
        """Channels of the wrapped network's maps, which come from the context."""
        return self.base.map_channels

    @property
    def names_deep(self) -> bool:
        """Whether the wrapped network exposes its deepest feature map."""
        return self.base.names_deep

    def deep_features(self, images: Tensor) -> Tensor:
        """Compute the deepest encoder map of the context alone, of images [B, C, H, W] in [0, 1]."""
        return self.base.deep_features(self._shrunk(self._padded(images)))

    # ---- one random detail, or windows over the whole image ----

    def network(self, x: Tensor) -> Output:
        """Compute fused logits [B, K, H / stride, W / stride] and context features of preprocessed images."""
        if self.training:
            return self._with_random_detail(x)
        padded = self._padded(x)
        boxes = self.geometry.windows(size_of(padded))
        output = self._fused(padded, self._details(padded, boxes), boxes)
        return output if padded is x else _unpadded(output, size_of(x), size_of(padded))

    def _with_random_detail(self, x: Tensor) -> Output:
        """Fuse the context and one random box; the attention is zero outside the box."""
        size, detail = size_of(x), self.geometry.training_detail(size_of(x))
        box = draw_box(size, detail, self.geometry.divisor, self.reach_end)
        context = self._seen(self._shrunk(x))
        coarse, fine = self.geometry.coarse(size), self.geometry.fine(size)
        inside = self._seen(_cut(x, box))
        logits = upsample(inside.logits, self.geometry.fine(detail))
        attention = kept_within(self._attention(context, coarse), in_cells(box, size, coarse))
        at_box = placed(logits, in_cells(box, size, fine), fine)
        fused = fuse_scales(upsample(context.logits, coarse), at_box, attention)
        shown = Detail(logits, inside.features, box, self.detail_weight, inside.maps)
        return context._replace(logits=fused, detail=shown)

    def _fused(self, x: Tensor, details: Tensor, boxes: Sequence[Box]) -> Output:
        """Fuse the context of whole images with N windows that cover them, ``details`` [N B, K, h, w] at ``boxes``."""
        size = size_of(x)
        coarse, fine = self.geometry.coarse(size), self.geometry.fine(size)
        context = self._seen(self._shrunk(x))
        detail = average_windows(details, [in_cells(box, size, fine) for box in boxes], fine)
        fused = fuse_scales(upsample(context.logits, coarse), detail, self._attention(context, coarse))
        return context._replace(logits=fused)

    def window_logits(self, images: Tensor, window: Size, places: Sequence[Size]) -> Iterator[Tensor]:
        """Yield the logits of windows one by one; a detail that several windows need is computed once.

        Three windows of 1024 pixels over 2048 have 27 details, of which only 21 are different. Sharing
        is exact if no layer is in training mode and the window is a multiple of the divisor; otherwise
        each window is computed separately.
        """
        if any(module.training for module in self.modules()) or not self.geometry.fits(window):
            yield from super().window_logits(images, window, places)
            return
        x, inner = self.preprocess(images), self.geometry.windows(window)
        wanted = [[_moved(box, *place) for box in inner] for place in places]
        distinct = sorted(set().union(*wanted))
        # No more at a time than a single window would need.
        found = self._details(x, distinct, self.windows_at_once or len(inner)).chunk(len(distinct))
        logits = dict(zip(distinct, found, strict=True))
        for (top, left), boxes in zip(places, wanted, strict=True):
            details = torch.cat([logits[box] for box in boxes])
            yield self._fused(_cut(x, (top, left, top + window[0], left + window[1])), details, inner).logits

    # ---- parts ----

    def _seen(self, x: Tensor) -> Output:
        """Run the wrapped network on preprocessed images."""
        base: Segmenter = self.base
        if isinstance(base, EncoderDecoder):
            maps = base.encode(x)
            logits, features = base.decode(maps)
            return Output(logits, features, deep=maps[-1], maps=maps)
        return base.network(x)

    def _details(self, x: Tensor, boxes: Sequence[Box], at_once: int | None = None) -> Tensor:
        """Compute logits [N B, K, h, w] of N windows of the images, in the order of ``boxes``."""
        crops = [_cut(x, box) for box in boxes]
        cells = self.geometry.fine(size_of(crops[0]))
        count = at_once or self.windows_at_once or len(crops)
        parts = [
            upsample(self._seen(torch.cat(crops[start : start + count])).logits, cells)
            for start in range(0, len(crops), count)
        ]
        return torch.cat(parts)

    def _attention(self, context: Output, cells: Size) -> Tensor:
        """Compute the attention a [B, K or 1, h, w] in [0, 1] on the grid of the context's logits."""
        if self.attention is None:
            assert self.fixed_attention is not None
            return context.logits.new_full((1, 1, *cells), self.fixed_attention, dtype=torch.float32)
        maps = context.maps if isinstance(self.base, EncoderDecoder) else None
        return upsample(self.attention(maps or [context.features]), cells).sigmoid()

    def _shrunk(self, x: Tensor) -> Tensor:
        """Make the context: resize images by the scale s, bilinearly without a filter, as published."""
        return F.interpolate(x, self.geometry.context(size_of(x)), mode="bilinear", align_corners=False)

    def _padded(self, x: Tensor) -> Tensor:
        """Repeat the border of images up to multiples of the divisor; return them unchanged if they fit."""
        height, width = size_of(x)
        below, right = -height % self.geometry.divisor, -width % self.geometry.divisor
        return F.pad(x, (0, right, 0, below), mode="replicate") if below or right else x


def started_from(network: Segmenter, model: Segmenter) -> Segmenter:
    """Fill the network that ``network`` wraps from a trained ``model``; only the attention keeps its weights.

    Args:
        network: a :class:`MultiRes`, changed in place.
        model: a trained network of the same kind as ``network.base``.

    Returns:
        ``network``.

    Raises:
        RequestError: ``network`` does not wrap a network like ``model``.
    """
    if not isinstance(network, MultiRes) or network.base.description() != model.description():
        name, given = (str(one.architecture.get("name")) for one in (network, model))
        raise RequestError(
            f"a network '{name}' cannot start from this '{given}'; it can if it is named 'hrda:{given}' and "
            f"network.arguments.base holds the arguments of '{given}'"
        )
    network.base.load_state_dict(model.state_dict())
    return network


def see_whole(model: nn.Module) -> None:
    """Make multi-resolution networks in ``model`` predict whole images while their layers keep their modes.

    A teacher in training mode needs this; call it after ``train()``.
    """
    for module in model.modules():
        if isinstance(module, MultiRes):
            module.training = False


def _unpadded(output: Output, size: Size, padded: Size) -> Output:
    """Crop an output to the cells of the image, without its padding."""

    def read(maps: Tensor) -> Tensor:
        cells = [math.ceil(n * length / whole) for n, length, whole in zip(size_of(maps), size, padded, strict=True)]
        return in_windows(maps, [Part(*size)] * len(maps), [padded] * len(maps), cells)

    aux = None if output.aux is None else read(output.aux)
    maps = None if output.maps is None else [read(x) for x in output.maps]
    return output._replace(logits=read(output.logits), features=read(output.features), aux=aux, maps=maps)


def _cut(x: Tensor, box: Box) -> Tensor:
    return x[..., box[0] : box[2], box[1] : box[3]]


def _moved(box: Box, down: int, right: int) -> Box:
    return box[0] + down, box[1] + right, box[2] + down, box[3] + right


def _check(
    scale: float,
    detail_weight: float,
    overlap: float,
    attention: object,
    norm: str | None,
    box: str,
    windows_at_once: int | None,
) -> None:
    """Raise RequestError for the first argument that is out of its range."""
    number = isinstance(attention, (int, float)) and 0 <= attention <= 1
    ranges = (
        ("scale", scale, 0 < scale <= 1, "a number above 0 and at most 1"),
        ("detail_weight", detail_weight, 0 <= detail_weight < 1, "a number of at least 0 and below 1"),
        ("overlap", overlap, 0 <= overlap < 1, "a number of at least 0 and below 1"),
        ("attention", attention, attention == "learned" or number, "'learned' or a number in 0 .. 1"),
        ("norm", norm, norm in (None, "batch", "group"), "'batch', 'group' or null"),
        ("box", box, box in ("reachable", "official"), "'reachable' or 'official'"),
        ("windows_at_once", windows_at_once, windows_at_once is None or windows_at_once >= 1, "null or at least 1"),
    )
    for name, value, good, wanted in ranges:
        if not good:
            raise RequestError(f"hrda: {name} is {value!r}; give {wanted}")
