"""The maps that the report draws of predictions."""

from __future__ import annotations

import numpy as np

from segadapt.labels import IGNORE
from segadapt.report.maps import activation_map, confidence_map, index_map


def test_confidence_map_gets_brighter() -> None:
    got = confidence_map(np.linspace(0, 1, 32, dtype=np.float32)[None])
    assert got.shape == (1, 32, 3)
    luminance = got[0].astype(float) @ [0.299, 0.587, 0.114]
    assert (np.diff(luminance) > 0).all()
    assert got[0, 0, 2] > got[0, 0, 0]
    assert got[0, -1, 0] > got[0, -1, 2]
    outside = confidence_map(np.array([[-1.0, 2.0, np.nan]], np.float32))
    assert np.array_equal(outside[0], got[0, [0, -1, 0]])


def test_activation_map_is_bright_where_the_share_is_large() -> None:
    image = np.full((2, 4, 3), (90, 60, 30), np.uint8)
    share = np.array([[0, 0.5, 1, 1], [0, 0, 0, 0]], np.float32)
    inside = np.array([[True] * 3 + [False]] * 2)
    got = activation_map(image, share, inside)
    light = got.astype(float) @ [0.299, 0.587, 0.114]
    assert light[0, 0] < light[0, 1] < light[0, 2]
    assert (got[:, 3] == got[0, 3, 0]).all()  # pale grey, whatever the share
    assert got[0, 3, 0] > 180
    assert np.array_equal(got[0, 0], got[1, 1])


def test_index_map_has_lines_between_classes() -> None:
    image = np.zeros((3, 6, 3), np.uint8)
    index = np.array([[0, 1, 1, 0, 0, IGNORE]] * 3, np.uint8)
    label = np.array([[4, 4, 4, 7, 7, 7]] * 3, np.uint8)
    got = index_map(image, index, label, [(200, 0, 0), (0, 0, 200)])
    np.testing.assert_allclose(got[1, [0, 1, 4]], [(140, 0, 0), (0, 0, 140), (140, 0, 0)], atol=1)
    assert (got[:, 3] == 255).all()
    assert len(set(got[1, 5].tolist())) == 1
    assert 180 < got[1, 5, 0] < 255
