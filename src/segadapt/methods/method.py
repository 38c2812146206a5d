"""What a method is to the engine, and what the engine lends to a method.

A method composes pieces into one training step and, where its paper works in rounds, one pass
over the target set per round. It knows nothing of devices, processes, files or pictures. All its
state is registered in the module, so its state dict together with a step number is the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Protocol

from pydantic import Field, model_validator
from torch import Tensor, nn

from segadapt.core.settings import Settings
from segadapt.core.types import Size
from segadapt.data.dataset import Dataset
from segadapt.data.loader import Augmentation, Part, Samples, Stream
from segadapt.data.resize import Resize
from segadapt.labels import LabelSpace
from segadapt.models.build import ModelConfig
from segadapt.models.inference import InferenceConfig
from segadapt.models.norm import NormMode
from segadapt.models.segmenter import Segmenter
from segadapt.pieces.terms import Term

Terms = Mapping[str, Term]
Decay = Annotated[float, Field(ge=0, lt=1)]


class OptimiserConfig(Settings):
    """The optimiser of one network.

    Attributes:
        name: ``sgd`` or ``adamw`` (which is Adam where ``weight_decay`` is 0).
        lr: learning rate; that of the encoder in a segmentation network.
        head_factor: the freshly initialised head of a segmentation network learns this many times faster.
        momentum: of SGD.
        betas: of AdamW.
        weight_decay: not applied to biases and normalisation parameters of AdamW.
    """

    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(default=2.5e-4, gt=0)
    head_factor: float = Field(default=10.0, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    weight_decay: float = Field(default=5e-4, ge=0)


class ScheduleConfig(Settings):
    """Learning-rate schedule.

    Attributes:
        name: ``constant`` or ``poly``: ``(1 - step / horizon) ** power``.
        power: exponent of the polynomial decay.
        warmup: steps of linear increase at the start.
        horizon: steps at which the decay reaches zero; None is the length of the round or the stage.
        over: whether it begins anew with every ``round``, or runs over the whole ``stage``.
    """

    name: Literal["constant", "poly"] = "poly"
    power: float = Field(default=0.9, gt=0)
    warmup: int = Field(default=0, ge=0)
    horizon: int | None = Field(default=None, gt=0)
    over: Literal["round", "stage"] = "round"


class StageConfig(Settings):
    """Settings that every stage has; each method adds its own.

    Attributes:
        name: of the stage, unique in the recipe.
        method: which method runs.
        title: for tables; the method's own title if empty.
        initial: where the weights come from: ``previous`` (the stage before, or the network's
            initial weights for the first), ``scratch`` (the network's initial weights), the name of
            an earlier stage, or the path of a model file.
        network: another network than the run's: for a stage from scratch, or ``hrda:NAME``, which may
            start from a NAME too.
        role: how reports treat it: ``source`` (the unadapted model), ``adapted``, or ``oracle``.
        steps, epochs: length of one round; give one of the two.
        batch_size: samples a step, over all processes together.
        augmentation: of source and target images.
        optimiser, schedule: see there.
        norm: ``train`` (batch statistics), ``affine`` (statistics frozen, scale and shift trained),
            or ``frozen`` (both).
        gradient_clip: largest norm of a network's whole gradient; None does not clip.
        inference: how target images are predicted for pseudo labels.
        checkpoint_every: steps between checkpoints.
    """

    name: str
    method: str
    title: str = ""
    initial: str = "previous"
    network: ModelConfig | None = None
    role: Literal["source", "adapted", "oracle"] = "adapted"
    steps: int | None = Field(default=None, ge=1)
    epochs: float | None = Field(default=None, gt=0)
    batch_size: int = Field(default=2, ge=1)
    augmentation: Augmentation = Augmentation()
    optimiser: OptimiserConfig = OptimiserConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    norm: NormMode = "affine"
    gradient_clip: float | None = Field(default=None, gt=0)
    inference: InferenceConfig = InferenceConfig()
    checkpoint_every: int = Field(default=500, ge=1)

    @model_validator(mode="after")
    def _network_from_scratch(self) -> StageConfig:
        if self.network is not None and self.initial != "scratch" and not self.network.name.startswith("hrda:"):
            raise ValueError(
                f"a network of its own starts from 'scratch', or is 'hrda:NAME' and starts from a NAME; 'initial' is "
                f"'{self.initial}' and the network '{self.network.name}'; set initial=scratch or leave out network"
            )
        return self

    @property
    def opens_target_labels(self) -> bool:
        """Whether the stage trains on the labels of the target: an oracle."""
        return False

    @property
    def learns_from(self) -> str | None:
        """Where a second, frozen network of the stage comes from, in the words of ``initial``; None without one."""
        return None


class TaughtConfig(StageConfig):
    """Settings of a stage that learns from a second, frozen network.

    Attributes:
        teacher: ``previous`` (the stage before), the name of an earlier stage, or the path of a model file.
    """

    teacher: str = "previous"

    @property
    def learns_from(self) -> str:
        """The teacher."""
        return self.teacher


class OnlineLabels(NamedTuple):
    """Pseudo labels made in a training step; compared with the truth for the record, where that is measured.

    Attributes:
        stream: the stream whose crops they belong to.
        sets: label maps [B, h, w] of these crops at any resolution, by name.
        alternatives: makes further ones that the step has no use for; only called where there is a truth.
    """

    stream: str
    sets: Mapping[str, Tensor]
    alternatives: Callable[[], Mapping[str, Tensor]] = dict


class Trained(NamedTuple):
    """A network that a stage trains, and how."""

    network: nn.Module
    optimiser: OptimiserConfig


@dataclass(frozen=True)
class Prediction:
    """One target image seen by the current model.

    Attributes:
        index: position in the target data set.
        probabilities: [K, H, W] at working size.
    """

    index: int
    probabilities: Tensor


class Predictions(Protocol):
    """One pass of the network over the target set, kept compactly: iterating again is cheap."""

    def __iter__(self) -> Iterator[Prediction]: ...


class Environment(Protocol):
    """What the engine lends to a method: data sets, passes over them, and a place for labels.

    Attributes:
        space: the label space of the run.
        source: labelled source data.
        target: target images; no label path exists in it.
        source_size, target_size: working sizes.
        seed: of the run.
    """

    space: LabelSpace
    source: Dataset
    target: Dataset
    source_size: Resize
    target_size: Resize
    seed: int

    def labelled_target(self) -> Dataset:
        """The target training set with labels; only for an oracle. RequestError if the recipe has none."""
        ...

    def target_images(self) -> Iterator[tuple[int, Tensor]]:
        """This process's share of the target set: index and image [1, 3, H, W] in [0, 1] at working size."""
        ...

    def source_images(self) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's share of the source set: image [1, 3, H, W] in [0, 1] and label [1, H, W] at working size."""
        ...

    def predict_target(self, model: Segmenter, inference: InferenceConfig, keep: bool = False) -> Predictions:
        """Predict this process's share of the target set; ``keep`` leaves the scores for training."""
        ...

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Add the tensors of all processes, in place."""
        ...

    def gather(self, tensor: Tensor, samples: int) -> Tensor:
        """A batch [samples, ...] in its own order, of which every process has its part."""
        ...

    def keep_label(self, index: int, label: Tensor, confidence: Tensor | None = None) -> None:
        """Store the pseudo label [H, W] uint8 of target image ``index`` for this round."""
        ...

    def pseudo_labelled(self) -> Dataset:
        """The target set with this round's stored pseudo labels."""
        ...

    def kept_scores(self, index: int) -> Any:
        """Compact log scores [K, h, w] float16 of target image ``index`` kept this round."""
        ...

    def keep_soft_label(self, index: int, log_p: Tensor) -> None:
        """Store log-probabilities [K, h, w] of target image ``index`` in at most 0.4 MB."""
        ...

    def soft_label(self, index: int) -> Any:
        """The log-probabilities [K, h, w] float16 of target image ``index`` stored this round."""
        ...

    def source_frequencies(self, size: Size) -> Tensor:
        """Source label frequency [K, H, W] by position, for spatial priors; cached by content."""
        ...

    def source_shares(self) -> Tensor:
        """Share [N, K] of every class in each source image; cached by content."""
        ...

    def target_shape(self) -> Size:
        """(height, width) of the target images at working size, for spatial priors."""
        ...

    def report(self, values: Mapping[str, Any]) -> None:
        """Add numbers about this round's pseudo labels to the run's record."""
        ...


class Method(nn.Module):
    """Base of all methods.

    Subclasses set ``Config`` and ``title`` and implement :meth:`streams` and
    :meth:`step`. ``step`` yields loss terms; the engine runs one backward pass after each yield
    and steps the optimisers when the generator ends. Parameters that do not require gradients while
    a term is computed get none from it: that is how a term is kept from one of several networks.
    """

    Config: ClassVar[type[StageConfig]] = StageConfig
    title: ClassVar[str]
    uses_target: ClassVar[bool] = True

    def __init__(self, config: StageConfig, model: Segmenter, space: LabelSpace):
        super().__init__()
        self.config = config
        self.model = model
        self.space = space
        self.online: OnlineLabels | None = None

    @property
    def align_corners(self) -> bool:
        """Convention in which class scores are resized, in training as in inference."""
        return self.config.inference.align_corners

    @property
    def rounds(self) -> int:
        """Number of rounds; each has new optimiser state."""
        return 1

    def trained(self) -> dict[str, Trained]:
        """The networks that have an optimiser, by name; all follow the stage's schedule."""
        return {"model": Trained(self.model, self.config.optimiser)}

    def result(self) -> Segmenter:
        """The network that is scored and kept."""
        return self.model

    def prepare(self, round_index: int, environment: Environment) -> None:
        """What happens before the steps of a round, e.g. new pseudo labels."""

    def streams(self, round_index: int, environment: Environment) -> dict[str, Stream]:
        """The batches that :meth:`step` wants, by name."""
        raise NotImplementedError

    def step(self, batch: Mapping[str, Samples]) -> Iterator[Terms]:
        """Loss terms of one training step, one yield a backward pass."""
        raise NotImplementedError

    def after_step(self, environment: Environment) -> None:
        """What follows the optimisers' step, without gradient: moving averages of weights or prototypes."""

    def learning_rate_factor(self, round_index: int) -> float:
        """Factor on all learning rates in this round."""
        return 1.0


class TaughtMethod(Method):
    """A method that learns from a second network: ``teacher``, in evaluation mode and without gradients."""

    def __init__(self, config: TaughtConfig, model: Segmenter, space: LabelSpace, teacher: Segmenter):
        super().__init__(config, model, space)
        self.teacher = teacher.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> TaughtMethod:
        """Training mode of everything but the teacher."""
        super().train(mode)
        self.teacher.eval()
        return self


def labelled_part(dataset: Dataset, domain: int, resize: Resize, config: StageConfig, **focus: Any) -> Part:
    """A part of a stream with the stage's augmentation."""
    return Part(dataset, domain, resize, config.augmentation, **focus)


def paired_streams(
    source: Part, target: Part, config: StageConfig, round_index: int, **of_target: Any
) -> dict[str, Stream]:
    """As many samples of the ``source`` as of the ``target`` in every step; ``of_target``: see :class:`Stream`."""
    key = f"{config.name}/{round_index}"
    return {
        "source": Stream((source,), config.batch_size, f"{key}/source"),
        "target": Stream((target,), config.batch_size, f"{key}/target", **of_target),
    }
