"""MPCL's memory of features, and the first clustering of its features."""

from __future__ import annotations

import pytest
import torch
from sklearn.cluster import KMeans

from segadapt.labels import IGNORE
from segadapt.pieces import class_bank
from segadapt.pieces.class_bank import NOWHERE, ClassBank
from segadapt.pieces.clustering import kmeans
from segadapt.pieces.multi_prototypes import moments
from segadapt.pieces.precision import wide

C, K, D, LENGTH = 3, 2, 4, 10


def batch(seed: int, n: int = 12) -> tuple[torch.Tensor, ...]:
    rng = torch.Generator().manual_seed(seed)
    features = torch.randn(n, D, generator=rng).half().float()  # as they are stored
    labels = torch.randint(0, C + 1, (n,), generator=rng)
    return features, torch.where(labels == C, IGNORE, labels), torch.randint(0, K, (n,), generator=rng), torch.rand(n)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("most", [3, 100])
def test_remembers_the_latest_with_their_statistics(most: int, full: bool) -> None:
    bank = ClassBank(C, K, LENGTH, D, full)
    memory: dict[int, list[tuple[torch.Tensor, int]]] = {c: [] for c in range(C)}
    for seed in range(15):
        features, labels, assigned, chance = batch(seed)
        bank.push(features, labels, assigned, most, chance)
        for c in range(C):
            mine = sorted((int(i) for i in (labels == c).nonzero()), key=lambda i: float(chance[i]))[:most]
            memory[c] = (memory[c] + [(features[i], int(assigned[i])) for i in mine])[-LENGTH:]
    for c in range(C):
        got = {tuple(row.tolist()) for row in bank.remembered(c)}
        assert got == {tuple(row.tolist()) for row, _ in memory[c]}
    rows = torch.stack([row for c in range(C) for row, _ in memory[c]])
    owner = torch.tensor([c for c in range(C) for _ in memory[c]])
    part = torch.tensor([k for c in range(C) for _, k in memory[c]])
    wanted, found = moments(rows, owner, part, C, K, full), bank.moments()
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_features_without_a_prototype_and_reassignment() -> None:
    bank = ClassBank(C, K, LENGTH, D)
    features, labels, assigned, chance = batch(0)
    bank.push(features, labels, torch.full_like(assigned, NOWHERE), 100, chance)
    assert not bank.moments().counts.any()
    mine = bank.remembered(1)
    bank.reassign(1, torch.arange(len(mine)) % K)
    found = bank.moments()
    assert int(found.counts.sum()) == int(found.counts[1].sum()) == len(mine) > 1
    torch.testing.assert_close(found.means[1, 0], mine[::2].mean(0))
    bank.reassign(1, torch.zeros(len(mine), dtype=torch.int64))
    assert int(bank.moments().counts[1, 0]) == len(mine)


def test_an_empty_push_changes_nothing() -> None:
    bank = ClassBank(C, K, LENGTH, D)
    before = {k: v.clone() for k, v in bank.state_dict().items()}
    features, labels, assigned, chance = batch(0)
    bank.push(features, torch.full_like(labels, IGNORE), assigned, 5, chance)
    for key, value in bank.state_dict().items():
        if key not in ("rows", "part", "counts", "sums", "squares"):
            assert torch.equal(value, before[key])
    assert not bank.moments().counts.any()
    assert not bank.filled.any()


def test_kmeans_is_as_good_as_that_of_scikit_learn() -> None:
    rng = torch.Generator().manual_seed(0)
    centres = 4 * torch.randn(5, 8, generator=rng)
    points = centres[torch.randint(0, 5, (400,), generator=rng)] + torch.randn(400, 8, generator=rng)
    torch.manual_seed(0)
    found, member = kmeans(points, 5)
    reference = KMeans(5, n_init=5, random_state=0).fit(points.numpy())
    inertia = float((points - found[member]).square().sum())
    assert inertia < 1.02 * reference.inertia_
    for k in range(5):
        torch.testing.assert_close(found[k], points[member == k].mean(0), atol=1e-3, rtol=1e-3)


def test_kmeans_of_fewer_points_than_clusters() -> None:
    points = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    centres, member = kmeans(points, 5)
    assert centres.isfinite().all()
    torch.testing.assert_close(centres[member], points)
    centres, _ = kmeans(torch.zeros(1, 2), 3)
    assert not centres.any()


def test_apples_gpus_have_no_float64() -> None:
    assert [wide(torch.device(name)) for name in ("cpu", "cuda", "mps")] == [
        torch.float64,
        torch.float64,
        torch.float32,
    ]


@pytest.mark.parametrize("full", [False, True])
def test_statistics_are_as_wide_as_the_device_allows(full: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    exact, narrow = ClassBank(C, K, LENGTH, D, full).to("cpu"), ClassBank(C, K, LENGTH, D, full)
    monkeypatch.setattr(class_bank, "wide", lambda device: torch.float32)
    narrow.load_state_dict(exact.state_dict())
    narrow.to("cpu")
    for name in ("counts", "sums", "squares"):
        assert exact.get_buffer(name).dtype == torch.float64
        assert narrow.get_buffer(name).dtype == torch.float32
    for seed in range(4):
        exact.push(*batch(seed)[:3], 100, torch.linspace(0, 0.9, 12))
        narrow.push(*batch(seed)[:3], 100, torch.linspace(0, 0.9, 12))
    for a, b in zip(narrow.moments(), exact.moments(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
