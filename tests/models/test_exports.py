"""The public names of models, report and toy: all resolve, and importing the package alone does not import torch."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

PACKAGES = ("segadapt.models", "segadapt.report", "segadapt.toy")


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_the_package_alone_does_not_import_torch(package: str) -> None:
    heavy = "('torch', 'timm', 'cv2', 'numpy')"
    code = f"import sys, {package}; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_resolves(package: str) -> None:
    module = import_module(package)
    assert sorted(module._HOMES) == sorted(module.__all__)
    for name in module.__all__:
        found = getattr(module, name)
        assert name in dir(module)
        assert not isinstance(found, type(sys)), f"{name} is a module"


def test_the_networks_and_their_tools_are_public() -> None:
    from segadapt import models

    assert set(models.__all__) == {
        *("Segmenter", "Output", "Preprocessing", "build_segmenter", "ModelConfig", "MultiRes", "PrototypeNet"),
        *("InferenceConfig", "scores", "predict_labels", "set_norm_mode", "save_model", "load_model", "LoadedModel"),
    }


def test_an_unknown_name_is_an_attribute_error() -> None:
    for package in PACKAGES:
        with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'missing'"):
            import_module(package).missing  # noqa: B018
