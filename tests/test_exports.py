"""The public names of each package: all resolve, and importing the package alone imports nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from types import ModuleType

import pytest

ROOMS = ("pieces", "models", "data", "toy", "methods", "engine", "evaluation", "report", "runs", "bench", "serve")
PACKAGES = ("segadapt", *(f"segadapt.{room}" for room in ROOMS))


def test_importing_all_packages_imports_nothing_heavy() -> None:
    heavy = "('torch', 'timm', 'cv2', 'numpy', 'pydantic')"
    code = f"import sys, {', '.join(PACKAGES)}; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_resolves_and_is_listed(package: str) -> None:
    module = import_module(package)
    assert sorted(module.__all__) == dir(module)
    assert len(module.__all__) > 0
    for name in module.__all__:
        assert not isinstance(getattr(module, name), ModuleType), f"{name} is a module"
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        _ = module.nothing


@pytest.mark.parametrize("room", ROOMS)
def test_no_module_hides_a_public_name(room: str) -> None:
    """Once imported, a module of the package stands where a function of its name would."""
    module = import_module(f"segadapt.{room}")
    assert not set(module._MODULES) & set(module._MODULES.values())


def test_the_calls_of_the_package_are_documented() -> None:
    import segadapt

    assert {"adapt", "resume", "load", "predict", "evaluate", "label", "export"} <= set(dir(segadapt))
    assert all(getattr(segadapt, name).__doc__ for name in dir(segadapt) if name != "__version__")
