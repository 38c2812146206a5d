"""Supervised training: the source-only model that adaptations start from, and the oracle.

    Input: labelled images (x, y); network G
    repeat
        p = softmax(up(G(x)))                                    [B, K, h, w]
        L = -sum_n log p_n[y_n] / #{n : y_n not ignored}         (CBST eq. 1, first term)
        step on L

With ``data: source`` this is the lower bound of every table; target images are never forwarded, so their
statistics do not leak in, unless ``augmentation.colour_transfer`` asks for their colours. With ``data: oracle``
the same training uses the labels of the target's training set: the upper bound, and the only method that opens them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import model_validator

from segadapt.data.loader import Samples, Stream
from segadapt.methods.environment import Environment
from segadapt.methods.method import Method, Terms, labelled_part
from segadapt.methods.stage_config import StageConfig, Without
from segadapt.methods.supervision import segmentation_terms


class SourceOnlyConfig(StageConfig):
    """Settings of supervised training.

    Attributes:
        role: how reports treat the stage; the model trained on the source alone is the ``source`` of every table.
        data: images that are learnt: ``source``, or ``oracle`` for the labelled target training set.
    """

    method: str = "source_only"
    role: Literal["source", "adapted", "oracle"] = "source"
    data: Literal["source", "oracle"] = "source"

    @model_validator(mode="after")
    def _colours_for_source_images(self) -> SourceOnlyConfig:
        if self.data == "oracle" and self.augmentation.colour_transfer != "none":
            raise ValueError(
                "an oracle has no source images to give the colours of target images; set "
                "augmentation.colour_transfer=none for it"
            )
        return self

    @property
    def opens_target_labels(self) -> bool:
        """Whether the stage is an oracle."""
        return self.data == "oracle"

    @property
    def looks_at_target(self) -> bool:
        """Whether the stage is an oracle, or takes colours from the target; a method built on this one may look."""
        return self.method != "source_only" or self.data == "oracle" or self.augmentation.colour_transfer != "none"

    @property
    def without_source(self) -> Without:
        """An oracle never looks at the source."""
        return {} if self.data == "oracle" else None


class SourceOnly(Method):
    """Supervised cross entropy on one domain."""

    Config = SourceOnlyConfig
    config: SourceOnlyConfig

    def streams(self, round_index: int, environment: Environment) -> dict[str, Stream]:
        """Return all labelled images of the chosen domain."""
        if self.config.data == "oracle":
            part = labelled_part(environment.labelled_target(), 1, environment.target_size, self.config)
        else:
            part = labelled_part(environment.source, 0, environment.source_size, self.config)
        return {"labelled": Stream((part,), self.config.batch_size, f"{self.config.name}/{round_index}")}

    def step(self, batch: Mapping[str, Samples]) -> Iterator[Terms]:
        """Yield L of one supervised step."""
        x = batch["labelled"]
        output = self.model(x.images)  # p, of both resolutions where the network has two
        yield segmentation_terms(output, x.labels, align_corners=self.align_corners, prefix="labelled")
