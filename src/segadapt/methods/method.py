"""The base of all methods.

A method composes pieces into one training step and, where its paper works in rounds, one pass
over the target set per round. All its state is registered in the module, so its state dict together
with a step number is the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from segadapt.data.dataset import Dataset
from segadapt.data.loader import Part, Samples, Stream
from segadapt.data.resize import Resize
from segadapt.labels import LabelSpace
from segadapt.methods.environment import Environment
from segadapt.methods.stage_config import OptimiserConfig, StageConfig, TaughtConfig
from segadapt.models.prototype_net import PrototypeNet
from segadapt.models.segmenter import Segmenter
from segadapt.pieces.terms import Term

Terms = Mapping[str, Term]


class OnlineLabels(NamedTuple):
    """Pseudo labels made in a training step; the record compares them with the truth where that is measured.

    Attributes:
        stream: name of the stream that their crops belong to.
        sets: label maps [B, h, w] of these crops at any resolution, by name.
        alternatives: makes further label maps that the step has no use for; only called where there is a truth.
        masses: share of every class [K] that the method counts on at the moment, by name.
    """

    stream: str
    sets: Mapping[str, Tensor]
    alternatives: Callable[[], Mapping[str, Tensor]] = dict
    masses: Mapping[str, Tensor] = {}


class Trained(NamedTuple):
    """A network that a stage trains, with its optimiser."""

    network: nn.Module
    optimiser: OptimiserConfig


class Method(nn.Module):
    """Base of all methods.

    A subclass implements :meth:`streams` and :meth:`step`, and sets ``Config`` where it has settings of
    its own. Everything else has a default that is right for a method of one round and one network:

    ================================  =============================================================
    override                          where
    ================================  =============================================================
    :attr:`rounds`, :meth:`prepare`   the method labels the target set before it trains, in rounds
    :meth:`after_step`                weights or prototypes follow the step as moving averages
    :meth:`trained`                   more than the segmentation network is trained
    :meth:`result`                    another network than ``model`` is scored and kept
    :meth:`prototype_view`            the method learns prototypes that a report can show
    :meth:`learning_rate_factor`      learning rates differ from round to round
    ================================  =============================================================

    Everything that changes during training is a registered buffer, parameter or module; then a resumed
    run equals an uninterrupted one. Between :meth:`step` and :meth:`after_step` a method may keep its view of
    the batch in one attribute.

    Args:
        config: settings of the stage.
        model: the segmentation network with the weights that the stage starts from.
        space: label space of the run.

    Attributes:
        online: pseudo labels of the last step for the record, or None.
        measured: numbers of the last step for the record, scalars on the device: NaN where a number
            does not exist yet. The record has their means over steps and processes.
    """

    Config: ClassVar[type[StageConfig]] = StageConfig

    def __init__(self, config: StageConfig, model: Segmenter, space: LabelSpace):
        super().__init__()
        self.config = config
        self.model = model
        self.space = space
        self.online: OnlineLabels | None = None
        self.measured: dict[str, Tensor] = {}

    def streams(self, round_index: int, environment: Environment) -> dict[str, Stream]:
        """Return the streams of a round by name; :meth:`step` gets one batch of each."""
        raise NotImplementedError

    def step(self, batch: Mapping[str, Samples]) -> Iterator[Terms]:
        """Yield the loss terms of one training step.

        The engine runs one backward pass per yield and steps the optimisers when the generator ends.
        Parameters that do not require gradients while a term is computed get none from it: that is how a
        term is kept from one of several networks.
        """
        raise NotImplementedError

    def prepare(self, round_index: int, environment: Environment) -> None:
        """Prepare a round before its first step, e.g. make new pseudo labels; nothing by default."""

    def after_step(self, environment: Environment) -> None:
        """Update moving averages after the optimisers' step, without gradients; nothing by default."""

    def trained(self) -> dict[str, Trained]:
        """Return the networks that have an optimiser, by name; all follow the stage's schedule."""
        return {"model": Trained(self.model, self.config.optimiser)}

    def result(self) -> Segmenter:
        """Return the network that is scored and kept."""
        return self.model

    def prototype_view(self) -> PrototypeNet | None:
        """Return the network with learnt prototypes as its classifier; None where a method learns none."""
        return None

    def learning_rate_factor(self, round_index: int) -> float:
        """Return the factor on all learning rates in a round."""
        return 1.0

    @property
    def rounds(self) -> int:
        """Number of rounds; each has new optimiser state."""
        return 1

    @property
    def align_corners(self) -> bool:
        """Convention in which class scores are resized, in training as in inference."""
        return self.config.inference.align_corners


class TaughtMethod(Method):
    """A method that learns from a second network: ``teacher``, in evaluation mode and without gradients.

    Args:
        config: settings of the stage.
        model: the segmentation network that is trained.
        space: label space of the run.
        teacher: the second network; its settings say where it comes from.
    """

    def __init__(self, config: TaughtConfig, model: Segmenter, space: LabelSpace, teacher: Segmenter):
        super().__init__(config, model, space)
        self.teacher = teacher.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> TaughtMethod:
        """Set the training mode of everything but the teacher."""
        super().train(mode)
        self.teacher.eval()
        return self


def labelled_part(dataset: Dataset, domain: int, resize: Resize, config: StageConfig, **focus: Any) -> Part:
    """Return a part of a stream with the stage's augmentation; ``focus``: see :class:`Part`."""
    return Part(dataset, domain, resize, config.augmentation, **focus)


def source_part(environment: Environment, config: StageConfig, **focus: Any) -> Part | None:
    """Return labelled source crops with the stage's augmentation; None in a run without source images."""
    if not environment.has_source:
        return None
    return labelled_part(environment.source, 0, environment.source_size, config, **focus)


def watched_part(environment: Environment, config: StageConfig) -> Part:
    """Return target crops in their own colours, for a method that labels them in its steps.

    DACS, DAFormer and MIC label the raw crop, and change the colours of the strong views alone. A teacher that looks at
    changed colours labels worse and is sure of less.
    """
    return Part(environment.target, 1, environment.target_size, config.augmentation.without_colours)


def paired_streams(
    source: Part | None, target: Part, config: StageConfig, round_index: int, **of_target: Any
) -> dict[str, Stream]:
    """Return streams ``source`` and ``target`` with as many samples of each per step; without source the target alone.

    Args:
        source: source crops, or None in a run without source images; :meth:`Method.step` then finds no ``source``.
        target: target crops.
        config, round_index: settings of the stage, and the round.
        of_target: see :class:`Stream`.
    """
    key = f"{config.name}/{round_index}"
    streams = {} if source is None else {"source": Stream((source,), config.batch_size, f"{key}/source")}
    return {**streams, "target": Stream((target,), config.batch_size, f"{key}/target", **of_target)}
