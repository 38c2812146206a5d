"""The whole toy world: one source and two targets, in the folders of the real data sets."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from segadapt.toy.write import write_cityscapes, write_gta5, write_synthia

Announce = Callable[[str, int, int], None]
"""Called after every image with what is written, and how much of it is done."""


def write_world(
    root: Path,
    source: int = 240,
    target: int = 160,
    test: int = 50,
    seed: int = 0,
    height: int = 256,
    width: int = 512,
    *,
    everything: bool = True,
    announce: Announce | None = None,
) -> None:
    """Write the toy world; what is complete already is left alone.

    Args:
        root: gets ``gta5/`` (game look), ``cityscapes/`` (camera look) and, with ``everything``,
            ``synthia/`` (game look) and ``night/`` (Cityscapes layout, night look).
        source: images of each source set.
        target, test: images of the train and val split of each target set.
        seed: of all of it.
        height, width: in pixels.
        announce: see :data:`Announce`.
    """
    workers = min(8, os.cpu_count() or 1)
    counts = {"train": target, "val": test}

    def tell(what: str) -> Callable[[int, int], None] | None:
        if announce is None:
            return None
        return lambda done, total: announce(what, done, total)

    write_gta5(root / "gta5", source, seed, height, width, progress=tell("gta5"), workers=workers)
    write_cityscapes(root / "cityscapes", counts, seed, height, width, progress=tell("cityscapes"), workers=workers)
    if everything:
        write_synthia(root / "synthia", source, seed + 1, height, width, progress=tell("synthia"), workers=workers)
        write_cityscapes(
            root / "night", counts, seed, height, width, look="night", progress=tell("night"), workers=workers
        )
