"""Labels of a few target images, learnt beside whatever a method does.

    Input: labelled target images (x_l, y_l), a method with the network G
    repeat
        the step of the method
        L_l = w CE(G(strong view of x_l), y_l) over the labelled pixels        w: ``labelled_weight``
        step on the losses of the method + L_l

The loop adds the stream and the term to those of a method, so that no method knows of them: they are the same lines
for every method, also for those of other packages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from segadapt.data.dataset import Dataset
from segadapt.data.loader import Samples, Stream
from segadapt.data.resize import Resize
from segadapt.methods.mean_teacher import MeanTeacherConfig, recoloured
from segadapt.methods.method import Method, Terms, labelled_part
from segadapt.methods.stage_config import StageConfig
from segadapt.methods.supervision import segmentation_terms

LABELLED = "target labels"
"""Name of the stream and of its term."""


def labelled_streams(
    config: StageConfig, round_index: int, labelled: Dataset | None, size: Resize
) -> dict[str, Stream]:
    """Return the stream of labelled target crops, as many per step as source crops; empty where there is none.

    Args:
        config: settings of the stage.
        round_index: number of the round, from 0.
        labelled: target images with labels, or None.
        size: working size of the target images.
    """
    if labelled is None or not config.learns_labelled:
        return {}
    part = labelled_part(labelled, 1, size, config)
    return {LABELLED: Stream((part,), config.batch_size, f"{config.name}/{round_index}/{LABELLED}")}


def labelled_steps(method: Method, batch: Mapping[str, Samples]) -> Iterator[Terms]:
    """Yield L_l where the batch has labelled target crops; nothing otherwise.

    The strong view of a stage with a mean teacher has other colours and blur, as its mixed images have; that of the
    others is the crop with the stage's ``augmentation``.
    """
    x, config = batch.get(LABELLED), method.config
    if x is None:
        return
    images = recoloured(x.images, config) if isinstance(config, MeanTeacherConfig) else x.images
    terms = segmentation_terms(method.model(images), x.labels, align_corners=method.align_corners, prefix=LABELLED)
    yield {name: term * config.labelled_weight for name, term in terms.items()}
