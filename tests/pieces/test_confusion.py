"""One confusion matrix for evaluation, pseudo labels and online labels."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segadapt.errors import RequestError
from segadapt.labels import IGNORE
from segadapt.pieces.confusion import confusion_counts, require_classes

values = st.sampled_from([0, 1, 2, IGNORE])


@given(st.lists(st.tuples(values, values), max_size=40), st.sampled_from([torch.uint8, torch.int64]))
@settings(max_examples=60, deadline=None)
def test_every_pixel_counts_once(pixels: list[tuple[int, int]], dtype: torch.dtype) -> None:
    """Against a loop over the pixels; IGNORE on either side goes to the last row or column."""
    expected = torch.zeros((4, 4), dtype=torch.int64)
    for truth, prediction in pixels:
        expected[min(truth, 3), min(prediction, 3)] += 1
    maps = torch.tensor(pixels, dtype=dtype).reshape(-1, 2)
    for check in (True, False):
        found = confusion_counts(maps[:, 1], maps[:, 0], 3, check=check)
        assert found.dtype == torch.int64
        assert torch.equal(found, expected)


def test_more_classes_than_uint8_cells() -> None:
    """Cells are counted in int64 whatever type the maps have."""
    truth = torch.arange(255, dtype=torch.uint8).reshape(5, 51)
    assert torch.equal(confusion_counts(truth, truth, 255)[:255, :255], torch.eye(255, dtype=torch.int64))


@pytest.mark.parametrize("bad", [3, 254])
def test_a_true_class_beyond_the_classes_is_refused(bad: int) -> None:
    truth = torch.tensor([[0, IGNORE, bad]], dtype=torch.uint8)
    for refuse in (lambda: require_classes(truth, 3), lambda: confusion_counts(torch.zeros_like(truth), truth, 3)):
        with pytest.raises(RequestError, match=f"class {bad}, but there are only 3 classes"):
            refuse()
    assert confusion_counts(torch.zeros_like(truth), truth, 3, check=False)[:, 0].tolist() == [1, 0, 0, 2]
    require_classes(truth[:, :2], 3)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="shape"):
        confusion_counts(torch.zeros(2), torch.zeros(3), 3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_training_step_does_not_wait_for_the_gpu() -> None:
    truth = torch.randint(0, 3, (64, 64), device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = confusion_counts(truth, truth, 3, check=False)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert int(found.diagonal().sum()) == truth.numel()
