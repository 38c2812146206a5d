"""Strong views against Pillow's operations, and their geometry against plain resampling."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from segadapt.data.strong import GREY, OPERATIONS, Operation, StrongAugmentation, in_cutout, strong_view, warp

H, W = 48, 80
LEVEL = 0.7  # the seventh of nine levels


def pictures(count: int = 2) -> np.ndarray:
    rng = np.random.default_rng(0)
    base = rng.integers(20, 220, (count, 6, 10, 3)).astype(np.uint8)
    return np.stack([np.asarray(Image.fromarray(p).resize((W, H), Image.Resampling.BICUBIC)) for p in base])


def tensor(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def draws(operation: Operation, count: int = 2, sign: float = 0.9, flip: bool = False) -> np.ndarray:
    which = (OPERATIONS.index(operation) + 0.5) / len(OPERATIONS)
    magnitude = (round(LEVEL * 10) - 1 + 0.5) / 9
    row = [0.1 if flip else 0.9, 0.5, 0.5, which, magnitude, 0.0, sign]
    return np.tile(np.asarray(row, np.float32), (count, 1))


def affine(*numbers: float) -> Callable[[Image.Image], Image.Image]:
    return lambda i: i.transform(i.size, Image.Transform.AFFINE, numbers, Image.Resampling.BILINEAR)


ONE = StrongAugmentation(count=1, cutout=0.0)
BOUND = 0.05 + 0.9 * LEVEL
PILLOW: dict[Operation, Callable[[Image.Image], Image.Image]] = {
    "autocontrast": ImageOps.autocontrast,
    "brightness": lambda i: ImageEnhance.Brightness(i).enhance(BOUND),
    "color": lambda i: ImageEnhance.Color(i).enhance(BOUND),
    "contrast": lambda i: ImageEnhance.Contrast(i).enhance(BOUND),
    "equalize": ImageOps.equalize,
    "identity": lambda i: i,
    "posterize": lambda i: ImageOps.posterize(i, int(LEVEL * 4) + 4),
    "sharpness": lambda i: ImageEnhance.Sharpness(i).enhance(BOUND),
    "solarize": lambda i: ImageOps.solarize(i, 256 - int(LEVEL * 256)),
    "rotate": lambda i: i.rotate(30 * LEVEL, Image.Resampling.BILINEAR),
    "shear_x": affine(1, 0.3 * LEVEL, 0, 0, 1, 0),
    "shear_y": affine(1, 0, 0, 0.3 * LEVEL, 1, 0),
    "translate_x": affine(1, 0, 0.3 * LEVEL * W, 0, 1, 0),
    "translate_y": affine(1, 0, 0, 0, 1, 0.3 * LEVEL * H),
}  # fmt: skip


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_is_pillows(operation: Operation) -> None:
    images = pictures()
    got = strong_view(tensor(images), draws(operation), ONE)
    inside = warp(torch.ones(2, 1, H, W), got.theta, "bilinear")[:, 0] > 0.999
    assert inside.float().mean() > 0.4
    for n, picture in enumerate(images):
        expected = np.asarray(PILLOW[operation](Image.fromarray(picture)), np.float32)
        ours = got.images[n].permute(1, 2, 0).numpy() * 255
        where = inside[n].numpy()
        assert np.abs(ours - expected)[where].max() <= (2.0 if operation in ("rotate", "autocontrast") else 1.5)
        outside_ = ~(warp(torch.ones(1, 1, H, W), got.theta[n : n + 1], "bilinear")[0, 0] > 0).numpy()
        np.testing.assert_allclose(ours[outside_], GREY * 255, atol=1e-3)


@pytest.mark.parametrize("operation", ["rotate", "shear_x", "shear_y", "translate_x", "translate_y"])
@pytest.mark.parametrize("flip", [False, True])
def test_maps_of_another_resolution_follow_exactly(operation: Operation, flip: bool) -> None:
    """A map of coordinates, warped, tells where every pixel came from; so does one of a quarter of the size."""
    got = strong_view(tensor(pictures(1)), draws(operation, 1, flip=flip), ONE)

    def coordinates(height: int, width: int) -> Tensor:
        y = (torch.arange(height) + 0.5) / height * H
        x = (torch.arange(width) + 0.5) / width * W
        return torch.stack([x.expand(height, width), y[:, None].expand(height, width), torch.ones(height, width)])[None]

    fine, coarse = (warp(coordinates(*s), got.theta, "bilinear")[0] for s in ((H, W), (H // 4, W // 4)))
    averaged = torch.nn.functional.avg_pool2d(fine[None], 4)[0]
    valid = (averaged[2] > 0.999) & (coarse[2] > 0.999)
    assert valid.sum() > 40
    assert (averaged - coarse)[:2, valid].abs().max() < 1e-3
    x, y = W / 2 + 8.0, H / 2 - 4.0  # a place of the strong view, found in the weak one by hand
    a = 30 * LEVEL * math.pi / 180
    by_hand = {
        "rotate": (
            W / 2 + math.cos(a) * (x - W / 2) - math.sin(a) * (y - H / 2),
            H / 2 + math.sin(a) * (x - W / 2) + math.cos(a) * (y - H / 2),
        ),
        "shear_x": (x + 0.3 * LEVEL * y, y),
        "shear_y": (x, y + 0.3 * LEVEL * x),
        "translate_x": (x + 0.3 * LEVEL * W, y),
        "translate_y": (x, y + 0.3 * LEVEL * H),
    }[operation]
    if flip:
        by_hand = (W - by_hand[0], by_hand[1])
    theta = got.theta[0].double().numpy()
    u, v = theta @ [2 * x / W - 1, 2 * y / H - 1, 1]
    assert ((u + 1) * W / 2, (v + 1) * H / 2) == pytest.approx(by_hand, abs=1e-4)


def test_two_geometric_operations_act_in_the_order_drawn() -> None:
    two = StrongAugmentation(count=2, cutout=0.0, flip=False)
    row = np.concatenate([draws("shear_x", 1)[0], draws("rotate", 1)[0, 3:]])[None]
    theta = strong_view(tensor(pictures(1)), row, two).theta[0].double().numpy()
    first, second = (
        strong_view(tensor(pictures(1)), draws(o, 1), ONE).theta[0].double().numpy() for o in ("shear_x", "rotate")
    )
    square = [np.vstack([m, [0, 0, 1]]) for m in (first, second)]
    np.testing.assert_allclose(theta, (square[0] @ square[1])[:2], atol=1e-6)


def test_cutout_is_a_grey_square_that_the_mask_names() -> None:
    options = StrongAugmentation(count=0, cutout=1 / 3, flip=False)
    images = torch.rand(200, 3, H, W)
    numbers = np.random.default_rng(1).random((200, options.numbers)).astype(np.float32)
    got = strong_view(images, numbers, options)
    mask = in_cutout(got.cutout, H, W)
    assert torch.equal((got.images == GREY).all(1), mask)
    torch.testing.assert_close(
        got.images[~mask[:, None].expand(-1, 3, -1, -1)], images[~mask[:, None].expand(-1, 3, -1, -1)]
    )
    rows, columns = mask.any(2).sum(1), mask.any(1).sum(1)
    assert (int(rows.max()), int(columns.max())) == (H // 3, H // 3)
    assert rows.min() >= H // 6 - 1
    coarse = in_cutout(got.cutout, H // 4, W // 4)
    assert float((torch.nn.functional.avg_pool2d(mask.float(), 4) - coarse.float()).abs().mean()) < 0.05


def test_how_often_and_how_strong() -> None:
    options = StrongAugmentation(cutout=0.0)
    numbers = np.random.default_rng(2).random((600, options.numbers)).astype(np.float32)
    theta = strong_view(torch.rand(600, 3, 8, 12), numbers, options).theta
    straight = (
        ((theta[:, 0, 0].abs() - 1).abs() < 1e-6)
        & (theta[:, :, 2].abs().amax(1) < 1e-6)
        & (theta[:, 0, 1] == 0)
        & (theta[:, 1, 0] == 0)
    )
    # Each of two draws is geometric and applied with 5/14 x 1/2.
    assert float(straight.float().mean()) == pytest.approx((1 - 5 / 28) ** 2, abs=0.06)
    flipped = theta[:, 0, 0] < 0
    assert 0.42 < float(flipped.float().mean()) < 0.58
    none = strong_view(torch.rand(5, 3, 8, 12), numbers[:5, :3], StrongAugmentation(count=0, cutout=0.0, flip=False))
    torch.testing.assert_close(none.theta, torch.eye(3)[:2].expand(5, 2, 3))


def test_blur_and_jitter_come_to_half_of_the_samples() -> None:
    images = torch.rand(100, 3, 16, 16)
    for noise in ({"blur": 1.0}, {"jitter": 0.4}):
        options = StrongAugmentation(count=0, cutout=0.0, flip=False, **noise)
        numbers = np.random.default_rng(3).random((100, options.numbers)).astype(np.float32)
        change = (strong_view(images, numbers, options).images - images).abs().amax((1, 2, 3))
        assert 35 <= int((change > 0.01).sum()) <= 65
        assert 35 <= int((change < 1e-4).sum()) <= 65


def test_without_operations_cutout_or_mirror_the_strong_view_is_the_weak_one() -> None:
    """What the pages of ProDA and CPSL name for "without augmentation"."""
    options = StrongAugmentation(operations=(), cutout=0, flip=False)
    images = tensor(pictures())
    numbers = np.random.default_rng(1).random((2, options.numbers), dtype=np.float32)
    assert torch.allclose(strong_view(images, numbers, options).images, images, atol=1e-6)
