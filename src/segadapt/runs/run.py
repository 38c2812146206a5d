"""A run: its stages in order, their results, its record and its report.

    RUN/config.json        the resolved configuration; `segadapt resume RUN` needs nothing else
    RUN/results.json       scores of every finished stage
    RUN/log.jsonl, tensorboard/
    RUN/stages/NAME/       model.safetensors, prototypes.safetensors, done.json, checkpoints/, round*/labels/
    RUN/pictures/, report.html

A finished stage is reused when nothing that decides its numbers has changed, an interrupted one
resumes from its newest checkpoint.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segadapt.core.files import read_json, write_json
from segadapt.engine.record import Record
from segadapt.engine.runtime import Runtime, machine, seed_step
from segadapt.errors import RequestError
from segadapt.methods.stage_config import StageConfig
from segadapt.models.build import ModelConfig, build_segmenter, model_config
from segadapt.models.multires import started_from
from segadapt.models.segmenter import Segmenter
from segadapt.models.store import PROTOTYPES, LoadedModel, load_model, require_same_classes
from segadapt.runs.config import RunConfig, build_config, resolve_root
from segadapt.runs.fingerprint import Fingerprints, differing_settings
from segadapt.runs.opening import check_files, open_data, score_fingerprint
from segadapt.runs.stage import SELECTION, StageRunner, networks_known, untrained
from segadapt.version import __version__


@dataclass
class Run:
    """One run in one process.

    Args:
        config: resolved configuration.
        out: the run's folder.
        roots: where named data sets lie, by name.
        quiet: print nothing but warnings.
        reuse: folders of other runs whose finished stages may be taken over.
    """

    config: RunConfig
    out: Path
    roots: Mapping[str, str] = field(default_factory=dict)
    quiet: bool = False
    reuse: Sequence[Path] = ()

    def __post_init__(self) -> None:
        self.runtime = Runtime(self.config.accelerator, self.config.precision)
        self.data, self.test, self.space = open_data(self.config.data, self.roots, self.out / "cache")
        self._refuse_other_run()
        self.record = Record(self.out, self.runtime.main, self.quiet)
        self._models: dict[str, Path] = {}
        self._check_stages()
        self._check_files()
        self._claim_folder()
        self.runner = StageRunner(self.config, self.data, self.test, self.space, self.runtime, self.record)
        self._scored = score_fingerprint(self.test, self.space, self.config)

    def _refuse_other_run(self) -> None:
        """Refuse a folder that holds another configuration, and stages to reuse that are not there."""
        held = read_json(self.out / "config.json")
        if held is not None:
            other = differing_settings(held["config"], self.config.model_dump(mode="json"))
            if other:
                names = ", ".join([*other[:3], *["..."] * (len(other) > 3)])
                raise RequestError(
                    f"'{self.out}' holds a run with other settings ({names}); choose another --out, "
                    f"or 'segadapt resume {self.out}'"
                )
        missing = [str(folder) for folder in self.reuse if not folder.is_dir()]
        if missing:
            raise RequestError(f"--reuse: there is no folder '{missing[0]}'; give the folder of a run, or one of runs")

    def _claim_folder(self) -> None:
        """Write config.json; after all checks, so that what was refused can be mended and asked for again."""
        path = self.out / "config.json"
        self.runtime.barrier()
        if self.runtime.main and not path.exists():
            roots = {k: str(Path(v).expanduser().resolve()) for k, v in self.roots.items()}
            write_json(path, {"config": self.config.model_dump(mode="json"), "roots": roots, "segadapt": __version__})
        self.runtime.barrier()

    def _check_files(self) -> None:
        """Small data sets are read once, by the main process, unless nothing is left to do."""
        unfinished = any(not (self._folder(s) / "done.json").exists() for s in self.config.stages)
        if self.runtime.main and unfinished:
            datasets = {"source": self.data.source, "target": self.data.target}
            if self.test is not None:
                datasets["test"] = self.test
            check_files(datasets, self.config.data.skip_damaged, self.record.warn)

    # ---- stages ----

    def execute(self, only: str | None = None) -> dict[str, Any]:
        """Run all stages (or only the named one) and return the results."""
        names = [s.name for s in self.config.stages]
        if only is not None and only not in names:
            raise RequestError(f"no stage '{only}' in this run; its stages: {', '.join(names)}")
        self._models.clear()
        try:
            fingerprints = Fingerprints(self.config, self.data, self.space)
            for number, stage in enumerate(self.config.stages):
                fingerprint = fingerprints.next(stage, self._files(stage))
                if only in (None, stage.name):
                    self._stage(number, stage, fingerprint)
                self._models[stage.name] = self._folder(stage) / "model.safetensors"
            return self._write_results()
        finally:
            self.record.close()

    def _folder(self, stage: StageConfig) -> Path:
        return self.out / "stages" / stage.name

    def _stage(self, number: int, stage: StageConfig, fingerprint: str) -> None:
        folder = self._folder(stage)
        done = read_json(folder / "done.json")
        if done is None:
            done = self._take_over(stage, folder, fingerprint)
        label = f"stage {number + 1}/{len(self.config.stages)} {stage.name} ({stage.title})"
        if done is not None:
            if done["fingerprint"] != fingerprint:
                raise RequestError(
                    f"'{folder}' was made with other settings, weights or data; choose another --out or remove it"
                )
            self.record.say(f"{label}: done before, reused")
        else:
            self.record.say(label)
            model, second = self._initial(stage), self._second(stage)
            trained = self.runner.train(stage, model, second, folder, fingerprint)
            done = {"fingerprint": fingerprint, "scored": self._scored, **trained}
            if self.runtime.main:
                write_json(folder / "done.json", done)
                shutil.rmtree(folder / "checkpoints", ignore_errors=True)
            self.runtime.barrier()
        if self.runtime.main:
            self.runner.show(self.out / "pictures", stage, folder, done)
        if done["row"]["scores"] is not None:
            self.record.say(f"  mIoU {done['row']['scores']['miou']:.1f}   ({done['row']['seconds']:.0f} s)")
        self.runtime.barrier()
        self._write_results()

    def _take_over(self, stage: StageConfig, folder: Path, fingerprint: str) -> dict[str, Any] | None:
        """A finished stage of another run with the same fingerprint, copied here; with scores of this run's test."""
        for other in self.reuse:
            for path in sorted(other.glob("**/done.json")):
                done = read_json(path)
                if done and done["fingerprint"] == fingerprint and path.parent.resolve() != folder.resolve():
                    if self.runtime.main:
                        folder.mkdir(parents=True, exist_ok=True)
                        for name in ("model.safetensors", PROTOTYPES):
                            if (path.parent / name).exists():
                                shutil.copy2(path.parent / name, folder / name)
                    self.runtime.barrier()
                    done["row"]["title"] = stage.title
                    if done.get("scored") != self._scored:
                        model = load_model(folder / "model.safetensors").model.to(self.runtime.device)
                        done["row"]["scores"], done["scored"] = self.runner.scores(model), self._scored
                    if self.runtime.main:
                        write_json(folder / "done.json", done)
                    self.runtime.barrier()
                    return dict(done)
        return None

    def _initial(self, stage: StageConfig) -> Segmenter:
        """The network with the weights that the stage starts from."""
        seed_step(self.config.seed, 9)
        if self._afresh(stage):
            return self._from_scratch(stage)
        model = self._made_before(stage, stage.initial)
        return model if stage.network is None else started_from(self._from_scratch(stage, trained=False), model)

    def _from_scratch(self, stage: StageConfig, trained: bool = True) -> Segmenter:
        """The network of a stage with its initial weights, or with random ones; the same at every call."""
        seed_step(self.config.seed, 9)
        spec = stage.network or self.config.model
        weights = self._weights(spec) if trained else None
        return build_segmenter(spec.name, len(self.space), weights=weights, **spec.arguments)

    def _afresh(self, stage: StageConfig) -> bool:
        """Whether a stage starts from the network's initial weights."""
        return stage.initial == "scratch" or (stage.initial == "previous" and stage is self.config.stages[0])

    def _model_files(self, stage: StageConfig) -> list[str]:
        """What a stage starts or learns from that is no stage before it."""
        stages = self.config.stages
        before = [s.name for s in stages[: stages.index(stage)]]
        known = {"scratch", *before, *(["previous"] if before else [])}
        names = (None if self._afresh(stage) else stage.initial, stage.learns_from)
        return [name for name in names if name is not None and name not in known]

    def _files(self, stage: StageConfig) -> list[Path]:
        """The files outside the run, of weights or models, that a stage starts or learns from."""
        afresh = self._afresh(stage) or stage.learns_from == "scratch"
        weights = self._weights(stage.network or self.config.model) if afresh else None
        return [Path(p) for p in (weights, *self._model_files(stage)) if p is not None and p != "imagenet"]

    def _weights(self, spec: ModelConfig) -> str | None:
        """``imagenet``, None, or the path of a weights file that exists."""
        if spec.weights is None or spec.weights == "imagenet":
            return spec.weights
        path = resolve_root(spec.weights, self.roots, "weights file", "FILE")
        if not path.is_file():
            raise RequestError(f"no weights file '{path}' for the network '{spec.name}'")
        return str(path)

    def _second(self, stage: StageConfig) -> Segmenter | None:
        """The second network that the stage learns from, if its method has one."""
        name = stage.learns_from
        if name is None:
            return None
        return self._from_scratch(stage) if name == "scratch" else self._made_before(stage, name)

    def _made_before(self, stage: StageConfig, name: str) -> Segmenter:
        """The network of the previous stage, of a named one, or of a model file."""
        path = list(self._models.values())[-1] if name == "previous" and self._models else self._models.get(name)
        return self._fitting_model(stage, name, path or Path(name)).model

    def _fitting_model(self, stage: StageConfig, name: str, path: Path) -> LoadedModel:
        """A model file that fits this run; RequestError otherwise."""
        if not path.is_file():
            if path in self._models.values():
                raise RequestError(
                    f"stage '{stage.name}' needs the model of stage '{path.parent.name}', but there is no '{path}'; "
                    "run that stage first, or all of them (leave out --stage)"
                )
            raise RequestError(
                f"stage '{stage.name}' starts from '{name}', which is neither an earlier stage of this run "
                "nor a model file"
            )
        loaded = load_model(path)
        require_same_classes(loaded.space, self.space, path)
        return loaded

    def _check_stages(self) -> None:
        """Weights, model files and networks of all stages are tried before anything runs."""
        networks: dict[str, ModelConfig] = {}
        files: dict[str, ModelConfig] = {}
        for stage in self.config.stages:
            self._files(stage)
            for name in self._model_files(stage):
                files[name] = model_config(self._fitting_model(stage, name, Path(name)).model)
            known = networks_known(self.config, stage, networks, files)
            if networks and not (self._folder(stage) / "done.json").exists():  # the first one would fail at once
                untrained(self.config, stage, known, self.space)
            networks[stage.name] = known["trained"]

    def _write_results(self) -> dict[str, Any]:
        rows, labels = [], []
        for stage in self.config.stages:
            done = read_json(self._folder(stage) / "done.json")
            if done is not None:
                rows.append(done["row"])
                labels += done["labels"]
        results = {
            "format": 1,
            "title": self.config.title,
            "task": self.config.title.split("/")[0],
            "seed": self.config.seed,
            "space": json.loads(self.space.to_json()),
            "test": {
                "name": self.test.name if self.test is not None else None,
                "images": len(self.test) if self.test is not None else 0,
                "labelled": self.test is not None,
            },
            "selection": SELECTION,
            "machine": machine(),
            "rows": rows,
            "labels": labels,
        }
        if self.runtime.main:
            write_json(self.out / "results.json", results)
        return results


def resumed(out: Path, quiet: bool = False, roots: Mapping[str, str] | None = None) -> Run:
    """The run in a folder, as it was configured."""
    held = read_json(out / "config.json")
    if held is None:
        raise RequestError(f"'{out}' is no run: it has no readable config.json; start one with 'segadapt adapt'")
    config = build_config(held["config"], held["config"]["title"])
    return Run(config, out, {**held["roots"], **(roots or {})}, quiet)


def find_model(path: Path) -> Path:
    """The model file behind a path: itself, or the last finished stage of a run that is no oracle."""
    if not path.is_dir():
        return path
    results = read_json(path / "results.json")
    if not results or not results["rows"]:
        raise RequestError(f"'{path}' is a folder without a finished stage; give a model file or the folder of a run")
    rows = [r for r in results["rows"] if r["role"] != "oracle"] or results["rows"]
    return path / "stages" / str(rows[-1]["stage"]) / "model.safetensors"
