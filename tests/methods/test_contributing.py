"""The method that CONTRIBUTING.md writes out trains as it stands there."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest

from segadapt.data.loader import Samples, Stream
from segadapt.methods.environment import Environment
from segadapt.methods.method import Method, Terms, labelled_part
from segadapt.methods.registry import METHODS, register_method
from segadapt.pieces.losses import cross_entropy
from segadapt.runs.config import build_config
from segadapt.runs.run import Run
from tests.tiny import raw_config

PAGE = Path(__file__).parents[2] / "CONTRIBUTING.md"


def test_the_method_of_the_page_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    module = ModuleType("mymethod")
    monkeypatch.setitem(sys.modules, "mymethod", module)
    exec(textwrap.dedent(code), vars(module))
    assert titles(tmp_path, monkeypatch, module.MyMethod) == ["Source only", "MyMethod"]


class Bare(Method):
    """The smallest method: the settings of every stage, streams and a step."""

    def streams(self, round_index: int, environment: Environment) -> dict[str, Stream]:
        part = labelled_part(environment.source, 0, environment.source_size, self.config)
        return {"source": Stream((part,), self.config.batch_size)}

    def step(self, batch: Mapping[str, Samples]) -> Iterator[Terms]:
        x = batch["source"]
        yield {"source": cross_entropy(self.model(x.images).logits, x.labels, x.labels.shape[-2:])}


def test_a_method_needs_streams_and_a_step_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert titles(tmp_path, monkeypatch, Bare) == ["Source only", "MyMethod"]


def titles(folder: Path, monkeypatch: pytest.MonkeyPatch, method: type[Method]) -> list[str]:
    """Titles of the stages of a run with a method of one's own as its second stage."""
    monkeypatch.setattr(METHODS, "_added", {})
    register_method("mymethod", title="MyMethod")(method)
    raw = raw_config(folder, "mymethod")
    results = Run.open(build_config(raw, "tiny"), folder / "run", quiet=True).execute()
    assert all(0 <= row["scores"]["miou"] <= 100 for row in results["rows"])
    return [row["title"] for row in results["rows"]]
