"""Facts for a model card: what a model file says of itself, and what the folder of its run says of it."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

from segadapt.core.files import file_digest
from segadapt.engine.run_files import CONFIG, read_data, read_done, read_held, read_results
from segadapt.errors import RequestError
from segadapt.labels import LabelSpace
from segadapt.models.store import PROTOTYPES, LoadedModel, read_head
from segadapt.recipes import recipe_names
from segadapt.runs.config import load_config
from segadapt.runs.ledger import flat_settings
from segadapt.runs.networks import MODEL

_PLACES = ("images", "labels", "classes", "list_file", "root", "pair", "reader")
"""Settings of data sets that the card tells beside the data, without the folders that they lie in."""
_QUOTED_PATH = re.compile(r"'[^']*[/\\]([^'/\\]+)'")


@dataclass(frozen=True)
class RunFacts:
    """Facts that the folder of a run holds about the model of one of its stages.

    Attributes:
        config: the resolved configuration, as in config.json.
        results: results.json.
        row: the row of the stage in it.
        data: data.json; empty where nothing was read of the data.
        changed: settings that differ from the recipe: name, the recipe's, the run's; None where the run has no recipe
            that ships.
    """

    config: Mapping[str, Any]
    results: Mapping[str, Any]
    row: Mapping[str, Any]
    data: Mapping[str, Any] = field(default_factory=dict)
    changed: Sequence[tuple[str, Any, Any]] | None = None

    @property
    def stages(self) -> list[Mapping[str, Any]]:
        """Settings of the stages up to the one of the model."""
        names = [stage["name"] for stage in self.config["stages"]]
        return list(self.config["stages"][: names.index(self.row["stage"]) + 1])

    @property
    def stage(self) -> Mapping[str, Any]:
        """Settings of the stage of the model."""
        return self.stages[-1]


@dataclass(frozen=True)
class CardFacts:
    """Facts that a model card tells.

    Attributes:
        file: name of the model file.
        digest, bytes: SHA-256 and size of it.
        space: classes of the model.
        network: description of the network, as the file has it.
        provenance: origin of the model, as the file has it.
        run: what its run says; None for a file outside a run.
        exported: for an ONNX file: ``of`` (name of the model file that it was made of), ``input`` (in words), ``shape``
            ([B, C, H, W] of the images it was compared with), ``error`` and ``disagreement`` (with torch).
        beside: other files that belong to the model.
    """

    file: str
    digest: str
    bytes: int
    space: LabelSpace
    network: Mapping[str, Any]
    provenance: Mapping[str, Any]
    run: RunFacts | None = None
    exported: Mapping[str, Any] = field(default_factory=dict)
    beside: Sequence[str] = ()

    @property
    def title(self) -> str:
        """The run and the stage, or the file."""
        told = [str(self.provenance.get(key, "")) for key in ("run", "stage")]
        if self.run is not None:
            told = [self.run.config.get("title", ""), self.run.row["stage"]]
        return ", stage ".join(text for text in told if text) or self.file


def facts_of(file: Path, digest: str | None = None) -> CardFacts:
    """Return the facts about a model file.

    Args:
        file: a model file; in the folder of a run, what the run knows is told too.
        digest: its SHA-256, where that is known.

    Raises:
        RequestError: it is no model file, or a file of its run is damaged.
    """
    head = read_head(file)
    if head is None:
        raise RequestError(f"'{file}' is no model file of segadapt; give a *.safetensors of a run or of an import")
    digest = digest or file_digest(file)
    beside = [name for name in (PROTOTYPES,) if file.name == MODEL and file.with_name(name).exists()]
    run = run_facts(file, digest)
    return CardFacts(
        file.name, digest, file.stat().st_size, head.space, head.description, head.provenance, run, beside=beside
    )


def exported_facts(file: Path, loaded: LoadedModel, told: Mapping[str, Any]) -> CardFacts:
    """Return the facts about an ONNX file; the scores of the run count where its very network was exported.

    Args:
        file: the ONNX file.
        loaded: the model that it was made of.
        told: see :attr:`CardFacts.exported`, without ``of``.
    """
    network, run, origin = json.loads(json.dumps(loaded.model.description())), None, loaded.file
    with contextlib.suppress(RequestError):  # of a damaged run: the model itself is whole
        if origin is not None and (head := read_head(origin)) is not None and head.description == network:
            run = run_facts(origin, file_digest(origin))
    exported = {**told, "of": origin.name if origin is not None else ""}
    size = file.stat().st_size
    return CardFacts(
        file.name, file_digest(file), size, loaded.space, network, loaded.provenance, run, exported=exported
    )


def run_facts(file: Path, digest: str) -> RunFacts | None:
    """Return what a run says about the model file of a stage; None for a file that no stage of a run left.

    Raises:
        RequestError: a file of the run is damaged.
    """
    folder = file.absolute().parent
    run = folder.parents[1] if len(folder.parents) > 1 else folder
    if file.name != MODEL or folder.parent.name != "stages" or not (run / CONFIG).is_file():
        return None
    held, results, done = read_held(run), read_results(run), read_done(folder)
    if held is None or results is None or done is None or done["files"].get(MODEL, {}).get("sha256") != digest:
        return None
    row = next((row for row in results["rows"] if row["stage"] == folder.name), None)
    config = held["config"]
    if row is None or folder.name not in [stage["name"] for stage in config["stages"]]:
        return None
    return RunFacts(config, results, row, read_data(run) or {}, changed_settings(config))


def changed_settings(config: Mapping[str, Any]) -> list[tuple[str, Any, Any]] | None:
    """Return the settings in which a run differs from the recipe of its title; None where no such recipe ships."""
    title = str(config.get("title", ""))
    if title not in recipe_names():
        return None
    recipe, here = (flat_settings(one) for one in (load_config(title).model_dump(mode="json"), config))
    names = [name for name in dict.fromkeys([*recipe, *here]) if recipe.get(name) != here.get(name)]
    told = [name for name in names if not (name.startswith("data.") and name.rpartition(".")[2] in _PLACES)]
    return [(name, without_folders(recipe.get(name)), without_folders(here.get(name))) for name in told]


def without_folders(value: Any) -> Any:
    """Return a value in which every path is the name of its file or folder alone: a card is shown to others.

    >>> without_folders("/home/me/weights.pt"), without_folders("weights of the file '/home/me/w.pt'")
    ('weights.pt', "weights of the file 'w.pt'")
    """
    if isinstance(value, Mapping):
        return {key: without_folders(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_folders(inner) for inner in value]
    if not isinstance(value, str) or not set(value) & set("/\\"):
        return value
    if "'" in value:
        return _QUOTED_PATH.sub(r"'\1'", value)
    return PureWindowsPath(value).name if "\\" in value else PurePath(value).name
