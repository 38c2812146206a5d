"""From the numbers of a sensor to 8 bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segadapt.data.scaling import Range, measured_range, to_bytes

TYPES = ("uint8", "uint16", "int16", "uint32", "int32", "float32", "float64")


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(TYPES), st.integers(1, 5), st.integers(0, 2**32 - 1), st.data())
def test_order_and_bands_are_kept_and_no_data_is_left_out(
    kind: str, count: int, seed: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    dtype = np.dtype(kind)
    top = data.draw(st.sampled_from([1, 200, 4000, 65535, 10**6]))
    top = min(top, np.iinfo(dtype).max) if dtype.kind in "iu" else top
    shift = -top // 2 if dtype.kind != "u" and data.draw(st.booleans()) else 0
    values = (rng.random((30, 20, count)) * top + shift).astype(dtype)
    valid = rng.random((30, 20)) < 0.8
    scale = measured_range([values[valid][:, band] for band in range(count)])
    picture = to_bytes(values, scale, valid)
    assert picture.shape == values.shape
    assert picture.dtype == np.uint8
    assert (picture[~valid] == 0).all()
    for band in range(count):
        order = np.argsort(values[valid][:, band], kind="stable")
        assert (np.diff(picture[valid][order, band].astype(int)) >= 0).all()
        alone = to_bytes(values[..., band : band + 1], Range((scale.low[band],), (scale.high[band],)), valid)
        np.testing.assert_array_equal(picture[..., band], alone[..., 0])
    # What is not data has no part in the range.
    spoilt = values.copy()
    spoilt[~valid] = np.iinfo(dtype).max if dtype.kind in "iu" else 1e30
    assert measured_range([spoilt[valid][:, band] for band in range(count)]) == scale


@pytest.mark.parametrize(
    ("kind", "low", "high", "expected"),
    [
        ("uint8", 0, 90, (0, 255)),  # 8 bits are as they are, however dark
        ("uint16", 0, 60000, (0, 65535)),
        ("float32", 0, 0.9, (0, 1)),
        ("float32", 0, 250, (0, 255)),
        ("uint16", 100, 4095, None),  # 12 bits in 16
        ("float32", 0, 0.3, None),  # reflectance
        ("float32", 0, 9, None),
        ("int16", -50, 200, None),
        ("uint32", 0, 65535, None),
    ],
)
def test_conventional_ranges_are_kept_and_others_measured(
    kind: str, low: float, high: float, expected: tuple[float, float] | None
) -> None:
    band = np.linspace(low, high, 5000).astype(kind)
    scale = measured_range([band])
    if expected is not None:
        assert (scale.low[0], scale.high[0]) == expected
        return
    span = high - low
    assert scale.low[0] == pytest.approx(
        low + 0.001 * span, abs=1.01 + 0.001 * span if kind[0] != "f" else 0.001 * span
    )
    assert scale.high[0] == pytest.approx(high - 0.001 * span, abs=1.01 if kind[0] != "f" else 0.001 * span)


def test_full_16_bits_become_what_a_viewer_shows() -> None:
    numbers = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    picture = to_bytes(numbers, measured_range([numbers.ravel()]))
    assert np.abs(picture[..., 0].astype(int) - (numbers[..., 0] >> 8)).max() <= 1


def test_a_large_offset_costs_no_precision() -> None:
    heights = (5e6 + np.arange(256) / 8).reshape(16, 16, 1)
    picture = to_bytes(heights, Range((5e6,), (5e6 + 255 / 8,)))
    np.testing.assert_array_equal(picture.ravel(), np.arange(256))


def test_a_constant_band_and_nan_become_0() -> None:
    values = np.full((2, 2, 1), 7.0)
    values[0, 0] = np.nan
    assert not to_bytes(values, Range((7.0,), (7.0,))).any()
