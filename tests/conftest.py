"""What all tests share: a home and findings of their own, and that no test leaves the folder where it began."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from segadapt.core.kept import VARIABLE


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let no test write into the home of whoever runs it, nor depend on what lies there."""
    os.environ["HOME"] = str(tmp_path_factory.mktemp("home"))
    os.environ[VARIABLE] = str(tmp_path_factory.mktemp("kept"))


@pytest.fixture(autouse=True)
def _stays_in_its_folder() -> Iterator[None]:
    """Let no test leave the next one in a folder that is then removed."""
    before = Path.cwd()
    yield
    assert Path.cwd() == before, "the test has changed the working folder; use monkeypatch.chdir"
