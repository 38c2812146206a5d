"""Windows: where they lie, that images and labels stay together, and what is beside the image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as reference

from segadapt.core.types import Size
from segadapt.data.augment import (
    Window,
    crop_images,
    crop_labels,
    draw_window,
    focus_pixel,
    grid_of,
    pad_batch,
    regions,
)
from segadapt.data.photometric import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    color_jitter,
    draw_blur,
    gaussian_blur,
)
from segadapt.labels import IGNORE
from tests.data.writing import picture
from tests.golden_vectors import golden_op


def crop_batch(images: list[np.ndarray], windows: list[Window], output: Size) -> torch.Tensor:
    """Crops as a training step gets them: the parts that windows touch travel, and are sampled there."""
    parts, grid = regions(grid_of(windows, [(i.shape[0], i.shape[1]) for i in images], output))
    return crop_images(pad_batch([i[part] for i, part in zip(images, parts, strict=True)]), grid)


def cut(array: np.ndarray, window: Window, output: tuple[int, int]) -> np.ndarray:
    return crop_batch([array], [window], output)[0].permute(1, 2, 0).numpy() * 255


sizes_of_images = st.tuples(st.integers(5, 90), st.integers(5, 90))


@settings(max_examples=150, deadline=None)
@given(sizes_of_images, sizes_of_images, st.floats(0.4, 2.5), st.floats(0, 1), st.integers(0, 2**32))
def test_windows_lie_inside_or_around_the_image(
    size: tuple[int, int], crop: tuple[int, int], low: float, spread: float, seed: int
) -> None:
    window = draw_window(np.random.default_rng(seed), size, crop, (low, low + spread), flip=True)
    scale = crop[0] / window.height
    assert low - 1e-9 <= scale <= low + spread + 1e-9
    assert crop[1] / window.width == pytest.approx(scale)
    for start, length, extent in ((window.top, window.height, size[0]), (window.left, window.width, size[1])):
        if length <= extent:
            assert start >= -1e-9
            assert start + length <= extent + 1e-6
        else:
            assert start <= 1e-9
            # at most a part of an output pixel is lost where the scaled image has no whole size
            assert start + length >= extent - 1 / scale - 1e-6


@settings(max_examples=150, deadline=None)
@given(sizes_of_images, sizes_of_images, st.floats(0.4, 2.5), st.data())
def test_focus_lies_inside_the_window_and_in_its_middle_where_there_is_room(
    size: tuple[int, int], crop: tuple[int, int], scale: float, data: st.DataObject
) -> None:
    focus = (data.draw(st.integers(0, size[0] - 1)), data.draw(st.integers(0, size[1] - 1)))
    window = draw_window(np.random.default_rng(0), size, crop, (scale, scale), focus=focus)
    for place, start, length, extent in (
        (focus[0] + 0.5, window.top, window.height, size[0]),
        (focus[1] + 0.5, window.left, window.width, size[1]),
    ):
        assert start - 1e-6 <= place <= start + length + 1e-6
        if length / 2 + 1 / scale < place < extent - length / 2 - 1 / scale:
            assert abs(start + length / 2 - place) <= 0.5 / scale + 1e-6
        if length < extent:
            assert start >= -1e-9
            assert start + length <= extent + 1e-6


def test_windows_at_scale_one_lie_on_whole_pixels_and_cover_the_image() -> None:
    rng = np.random.default_rng(0)
    windows = [draw_window(rng, (10, 12), (7, 12), flip=True) for _ in range(300)]
    assert {w.top for w in windows} == {0.0, 1.0, 2.0, 3.0}
    assert {w.left for w in windows} == {0.0}
    assert {w.flip for w in windows} == {True, False}
    assert not any(draw_window(rng, (10, 12), (7, 12), flip=False).flip for _ in range(50))


def test_other_arguments_do_not_shift_the_random_numbers() -> None:
    after = []
    for arguments in ({}, {"focus": (3, 3)}, {"flip": True}, {"scales": (0.5, 2.0)}):
        rng = np.random.default_rng(5)
        draw_window(rng, (20, 20), (10, 10), **arguments)
        after.append(rng.random())
    assert len(set(after)) == 1


def test_focus_pixel_draws_classes_evenly_then_pixels_evenly() -> None:
    label = np.zeros((10, 10), np.uint8)
    label[3, 4] = 7
    label[8, :5] = 2
    rng = np.random.default_rng(1)
    drawn = [focus_pixel(rng, label, [7, 2, 5]) for _ in range(2000)]
    rare = sum(p == (3, 4) for p in drawn)
    assert abs(rare - 1000) < 120
    others = [p for p in drawn if p != (3, 4)]
    assert {p for p in others if p} == {(8, x) for x in range(5)}
    assert all(abs(sum(p == (8, x) for p in others) - 200) < 80 for x in range(5))
    assert focus_pixel(rng, label, [5, 6]) is None
    assert focus_pixel(rng, label, []) is None


def test_whole_image_is_itself() -> None:
    array = picture(9, 13)
    assert np.allclose(cut(array, Window(0, 0, 9, 13), (9, 13)), array, atol=1e-3)
    assert np.allclose(cut(array, Window(0, 0, 9, 13, True), (9, 13)), array[:, ::-1], atol=1e-3)


def test_whole_pixels_are_a_slice() -> None:
    array = picture(19, 23)
    assert np.allclose(cut(array, Window(3, 5, 8, 10), (8, 10)), array[3:11, 5:15], atol=1e-3)


@pytest.mark.parametrize("scale", [2, 3, 0.5, 1.5])
def test_equals_resizing_the_image_and_slicing(scale: float) -> None:
    array = picture(24, 32)
    big = cv2.resize(array.astype(np.float32), None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    top, left = 5, 2
    window = Window(top / scale, left / scale, 6 / scale, 9 / scale)
    assert np.allclose(cut(array, window, (6, 9)), big[top : top + 6, left : left + 9], atol=0.02)
    whole = cut(array, Window(0, 0, 24, 32), big.shape[:2])
    assert np.allclose(whole, big, atol=0.02)


def test_enlarged_labels_are_repeated() -> None:
    label = np.random.default_rng(0).integers(0, 19, (6, 8), dtype=np.uint8)
    double = crop_labels([label], [Window(1, 2, 3, 4)], (6, 8))[0].numpy()
    assert np.array_equal(double, np.kron(label[1:4, 2:6], np.ones((2, 2))))
    mirrored = crop_labels([label], [Window(1, 2, 3, 4, True)], (6, 8))[0].numpy()
    assert np.array_equal(mirrored, double[:, ::-1])


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.3, 3.0), st.booleans(), sizes_of_images, sizes_of_images)
def test_labels_lie_on_their_image(
    seed: int, scale: float, flip: bool, size: tuple[int, int], crop: tuple[int, int]
) -> None:
    """Where pixel i shows the value i, bilinear sampling at x gives x - 0.5 and the nearest pixel floor(x)."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.uint8)
    window = draw_window(np.random.default_rng(seed), size, crop, (scale, scale), flip=flip)
    cut_image = crop_batch([np.dstack([y, x, x])], [window], crop)[0] * 255
    for ramp, shown in ((y, cut_image[0]), (x, cut_image[1])):
        label = crop_labels([ramp], [window], crop)[0]
        inside = label != IGNORE
        place = (shown + 0.5)[inside]
        assert (place > label[inside] - 1e-2).all()
        assert (place < label[inside] + 1 + 1e-2).all()
        assert (shown[~inside] == 0).all()


