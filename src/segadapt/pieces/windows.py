"""Read the part of a whole image's map that a training crop sees.

Class scores, features and labels of whole images come at the network's own stride; a crop is a
rectangle of the image, scaled and perhaps mirrored. Sampling the small map at the centres of the
crop's cells gives the numbers of enlarging it first and slicing afterwards, without the large map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from segadapt.core.moving import sent
from segadapt.pieces.precision import at_least_float32, wide

_Floats = npt.NDArray[np.float64]


class WindowLike(Protocol):
    """A rectangle in an image, in pixels: [top, top + height) x [left, left + width)."""

    @property
    def top(self) -> float: ...
    @property
    def left(self) -> float: ...
    @property
    def height(self) -> float: ...
    @property
    def width(self) -> float: ...
    @property
    def flip(self) -> bool: ...


def in_windows(
    maps: Tensor,
    windows: Sequence[WindowLike],
    sizes: Sequence[Sequence[int]],
    output: Sequence[int],
    align_corners: bool = False,
) -> Tensor:
    """Read maps of whole images bilinearly within one window per image.

    Args:
        maps: [B, C, h, w] of any floating type; each covers its whole image.
        windows: one window per image, in pixels of the image; ``flip`` mirrors the output left to right.
        sizes: (height, width) of each image in pixels.
        output: (height, width) of the output.
        align_corners: corner cells of the map lie on corner pixels of the image, as in networks like
            DeepLabV2; otherwise cells divide the image evenly.

    Returns:
        [B, C, height, width] float32, or float64 if ``maps`` is. Places outside an image repeat its border.

    Example:
        >>> from types import SimpleNamespace
        >>> window = SimpleNamespace(top=0, left=4, height=4, width=4, flip=False)
        >>> maps = torch.tensor([1.0, 2.0]).view(1, 1, 1, 2)  # one row of two cells covers the image
        >>> in_windows(maps, [window], [(4, 8)], (1, 1)).item()
        2.0
    """
    maps = at_least_float32(maps)
    grid = window_grid(windows, sizes, output, align_corners, maps.device).to(maps.dtype)
    return F.grid_sample(maps, grid, padding_mode="border", align_corners=align_corners)


def window_grid(
    windows: Sequence[WindowLike],
    sizes: Sequence[Sequence[int]],
    output: Sequence[int],
    align_corners: bool,
    device: torch.device,
) -> Tensor:
    """Compute the sampling positions of crops in the coordinates of ``grid_sample``.

    With half-pixel geometry they depend only on the relative place in the image, so one grid serves
    maps of any resolution.

    Args:
        windows, sizes, output, align_corners: see :func:`in_windows`.
        device: device of the result.

    Returns:
        [B, h, w, 2] positions (x, y), -1 .. 1 over the image, of the widest type of the device
        (:func:`segadapt.pieces.precision.wide`).

    Example:
        >>> from types import SimpleNamespace
        >>> window = SimpleNamespace(top=0, left=0, height=4, width=4, flip=False)
        >>> window_grid([window], [(4, 4)], (1, 2), False, torch.device("cpu")).tolist()
        [[[[-0.5, 0.0], [0.5, 0.0]]]]
    """
    rows, columns = window_axes(windows, sizes, output, align_corners)
    y, x = (sent(axis, device, wide(device)) for axis in (rows, columns))
    y, x = y[:, :, None], x[:, None, :]
    shape = (len(y), y.shape[1], x.shape[2])
    return torch.stack([x.expand(shape), y.expand(shape)], -1)


def window_axes(
    windows: Sequence[WindowLike], sizes: Sequence[Sequence[int]], output: Sequence[int], align_corners: bool = False
) -> tuple[Tensor, Tensor]:
    """Compute the rows [B, h] and columns [B, w] of :func:`window_grid`, float64 on the CPU.

    Example:
        >>> from types import SimpleNamespace
        >>> window = SimpleNamespace(top=0, left=0, height=4, width=4, flip=True)
        >>> window_axes([window], [(4, 4)], (1, 2))[1].tolist()
        [[0.5, -0.5]]
    """
    # One table of numpy for the batch: these are small numbers, and a step asks for them several times.
    places = np.array([(w.top, w.left, w.height, w.width) for w in windows], np.float64).reshape(-1, 4)
    full = np.array([(int(height), int(width)) for height, width in sizes], np.float64).reshape(-1, 2)
    rows, columns = (
        _positions(places[:, [axis]], places[:, [axis + 2]], full[:, [axis]], int(output[axis]), align_corners)
        for axis in (0, 1)
    )
    flipped = np.array([w.flip for w in windows], bool)
    columns[flipped] = columns[flipped, ::-1]
    return torch.from_numpy(rows), torch.from_numpy(columns)


def _positions(start: _Floats, length: _Floats, full: _Floats, samples: int, align_corners: bool) -> _Floats:
    """Place the centres of ``samples`` cells over [start, start + length) of an axis of ``full`` pixels, as -1 .. 1.

    ``start``, ``length`` and ``full`` are [B, 1]; the places are [B, samples].
    """
    centres = start + (np.arange(samples) + 0.5) * (length / samples)
    placed = 2 * (centres - 0.5) / np.maximum(full - 1, 1) - 1 if align_corners else 2 * centres / full - 1
    return np.asarray(placed, np.float64)


def inside(
    windows: Sequence[WindowLike], sizes: Sequence[Sequence[int]], output: Sequence[int], device: torch.device
) -> Tensor:
    """Mark the cells of crops whose centre lies in the image.

    Args:
        windows, sizes, output: see :func:`in_windows`.
        device: device of the result.

    Returns:
        [B, height, width] bool.

    Example:
        >>> from types import SimpleNamespace
        >>> window = SimpleNamespace(top=0, left=-2, height=4, width=4, flip=False)
        >>> inside([window], [(4, 4)], (1, 2), torch.device("cpu")).tolist()
        [[[False, True]]]
    """
    rows, columns = window_axes(windows, sizes, output)
    return crossed(rows.abs().lt(1), columns.abs().lt(1), device)


def crossed(rows: Tensor, columns: Tensor, device: torch.device) -> Tensor:
    """Mark the cells whose row and whose column are marked, sent in one message.

    Args:
        rows, columns: [B, h] and [B, w] bool, on the CPU.
        device: device of the result.

    Returns:
        [B, h, w] bool.

    Example:
        >>> crossed(torch.tensor([[True, False]]), torch.tensor([[True]]), torch.device("cpu")).tolist()
        [[[True], [False]]]
    """
    both = sent(torch.cat([rows, columns], 1), device)
    rows, columns = both[:, : rows.shape[1]], both[:, rows.shape[1] :]
    return rows[:, :, None] & columns[:, None, :]
