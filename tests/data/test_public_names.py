"""``segadapt.data`` and ``segadapt.evaluation`` hand out their public names, and import little before."""

from __future__ import annotations

import subprocess
import sys

import pytest

import segadapt.data
import segadapt.evaluation


@pytest.mark.parametrize("package", [segadapt.data, segadapt.evaluation])
def test_every_public_name_is_there(package: object) -> None:
    names = dir(package)
    assert names == sorted(package.__all__)  # type: ignore[attr-defined]
    for name in names:
        assert getattr(package, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = package.nothing  # type: ignore[attr-defined]


def test_importing_the_packages_does_not_import_torch() -> None:
    code = "import segadapt.data, segadapt.evaluation, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
