"""Write the whole toy world: two sources and two targets, in the folder layouts of the real data sets."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from segadapt.toy.write import write_cityscapes, write_gta5, write_synthia

Announce = Callable[[str, int, int], None]
"""Called after every image with (name of the data set, images done, all images of it)."""


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
    """Write the toy world: source and target data sets small enough for a run on one CPU core.

    A data set that is complete already is left alone, an interrupted one is finished. Several processes
    render the images, so a script must call this function under ``if __name__ == "__main__":``.

    Args:
        root: folder of the data sets ``gta5/`` (game look), ``cityscapes/`` (camera look) and, with
            ``everything``, ``synthia/`` (game look) and ``night/`` (Cityscapes layout, night look).
        source: number of images per source set, at least 1.
        target, test: number of images in the train and the val split of each target set.
        seed: seed of the whole world, at least 0.
        height, width: size of the images in pixels, each at least 32.
        everything: also write ``synthia/`` and ``night/``.
        announce: see :data:`Announce`.

    Raises:
        RequestError: a folder holds data that the toy renderer did not write, or a number is out of range.

    Example:
        >>> write_world(Path("demo/toy"), source=24, target=16, test=8)
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
