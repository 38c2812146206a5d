"""Two resolutions fused into one map: against the public code, and properties of the formula."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from segadapt.models.geometry import Geometry
from segadapt.pieces.fusion import average_windows, draw_box, fuse_scales, in_cells, kept_within, placed
from tests.golden_vectors import Golden, golden_op

SEEN = 1500
"""After so many draws each of at most 64 positions has been seen, except once in 10^8 times."""


def boxed(golden: Golden) -> tuple[int, int, int, int]:
    """Read the box of a golden operation, in pixels of an image of 64 x 80."""
    top, bottom, left, right = golden.params["box_y1y2x1x2"]
    return top, left, bottom, right


# ---- golden ----


def test_golden_crop_box() -> None:
    golden = golden_op("hrda_crop_box")
    height, width = golden.params["crop"]
    for size, ranges in zip(golden.arrays["sizes"], golden.arrays["offset_range"], strict=True):
        torch.manual_seed(0)
        boxes = [draw_box(tuple(map(int, size)), (height, width), 8, reach_end=False) for _ in range(SEEN)]
        for axis, (low, high) in enumerate(ranges):
            assert {box[axis] for box in boxes} == set(range(low, high + 1, 8))
        assert {(b[2] - b[0], b[3] - b[1]) for b in boxes} == {(height, width)}


def test_golden_fusion() -> None:
    golden = golden_op("hrda_fusion")
    box, size = boxed(golden), (64, 80)
    context, raw, detail = (
        golden.tensor(name).requires_grad_() for name in ("lr_logits", "attention_logits", "hr_logits")
    )
    attention = kept_within(raw.sigmoid(), in_cells(box, size, (8, 10)))
    at_box = placed(detail, in_cells(box, size, (16, 20)), (16, 20))
    fused = fuse_scales(context, at_box, attention)
    golden.assert_close("fused", fused)
    golden.assert_close("lr_scaled", (1 - attention) * context)
    (fused * torch.arange(fused.numel(), dtype=torch.float64).cos().float().view_as(fused)).sum().backward()
    for name, tensor in (("grad_lr", context), ("grad_attention", raw), ("grad_hr", detail)):
        golden.assert_close(name, tensor.grad)
    single = kept_within(golden.tensor("attention_logits_single").sigmoid(), in_cells(box, size, (8, 10)))
    golden.assert_close("fused_single_channel", fuse_scales(context, at_box, single))
    whole = fuse_scales(context, golden.tensor("hr_logits_full"), raw.sigmoid())
    golden.assert_close("fused_no_crop", whole)


def test_golden_windows() -> None:
    golden = golden_op("hrda_hr_slide")
    size = tuple(golden.params["image_size"])
    crop = golden.params["hr_crop_size"]

    def boxes(overlap: float) -> list[tuple[int, int, int, int]]:
        return Geometry(4, 0.5, crop, None, overlap).windows(size)

    for name, overlap in (("boxes", 0.5), ("boxes_non_overlapping", 0.0)):
        golden.assert_close(name, torch.tensor([(b[0], b[2], b[1], b[3]) for b in boxes(overlap)]))
    cells = [in_cells(box, size, (24, 28)) for box in boxes(0.5)]
    golden.assert_close("merged", average_windows(golden.tensor("window_logits"), cells, (24, 28)))


# ---- properties ----


def test_the_last_position_is_reached() -> None:
    torch.manual_seed(0)
    boxes = [draw_box((64, 40), (32, 32), 8) for _ in range(200)]
    assert {b[0] for b in boxes} == {0, 8, 16, 24, 32}
    assert {b[1] for b in boxes} == {0, 8}


@pytest.mark.parametrize("reach_end", [True, False])
def test_no_draw_without_room(reach_end: bool) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert draw_box((32, 36), (32, 32), 8, reach_end) == (0, 0, 32, 32)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_box_that_cuts_cells_is_a_mistake() -> None:
    assert in_cells((8, 16, 24, 40), (64, 80), (16, 20)) == (2, 4, 6, 10)
    with pytest.raises(ValueError, match="cuts cells"):
        in_cells((4, 16, 24, 40), (64, 80), (8, 10))


@pytest.mark.parametrize("channels", [1, 3])
def test_attention_zero_is_the_context_and_one_the_detail(channels: int) -> None:
    context, detail = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 8, 10)
    none, full = torch.zeros(2, channels, 4, 5), torch.ones(2, channels, 4, 5)
    enlarged = F.interpolate(context, (8, 10), mode="bilinear")
    torch.testing.assert_close(fuse_scales(context, detail, none), enlarged)
    torch.testing.assert_close(fuse_scales(context, detail, full), detail)


def test_outside_the_box_only_the_context_counts_but_for_a_rim() -> None:
    torch.manual_seed(0)
    context, detail = torch.randn(1, 3, 12, 12), torch.randn(1, 3, 8, 8)
    box, size = (4, 4, 8, 8), (24, 24)
    fused = fuse_scales(context, placed(detail, (8, 8, 16, 16), size), kept_within(torch.rand(1, 3, 12, 12), box))
    changed = (fused - F.interpolate(context, size, mode="bilinear")).abs().amax((0, 1)) > 1e-6
    rim = torch.zeros(size, dtype=torch.bool)
    rim[7:17, 7:17] = True
    assert changed[8:16, 8:16].all()
    assert changed[rim].any()
    assert not changed[~rim].any()


def test_windows_of_one_map_give_it_back() -> None:
    """Holds for several images, and where windows overlap unevenly."""
    whole = torch.randn(3, 2, 9, 11)
    boxes = [(top, left, top + 5, left + 6) for top in (0, 2, 4) for left in (0, 5)]
    parts = torch.cat([whole[..., t:b, left:r] for t, left, b, r in boxes])
    torch.testing.assert_close(average_windows(parts, boxes, (9, 11)), whole)
