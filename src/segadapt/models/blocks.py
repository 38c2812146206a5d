"""The blocks of a network: the repeated parts of its encoder that can be computed again, or be held in shares."""

from __future__ import annotations

from collections import Counter

from torch import nn

from segadapt.models.segmenter import Segmenter


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """Return the blocks of a network's encoder in the order of its modules; none where it is one row of layers (VGG).

    A block is an element of a list or a row of modules (``ModuleList``, ``Sequential``) that has at least two layers
    with a matrix of weights, and no block inside: the bottlenecks of a ResNet, the blocks of a transformer. In a
    network without such lists it is a module of a class that occurs twice. The head of a segmenter has none.

    Example:
        >>> layers = lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1))
        >>> len(blocks_of(nn.ModuleList([layers(), layers()])))
        2
    """
    heads = network.head_modules() if isinstance(network, Segmenter) else []
    outside = {module for head in heads for module in head.modules()}
    encoder = [m for m in network.modules() if m not in outside and not isinstance(m, Segmenter)]
    rows = (m for m in encoder if isinstance(m, (nn.ModuleList, nn.Sequential)))
    listed = {child for row in rows for child in row if child not in outside and _layers(child) > 1}
    if listed:
        return [m for m in encoder if m in listed and not listed.intersection(list(m.modules())[1:])]
    kinds = Counter(type(m) for m in encoder if _layers(m) > 1)
    repeated = {m for m in encoder if kinds[type(m)] > 1}
    return [m for m in encoder if m in repeated and not any(m in set(o.modules()) for o in repeated if o is not m)]


def _layers(module: nn.Module) -> int:
    """Return the number of layers in a module that have a matrix of weights."""
    return sum(any(p.ndim > 1 for p in layer.parameters(recurse=False)) for layer in module.modules())
