"""How well criteria without labels agree with true scores, measured on the finished runs below some folders.

A folder holds runs as ``segadapt bench study`` leaves them: ``TASK/ROW/seedN``. Models that were adapted from one
source model are a group, with that model; what a user would choose from. Runs without test scores, oracles, which have
seen target labels, and copies of a model do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from typing_extensions import TypedDict

from segadapt.core.documents import read_document
from segadapt.core.files import file_digest, write_json
from segadapt.engine.run_files import CONFIG, read_held, read_results
from segadapt.engine.runtime import machine
from segadapt.errors import RequestError
from segadapt.evaluation.criteria import criteria_of, ensemble_labels
from segadapt.evaluation.looking import Look, look_at_model
from segadapt.models.store import load_model
from segadapt.runs.ranking import data_of
from segadapt.runs.results import model_file


class Candidate(NamedTuple):
    """A model of the study.

    Attributes:
        task, row, stage, seed: where it comes from.
        run: folder of its run.
        file, digest: its model file and the hash of that.
        source: hash of the source model that it was adapted from; its own if it is one.
        role: ``source`` or ``adapted``.
        miou: on the test images, in percent.
    """

    task: str
    row: str
    stage: str
    seed: int
    run: Path
    file: Path
    digest: str
    source: str
    role: str
    miou: float


def measure_criteria(
    folders: Sequence[Path],
    out: Path,
    roots: Mapping[str, str] | None = None,
    device: str = "cpu",
    say: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """Compute the criteria of all models below some folders; groups that ``out`` holds already are not done again.

    Args:
        folders: see the module.
        out: JSON file of the results, written after each group.
        roots: where named data sets lie now.
        device: where to compute.
        say: takes a line about every group.

    Returns:
        A dict for each model: ``task``, ``group``, ``row``, ``stage``, ``seed``, ``role``, ``miou`` (percent, on test
        images) and ``criteria``, as in ``out`` under ``models``.

    Raises:
        RequestError: there is no run below the folders.
    """
    held = read_document(out, _Table, "name another file, or remove it to compute all of it again") or {"models": []}
    groups = groups_of(folders)
    if not groups:
        raise RequestError(f"no finished run with a source model below {', '.join(map(str, folders))}")
    for (task, source), members in groups.items():
        digests = sorted(member.digest for member in members)
        before = [model for model in held["models"] if (model["task"], model["group"]) == (task, source)]
        if sorted(model["digest"] for model in before) == digests:
            continue
        made = _measured(task, source, members, roots, device)
        kept = [model for model in held["models"] if (model["task"], model["group"]) != (task, source)]
        held = {"machine": machine(), "models": [*kept, *made]}
        write_json(out, held)
        say(f"{task}, seed {members[0].seed}: {len(members)} models")
    return list(held["models"])


class _Model(TypedDict):
    task: str
    group: str
    digest: str


class _Table(TypedDict):
    models: list[_Model]


def _measured(
    task: str, source: str, members: Sequence[Candidate], roots: Mapping[str, str] | None, device: str
) -> list[dict[str, Any]]:
    """Compute the criteria of the models of a group."""
    data = data_of(members[0].run, roots)
    looks: dict[str, Look] = {
        member.digest: look_at_model(load_model(member.file, device), data.target, data.source) for member in members
    }
    together = ensemble_labels(list(looks.values()))
    return [
        {
            "task": task,
            "group": source,
            **{name: getattr(member, name) for name in ("row", "stage", "seed", "role", "miou", "digest")},
            "criteria": criteria_of(looks[member.digest], looks[source], together),
        }
        for member in members
    ]


def groups_of(folders: Sequence[Path]) -> dict[tuple[str, str], list[Candidate]]:
    """Return the models below folders by task and source model, the source first; groups without that are left out."""
    found: dict[tuple[str, str], dict[str, Candidate]] = {}
    for candidate in (one for folder in folders for run in _runs(folder) for one in candidates_of(run)):
        found.setdefault((candidate.task, candidate.source), {}).setdefault(candidate.digest, candidate)
    return {
        key: sorted(group.values(), key=lambda one: (one.digest != one.source, one.row, one.seed, one.stage))
        for key, group in sorted(found.items())
        if key[1] in group and len(group) > 1
    }


def _digest(file: Path) -> str:
    return file_digest(file)[:16]


def _runs(folder: Path) -> Iterable[Path]:
    return sorted(path.parent for path in folder.glob(f"*/*/*/{CONFIG}"))


def candidates_of(run: Path) -> list[Candidate]:
    """Return the models of a run ``TASK/ROW/seedN`` that were scored and were trained without target labels."""
    results, held = read_results(run), read_held(run)
    if not results or not held:
        return []
    initial = next((stage["initial"] for stage in held["config"]["stages"] if stage["role"] == "adapted"), "")
    outside = Path(initial)
    source = _digest(outside) if outside.is_absolute() and outside.is_file() else ""
    found = []
    for row in results["rows"]:
        file = model_file(run, row["stage"])
        if row["role"] not in ("source", "adapted") or row["scores"] is None or not file.is_file():
            continue
        digest = _digest(file)
        source = digest if row["role"] == "source" else source
        place = (run.parent.parent.name, run.parent.name, row["stage"], results["seed"], run, file)
        found.append(Candidate(*place, digest, source, row["role"], row["scores"]["miou"]))
    return [one for one in found if one.source]
