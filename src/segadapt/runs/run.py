"""A run: its stages in order, their results, its record and its report.

    RUN/config.json        the resolved configuration; `segadapt resume RUN` needs nothing else
    RUN/data.json          what was read of the data before training, and what was dubious about it
    RUN/results.json       scores of every finished stage
    RUN/log.jsonl, tensorboard/
    RUN/stages/NAME/       model.safetensors, model_card.md, prototypes.safetensors, done.json, checkpoints/,
                           round*/labels/
    RUN/pictures/, report.html

A finished stage is reused when nothing that decides its numbers has changed; an interrupted one resumes from its
newest checkpoint.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from segadapt.core.documents import write_document
from segadapt.core.files import copy_file, flush_folder
from segadapt.core.kept import STATISTICS, kept_folder
from segadapt.core.names import require_ids
from segadapt.data.sharing import shared_among
from segadapt.engine.record import Record
from segadapt.engine.run_files import DATA, DONE, RESULTS, files_of, read_done, read_held, require_intact
from segadapt.engine.runtime import Runtime
from segadapt.engine.speed import set_speed
from segadapt.errors import RequestError
from segadapt.methods.stage_config import StageConfig
from segadapt.models.store import PROTOTYPES, load_model
from segadapt.runs.claim import claim_of, require_same_contents
from segadapt.runs.config import RunConfig, build_config
from segadapt.runs.consent import Accept, look_at
from segadapt.runs.fingerprint import differing_settings, fingerprints_of, require_unchanged, score_fingerprint
from segadapt.runs.hold import Hold
from segadapt.runs.model_card import write_cards
from segadapt.runs.moved import Moved, require_there
from segadapt.runs.networks import MODEL, Networks
from segadapt.runs.opening import Given, OpenedData, open_data
from segadapt.runs.reasons import lines_of
from segadapt.runs.results import results_of
from segadapt.runs.stage import StageRunner, stage_in_words
from segadapt.runs.start import known_of


@dataclass
class Run:
    """A run in one process. :meth:`open` checks a request and makes one; building the object does nothing else.

    Attributes:
        config: resolved configuration.
        out: folder of the run.
        opened: opened data of the run.
        runtime, record: runtime and record of this process.
        networks: builds the networks of the stages.
        fingerprints: hash of everything that decides the numbers of a stage, by its name.
        hold: the hold of this process on the folder; it ends with the last use of this object, or by ``hold.end()``.
        reuse: folders of other runs; finished stages in them may be taken over.
    """

    config: RunConfig
    out: Path
    opened: OpenedData
    runtime: Runtime
    record: Record
    networks: Networks
    fingerprints: Mapping[str, str]
    hold: Hold
    reuse: Sequence[Path] = ()

    @classmethod
    def open(
        cls,
        config: RunConfig,
        out: Path,
        roots: Mapping[str, str] | None = None,
        *,
        quiet: bool = False,
        reuse: Sequence[Path] = (),
        given: Given | None = None,
        accept: Accept = True,
        notes: Sequence[str] = (),
        chosen: Mapping[str, Any] | None = None,
    ) -> Run:
        """Join the other processes, open the data, check everything that can be checked, and claim the folder.

        Args:
            config: resolved configuration.
            out: folder of the run; finished stages in it are not run again.
            roots: where named data sets lie, by name.
            quiet: print nothing but warnings.
            reuse: folders of other runs; finished stages in them may be taken over.
            given: data sets that a script gives instead of folders, by their part in the run.
            accept: whether to go on, with warnings, where the data are dubious; see :mod:`segadapt.runs.consent`.
            notes: lines about the request, which the record shows once nothing is refused.
            chosen: settings that were chosen for the request, and why; see :mod:`segadapt.runs.budget`.

        Raises:
            RequestError: the folder holds another run, or data, files, networks or stages do not fit. Nothing of
                the refused request stays in ``out``.
        """
        roots = roots or {}
        runtime = Runtime(config.accelerator, config.precision, config.process_timeout, config.strategy)
        set_speed(runtime, config)
        _require_one_config(config, runtime)
        hold = Hold(out, runtime, [stage.name for stage in config.stages])
        try:
            with shared_among(runtime):
                opened = open_data(config.data, roots, kept_folder(STATISTICS), given, known_of(config))
            claim = claim_of(config, out)
            _require_folders(reuse)
            networks = Networks(config, opened.space, roots, out / "stages", opened.bands)
            finished = {stage.name: (out / "stages" / stage.name / DONE).exists() for stage in config.stages}
            networks.check(finished)
            require_ids((item.id for item in opened.training.target.items), "target")
            fingerprints = fingerprints_of(config, opened, networks)
            require_same_contents(out, fingerprints, score_fingerprint(config, opened))
            record = Record(out, runtime.main, quiet, wait=True)
            for part, line in opened.readings.items():
                record.say(f"{part}: {line}")
            shown = None if all(finished.values()) else look_at(config.data, opened, runtime, record, accept, out)
        except BaseException:
            hold.end()  # a refused request leaves the folder as it was
            raise
        runtime.barrier()  # nothing is refused from here on
        if hold.writes:
            claim.write(config, roots, chosen)
        runtime.barrier()
        if not hold.read_only:
            record.begin()
        if shown is not None:
            write_document(out / DATA, shown)
        for line in lines_of(chosen):
            record.say(line)
        for line in [*notes, *claim.lines]:
            record.warn(line)
        run = cls(
            config=config,
            out=out,
            opened=opened,
            runtime=runtime,
            record=record,
            networks=networks,
            fingerprints=fingerprints,
            hold=hold,
            reuse=reuse,
        )
        run._tell()
        for line in dict.fromkeys(map(networks.weights_in_words, config.stages)):
            if line:
                record.say(line)
        return run

    def _tell(self) -> None:
        """Print what the networks have to say about model files from outside the run."""
        while self.networks.notices:
            self.record.warn(self.networks.notices.pop(0))

    # ---- stages ----

    def execute(self, only: str | None = None, pictures: bool = True) -> dict[str, Any]:
        """Run all stages, or only the one named, and return the results as written to results.json.

        Args:
            only: name of a stage; None runs all.
            pictures: draw pictures for the report after each stage.

        Raises:
            RequestError: there is no such stage.
            RunError: training failed or was stopped; calling again resumes it.
        """
        names = [s.name for s in self.config.stages]
        if only is not None and only not in names:
            raise RequestError(f"no stage '{only}' in this run; its stages: {', '.join(names)}")
        runner = StageRunner(self.config, self.opened, self.runtime, self.record, self.networks)
        try:
            self._require_finished_intact()
            for number, stage in enumerate(self.config.stages):
                if only in (None, stage.name):
                    with stage_in_words(self.config, stage, self.networks.architecture(stage).name):
                        self._run_stage(runner, number, stage, self.fingerprints[stage.name], pictures)
            return self._write_results()
        finally:
            self.record.close()

    def _require_finished_intact(self) -> None:
        """Refuse to build on finished stages whose files are not those that they left; see :func:`require_intact`."""
        said = ""
        if self.runtime.main:
            try:
                for folder in map(self._folder, self.config.stages):
                    if (done := read_done(folder)) is not None:
                        require_intact(folder, done)
            except RequestError as problem:
                said = str(problem)
        if problems := [line for line in self.runtime.gather([said]) if line]:
            raise RequestError(problems[0])

    def _folder(self, stage: StageConfig) -> Path:
        return self.out / "stages" / stage.name

    def _run_stage(
        self, runner: StageRunner, number: int, stage: StageConfig, fingerprint: str, pictures: bool
    ) -> None:
        folder = self._folder(stage)
        label = f"stage {number + 1}/{len(self.config.stages)} {stage.name} ({stage.title})"
        done = read_done(folder) or self._take_over(runner, stage, fingerprint)
        if done is None:
            self.record.say(label)
            method = self.networks.method(stage)
            self._tell()
            trained = runner.train(stage, method, folder, fingerprint)
            require_unchanged(self.opened, stage.name)
            done = {"fingerprint": fingerprint, "scored": self._scored, **trained}
            self._keep(folder, done)
        else:
            self.record.say(f"{label}: done before, reused")
        if self.hold.writes:
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
            if pictures:
                runner.show(self.out / "pictures", stage, folder, done)
        if done["row"]["scores"] is not None:
            self.record.say(f"  mIoU {done['row']['scores']['miou']:.1f}   ({done['row']['seconds']:.0f} s)")
        self.runtime.barrier()
        self._write_results()
        self.write_cards([stage.name])

    def write_cards(self, stages: Sequence[str] | None = None) -> None:
        """Write the model cards of the finished stages, or of those named; where that fails, it is a warning."""
        if self.hold.writes:
            for problem in write_cards(self.out, stages or [stage.name for stage in self.config.stages]):
                self.record.warn(problem)

    def _keep(self, folder: Path, done: dict[str, Any]) -> None:
        """Call a stage finished: done.json comes last, when all that it speaks of is on the disk."""
        if self.runtime.main:
            flush_folder(folder)
            done["files"] = files_of(folder, (MODEL, PROTOTYPES))
            write_document(folder / DONE, done)
        self.runtime.barrier()

    @cached_property
    def _scored(self) -> str:
        """Fingerprint of everything that scores depend on besides the model."""
        return score_fingerprint(self.config, self.opened)

    def _take_over(self, runner: StageRunner, stage: StageConfig, fingerprint: str) -> dict[str, Any] | None:
        """Copy a finished stage of the same fingerprint from another run, scored on this run's test images."""
        folder = self._folder(stage)
        for path in (path for other in self.reuse for path in sorted(other.glob(f"**/{DONE}"))):
            here = path.parent.resolve() == folder.resolve()
            if here or not (path.parent / MODEL).exists():
                continue
            try:
                done = read_done(path.parent)
                if done is None or done["fingerprint"] != fingerprint:
                    continue
                require_intact(path.parent, done)
            except RequestError as problem:
                self.record.warn(f"not taken over: {problem}")
                continue
            for name in done["files"] if self.runtime.main else ():
                copy_file(path.parent / name, folder / name)
            self.runtime.barrier()
            done["row"]["title"] = stage.title
            if done["scored"] != self._scored:
                model = load_model(folder / MODEL).model.to(self.runtime.device)
                done["row"]["scores"], done["scored"] = runner.scores(model), self._scored
            self._keep(folder, done)
            return done
        return None

    def _write_results(self) -> dict[str, Any]:
        done = [read_done(self._folder(stage)) for stage in self.config.stages]
        results = results_of(self.config, self.opened, [d for d in done if d is not None])
        if self.hold.writes:
            write_document(self.out / RESULTS, results)
        return results


