"""Sinkhorn, class-balanced sampling, the memory bank: golden vectors of CPSL's code, and properties."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from segadapt.labels import IGNORE
from segadapt.pieces.memory_bank import MemoryBank
from segadapt.pieces.optimal_transport import class_balanced_sample, class_shares, sinkhorn, sinkhorn_with_bank
from tests.golden_vectors import golden_op


def test_assignments_of_the_reference() -> None:
    golden = golden_op("cpsl_sinkhorn")
    scores, r, eps = golden.tensor("scores"), golden.tensor("distribution"), golden.params["epsilon"]
    for name, iterations in (("q_3", 3), ("q_1", 1), ("q_converged", 2000)):
        golden.assert_close(name, sinkhorn(scores.double(), r.double(), eps, iterations))
    golden.assert_close("q_3", sinkhorn(scores, r, eps, 3))
    golden.assert_close("class_mass_3", sinkhorn(scores, r, eps, 3).mean(0))
    # An independent solver of the same problem.
    golden.assert_close("q_pot", sinkhorn(scores.double(), r.double(), eps, 2000))


def test_assignments_with_a_bank() -> None:
    golden = golden_op("cpsl_sinkhorn_bank")
    prototypes, features = golden.tensor("prototypes"), golden.tensor("features")
    scores = torch.cat([golden.tensor("bank") @ prototypes.T, features @ F.normalize(prototypes, dim=1).T])
    golden.assert_close("scores", scores)
    q = sinkhorn(scores, golden.tensor("distribution"), golden.params["epsilon"], golden.params["iterations"])
    golden.assert_close("q_all", q)
    golden.assert_close("q", q[-len(features) :])
    bank, own = scores[: -len(features)], scores[-len(features) :]
    settings = golden.params["epsilon"], golden.params["iterations"]
    everything = torch.ones(len(bank), dtype=torch.bool)
    golden.assert_close(
        "q", sinkhorn_with_bank(own[None], bank, everything, golden.tensor("distribution"), *settings)[0]
    )


def random_scores(seed: int, n: int, k: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    r = torch.rand(k, generator=rng) + 0.05
    return torch.rand(n, k, generator=rng) * 2 - 1, r / r.sum()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 60), st.integers(1, 12))
def test_marginals(seed: int, n: int, k: int) -> None:
    scores, r = random_scores(seed, n, k)
    q = sinkhorn(scores.double(), r.double(), 0.2, 500)
    torch.testing.assert_close(q.sum(1), torch.ones(n, dtype=torch.float64))
    torch.testing.assert_close(q.mean(0), r.double(), rtol=1e-3, atol=1e-4)
    assert (q >= 0).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_classes_and_rows_may_be_permuted(seed: int) -> None:
    scores, r = random_scores(seed, 20, 5)
    order, rows = torch.randperm(5), torch.randperm(20)
    q = sinkhorn(scores, r)
    torch.testing.assert_close(sinkhorn(scores[rows][:, order], r[order]), q[rows][:, order])


def with_bank(own: Tensor, bank: Tensor, valid: Tensor, r: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Solve the bank and each image's rows as one problem, in logarithms."""
    both = torch.cat([bank.expand(len(own), -1, -1), own], 1)
    rows = torch.cat([valid, torch.ones(own.shape[1], dtype=torch.bool)]).expand(len(own), -1)
    return sinkhorn(both, r, epsilon, iterations, rows)[:, len(bank) :]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 50), st.sampled_from([0.034, 0.05, 0.3]), st.integers(1, 5))
def test_a_shared_bank_gives_the_same_assignment(seed: int, length: int, epsilon: float, iterations: int) -> None:
    """Compare the fast form with the logarithmic one, with an absent class, a rare class, and empty rows."""
    rng = torch.Generator().manual_seed(seed)
    scores, r = random_scores(seed, 3 * 8 + length, 6)
    r[0], r[1] = 0.0, 1e-9
    r /= r.sum()
    own, bank = scores[:24].view(3, 8, 6), scores[24:]
    valid = torch.rand(length, generator=rng) < 0.7
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 2e-4)):
        parts = own.to(dtype), bank.to(dtype), valid, r.to(dtype)
        found, expected = (f(*parts, epsilon, iterations) for f in (sinkhorn_with_bank, with_bank))
        assert found.dtype == dtype
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * 0.1)
        assert (found[..., 0] == 0).all()


def test_a_shared_bank_at_the_ends_of_the_range() -> None:
    """Use scores of -1 and 1 alone, and epsilons on both sides of the fast form's limit."""
    rng = torch.Generator().manual_seed(0)
    r = torch.softmax(8 * torch.rand(5, generator=rng), 0)
    own, bank = (2.0 * (torch.rand(size, generator=rng) < 0.5) - 1 for size in ((2, 7, 5), (300, 5)))
    valid = torch.ones(300, dtype=torch.bool)
    for epsilon in (1 / 29.9, 1 / 30.1, 0.001):
        found = sinkhorn_with_bank(own, bank, valid, r, epsilon)
        assert torch.isfinite(found).all()
        torch.testing.assert_close(found.sum(2), torch.ones(2, 7))
        torch.testing.assert_close(found, with_bank(own, bank, valid, r, epsilon, 3), rtol=1e-3, atol=1e-5)