def test_beside_the_image_there_is_nothing() -> None:
    array = np.full((4, 6, 3), 200, np.uint8)
    window = Window(-2, -3, 10, 12)
    image = crop_batch([array], [window], (10, 12))[0, 0] * 255
    label = crop_labels([np.ones((4, 6), np.uint8)], [window], (10, 12))[0]
    inside = np.zeros((10, 12), bool)
    inside[2:6, 3:9] = True
    assert np.allclose(image.numpy(), np.where(inside, 200, 0), atol=1e-3)
    assert np.array_equal(label.numpy(), np.where(inside, 1, IGNORE))


@pytest.mark.parametrize("scale", [0.6, 1.0, 1.7])
def test_padding_of_the_batch_never_shows(scale: float) -> None:
    """The small image gives the same in a batch with a larger one as alone."""
    small, large = np.full((9, 11, 3), 255, np.uint8), picture(30, 40)
    window = Window(-1.0, -2.0, 14 / scale, 17 / scale)
    alone = crop_batch([small], [window], (14, 17))[0]
    together = crop_batch([large, small], [Window(0, 0, 30, 40), window], (14, 17))[1]
    assert torch.equal(alone, together)
    assert set(together.unique().tolist()) <= {0.0, 1.0}
    labels = [np.full((30, 40), 3, np.uint8), np.full((9, 11), 4, np.uint8)]
    cut_labels = crop_labels(labels, [Window(0, 0, 30, 40), window], (14, 17))
    assert set(cut_labels[1].unique().tolist()) <= {4, IGNORE}
    assert torch.equal(cut_labels[1] == 4, together[0] > 0.5)


