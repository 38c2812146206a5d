"""What all tests share: findings about files are kept in a folder of the tests, not in that of the user."""

from __future__ import annotations

import os

import pytest

from segadapt.core.kept import VARIABLE


@pytest.fixture(scope="session", autouse=True)
def _own_findings(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ[VARIABLE] = str(tmp_path_factory.mktemp("kept"))
