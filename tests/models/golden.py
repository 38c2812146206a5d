"""Networks with reproducible weights, for comparison with outputs of the public implementations.

``tests/golden/models`` has, per network, a json with the names and shapes of all tensors and an npz
with outputs. Weights are not stored; each tensor is drawn from a generator seeded by its name:

- seed: CRC-32 of the full name in UTF-8; generator: numpy's default (PCG64); drawn in float64, then rounded to float32;
- two or more dimensions: normal, with variance 2 / (number of inputs of one output unit);
- running variances and one-dimensional weights: uniform between 0.5 and 1.5, a tenth of that for
  the last normalisation of a bottleneck (``bn3.weight``), which keeps a hundred layers from exploding;
- biases and running means: normal with standard deviation 0.1; counters: 0;
- the network's input: standard normal from the integer seed of the json.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tests.golden_vectors import FOLDER, mismatch


class GoldenModel(NamedTuple):
    """Weights and input of a golden network, and the outputs it must give."""

    state: dict[str, Tensor]
    input: Tensor
    outputs: dict[str, npt.NDArray[Any]]
    tolerance: dict[str, Any]

    def assert_close(self, name: str, got: Tensor) -> None:
        """Assert that ``got`` is the output ``name`` of the reference within its tolerance."""
        problem = mismatch(got.detach().cpu().numpy(), self.outputs[name], self.tolerance)
        assert problem is None, f"{name}: {problem}"


def drawn(name: str, shape: tuple[int, ...]) -> Tensor:
    """Draw the tensor that belongs to ``name``."""
    leaf = name.split(".")[-1]
    if leaf == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    if leaf == "running_var" or (leaf == "weight" and len(shape) == 1):
        values = generator.uniform(0.5, 1.5, shape) * (0.1 if name.endswith("bn3.weight") else 1.0)
    elif len(shape) > 1:
        values = generator.standard_normal(shape) * math.sqrt(2.0 / math.prod(shape[1:]))
    else:
        assert leaf in ("bias", "running_mean"), name
        values = generator.standard_normal(shape) * 0.1
    return torch.from_numpy(values.astype(np.float32))


def golden_model(name: str, known: Mapping[str, Tensor] | None = None) -> GoldenModel:
    """Return the golden network ``name``; tensors with the same names in ``known`` are not drawn again."""
    meta = json.loads((FOLDER / "models" / f"{name}.json").read_text())
    with np.load(FOLDER / "models" / f"{name}.npz") as stored:
        outputs = {key: stored[key] for key in stored.files}
    have = known or {}
    state = {k: have[k] if k in have else drawn(k, tuple(shape)) for k, shape, _ in meta["state_dict"]}
    image = np.random.default_rng(meta["input"]["seed"]).standard_normal(meta["input"]["shape"]).astype(np.float32)
    return GoldenModel(state, torch.from_numpy(image), outputs, meta["tolerance"])
