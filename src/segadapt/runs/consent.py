"""Showing what a run read, and asking before it goes on where that is dubious."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from segadapt.engine.record import Record
from segadapt.engine.run_files import read_data
from segadapt.engine.runtime import Runtime
from segadapt.errors import RequestError
from segadapt.runs.config import DataConfig
from segadapt.runs.findings import Finding, find
from segadapt.runs.opening import PYTHON, OpenedData
from segadapt.runs.overview import PartRead, overview, read_parts
from segadapt.runs.target_labels import counted

"""File in the folder of a run with what was read, and the findings that somebody accepted."""
Accept = bool | Callable[[Sequence[str]], bool]
"""Whether to go on where data are dubious; or a function that is told the findings and answers that."""


def look_at(
    config: DataConfig, opened: OpenedData, runtime: Runtime, record: Record, accept: Accept, out: Path
) -> dict[str, Any] | None:
    """Read the data of a run, show what was read, and ask where it is dubious; in the main process.

    Findings that were accepted when the run in ``out`` began are not asked about again.

    Args:
        config: data part of the configuration.
        opened: the data sets.
        runtime, record: of this process.
        accept: whether to go on where data are dubious.
        out: folder of the run.

    Returns:
        What was read, as :data:`DATA` has it; None in processes that are not the main one.

    Raises:
        RequestError: in every process: files cannot be used, or the data are dubious and that was not accepted.
    """
    shown, problem = None, ""
    if runtime.main:
        try:
            shown = _shown(config, opened, record, accept, out)
        except RequestError as refused:
            problem = str(refused)
    problem = next((p for p in runtime.gather([problem]) if p), "")
    if problem:
        raise RequestError(problem)
    return shown


def _shown(config: DataConfig, opened: OpenedData, record: Record, accept: Accept, out: Path) -> dict[str, Any]:
    specs = {**dict(config), "labelled": config.oracle}  # labelled target images lie where those of an oracle do
    own = {part: specs[part].reader in ("folder", PYTHON) for part in opened.datasets}
    parts = read_parts(opened.datasets, own, config.skip_damaged, record.warn)
    findings = find(parts)
    for line in overview(parts):
        record.say(line)
    if opened.training.labelled is not None:
        record.say(counted(opened.training.labelled, opened.training.target))
    notices = [notice for dataset in opened.datasets.values() for notice in dataset.notices]
    for text in dict.fromkeys(notice.text for notice in notices if not notice.dubious):
        record.warn(text)
    for finding in findings:  # how a published data set is used is no question
        if not finding.asked:
            record.say(finding.message)
        elif not own[finding.part]:
            record.warn(finding.message)
    before = read_data(out) or {"findings": []}
    accepted = {(f["kind"], f["part"]) for f in before["findings"]}
    asked = [f for f in findings if f.asked and own[f.part] and (f.kind, f.part) not in accepted]
    _settle(asked, accept, record)
    return as_json(parts, findings)


def _settle(dubious: Sequence[Finding], accept: Accept, record: Record) -> None:
    """Warn of what is accepted; refuse the rest in one line."""
    if not dubious:
        return
    if accept is True:
        for finding in dubious:
            record.warn(finding.message)
    elif accept is False or not accept([finding.message for finding in dubious]):
        also = ", ".join(f"{finding.part}: {finding.kind}" for finding in dubious[1:])
        more = f"; {len(dubious) - 1} more dubious ({also})" if also else ""
        raise RequestError(f"{dubious[0].message}{more}; or go on as it is with --yes (Python: accept=True)")


def as_json(parts: Sequence[PartRead], findings: Sequence[Finding]) -> dict[str, Any]:
    """Return what was read and found as plain JSON values."""
    return {"parts": {part.part: part.to_dict() for part in parts}, "findings": [f._asdict() for f in findings]}
