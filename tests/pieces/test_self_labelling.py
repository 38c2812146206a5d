"""The self-labelling head of CPSL and its loss, by hand; golden vectors are in tests/methods/test_cpsl.py."""

from __future__ import annotations

import torch

from segadapt.pieces import self_labelling
from segadapt.pieces.self_labelling import CosineHead, unit_rows


def test_scores_are_cosines_whatever_the_length_of_the_vectors() -> None:
    head = CosineHead(3, 4)
    with torch.no_grad():
        head.weight.mul_(torch.tensor([1.0, 5.0, 0.2])[:, None])
    z = torch.nn.functional.normalize(torch.randn(2, 6, 4), dim=2)
    wanted = torch.cosine_similarity(z[:, :, None], head.weight[None, None], dim=3)
    torch.testing.assert_close(head(z), wanted)


def test_rows_follow_the_chosen_pixels() -> None:
    maps, chosen = torch.randn(2, 5, 3, 4), torch.tensor([[0, 11, 5], [7, 7, 2]])
    rows = unit_rows(maps, chosen)
    for b in range(2):
        for m in range(3):
            y, x = divmod(int(chosen[b, m]), 4)
            torch.testing.assert_close(rows[b, m], maps[b, :, y, x] / maps[b, :, y, x].norm())


def test_targets_add_up() -> None:
    scores, q = torch.randn(2, 4, 3), torch.rand(2, 2, 4, 3)
    one, two, both = (self_labelling.self_labelling(scores, t, 0.5) for t in ([q[0]], [q[1]], [q[0], q[1]]))
    torch.testing.assert_close(both.total, one.total + two.total)
    assert float(both.count) == 8
