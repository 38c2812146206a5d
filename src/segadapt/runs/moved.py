"""Data that moved: the folders and files of a run, given again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segadapt.errors import RequestError


@dataclass(frozen=True)
class Moved:
    """Places that files of a run lie at now.

    Attributes:
        folders: ``images`` and ``labels`` by part of the run; None where they lie where they did.
        classes: the classes file of all masks in folders; None where it lies where it did.
    """

    folders: Mapping[str, Mapping[str, str | os.PathLike[str] | None]] = field(default_factory=dict)
    classes: str | os.PathLike[str] | None = None

    def applied(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a run, as config.json has them, with these places.

        Raises:
            RequestError: the run has no such folder.
        """
        data = dict(config["data"])
        for part, folders in self.folders.items():
            places = {key: os.fspath(place) for key, place in folders.items() if place is not None}
            spec = data.get(part)
            for key in places:
                if spec is None or spec.get(key) is None:
                    of_folders = f"the run has no folder {part}.{key}"
                    raise RequestError(f"{of_folders}; leave it out, or say with --root where a named data set lies")
            if places:
                data[part] = {**(spec or {}), **places}
            before, oracle = config["data"]["target"], data.get("oracle")
            if part == "target" and places and oracle and oracle.get("images") == before.get("images"):
                data["oracle"] = {**oracle, **places}
        if self.classes is not None:
            used = [part for part, spec in data.items() if isinstance(spec, Mapping) and spec.get("classes")]
            if not used:
                raise RequestError("the run has no classes file; leave it out")
            for part in used:
                data[part] = {**data[part], "classes": os.fspath(self.classes)}
        return {**config, "data": data}


def require_there(config: Mapping[str, Any]) -> None:
    """Refuse to go on where a folder or a classes file of a run is gone, with the option that gives its new place.

    Args:
        config: settings of the run, as config.json has them.

    Raises:
        RequestError: names the part and the path.
    """
    for part, spec in config["data"].items():
        for key in ("images", "labels", "classes"):
            path = spec.get(key) if isinstance(spec, Mapping) and spec.get("reader") == "folder" else None
            if path is not None and not Path(path).exists():
                option = "--classes" if key == "classes" else f"--{'target' if part == 'oracle' else part}-{key}"
                raise RequestError(
                    f"{part}: '{path}' of this run is not there any more; where it moved to, say {option} NEW "
                    f"(Python: {option[2:].replace('-', '_')}=...)"
                )
