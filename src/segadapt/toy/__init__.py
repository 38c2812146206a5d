"""Toy street scenes with all Cityscapes classes, in three looks, and writers of the papers' folder layouts.

``game`` stands for a synthetic source domain, ``camera`` for a real target domain, ``night`` for a
harder target. ``render`` returns one picture with its ground truth; the writers make folders that the
readers of the real data sets open.

>>> from segadapt.toy import write_world
>>> write_world(Path("demo/toy"), source=24, target=16, test=8)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segadapt.core.exports import on_demand

if TYPE_CHECKING:
    from segadapt.toy.rendering import LOOKS, Look, Rendered, render
    from segadapt.toy.world import write_world
    from segadapt.toy.write import write_cityscapes, write_gta5, write_synthia

_MODULES = {
    "LOOKS": "rendering",
    "Look": "rendering",
    "Rendered": "rendering",
    "render": "rendering",
    "write_cityscapes": "write",
    "write_gta5": "write",
    "write_synthia": "write",
    "write_world": "world",
}

__all__ = ["LOOKS", "Look", "Rendered", "render", "write_cityscapes", "write_gta5", "write_synthia", "write_world"]

if not TYPE_CHECKING:  # hidden from type checkers, so that they report a misspelt name
    __getattr__, __dir__ = on_demand(__name__, _MODULES)
