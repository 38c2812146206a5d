"""Images that a program hands over look as a viewer shows them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from segadapt.data.given import as_picture
from segadapt.errors import RequestError

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
GREY = PIXELS[..., 0]
DEEP = GREY.astype(np.uint16) * 257
MODES = ("1", "L", "P", "RGB", "RGBA", "LA", "PA", "CMYK", "YCbCr", "HSV", "RGBX")


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(MODES), st.sampled_from(range(9)), st.integers(1, 5), st.integers(1, 5), st.integers(0, 99))
def test_pil_images_are_as_viewers_show_them(mode: str, turn: int, height: int, width: int, seed: int) -> None:
    rgb = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))
    image = rgb.convert("P").convert("PA") if mode == "PA" else rgb.convert(mode)
    if mode in ("RGBA", "LA", "PA"):
        image.putalpha(Image.new("L", rgb.size, 0))
    image.getexif()[0x0112] = turn
    shown = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    found = as_picture(image, "x")
    assert np.array_equal(found, shown)
    assert found.dtype == np.uint8
    assert found.flags.writeable
    assert found.flags.c_contiguous


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (GREY, GREY),
        (GREY[..., None], GREY),
        (GREY[None], GREY),
        (torch.from_numpy(GREY), GREY),
        (np.dstack([PIXELS, GREY]), PIXELS),
        (np.dstack([PIXELS, GREY]).transpose(2, 0, 1), PIXELS),
        (PIXELS[:, :4].transpose(2, 0, 1), PIXELS[:, :4]),
        (PIXELS[::-1, ::-1], PIXELS[::-1, ::-1]),
        (torch.from_numpy(PIXELS).permute(2, 0, 1), PIXELS),
        (PIXELS.astype(np.float64) / 255, PIXELS),
        (torch.from_numpy(PIXELS).bfloat16() / 256, PIXELS),
        (torch.from_numpy(GREY).float().div(255).requires_grad_(), GREY),
        (DEEP, GREY),
        (Image.fromarray(DEEP), GREY),
        (Image.fromarray(GREY.astype(np.float32) / 255), GREY),
        (GREY > 100, np.where(GREY > 100, 255, 0)),
    ],
)
def test_arrays_and_tensors(value: Any, expected: np.ndarray) -> None:
    found = as_picture(value, "x").astype(int)
    expected = expected if expected.ndim == 3 else np.repeat(expected[..., None], 3, axis=2)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 2 * (isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (PIXELS.astype(np.float32), r"values from . to 2\d\d; expected floats in \[0, 1\]"),
        (-PIXELS.astype(np.float32) / 255, "expected floats"),
        (PIXELS.astype(np.int64), "an image of int64"),
        (PIXELS.astype(np.complex64), "an image of complex64"),
        (PIXELS[None], r"shape \[1, 4, 6, 3\].*given as a list"),
        (PIXELS[:0], r"shape \[0, 6, 3\]"),
        (GREY.ravel(), r"shape \[24\]"),
        (np.float32(3), "is a float32"),
        (None, "is a NoneType"),
        (b"bytes", "is a bytes"),
        (PIXELS.tolist(), "is a list"),
        (Image.fromarray(GREY.astype(np.int32)), "mode I"),
    ],
)
def test_what_is_no_image_is_refused(value: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message) as error:
        as_picture(value, "it")
    assert str(error.value).startswith("it is ")
    assert "\n" not in str(error.value)