def test_batch_dtypes() -> None:
    images, windows = [picture(5, 6), picture(7, 4)], [Window(0, 0, 5, 6), Window(0, 0, 7, 4)]
    assert pad_batch(images).shape == (2, 3, 7, 6)
    assert pad_batch(images).dtype == torch.uint8
    cut_images = crop_batch(images, windows, (3, 3))
    assert cut_images.dtype == torch.float32
    assert 0 <= float(cut_images.min()) <= float(cut_images.max()) <= 1
    assert crop_labels([np.zeros((5, 6), np.uint8)], windows[:1], (3, 3)).dtype == torch.uint8


# ---- only what a window touches ----


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.3, 3.0), st.lists(sizes_of_images, min_size=1, max_size=3), sizes_of_images)
def test_parts_of_images_give_the_bits_of_whole_images(seed: int, scale: float, sizes: list[Size], crop: Size) -> None:
    """Whatever the batch; and nothing travels that no pixel of the crop lies between."""
    rng = np.random.default_rng(seed)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    windows = [draw_window(rng, size, crop, (scale, 2 * scale), flip=True) for size in sizes]
    grid = grid_of(windows, sizes, crop)
    whole = crop_images(pad_batch(images), grid)
    assert torch.equal(crop_batch(images, windows, crop), whole)
    for n, (image, window, (rows, columns)) in enumerate(zip(images, windows, regions(grid)[0], strict=True)):
        assert torch.equal(crop_batch([image], [window], crop)[0], whole[n])
        assert rows.stop - rows.start <= min(image.shape[0], window.height + 3)
        assert columns.stop - columns.start <= min(image.shape[1], window.width + 3)
        hidden = np.full_like(image, 77)
        hidden[rows, columns] = image[rows, columns]
        assert torch.equal(crop_batch([hidden], [window], crop)[0], whole[n])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.3, 3.0), sizes_of_images, sizes_of_images)
