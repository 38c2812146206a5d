"""Rare classes, and the ones on which a crop of an image may be centred."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from segadapt.labels import IGNORE
from segadapt.pieces.mining import MiningClasses, mined_classes, wanted_classes
from tests.golden_vectors import golden_op


def test_reference_classes():
    gold = golden_op("cbst_class_thresholds")
    mining = mined_classes(gold.tensor("pred_count"), gold.params["mine_port"], gold.params["rare_cls_num"])
    gold.assert_close("mine_id", np.array(mining.priority))
    gold.assert_close("rare_id", np.array(mining.rare))


def test_ties_stay_in_class_order_and_absent_classes_come_first():
    mining = mined_classes(torch.tensor([1000, 5, 5, 0, 5, 2000]))
    assert mining.priority == (3,)
    assert mining.rare == (3, 1, 2)
    assert mined_classes(torch.tensor([9, 1]), fallback=3).rare == (1, 0)


def test_share_is_strictly_below_the_limit():
    counts = torch.tensor([998, 1, 1])
    assert mined_classes(counts, share=1e-3).priority == ()
    assert mined_classes(counts, share=1.001e-3).priority == (1, 2)


def test_order_of_classes_does_not_matter():
    counts = torch.tensor([50, 3, 700, 1, 20, 90])
    order = [4, 2, 0, 5, 3, 1]
    plain, renamed = mined_classes(counts, 0.01), mined_classes(counts[order], 0.01)
    assert {order[c] for c in renamed.priority} == set(plain.priority)
    assert [order[c] for c in renamed.rare] == list(plain.rare)


@pytest.mark.parametrize(
    ("present", "fallback", "expected"),
    [
        ([0, 4, 5], True, (4,)),
        ([0, 4, 7], False, (4, 7)),
        ([0, 5], True, (5,)),
        ([0, 5], False, ()),
        ([0, 1], True, ()),
        ([], True, ()),
    ],
)
def test_candidates(present, fallback, expected):
    label = np.full((4, 5), IGNORE, np.uint8)
    label.reshape(-1)[: len(present)] = present
    assert wanted_classes(label, MiningClasses(priority=(4, 7), rare=(7, 4, 5)), fallback) == expected
