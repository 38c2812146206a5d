"""Checkpoint files as other projects write them, and a check of an imported one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segadapt.models.store import LoadedModel


def saved(path: Path, content: Any) -> Path:
    """``content`` as a pickle of torch."""
    torch.save(content, path)
    return path


def assert_holds(loaded: LoadedModel, state: Mapping[str, Tensor]) -> None:
    """The model has these very tensors and is ready to predict."""
    own = loaded.model.state_dict()
    assert set(own) == set(state)
    assert all(torch.equal(own[key], value) for key, value in state.items())
    assert not loaded.model.training
