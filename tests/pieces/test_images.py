"""An image becomes a batch."""

from __future__ import annotations

import numpy as np
import torch

from segadapt.pieces.images import to_batch


def test_array_and_tensor_give_one_batch() -> None:
    image = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)[:, ::-1]
    batch = to_batch(image, "cpu")
    assert batch.shape == (1, 3, 2, 4)
    assert batch.dtype == torch.float32
    assert batch[0, 1, 0, 0] == image[0, 0, 1] / np.float32(255)
    assert torch.equal(to_batch(torch.from_numpy(image.copy()), "cpu"), batch)
