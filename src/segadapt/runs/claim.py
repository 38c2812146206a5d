"""The claim on a folder: a request goes on with the run in it, takes over one that trained nothing, or is refused.

A run is known by what decides its numbers. Where its files lie does not: data that moved are given again, and their
contents are compared by fingerprint. A stage that has trained nothing yet, because it was refused or failed at its
first step, holds nothing to protect: its settings may change.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segadapt.core.documents import write_document
from segadapt.engine.checkpoint import newest_checkpoint
from segadapt.engine.run_files import CONFIG, DONE, read_done, read_held
from segadapt.errors import RequestError
from segadapt.methods.stage_config import UNDECIDED
from segadapt.runs.config import RunConfig
from segadapt.runs.fingerprint import differing_settings
from segadapt.version import __version__

_OF_THE_MACHINE = (
    *("accelerator", "strategy", "process_timeout", "guard"),
    *("data.workers", "data.cache_mb", "data.max_pixels"),
)
"""Settings that decide how a run is computed or judged and not what comes out; it may go on with others."""
_ALREADY_LAID = ("description", "length", "every")
"""Settings of a recipe that are in those of the stages."""
_PLACES = ("images", "labels", "classes", "list_file", "root")
"""Settings of a data set that say where its files lie."""


@dataclass(frozen=True)
class Claim:
    """The way of a request with the folder of a run.

    Attributes:
        out: the folder.
        held: the run in it as config.json has it; None where there is none.
        changed: settings that the run in it has otherwise, and that nothing was trained with yet.
        stages: names of the stages that start anew.
    """

    out: Path
    held: Mapping[str, Any] | None
    changed: Sequence[str] = ()
    stages: Sequence[str] = ()

    def write(self, config: RunConfig, roots: Mapping[str, str], chosen: Mapping[str, Any] | None = None) -> None:
        """Make the folder that of a run, by one process: write config.json, and remove what the old request began."""
        for stage in self.stages:
            shutil.rmtree(self.out / "stages" / stage, ignore_errors=True)
        if self.changed and not _trained(self.out):
            (self.out / "log.jsonl").unlink(missing_ok=True)
            shutil.rmtree(self.out / "tensorboard", ignore_errors=True)
        absolute = {k: str(Path(v).expanduser().resolve()) for k, v in roots.items()}
        known = {**(self.held or {}).get("roots", {}), **absolute}
        document = {"config": config.model_dump(mode="json"), "roots": known, "segadapt": __version__}
        kept = chosen if chosen is not None else (self.held or {}).get("chosen")
        if kept is not None:
            document["chosen"] = dict(kept)
        if self.held is None or {**self.held, "segadapt": __version__} != document:
            write_document(self.out / CONFIG, document)

    @property
    def lines(self) -> list[str]:
        """Lines about what is in the folder: settings that are replaced, and work of another version that goes on."""
        lines = []
        if self.changed:
            settings = _named(self.changed)
            lines.append(f"'{self.out}' held other settings ({settings}), with which nothing was trained; replaced")
        began = (self.held or {}).get("segadapt", __version__)
        if _minor(began) != _minor(__version__) and _half_done(self.out, self.held or {}):
            lines.append(
                f"'{self.out}' was begun with segadapt {began} and goes on with {__version__}; its numbers may be "
                "those of neither (docs/versions.md)"
            )
        return lines


def claim_of(config: RunConfig, out: Path) -> Claim:
    """Return what a request may do with a folder; nothing changes in it.

    Args:
        config: settings of the request.
        out: folder of the run.

    Raises:
        RequestError: the folder holds a run that was trained with other settings.
    """
    held = read_held(out)
    if held is None:
        return Claim(out, None)
    changed = [name for name in differing_settings(held["config"], config.model_dump(mode="json")) if _decides(name)]
    if not changed:
        return Claim(out, held)
    trained = _trained(out)
    if not trained:
        return Claim(out, held, changed, [s["name"] for s in held["config"]["stages"]])
    names = {s["name"] for s in held["config"]["stages"]} | {stage.name for stage in config.stages}
    stages = {name.partition(".")[0] for name in changed}
    if not stages <= names or stages & trained:
        raise RequestError(
            f"'{out}' holds a run with other settings ({_named(changed)}); choose another folder for the run "
            f"('out'), or 'segadapt resume {out}'"
        )
    return Claim(out, held, changed, sorted(stages))


def require_same_contents(out: Path, fingerprints: Mapping[str, str], scored: str) -> None:
    """Refuse to go on with stages that were made with other data or weights than there are now.

    Args:
        out: folder of the run.
        fingerprints: of the stages, by name.
        scored: fingerprint of everything that scores depend on besides the model.

    Raises:
        RequestError: names the stage.
    """
    for name, fingerprint in fingerprints.items():
        folder = out / "stages" / name
        done, checkpoint = read_done(folder), newest_checkpoint(folder / "checkpoints")
        made, place = done["fingerprint"] if done else None, folder
        if done is None and checkpoint is not None and checkpoint.position > 0:
            made, place = checkpoint.fingerprint, folder / "checkpoints"
        if made is not None and made != fingerprint:
            raise RequestError(
                f"'{place}' was made with other settings, weights or data; choose another folder for the run ('out'), "
                "or remove it"
            )
        if done and done["row"]["scores"] is not None and done.get("scored", scored) != scored:
            raise RequestError(
                f"'{folder}' was scored on other test images or with other settings; give the test images again that "
                "the run had, or choose another folder for the run ('out')"
            )


def _trained(out: Path) -> set[str]:
    """Return the names of the stages in a folder of which something was trained and kept."""
    found = set()
    for folder in (out / "stages").glob("*"):
        checkpoint = newest_checkpoint(folder / "checkpoints")
        if (folder / DONE).exists() or (checkpoint is not None and checkpoint.position > 0):
            found.add(folder.name)
    return found


def _half_done(out: Path, held: Mapping[str, Any]) -> bool:
    """Return whether something of the run in a folder was trained, and something else is still to be."""
    stages = [out / "stages" / stage["name"] for stage in held["config"]["stages"]]
    return bool(_trained(out)) and not all((stage / DONE).exists() for stage in stages)


def _decides(name: str) -> bool:
    """Return whether a setting, by its override name, decides the numbers of a run."""
    first, _, rest = name.partition(".")
    last = name.rpartition(".")[2]
    place = first == "data" and rest.count(".") == 1 and last in _PLACES
    return not (name in _OF_THE_MACHINE or first in _ALREADY_LAID or place or rest in UNDECIDED)


def _minor(version: str) -> list[str]:
    """Return the parts of a version within which a run can go on: 0.9 of 0.9.1."""
    return version.split(".")[:2]


def _named(settings: Sequence[str]) -> str:
    return ", ".join([*settings[:3], *["..."] * (len(settings) > 3)])