def resumed(
    out: Path,
    quiet: bool = False,
    roots: Mapping[str, str] | None = None,
    given: Given | None = None,
    moved: Moved | None = None,
) -> Run:
    """Open the run in a folder again, as it was configured.

    Args:
        out: folder of the run.
        quiet: print nothing but warnings.
        roots: where named data sets lie now; the others lie where they did.
        given: see :meth:`Run.open`.
        moved: where folders and files lie now; the others lie where they did.

    Raises:
        RequestError: the folder does not hold a run; and see :meth:`Run.open`.
    """
    held = read_held(out)
    if held is None:
        raise RequestError(
            f"'{out}' is not the folder of a run: it has no config.json; start one with 'segadapt adapt'"
        )
    settings = (moved or Moved()).applied(held["config"])
    require_there(settings)
    config = build_config(settings, held["config"]["title"])
    return Run.open(config, out, {**held.get("roots", {}), **(roots or {})}, quiet=quiet, given=given)


def _require_one_config(config: RunConfig, runtime: Runtime) -> None:
    """Refuse processes that do not run the same, e.g. a script's network with random weights of each process."""
    one, *others = sorted(set(runtime.gather([config.model_dump_json()])))
    if others:
        names = differing_settings(json.loads(one), json.loads(others[0]))
        raise RequestError(
            f"the processes have different settings ({', '.join(names)}); give the same to all, and call "
            "torch.manual_seed before a network is built that a script gives"
        )


def _require_folders(reuse: Sequence[Path]) -> None:
    """Refuse stages to reuse that are not there."""
    missing = [str(folder) for folder in reuse if not folder.is_dir()]
    if missing:
        raise RequestError(f"reuse: there is no folder '{missing[0]}'; give the folder of a run, or one of runs")
