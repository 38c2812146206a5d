"""The networks of a run's stages, built: the one place that reads ``initial``, ``teacher`` and ``network``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from segadapt.core.randomness import Purpose, seed_step
from segadapt.errors import RequestError
from segadapt.labels import LabelSpace
from segadapt.methods.method import Method
from segadapt.methods.registry import method_info
from segadapt.methods.stage_config import StageConfig
from segadapt.models.build import ModelConfig, build_segmenter, model_config
from segadapt.models.class_rows import in_order_of, name_rows
from segadapt.models.licences import weights_in_words
from segadapt.models.multires import started_from
from segadapt.models.plain import require_initial
from segadapt.models.segmenter import Segmenter
from segadapt.models.store import load_model, stored_space
from segadapt.models.weights import require_available
from segadapt.runs.config import RunConfig
from segadapt.runs.roots import resolve_root

MODEL = "model.safetensors"


@dataclass(frozen=True)
class Origin:
    """Origin of one network of a stage.

    Attributes:
        name: ``scratch``, ``previous``, the name of a stage, or a path; as ``initial`` has it.
        file: model file with the weights; None for the initial weights of an architecture.
        stage: the earlier stage that writes ``file``; None for a file from outside the run.
    """

    name: str
    file: Path | None = None
    stage: StageConfig | None = None


class Networks:
    """Resolves and builds the networks of all stages of a run.

    Args:
        config: configuration of the run.
        space: label space of the run.
        roots: where named weights files lie.
        stages: folder with one folder per stage; nothing is read from it before a network is built.
        bands: of the images.

    Attributes:
        notices: files whose classes were brought into the order of the run, one line each, until they are told.
    """

    def __init__(
        self, config: RunConfig, space: LabelSpace, roots: Mapping[str, str], stages: Path, bands: int = 3
    ) -> None:
        self._config, self._space, self._roots, self._stages, self._bands = config, space, roots, stages, bands
        self._shapes: dict[Path, ModelConfig] = {}
        self.notices: list[str] = []
        self._noticed: set[str] = set()

    def origins(self, stage: StageConfig) -> tuple[Origin, ...]:
        """Return the origin of the trained network and, for a stage that learns from a second network, its origin.

        ``scratch`` is the initial weights, and so is ``previous`` for the trained network of the first stage; other
        names are earlier stages or model files.
        """
        before = self._config.stages[: self._config.stages.index(stage)]
        afresh = stage.initial == "scratch" or (stage.initial == "previous" and not before)
        names = ["scratch" if afresh else stage.initial, *([stage.learns_from] if stage.learns_from else [])]
        return tuple(self._origin(name, before) for name in names)

    def _origin(self, name: str, before: tuple[StageConfig, ...]) -> Origin:
        if name == "scratch":
            return Origin(name)
        named = {s.name: s for s in before}
        stage = before[-1] if name == "previous" and before else named.get(name)
        file = Path(name) if stage is None else self._stages / stage.name / MODEL
        return Origin(name, file, stage)

    # ---- shapes ----

    def architecture(self, stage: StageConfig) -> ModelConfig:
        """Return the architecture that a stage trains; a missing model file counts as the run's own."""
        return stage.network or self._architecture_of(stage, self.origins(stage)[0])

    def _architecture_of(self, stage: StageConfig, origin: Origin) -> ModelConfig:
        if origin.file is None:
            return stage.network or self._config.model
        if origin.stage is not None:
            return self.architecture(origin.stage)
        if origin.file not in self._shapes:
            if not origin.file.is_file():
                return self._config.model
            self._shapes[origin.file] = model_config(load_model(origin.file).model)
        return self._shapes[origin.file]

    # ---- files ----

    def outside_files(self, stage: StageConfig) -> list[Path]:
        """Return the files of weights and models, made outside the run, that a stage starts or learns from.

        Raises:
            RequestError: there is no such weights file.
        """
        origins = self.origins(stage)
        weights = self._weights(stage) if any(o.file is None for o in origins) else None
        files = [Path(weights)] if weights not in (None, "imagenet") else []
        return files + [o.file for o in origins if o.file is not None and o.stage is None]

    def weights_in_words(self, stage: StageConfig) -> str:
        """Return origin and licence of the pretrained weights under a stage; "" where none are known."""
        first = self.origins(stage)[0]
        if first.stage is not None:
            return self.weights_in_words(first.stage)
        if first.file is not None:
            return str(load_model(first.file).provenance.get("weights", "")) if first.file.is_file() else ""
        return weights_in_words(stage.network or self._config.model)

    def _weights(self, stage: StageConfig) -> str | None:
        """Return ``imagenet``, None, or the path of a weights file that exists."""
        spec = stage.network or self._config.model
        if spec.weights is None or spec.weights == "imagenet":
            return spec.weights
        path = resolve_root(spec.weights, self._roots, "weights file", "FILE")
        if not path.is_file():
            raise RequestError(f"no weights file '{path}' for the network '{spec.name}'")
        return str(path)

    def check(self, finished: Mapping[str, bool]) -> None:
        """Try files and networks of all stages before any of them trains.

        Args:
            finished: whether a stage is finished, by name; the networks of a finished stage are not tried.

        Raises:
            RequestError: a file is missing or of other classes, or a method does not work with its networks.
        """
        for stage in self._config.stages:
            self.outside_files(stage)
            for origin in self.origins(stage):
                if origin.file is not None and origin.stage is None:
                    self._load(stage, origin)
            if not finished[stage.name]:
                self.method(stage, trained=False)
                self._require_weights(stage)

    def _require_weights(self, stage: StageConfig) -> None:
        """Refuse a stage that starts from ImageNet weights which cannot be had here."""
        spec = stage.network or self._config.model
        if spec.weights == "imagenet" and any(origin.file is None for origin in self.origins(stage)):
            require_available(self._initial(stage, weights=None), spec.name)

    # ---- networks ----

    def method(self, stage: StageConfig, trained: bool = True) -> Method:
        """Build a stage's method on its networks.

        Args:
            stage: one of the run.
            trained: whether the networks get their weights; otherwise they have the right shapes and random weights.

        Raises:
            RequestError: a model file is missing or does not fit, or the method does not work with these networks.
        """
        first, *others = self.origins(stage)
        seed_step(self._config.seed, Purpose.NETWORK)
        model = self._network(stage, first, trained)
        if first.file is not None and stage.network is not None:
            model = started_from(self._initial(stage, weights=None), model)
        second = [self._network(stage, origin, trained) for origin in others]
        return method_info(stage.method).method(stage, model, self._space, *second)

    def _network(self, stage: StageConfig, origin: Origin, trained: bool) -> Segmenter:
        if origin.file is None:
            return self._initial(stage, self._weights(stage) if trained else None)
        if trained:
            return self._load(stage, origin)
        return self._built(self._architecture_of(stage, origin), None)

    def _initial(self, stage: StageConfig, weights: str | None) -> Segmenter:
        """Build the network of a stage with the given initial weights or random ones; the same at every call."""
        seed_step(self._config.seed, Purpose.NETWORK)
        spec = stage.network or self._config.model
        require_initial(spec.name, spec.arguments)
        model = self._built(spec, weights)
        if weights not in (None, "imagenet") and stored_space(Path(str(weights))) is not None:
            fresh = self._built(spec, None)
            if name_rows(model, fresh, Path(str(weights)), self._space):
                self._notice(f"'{weights}': its classifier is taken by class names, as its classes are others")
        return model

    def _built(self, spec: ModelConfig, weights: str | None) -> Segmenter:
        """Build a network for the classes and the bands of the run."""
        arguments = {key: value for key, value in spec.arguments.items() if key != "bands"}
        return build_segmenter(spec.name, len(self._space), weights=weights, bands=self._bands, **arguments)

    def _notice(self, text: str) -> None:
        if text not in self._noticed:
            self._noticed.add(text)
            self.notices.append(text)

    def _load(self, stage: StageConfig, origin: Origin) -> Segmenter:
        """Read a model file that fits this run."""
        assert origin.file is not None
        if not origin.file.is_file():
            if origin.stage is not None:
                raise RequestError(
                    f"stage '{stage.name}' needs the model of stage '{origin.stage.name}', but there is no "
                    f"'{origin.file}'; run that stage first, or all of them (without 'stage')"
                )
            raise RequestError(
                f"stage '{stage.name}' starts from '{origin.name}', which is neither an earlier stage of this run "
                "nor a model file"
            )
        loaded = load_model(origin.file)
        if loaded.model.bands != self._bands:
            raise RequestError(
                f"'{origin.file}' reads images of {loaded.model.bands} bands; this run has {self._bands}: choose as "
                "many with --bands, or train from the start"
            )
        ordered = in_order_of(loaded, self._space, origin.file)
        if ordered is not loaded:
            self._notice(f"'{origin.file}' has its classes in another order; they are matched by name")
        return ordered.model