def test_half_precision_does_not_reach_a_shared_bank() -> None:
    scores, r = random_scores(3, 40, 4)
    parts = scores[:10][None], scores[10:], torch.ones(30, dtype=torch.bool), r
    with torch.autocast("cpu", torch.bfloat16):
        found = sinkhorn_with_bank(*parts)
    assert found.dtype == torch.float32
    assert torch.equal(found, sinkhorn_with_bank(*parts))


def test_large_scores_and_absent_classes_stay_finite() -> None:
    scores, r = random_scores(1, 30, 4)
    r[2] = 0
    q = sinkhorn(scores * 1000, r / r.sum())
    assert q.isfinite().all()
    assert (q[:, 2] < 1e-6).all()
    one = sinkhorn(scores[:, :1], torch.ones(1))
    assert torch.equal(one, torch.ones(30, 1))


def test_rows_that_take_no_part() -> None:
    scores, r = random_scores(2, 30, 4)
    valid = torch.arange(30) % 3 != 0
    q = sinkhorn(scores, r, valid=valid)
    torch.testing.assert_close(q[valid], sinkhorn(scores[valid], r))
    assert not q[~valid].any()


def test_several_problems_at_once() -> None:
    both = [random_scores(seed, 25, 6) for seed in (3, 4)]
    q = sinkhorn(torch.stack([s for s, _ in both]), torch.stack([r for _, r in both]))
    for i, (scores, r) in enumerate(both):
        torch.testing.assert_close(q[i], sinkhorn(scores, r))


def test_half_precision_and_autocast() -> None:
    scores, r = random_scores(5, 40, 6)
    exact = sinkhorn(scores, r)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(sinkhorn(scores, r), exact)
    assert (sinkhorn(scores.bfloat16(), r) - exact).abs().max() < 0.05


# ---- shares and samples ----


def test_shares_and_counts_of_the_paper() -> None:
    golden = golden_op("cpsl_paper_sampling_and_distribution")
    labels = golden.tensor("labels")
    shares = class_shares(labels, 19)
    golden.assert_close("delta", shares)
    m = golden.params["M"] // 4  # a sample must fit the 500 pixels; the reference counts with 512
    torch.manual_seed(0)
    drawn = labels.gather(1, class_balanced_sample(labels, m, 19))
    found = torch.stack([torch.bincount(row, minlength=19) for row in drawn])
    least = torch.floor(m * shares + 1e-4)
    assert (found >= least).all()
    assert ((found - least).sum(1) == m - least.sum(1)).all()
    golden.assert_close("counts", torch.floor(golden.params["M"] * shares + 1e-4).long())
    r = golden.tensor("start")
    after = []
    for share in shares:
        r = golden.params["momentum"] * r + (1 - golden.params["momentum"]) * share
        after.append(r)
    golden.assert_close("r", torch.stack(after))


def test_distribution_of_predictions() -> None:
    golden = golden_op("cpsl_class_distribution")
    labels = golden.tensor("logits").argmax(1)
    golden.assert_close("distribution", class_shares(labels.reshape(1, -1), 19)[0])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 60), st.booleans())
def test_samples_are_distinct_and_labelled_pixels_come_first(seed: int, count: int, stratified: bool) -> None:
    torch.manual_seed(seed)
    labels = torch.randint(0, 5, (3, 60))
    labels[0, :30] = IGNORE
    labels[1] = 2
    labels[2] = IGNORE
    chosen = class_balanced_sample(labels, count, 5, stratified)
    assert all(len(set(row.tolist())) == count for row in chosen)
    if stratified:
        found = labels.gather(1, chosen)
        assert int((found[0] != IGNORE).sum()) == min(count, 30)


def test_sampling_is_random_within_a_class() -> None:
    torch.manual_seed(0)
    labels = torch.zeros(1, 100, dtype=torch.long)
    labels[0, 90:] = 1
    hits = torch.zeros(100)
    for _ in range(400):
        hits[class_balanced_sample(labels, 20, 2)[0]] += 1
    assert (hits > 40).all()
    assert (hits < 130).all()


# ---- the bank ----


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), max_size=8))
def test_bank_holds_the_newest_rows(sizes: list[int]) -> None:
    bank = MemoryBank(7, 2)
    pushed: list[int] = []
    for size in sizes:
        rows = torch.arange(len(pushed), len(pushed) + size)[:, None].expand(size, 2).float()
        bank.push(rows)
        pushed += range(len(pushed), len(pushed) + size)
    held = sorted(bank.rows[bank.valid][:, 0].int().tolist())
    assert held == pushed[-7:]


def test_bank_is_part_of_a_checkpoint() -> None:
    bank, twin = MemoryBank(5, 3), MemoryBank(5, 3)
    bank.push(torch.randn(7, 3))
    twin.load_state_dict(bank.state_dict())
    more = torch.randn(2, 3)
    for b in (bank, twin):
        b.push(more)
    assert torch.equal(bank.rows, twin.rows)
    assert bool(twin.valid.all())
