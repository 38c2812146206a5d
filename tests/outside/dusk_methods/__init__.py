"""A package outside segadapt: a method, an augmentation and a reader that register when this is imported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from segadapt.data import Dataset, Item, Samples, Stream, register_augmentation, register_reader
from segadapt.data.decode import read_index, read_picture
from segadapt.labels import LabelSpace
from segadapt.methods import Method, register_method
from segadapt.methods.environment import Environment
from segadapt.methods.method import Terms, labelled_part, paired_streams
from segadapt.methods.supervision import segmentation_terms
from segadapt.pieces import Term, follow, frozen_copy

SPACE = LabelSpace("three", ("ground", "box", "disc"), ((90, 90, 90), (200, 60, 50), (60, 170, 70)))


@register_method("agree", title="Agreement", summary="a slow teacher is agreed with on target crops")
class Agree(Method):
    """Cross entropy on the source, squared distance from a mean teacher on the target; state: the ``teacher``."""

    def __init__(self, config, model, space):  # type: ignore[no-untyped-def]
        super().__init__(config, model, space)
        self.teacher = frozen_copy(model)

    def streams(self, round_index: int, environment: Environment) -> dict[str, Stream]:
        source = labelled_part(environment.source, 0, environment.source_size, self.config)
        target = labelled_part(environment.target, 1, environment.target_size, self.config)
        return paired_streams(source, target, self.config, round_index)

    def step(self, batch: Mapping[str, Samples]) -> Iterator[Terms]:
        s, t = batch["source"], batch["target"]
        yield segmentation_terms(self.model(s.images), s.labels, prefix="source")
        with torch.no_grad():
            wanted = self.teacher(t.images).logits.softmax(1)
        apart = (self.model(t.images).logits.softmax(1) - wanted).square()
        yield {"agreement": Term(apart.sum(), torch.tensor(float(apart.numel())))}

    def after_step(self, environment: Environment) -> None:
        follow(self.teacher, self.model, 0.9)


@register_augmentation("evening", draws=1)
def evening(images: Tensor, draws: Tensor, depth: float = 0.5) -> Tensor:
    """Darken each image by up to ``depth``."""
    return images * (1 - depth * draws[:, :, None, None])


@register_reader("pairs", space=SPACE, splits=("train",), summary="images/ and labels/")
def pairs(root: Path, split: str, labelled: bool) -> Dataset:
    """Read ``root/images/*.png`` with ``root/labels/*.png``."""
    images = sorted((root / "images").glob("*.png"))
    items = tuple(Item(p.stem, p, root / "labels" / p.name if labelled else None) for p in images)
    return Dataset("pairs", SPACE, items, read_picture, read_index)
