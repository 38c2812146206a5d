"""The JSON files in the folder of a run, each read through its shape; a damaged one is said with what to do about it.

RUN/config.json, RUN/results.json, RUN/data.json
RUN/stages/NAME/done.json, RUN/stages/NAME/roundN/labels.json
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator
from typing_extensions import NotRequired, TypedDict

from segadapt.core.content import content_key
from segadapt.core.documents import read_document
from segadapt.core.files import file_digest
from segadapt.core.names import file_name
from segadapt.errors import RequestError

CONFIG = "config.json"
RESULTS = "results.json"
DATA = "data.json"
DONE = "done.json"
LABELS = "labels.json"

Name = Annotated[str, AfterValidator(lambda name: file_name(name, "stage"))]
"""Name of a stage, which is that of a folder too."""


class _Stage(TypedDict):
    name: NotRequired[Name]
    role: NotRequired[str]
    initial: NotRequired[str]


class _Config(TypedDict):
    stages: list[_Stage]
    title: NotRequired[str]


class _Held(TypedDict):
    config: _Config
    roots: NotRequired[dict[str, str]]
    chosen: NotRequired[dict[str, Any]]


class _Scores(TypedDict):
    miou: float | None
    iou: NotRequired[dict[str, float | None]]


class _Row(TypedDict):
    stage: Name
    role: NotRequired[str]
    title: NotRequired[str]
    method: NotRequired[str]
    scores: _Scores | None
    seconds: NotRequired[float]
    steps: NotRequired[int]


class _Labels(TypedDict):
    stage: str
    round: NotRequired[int]
    classes: NotRequired[list[dict[str, Any]]]


class _Guard(TypedDict):
    recommended: Name
    source: Name
    adapted: Name
    line: str


class _Results(TypedDict):
    rows: list[_Row]
    labels: NotRequired[list[_Labels]]
    title: NotRequired[str]
    seed: NotRequired[int]
    machine: NotRequired[dict[str, Any]]
    guard: NotRequired[_Guard]


class _DoneRow(TypedDict):
    stage: Name
    scores: _Scores | None
    title: str
    seconds: float
    steps: int


class _File(TypedDict):
    sha256: str
    key: str


class _Done(TypedDict):
    fingerprint: str
    scored: str
    row: _DoneRow
    labels: list[_Labels]
    files: dict[Name, _File]


class _Finding(TypedDict):
    kind: str
    part: str


class _Data(TypedDict):
    findings: list[_Finding]
    parts: NotRequired[dict[str, Any]]


def read_held(run: Path) -> dict[str, Any] | None:
    """Return config.json of a run: ``config``, ``roots``, ``chosen``; None where there is none.

    Raises:
        RequestError: it is damaged.
    """
    mend = (
        f"put it back from a copy, or remove it and ask for the run as before ('segadapt adapt ... --out {run}'), "
        "which goes on with what is there"
    )
    return read_document(run / CONFIG, _Held, mend)


def read_results(run: Path) -> dict[str, Any] | None:
    """Return results.json of a run; None where there is none.

    Raises:
        RequestError: it is damaged.
    """
    return read_document(run / RESULTS, _Results, f"write it again with 'segadapt resume {run}'")


def read_data(run: Path) -> dict[str, Any] | None:
    """Return data.json of a run, what was read before training and found dubious; None where there is none.

    Raises:
        RequestError: it is damaged.
    """
    return read_document(run / DATA, _Data, "remove it: the next start of the run writes it again")


def read_done(stage: Path) -> dict[str, Any] | None:
    """Return done.json of a finished stage; None where it is not finished.

    Raises:
        RequestError: it is damaged.
    """
    return read_document(stage / DONE, _Done, f"put it back from a copy, or remove '{stage}' to train the stage again")


def read_labels(round_folder: Path) -> dict[str, Any] | None:
    """Return labels.json of a round, the summary of its pseudo labels; None where it made none.

    Raises:
        RequestError: it is damaged.
    """
    mend = f"remove '{round_folder.parent}' to train the stage again"
    return read_document(round_folder / LABELS, _Labels, mend)


def files_of(stage: Path, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the checksums of those files of a stage that are there, for its done.json."""
    return {
        name: {"sha256": file_digest(stage / name), "key": content_key(stage / name, times=False)}
        for name in names
        if (stage / name).exists()
    }


def require_intact(stage: Path, done: Mapping[str, Any], whole: bool = True) -> None:
    """Refuse a finished stage whose files are not those that it left.

    Args:
        stage: folder of the stage.
        done: its done.json.
        whole: whether the files are read whole (1.5 GB/s). Their keys alone tell a file that was replaced; what is
            damaged in one is seen when it is opened.

    Raises:
        RequestError: names the file.
    """
    fix = f"put it back from a copy, or remove '{stage}' to train the stage again"
    for name, known in done["files"].items():
        file = stage / name
        try:
            same = file_digest(file) == known["sha256"] if whole else content_key(file, times=False) == known["key"]
        except FileNotFoundError:
            raise RequestError(f"'{file}' is missing; {fix}") from None
        except OSError as problem:
            raise RequestError(f"'{file}' cannot be read: {problem.strerror or problem}; {fix}") from None
        if not same:
            raise RequestError(f"'{file}' is not what the stage left: it was damaged or replaced; {fix}")