def test_crops_are_those_of_torch(seed: int, scale: float, size: Size, crop: Size) -> None:
    """Sampled by ``grid_sample`` in double precision, with zeros beside the image."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*size, 3), np.uint8)
    window = draw_window(rng, size, crop, (scale, scale), flip=True)
    y = window.top + (torch.arange(crop[0], dtype=torch.float64) + 0.5) / crop[0] * window.height
    x = window.left + (torch.arange(crop[1], dtype=torch.float64) + 0.5) / crop[1] * window.width
    x = x.flip(0) if window.flip else x
    grid = torch.stack(torch.meshgrid(2 * x / size[1] - 1, 2 * y / size[0] - 1, indexing="xy"), -1)[None]
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].double() / 255
    sampled = torch.nn.functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    within = ((y >= 0) & (y < size[0]))[:, None] & ((x >= 0) & (x < size[1]))
    assert torch.allclose(crop_batch([image], [window], crop).double(), sampled * within, rtol=0, atol=1e-6)


# ---- colours ----


@pytest.fixture
def colours() -> torch.Tensor:
    images = torch.rand((2, 3, 12, 14), generator=torch.Generator().manual_seed(0))
    images[0, :, 0] = torch.tensor([0.5, 0.5, 0.5])[:, None]  # grey has no hue
    images[0, :, 1] = 0
    return images


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values)[:, None, None, None]


@pytest.mark.parametrize(
    ("ours", "theirs", "values"),
    [
        (adjust_brightness, reference.adjust_brightness, (0.6, 1.5)),
        (adjust_contrast, reference.adjust_contrast, (0.6, 1.5)),
        (adjust_saturation, reference.adjust_saturation, (0.0, 1.7)),
        (adjust_hue, reference.adjust_hue, (-0.3, 0.45)),
    ],
)
def test_colour_changes_agree_with_torchvision(colours, ours, theirs, values) -> None:
    changed = ours(colours, column(*values))
    for sample, value in enumerate(values):
        expected = theirs(colours[sample], value)
        assert torch.allclose(changed[sample], expected, atol=2e-3), (changed[sample] - expected).abs().max()


def draws_of(seed: int, samples: int) -> torch.Tensor:
    return torch.rand((samples, 4), generator=torch.Generator().manual_seed(seed))


def test_jitter_is_seeded_bounded_and_leaves_strength_zero_alone(colours: torch.Tensor) -> None:
    def jittered(strength: list[float], seed: int) -> torch.Tensor:
        return color_jitter(colours, torch.tensor(strength), draws_of(seed, len(colours)))

    a, b, c = jittered([0.5, 0.0], 1), jittered([0.5, 0.0], 1), jittered([0.5, 0.0], 2)
    assert torch.equal(a, b)
    assert not torch.equal(a[0], c[0])
    assert torch.equal(a[1], colours[1])
    assert 0 <= float(a.min()) <= float(a.max()) <= 1
    # sample 0 changes alike whatever the strength of its neighbour
    assert torch.equal(jittered([0.5, 0.3], 1)[0], a[0])
    assert not torch.equal(jittered([0.5, 0.3], 1)[1], colours[1])


def test_jitter_grows_with_its_strength(colours: torch.Tensor) -> None:
    change = []
    for strength in (0.05, 0.2, 0.5):
        runs = [color_jitter(colours, torch.full((2,), strength), draws_of(s, 2)) - colours for s in range(20)]
        change.append(float(torch.stack(runs).abs().mean()))
    assert change[0] < change[1] < change[2]


def test_blur_per_sample(colours: torch.Tensor) -> None:
    sigma = torch.tensor([0.0, 1.3])
    blurred = gaussian_blur(colours, sigma)
    assert torch.allclose(blurred[0], colours[0], atol=1e-6)
    expected = reference.gaussian_blur(colours[1], [15, 15], [1.3, 1.3])
    assert torch.allclose(blurred[1], expected, atol=1e-5)
    assert gaussian_blur(colours, torch.zeros(2)) is colours
    assert gaussian_blur(colours[..., :3, :3], torch.full((2,), 5.0)).shape == (2, 3, 3, 3)


def test_blur_golden() -> None:
    """DAFormer's, whose kernel is a tenth of the image."""
    golden = golden_op("daformer_gaussian_blur")
    rows, columns = (size // 2 for size in golden.params["kernel_size_yx"])
    sigma = torch.tensor([golden.params["sigma"]])
    golden.assert_close("out", gaussian_blur(golden.tensor("image"), sigma, (rows, columns)))


def test_blur_widths() -> None:
    widths = draw_blur(4000, torch.Generator().manual_seed(0), (0.2, 1.0), 0.25)
    blurred = widths > 0
    assert abs(float(blurred.float().mean()) - 0.25) < 0.03
    assert float(widths[blurred].min()) >= 0.2
    assert float(widths.max()) <= 1.0
