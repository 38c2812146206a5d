"""The method that CONTRIBUTING.md writes out trains as it stands there."""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

from segadapt.methods import papers
from segadapt.methods.registry import METHODS, MethodInfo
from segadapt.runs.config import build_config
from segadapt.runs.run import Run
from tests.tiny import raw_config

PAGE = Path(__file__).parents[2] / "CONTRIBUTING.md"


@pytest.mark.parametrize("mpcl", [False, True])
def test_the_method_of_the_page_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mpcl: bool) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    module = ModuleType("mymethod")
    monkeypatch.setitem(sys.modules, "mymethod", module)
    exec(textwrap.dedent(code), vars(module))
    info = MethodInfo(module.MyMethod, papers.BOUNDS, "MyMethod", "the skeleton of the page")
    monkeypatch.setitem(METHODS, "mymethod", info)
    prototypes = {"mpcl": {"channels": 4, "bank": 200, "start": 20, "warmup": 0}} if mpcl else {}
    raw = raw_config(tmp_path, "mymethod", **prototypes)
    results = Run.open(build_config(raw, "tiny"), tmp_path / "run", quiet=True).execute()
    assert [row["title"] for row in results["rows"]] == ["Source only", "MyMethod"]
    assert (tmp_path / "run/stages/adapt/prototypes.safetensors").exists() == mpcl
