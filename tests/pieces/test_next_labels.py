"""Which images to label next: uncertainty by class, and choices that are unlike each other."""

from __future__ import annotations

import pytest
import torch

from segadapt.pieces.next_labels import class_uncertainty, farthest_first


def restated(p: torch.Tensor, least_share: float) -> list[float]:
    """Loop over images, classes and pixels."""
    found = []
    for image in p:
        pixels = image.flatten(1).T
        means = []
        for c in range(image.shape[0]):
            own = [pixel.sort(descending=True).values for pixel in pixels if int(pixel.argmax()) == c]
            if len(own) > least_share * len(pixels):
                means.append(sum(1 - float(best[0] - best[1]) for best in own) / len(own))
        found.append(sum(means) / len(means))
    return found


@pytest.mark.parametrize("least_share", [0.0, 0.2])
def test_uncertainty_is_the_mean_over_classes_of_their_margins(least_share: float) -> None:
    p = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(1)).mul(2).softmax(1)
    expected = torch.tensor(restated(p, least_share))
    torch.testing.assert_close(class_uncertainty(p, least_share), expected)


def test_a_small_unsure_class_counts_as_much_as_a_large_sure_one() -> None:
    p = torch.zeros(1, 2, 1, 100)
    p[:, 0] = 1.0
    p[..., :2] = torch.tensor([0.4, 0.6]).view(1, 2, 1, 1)
    torch.testing.assert_close(class_uncertainty(p), torch.tensor([0.4]))
    assert class_uncertainty(torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)).tolist() == [0.0]


def test_choices_are_unsure_and_unlike_each_other_and_what_is_known() -> None:
    features = torch.tensor([[-0.3, 5.0], [0.1, 5.0], [4.0, 5.0], [4.1, 5.0], [8.2, 5.0]])  # the second channel is flat
    weights = torch.tensor([0.5, 0.6, 0.5, 0.5, 0.5])
    chosen = farthest_first(features, weights, 5)
    assert [index for index, _ in chosen] == [1, 4, 3, 0, 2]
    assert chosen[0][1] is None
    spread = float(features[:, 0].double().std(correction=0))
    assert chosen[1][1] == pytest.approx(8.1 / spread)
    assert [index for index, _ in farthest_first(features, weights, 2, known=[1])] == [4, 3]
    assert [index for index, _ in farthest_first(features, torch.tensor([1.0, 1, 1, 1, 0]), 2, known=[1])] == [3, 0]


def test_equal_images_are_chosen_in_their_order_and_each_once() -> None:
    assert [index for index, _ in farthest_first(torch.ones(4, 3), torch.ones(4), 3, known=[1])] == [0, 2, 3]
