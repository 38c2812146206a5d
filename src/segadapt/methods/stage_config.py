"""Settings that every stage has: length, batches, optimiser, schedule and where the weights come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from segadapt.core.names import file_name
from segadapt.core.settings import Scaling, Settings
from segadapt.data.loader import Augmentation
from segadapt.models.build import ModelConfig
from segadapt.models.inference import InferenceConfig
from segadapt.models.norm import NormMode

UNDECIDED = ("title", "checkpoint_every", "checkpoint_minutes", "accumulate", "checkpoint_activations", "sync_norm")
"""Settings of a stage for its record, and for how it is computed: a stage may go on with others."""
Decay = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Laid = Annotated[dict[str, Any], BeforeValidator(lambda given: {} if given is None else given)]
"""Settings to lay over others; null lays none."""
Without = Mapping[str, Any] | None
"""Settings with which a method leaves out its source terms; None where it trains on source images."""


class OptimiserConfig(Settings):
    """The optimiser of one network; defaults are the values of AdaptSeg and CRST for DeepLabV2.

    Attributes:
        name: ``sgd``, ``adamw`` (AdamW is Adam where ``weight_decay`` is 0), or ``matched``: AdamW whose updates are
            as large as those of SGD with these settings (:mod:`segadapt.engine.matching`).
        lr: learning rate, above 0; of a segmentation network, the rate of its encoder.
        head_factor: the head of a segmentation network learns at ``lr`` times this factor, above 0.
        layer_decay: of a network that names its layers (``foundation:NAME``), every block learns at this factor, in
            (0, 1], of the rate of the block behind it, and what is in front of the first block at that of a further
            one; a last normalisation learns at ``lr`` (VFM-UDA: 1, VFM-UDA++: 0.9).
        bias_factor: biases and shifts of normalisation learn at their rate times this factor, above 0, and do not
            decay (the MXNet code of CBST: 2); null treats them like other parameters.
        momentum: momentum of SGD, in [0, 1).
        betas: decay of the two moving averages of AdamW, each in [0, 1).
        weight_decay: at least 0; AdamW does not apply it to biases and normalisation parameters.
    """

    name: Literal["sgd", "adamw", "matched"] = "sgd"
    lr: Annotated[float, Scaling.RATE] = Field(default=2.5e-4, gt=0)
    head_factor: float = Field(default=10.0, gt=0)
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    bias_factor: float | None = Field(default=None, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    weight_decay: float = Field(default=5e-4, ge=0)


class ScheduleConfig(Settings):
    """The schedule of the learning rate; defaults are the values of DeepLab and AdaptSeg.

    Attributes:
        name: ``constant``; ``poly``: ``(1 - step / horizon) ** power``; or ``step``: times ``factor`` after every
            ``every`` steps.
        power: exponent of the polynomial decay, above 0.
        factor: of ``step``, in (0, 1] (ProDA, section 5.1: 0.9).
        every: steps between two decreases of ``step``, which needs it, e.g. the steps of an epoch.
        warmup: steps of linear increase at the start; 0 for none.
        horizon: steps after which the decay reaches zero; null is the length of the round or of the stage.
        over: the decay starts again with every ``round``, or runs once over the whole ``stage``.
    """

    name: Literal["constant", "poly", "step"] = "poly"
    power: float = Field(default=0.9, gt=0)
    factor: float = Field(default=0.9, gt=0, le=1)
    every: Annotated[int | None, Scaling.STEPS] = Field(default=None, ge=1)
    warmup: Annotated[int, Scaling.STEPS] = Field(default=0, ge=0)
    horizon: Annotated[int | None, Scaling.STEPS] = Field(default=None, gt=0)
    over: Literal["round", "stage"] = "round"

    @model_validator(mode="after")
    def _steps_between(self) -> ScheduleConfig:
        if self.name == "step" and self.every is None:
            raise ValueError("a schedule 'step' needs the steps between two decreases; set schedule.every, e.g. to 743")
        return self


class StageConfig(Settings):
    """Settings that every stage has; each method adds its own.

    Attributes:
        name: name of the stage, unique in the recipe; a recipe gives it as the key of the stage.
        method: name of the method that runs, see ``segadapt methods``.
        title: title of the stage in tables; if empty, the title of the method.
        initial: where the weights come from: ``previous`` (the stage before, or the network's initial
            weights for the first stage), ``scratch`` (the network's initial weights), the name of an
            earlier stage, or the path of a model file.
        network: a network other than the run's: for a stage from ``scratch``, or ``hrda:NAME``, which may
            start from the weights of a NAME too; null is the network of the run.
        role: how reports treat the stage: ``source`` (the unadapted model), ``adapted``, or ``oracle``.
        labelled_weight: weight of the cross entropy of the target images whose labels ``data.labelled`` gives, at
            least 0: 1, the weight of the source images. Stages of the role ``adapted`` learn them.
        steps: length of one round in steps; give either ``steps`` or ``epochs``.
        epochs: length of one round in passes over the longest stream, above 0.
        batch_size: samples per step of each stream, over all processes together.
        augmentation: scales, crops and colours of source and target images; target images that a method labels
            while it trains (DACS, DAFormer, HRDA, MIC, MPCL) keep their own colours.
        optimiser: optimiser of the segmentation network.
        schedule: schedule of all learning rates of the stage.
        norm: batch normalisation: ``train`` (batch statistics, scale and shift trained), ``statistics`` (batch
            statistics, scale and shift frozen), ``affine`` (statistics frozen, scale and shift trained), or
            ``frozen`` (all of it frozen).
        sync_norm: batch statistics are those of the batch of all processes; false takes each process's part alone.
            Only counts with several processes and a ``norm`` that takes batch statistics.
        accumulate: parts in which the networks compute a process's share of each batch, one after the other, for less
            memory: each looks at one part at a time, twice where it trains. The batch and all means over it stay what
            they are (:mod:`segadapt.engine.parts`); at most one part per sample.
        checkpoint_activations: blocks of the encoder keep their input alone and compute the rest again in the backward
            pass: less memory for a third more time, and the same numbers.
        gradient_clip: largest norm of a network's whole gradient; null does not clip.
        inference: how target images are predicted for pseudo labels: scales, mirror images, windows.
        checkpoint_every: steps between two checkpoints, at most.
        checkpoint_minutes: minutes between two checkpoints, at most; null counts steps alone. When checkpoints are
            written changes no number.
        length: share of the steps that the recipe names, in (0, 1]; what counts steps or belongs to one step follows by
            rule (``segadapt plan`` shows it). null is 1.
        short: settings of a stage with a ``length`` below 1, laid over what the rules give; null for none. They are
            said for the length that the recipe gives: where the command gives another one, they follow by the rules.
    """

    name: str
    method: str
    title: str = ""
    initial: str = "previous"
    network: ModelConfig | None = None
    role: Literal["source", "adapted", "oracle"] = "adapted"
    labelled_weight: float = Field(default=1.0, ge=0)
    steps: Annotated[int | None, Scaling.STEPS] = Field(default=None, ge=1)
    epochs: Annotated[float | None, Scaling.PASSES] = Field(default=None, gt=0)
    batch_size: int = Field(default=2, ge=1)
    augmentation: Augmentation = Augmentation()
    optimiser: OptimiserConfig = OptimiserConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    norm: NormMode = "affine"
    sync_norm: bool = True
    accumulate: int = Field(default=1, ge=1)
    checkpoint_activations: bool = False
    gradient_clip: float | None = Field(default=None, gt=0)
    inference: InferenceConfig = InferenceConfig()
    checkpoint_every: int = Field(default=500, ge=1)
    checkpoint_minutes: float | None = Field(default=10.0, gt=0)
    length: Annotated[Share, BeforeValidator(lambda given: 1.0 if given is None else given)] = 1.0
    short: Laid = Field(default_factory=dict)
    WITHOUT_SOURCE: ClassVar[Without] = None

    @field_validator("name")
    @classmethod
    def _name_of_a_folder(cls, name: str) -> str:
        return file_name(name, "stage")

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
    def looks_at_target(self) -> bool:
        """Whether target images may decide what the stage learns; without, it is the same for every target."""
        return True

    @property
    def learns_labelled(self) -> bool:
        """Whether the stage learns the labels of some target images, where the run has such (``data.labelled``)."""
        return self.role == "adapted" and self.labelled_weight > 0 and not self.opens_target_labels

    @property
    def without_source(self) -> Without:
        """Settings that the stage has in a run without source images; None where its method cannot do without them."""
        return self.WITHOUT_SOURCE

    @property
    def learns_from(self) -> str | None:
        """Origin of a second, frozen network of the stage, in the words of ``initial``; None without such a network."""
        return None


class TaughtConfig(StageConfig):
    """Settings of a stage that learns from a second, frozen network.

    Attributes:
        teacher: origin of the second network: ``previous`` (the stage before), the name of an earlier
            stage, or the path of a model file.
    """

    teacher: str = "previous"

    @property
    def learns_from(self) -> str:
        """The teacher."""
        return self.teacher
