"""Reading the golden vectors: numbers produced by the public reference implementations.

``tests/golden/ops`` holds, per operation, a json (formula, constants, tolerance) and an npz (inputs
and outputs). Inputs are float32 or integer, outputs float64 computed from exactly these inputs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

FOLDER = Path(__file__).parent / "golden"


class Golden(NamedTuple):
    """One golden operation: constants, arrays, and how closely outputs must agree."""

    params: dict[str, Any]
    arrays: dict[str, npt.NDArray[Any]]
    tolerance: dict[str, Any]

    def tensor(self, name: str) -> Tensor:
        """An array as a tensor of its own."""
        return torch.from_numpy(self.arrays[name].copy())

    def assert_close(self, name: str, got: Tensor | npt.NDArray[Any] | float) -> None:
        """Assert that ``got`` is the golden array ``name`` within the tolerance of the operation."""
        value = got.detach().cpu().numpy() if isinstance(got, Tensor) else np.asarray(got)
        problem = mismatch(value, self.arrays[name], self.tolerance)
        assert problem is None, f"{name}: {problem}"


def golden_op(name: str) -> Golden:
    """The golden operation ``name``."""
    meta = json.loads((FOLDER / "ops" / f"{name}.json").read_text())
    with np.load(FOLDER / "ops" / f"{name}.npz") as stored:
        arrays = {key: stored[key] for key in stored.files}
    return Golden(meta.get("params", {}), arrays, meta["tolerance"])


def mismatch(got: npt.NDArray[Any], golden: npt.NDArray[Any], tolerance: dict[str, Any]) -> str | None:
    """What is wrong with ``got``, or None if nothing is.

    Integers: at least ``min_equal_fraction`` (1 if absent) of the entries are equal. Floats: NaN
    in the same places and elsewhere an error of at most ``rtol`` times the golden value plus
    ``atol_over_max`` times the largest golden value; network outputs give
    ``max_abs_error_over_std`` instead, a multiple of the standard deviation of the golden array.
    """
    if got.shape != golden.shape:
        return f"has shape {got.shape} instead of {golden.shape}"
    if golden.size == 0:
        return None
    if golden.dtype.kind in "biu":
        equal = float((got.astype(np.int64) == golden.astype(np.int64)).mean())
        needed = float(tolerance.get("min_equal_fraction", 1.0))
        return None if equal >= needed else f"{equal:.5f} of the entries agree, {needed} are needed"
    exact, value = golden.astype(np.float64), got.astype(np.float64)
    blank = np.isnan(exact)
    if (blank != np.isnan(value)).any():
        return "has NaN in other places"
    if blank.all():
        return None
    exact, value = exact[~blank], value[~blank]
    error = np.abs(value - exact)
    if "max_abs_error_over_std" in tolerance:
        limit = np.full_like(exact, tolerance["max_abs_error_over_std"] * golden[~blank].astype(np.float64).std())
    else:
        scale = np.abs(exact)
        limit = tolerance.get("rtol", 1e-4) * scale + tolerance.get("atol_over_max", 1e-5) * scale.max()
    wrong = int((error > limit).sum())
    return None if wrong == 0 else f"{wrong} of {exact.size} entries are off, the worst by {error.max():.3g}"
