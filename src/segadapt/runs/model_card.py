"""Model cards: a page of Markdown beside every model file that says what it is, how good, and what it cannot.

``model.safetensors`` has ``model_card.md`` beside it; a file of another name has its own, see :func:`card_file`. The
layout is that of the cards of Hugging Face: a head in YAML, then Markdown. A card is written from files that are there
already, and nothing reads it: a card that is missing or damaged changes no run, and the next one writes it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from segadapt.core.files import write_text
from segadapt.core.markdown import plain
from segadapt.engine.run_files import read_done
from segadapt.errors import RequestError, RunError
from segadapt.models.store import LoadedModel
from segadapt.runs.card import opening, record
from segadapt.runs.card.facts import CardFacts, exported_facts, facts_of
from segadapt.runs.networks import MODEL

if TYPE_CHECKING:
    from segadapt.evaluation.export import ExportReport


def card_file(model: Path) -> Path:
    """Return the file of the card of a model file; models of one folder have different ones.

    >>> card_file(Path("run/model.safetensors")).name, card_file(Path("model.onnx")).name
    ('model_card.md', 'model_onnx_card.md')
    """
    kind = "" if model.suffix == ".safetensors" else model.suffix.replace(".", "_")
    return model.with_name(f"{model.stem}{kind}_card.md")


def card_of(file: Path, digest: str | None = None) -> str:
    """Return the card of a model file.

    Args:
        file: a model file; of a stage of a run, the data, scores and verdict of the run are in the card.
        digest: its SHA-256, where that is known.

    Raises:
        RequestError: it is no model file, or a file of its run is damaged.

    Example:
        >>> print(card_of(Path("run/stages/adapt/model.safetensors")))
    """
    return text_of(facts_of(file, digest))


def write_card(file: Path, digest: str | None = None) -> Path:
    """Write the card of a model file beside it, see :func:`card_of`; return its path."""
    path = card_file(file)
    write_text(path, card_of(file, digest))
    return path


def write_cards(run: Path, stages: Sequence[str]) -> list[str]:
    """Write the cards of the finished stages of a run; return a line for each that could not be written.

    Args:
        run: folder of the run, with results.json.
        stages: names of stages; one that is not finished has no card yet.
    """
    problems = []
    for stage in stages:
        folder = run / "stages" / stage
        try:
            if (done := read_done(folder)) is not None:
                write_card(folder / MODEL, done["files"].get(MODEL, {}).get("sha256"))
        except (RequestError, RunError) as problem:  # a card is worth no run
            problems.append(f"no model card of stage '{stage}': {problem}")
    return problems


def write_exported_card(loaded: LoadedModel, made: ExportReport) -> Path:
    """Write the card of an ONNX file beside it; return its path.

    Args:
        loaded: the model that was exported.
        made: what the export says.
    """
    told = {
        "input": made.input,
        "shape": made.shapes[0],
        "error": made.max_error,
        "disagreement": made.disagreement,
    }
    path = card_file(Path(made.path))
    write_text(path, text_of(exported_facts(Path(made.path), loaded, told)))
    return path


def text_of(facts: CardFacts) -> str:
    """Return the card: the same facts make the same bytes.

    Raises:
        RequestError: the model file, or a file of its run, says what no version of segadapt writes there.
    """
    try:
        head = yaml.safe_dump(opening.head(facts), sort_keys=False, allow_unicode=True, width=1000)
        body = "\n\n".join(f"{'#' * level} {title}\n\n{text}" for level, title, text in _sections(facts) if text)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as problem:  # of values from elsewhere
        raise RequestError(
            f"'{facts.file}': it, or results.json, data.json or config.json of its run, holds what cannot be told in a "
            f"model card ({type(problem).__name__}: {problem})"
        ) from problem
    return f"---\n{head}---\n\n{body}\n\nWritten by segadapt; a run that is resumed writes it again.\n"


def _sections(facts: CardFacts) -> Iterator[tuple[int, str, str]]:
    """Yield level, title and text of each section."""
    yield 1, plain(facts.title), opening.summary(facts)
    yield 2, "How to use it", opening.use(facts)
    yield 2, "Model", opening.model(facts)
    if facts.run is not None:
        yield 2, "Data", record.data(facts.run)
    yield 2, "Training", record.training(facts)
    if facts.run is not None:
        yield 2, "Scores", record.scores(facts.run)
        yield 2, "Selection", record.selection(facts.run)
    yield 2, "Limits", record.limits(facts)
