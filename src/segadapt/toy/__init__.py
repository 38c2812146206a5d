"""Toy street scenes with all Cityscapes classes, in three looks, and writers of the papers' folder layouts.

``game`` stands for a synthetic source domain, ``camera`` for a real target domain, ``night`` for a
harder one. ``render`` gives one picture with its ground truth; the writers make folders that the
readers of the real data sets open.
"""

from segadapt.toy.render import LOOKS, Look, Rendered, render
from segadapt.toy.world import write_world
from segadapt.toy.write import write_cityscapes, write_gta5, write_synthia

__all__ = ["LOOKS", "Look", "Rendered", "render", "write_cityscapes", "write_gta5", "write_synthia", "write_world"]
