"""One stage of a run: a method trained on the run's data, scored on its test images, kept as a model file."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segadapt.core.faults import Ways, in_words
from segadapt.data.bands import reader_in
from segadapt.data.dataset import Dataset
from segadapt.engine.loop import Loop
from segadapt.engine.record import Record
from segadapt.engine.run_files import read_labels
from segadapt.engine.runtime import Runtime, forget_peak_memory, machine, peak_memory_mb
from segadapt.evaluation.scoring import evaluate
from segadapt.evaluation.tiling import usual_size
from segadapt.methods.method import Method
from segadapt.methods.stage_config import StageConfig
from segadapt.models.prototype_net import PrototypeNet
from segadapt.models.segmenter import Segmenter
from segadapt.models.store import PROTOTYPES, load_model, load_prototypes, save_model, save_prototypes
from segadapt.report.write_features import show_features
from segadapt.report.write_pictures import show_labels, show_predictions
from segadapt.report.write_prototypes import show_prototypes
from segadapt.runs.config import RunConfig
from segadapt.runs.networks import MODEL, Networks
from segadapt.runs.opening import OpenedData
from segadapt.runs.results import SELECTION


def stage_in_words(config: RunConfig, stage: StageConfig, network: str) -> AbstractContextManager[None]:
    """Return a context that says in one line what a stage's sizes are too large or too small for.

    Args:
        config: configuration of the run.
        stage: one of its stages.
        network: name of the network that the stage trains.
    """
    name, data = stage.name, config.data
    facts = {
        "network": network,
        "batch": stage.batch_size,
        "crop": stage.augmentation.crop or "whole images",
        "source size": data.source.size if data.source is not None else None,
        "target size": data.target.size,
        "window": stage.inference.window,
        "norm": stage.norm,
    }
    ways = Ways(
        memory=f"a smaller {name}.batch_size, {name}.augmentation.crop, data.source.size or data.target.size, a "
        "smaller network (model.name), or less to data.workers and data.cache_mb",
        norm=f"give {name}.batch_size of at least 2, a larger {name}.augmentation.crop, or {name}.norm=affine, which "
        "keeps the statistics",
        size=f"a larger {name}.augmentation.crop, or larger data.source.size and data.target.size",
        workers="data.workers=0, or a smaller data.cache_mb",
    )
    return in_words(f"stage '{name}'", facts, ways)


@dataclass(frozen=True)
class StageRunner:
    """Trains, scores and shows the stages of a run; holds the parts that they share.

    Attributes:
        config: configuration of the run.
        opened: opened data of the run.
        runtime, record: runtime and record of this process.
        networks: knows where the weights of a stage come from.
    """

    config: RunConfig
    opened: OpenedData
    runtime: Runtime
    record: Record
    networks: Networks

    def train(self, stage: StageConfig, method: Method, folder: Path, fingerprint: str) -> dict[str, Any]:
        """Train a stage from its newest checkpoint on, or from the start; return its row and its pseudo labels.

        Args:
            stage: one of the run.
            method: method of the stage, with the networks that it starts from.
            folder: folder of the stage; the model file lies there when this returns.
            fingerprint: hash of everything that decides the stage's numbers.
        """
        forget_peak_memory(self.runtime.device)

        def on_round(round_index: int, steps: int) -> None:
            if round_index + 1 < method.rounds:
                scores = self.scores(method.result())
                if scores is not None:
                    self._record_scores(stage, round_index, steps, scores)
                    self.record.say(f"  round {round_index + 1}: mIoU {scores['miou']:.1f}")

        loop = Loop(
            method,
            self.opened.training,
            runtime=self.runtime,
            record=self.record,
            folder=folder,
            seed=self.config.seed,
            on_round=on_round,
            on_labels=self._record_labels,
            fingerprint=fingerprint,
        )
        loop.run()
        result = method.result()
        scores = self.scores(result)
        if scores is not None:
            self._record_scores(stage, max(0, method.rounds - 1), loop.steps_done, scores)
        if self.runtime.main:
            save_model(folder / MODEL, result, self.opened.space, self._provenance(stage))
            self._keep_prototypes(method, result, folder)
        row = {
            "stage": stage.name,
            "method": stage.method,
            "title": stage.title,
            "role": stage.role,
            "scores": scores,
            "seconds": round(loop.seconds, 1),
            "steps": loop.steps_done,
            "peak_memory_mb": peak_memory_mb(self.runtime.device),
            "selection": SELECTION,
        }
        summaries = [read_labels(folder / f"round{r}") for r in range(method.rounds)]
        return {"row": row, "labels": [s for s in summaries if s]}

    def _keep_prototypes(self, method: Method, result: Segmenter, folder: Path) -> None:
        """Save the prototypes of a stage beside its model, where the model does not hold them."""
        view = method.prototype_view()
        if view is None:
            return
        if not view.active.any():
            self.record.warn(
                f"stage '{folder.name}': no class got prototypes before the last step; lower mpcl.warmup (steps) or "
                "mpcl.start (features per class)"
            )
        if not isinstance(result, PrototypeNet):
            save_prototypes(folder / PROTOTYPES, view)

    def scores(self, model: Segmenter) -> dict[str, Any] | None:
        """Compute the scores on the test set; the processes share the images."""
        test = self.opened.test
        if test is None:
            return None
        mine = test.subset(self.runtime.share(len(test)))
        return evaluate(
            model,
            mine,
            self.config.evaluation,
            self.runtime.device,
            size=self.config.data.test_size,
            merge=self.config.data.merge_predictions,
            reduce=self.runtime.sum,
            autocast=self.runtime.autocast,
            progress=None,
        ).to_dict()

    def show(self, pictures: Path, stage: StageConfig, folder: Path, done: Mapping[str, Any]) -> None:
        """Draw the pictures of a finished stage for the report, once."""
        if (folder / "shown").exists():
            return
        model = load_model(folder / MODEL).model.to(self.runtime.device)
        shown = self._shown()
        show_predictions(
            pictures, stage.name, model, shown, self.config.evaluation, self.config.data.test_size, self.opened.space
        )
        target, space = self.opened.training.target, self.opened.space
        for problem in show_labels(pictures, stage.name, folder, done["labels"], target, space):
            self.record.warn(f"not shown in the report: {problem}")
        show_features(pictures, stage.name, model, shown, self.config.evaluation, self.config.data.test_size)
        view = self._prototype_view(folder, model)
        if view is not None:
            show_prototypes(
                pictures,
                stage.name,
                model,
                view,
                shown,
                self.config.evaluation,
                self.config.data.test_size,
                self.opened.space,
            )
        (folder / "shown").touch()

    def _shown(self) -> Dataset:
        """Return the images on which the run looks at its models."""
        return self.opened.test if self.opened.test is not None else self.opened.training.target

    def _prototype_view(self, folder: Path, model: Segmenter) -> PrototypeNet | None:
        """Return the stage's network with its prototypes; None where there are none."""
        if isinstance(model, PrototypeNet):
            return model
        return load_prototypes(folder / PROTOTYPES, model) if (folder / PROTOTYPES).exists() else None

    def _record_scores(self, stage: StageConfig, round_index: int, step: int, scores: Mapping[str, Any]) -> None:
        self.record.event("evaluation", stage=stage.name, round=round_index, step=step, scores=scores)
        self.record.scalars(f"{stage.name}/test", {"miou": scores["miou"]}, step)

    def _record_labels(self, summary: Mapping[str, Any]) -> None:
        accuracy = f", {summary['accuracy']:.1%} right" if summary["accuracy"] is not None else ""
        self.record.event("labels", **{k: v for k, v in summary.items() if k != "classes"})
        self.record.say(f"  round {summary['round'] + 1}: {summary['density']:.1%} of the pixels labelled{accuracy}")

    def _provenance(self, stage: StageConfig) -> dict[str, Any]:
        reader = reader_in(self.opened.training.target)
        return {
            "run": self.config.title,
            "stage": stage.name,
            "settings": stage.model_dump(mode="json"),
            "seed": self.config.seed,
            "size": self.config.data.test_size,
            "pictures": usual_size(self._shown()),
            "inference": self.config.evaluation.model_dump(mode="json"),
            "input": reader.to_dict() if reader is not None else None,
            "weights": self.networks.weights_in_words(stage),
            **machine(),
        }
