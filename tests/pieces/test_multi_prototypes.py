"""Several prototypes per class (MPCL): golden vectors of the paper's equations, POT, and properties."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from segadapt.labels import IGNORE
from segadapt.pieces.multi_prototypes import (
    Prototypes,
    centroid_similarity,
    class_similarity,
    gaussian_similarity,
    moments,
    moved,
    only_active,
    own_class,
    prototype_contrast,
    prototype_cross_entropy,
)
from segadapt.pieces.multi_prototypes import similarity as prototype_similarity
from segadapt.pieces.optimal_transport import equipartition, greenkhorn
from tests.golden_vectors import Golden, golden_op

C, K = 19, 5

# ---- similarities ----


def test_similarities_golden() -> None:
    golden = golden_op("mpcl_similarity")
    f, mean = golden.tensor("feat"), golden.tensor("mean")
    golden.assert_close("centroid_squared", centroid_similarity(f, mean))
    golden.assert_close("gauss_diag", gaussian_similarity(f, mean, golden.tensor("var")))
    golden.assert_close("gauss_full", gaussian_similarity(f.double(), mean, golden.tensor("cov")))


def test_similarities_do_not_lose_precision_under_autocast() -> None:
    golden = golden_op("mpcl_similarity")
    f, mean, var = (golden.tensor(name) for name in ("feat", "mean", "var"))
    with torch.autocast("cpu", torch.bfloat16):
        golden.assert_close("centroid_squared", centroid_similarity(f, mean))
        golden.assert_close("gauss_diag", gaussian_similarity(f, mean, var))
        assert centroid_similarity(f.bfloat16(), mean).dtype == torch.float32


@pytest.mark.parametrize("full", [False, True])
def test_prototypes_without_variance_stay_finite(full: bool) -> None:
    """A prototype of one pixel, or of fewer pixels than dimensions, has the floor as its variance."""
    rng = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(6, 8, generator=rng), dim=1)
    found = moments(rows, torch.tensor([0, 1, 1, 1, 1, 1]), torch.zeros(6, dtype=torch.int64), 2, 1, full)
    assert not found.variances[0].any()
    f = rows.clone().requires_grad_()
    s = prototype_similarity(f, Prototypes(found.means, found.variances, torch.tensor([True, True])))
    assert s.isfinite().all()
    (gradient,) = torch.autograd.grad(s.sum(), f)
    assert gradient.isfinite().all()
    isotropic = torch.distributions.Normal(found.means[0, 0], (0.25 / 8) ** 0.5).log_prob(rows).mean(1)
    torch.testing.assert_close(s[:, 0, 0], isotropic)


def test_absent_prototypes_are_below_all_others() -> None:
    """Holds even if features that are not normalised are thousands away from every prototype."""
    f = torch.full((1, 4), 100.0)
    known = Prototypes(torch.zeros(2, 1, 4), None, torch.tensor([False, True]))
    assert (prototype_similarity(f, known) / 0.1).flatten(1).softmax(1).tolist() == [[0.0, 1.0]]


def test_tiny_variances_stay_finite() -> None:
    f = torch.nn.functional.normalize(torch.randn(50, 256, generator=torch.Generator().manual_seed(0)), dim=1)
    var = torch.full((1, 1, 256), 1e-3)
    got = gaussian_similarity(f, f[:1][None], var)[:, 0, 0]
    exact = torch.distributions.Normal(f[0].double(), var[0, 0].double().sqrt()).log_prob(f.double()).sum(1)
    torch.testing.assert_close(got.double(), exact, rtol=1e-4, atol=1e-2)


# ---- losses ----


def similarity(golden: Golden, features: Tensor) -> Tensor:
    mean = golden.tensor("mean")
    if "var" in golden.arrays:
        return gaussian_similarity(features, mean, golden.tensor("var")) / features.shape[1]
    return centroid_similarity(features, mean)


@pytest.mark.parametrize("kind", ["centroid", "gauss"])
def test_losses_golden(kind: str) -> None:
    golden = golden_op(f"mpcl_losses_{kind}")
    f = golden.tensor("feat").requires_grad_()
    s = similarity(golden, f)
    golden.assert_close("similarity", s)
    labels, assigned, weight = (golden.tensor(name) for name in ("labels", "assign", "weight"))
    ones, t = torch.ones_like(weight), golden.params["T"]
    contrast = prototype_contrast(s, labels, assigned, weight, t)
    golden.assert_close("contrast", contrast.mean())
    golden.assert_close("contrast_divided_by_all", contrast.total / len(f))
    golden.assert_close("contrast_unweighted", prototype_contrast(s, labels, assigned, ones, t).mean())
    without = prototype_contrast(s, labels, assigned, weight, t, in_class=False)
    golden.assert_close("contrast_without_in_class_negatives", without.mean())
    golden.assert_close("grad_contrast", torch.autograd.grad(contrast.mean(), f, retain_graph=True)[0])
    classes = prototype_cross_entropy(s, labels, ones, t)
    golden.assert_close("proto_ce", classes.mean())
    golden.assert_close("proto_ce_weighted", prototype_cross_entropy(s, labels, weight, t).mean())
    golden.assert_close("grad_proto_ce", torch.autograd.grad(classes.mean(), f)[0])
    golden.assert_close("posterior", (class_similarity(s) / t).softmax(1))
    golden.assert_close("prediction", class_similarity(s).argmax(1))


def noise(n: int = 40, d: int = 6, classes: int = 4, each: int = 3) -> tuple[Tensor, ...]:
    rng = torch.Generator().manual_seed(0)
    f = torch.randn(n, d, generator=rng, requires_grad=True)
    labels = torch.randint(0, classes, (n,), generator=rng)
    labels[:5] = IGNORE
    assigned = torch.randint(0, each, (n,), generator=rng)
    return f, labels, assigned, torch.rand(n, generator=rng), torch.randn(classes, each, d, generator=rng)


def test_losses_do_not_depend_on_the_order_of_classes_or_prototypes() -> None:
    f, labels, assigned, weights, means = noise()
    new_class, new_place = torch.tensor([2, 0, 3, 1]), torch.tensor([1, 2, 0])
    mixed = torch.empty_like(means)
    mixed[new_class[:, None], new_place] = means
    valid = labels != IGNORE
    renamed = torch.where(valid, new_class[torch.where(valid, labels, 0)], IGNORE)
    for in_class in (True, False):
        a = prototype_contrast(centroid_similarity(f, means), labels, assigned, weights, 0.1, in_class)
        b = prototype_contrast(centroid_similarity(f, mixed), renamed, new_place[assigned], weights, 0.1, in_class)
        torch.testing.assert_close(a.mean(), b.mean())
    a = prototype_cross_entropy(centroid_similarity(f, means), labels, weights, 0.1)
    torch.testing.assert_close(
        a.mean(), prototype_cross_entropy(centroid_similarity(f, mixed), renamed, weights, 0.1).mean()
    )


def test_ignored_pixels_have_no_gradient_and_no_pixels_no_loss() -> None:
    f, labels, assigned, weights, means = noise()
    for wanted in (labels, torch.full_like(labels, IGNORE)):
        s = centroid_similarity(f, means)
        terms = (
            prototype_contrast(s, wanted, assigned, weights, 0.1),
            prototype_cross_entropy(s, wanted, weights, 0.1),
        )
        assert all(int(term.count) == int((wanted != IGNORE).sum()) for term in terms)
        (gradient,) = torch.autograd.grad(terms[0].mean() + terms[1].mean(), f)
        assert gradient.isfinite().all()
        assert not gradient[wanted == IGNORE].any()


def test_classes_without_prototypes_take_no_part() -> None:
    f, labels, assigned, weights, means = noise()
    active = torch.tensor([True, False, True, True])
    labels = torch.where(labels == 1, IGNORE, labels)
    s = only_active(centroid_similarity(f, means), active)
    fewer = centroid_similarity(f, means[active])
    renamed = torch.where(labels == IGNORE, IGNORE, labels - (labels > 1).long())
    torch.testing.assert_close(
        prototype_contrast(s, labels, assigned, weights, 0.1).mean(),
        prototype_contrast(fewer, renamed, assigned, weights, 0.1).mean(),
    )
    assert not (class_similarity(s).argmax(1) == 1).any()


# ---- assignment ----


@pytest.mark.parametrize("group", ["c0", "c1", "c2"])
def test_assignment_golden(group: str) -> None:
    """Compare with POT, converged and after three iterations."""
    golden = golden_op("mpcl_assignment")
    scores = golden.tensor(f"scores_{group}").double()
    one = torch.zeros(len(scores), dtype=torch.int64)
    q = equipartition(scores, one, 1, golden.params["epsilon"], 2000)
    golden.assert_close(f"q_{group}", q)
    golden.assert_close(f"assign_{group}", q.argmax(1))
    golden.assert_close(f"q3_{group}", equipartition(scores, one, 1, golden.params["epsilon"], 3))
    golden.assert_close(f"nearest_{group}", equipartition(scores, one, 1, golden.params["epsilon"], 0).argmax(1))


@pytest.mark.parametrize(("group", "steps"), [("c0", 2000), ("c1", 6000), ("c2", 2000)])
def test_greenkhorn_golden(group: str, steps: int) -> None:
    golden = golden_op("mpcl_assignment")
    scores = golden.tensor(f"scores_{group}").double()
    q = greenkhorn(scores, torch.zeros(len(scores), dtype=torch.int64), 1, golden.params["epsilon"], steps)
    golden.assert_close(f"greenkhorn_{group}", q)


def test_greenkhorn_step_by_step() -> None:
    """Compare the first steps with a plain restatement that rescales one row or one column at a time."""
    rng = torch.Generator().manual_seed(0)
    scores = torch.randn(7, 3, generator=rng).double()
    p = (scores / 0.5).exp()
    p = p / p.sum()
    row, column = 1 / 7, 1 / 3

    def gap(a: float, b: Tensor) -> Tensor:
        return b - a + a * (a / b).log()

    for steps in range(1, 6):
        rows, columns = gap(row, p.sum(1)), gap(column, p.sum(0))
        if rows.max() >= columns.max():
            i = int(rows.argmax())
            p[i] *= row / p[i].sum()
        else:
            j = int(columns.argmax())
            p[:, j] *= column / p[:, j].sum()
        got = greenkhorn(scores, torch.zeros(7, dtype=torch.int64), 1, 0.5, steps)
        torch.testing.assert_close(got, p / p.sum(1, keepdim=True))


@pytest.mark.parametrize("solve", [equipartition, greenkhorn])
def test_groups_are_solved_apart(solve: object) -> None:
    rng = torch.Generator().manual_seed(0)
    scores = torch.randn(60, 3, generator=rng).double()
    groups = torch.randint(0, 5, (60,), generator=rng)
    groups[groups == 3] = IGNORE  # a group without members, rows without a group
    groups[groups == 4] = IGNORE
    groups[7] = 4  # a group of one row
    q = solve(scores, groups, 5, 0.1, 40)  # type: ignore[operator]
    for group in (0, 1, 2, 4):
        mine = groups == group
        alone = solve(scores[mine], torch.zeros(int(mine.sum()), dtype=torch.int64), 1, 0.1, 40)  # type: ignore[operator]
        torch.testing.assert_close(q[mine], alone)
    assert not q[groups == IGNORE].any()
    torch.testing.assert_close(q[groups != IGNORE].sum(1), torch.ones(int((groups != IGNORE).sum())).double())


@pytest.mark.parametrize("solve", [equipartition, greenkhorn])
def test_assignment_does_not_depend_on_the_order_of_groups_or_parts(solve: object) -> None:
    rng = torch.Generator().manual_seed(0)
    scores = torch.randn(60, 3, generator=rng).double()
    groups = torch.randint(0, 4, (60,), generator=rng)
    new_group, new_part = torch.tensor([2, 0, 3, 1]), torch.tensor([1, 2, 0])
    moved_scores = torch.empty_like(scores)
    moved_scores[:, new_part] = scores
    q = solve(scores, groups, 4, 0.1, 40)  # type: ignore[operator]
    again = solve(moved_scores, new_group[groups], 4, 0.1, 40)  # type: ignore[operator]
    torch.testing.assert_close(again[:, new_part], q)


@pytest.mark.parametrize("solve", [equipartition, greenkhorn])
def test_scores_far_apart_leave_no_nan(solve: object) -> None:
    """A pixel whose kernel underflows still gets a plan."""
    scores = torch.tensor([[0.0, -1.0], [-900.0, -700.0], [-1.0, 0.0], [-700.0, -900.0]])
    q = solve(scores, torch.zeros(4, dtype=torch.int64), 1, 0.05, 20)  # type: ignore[operator]
    torch.testing.assert_close(q.sum(1), torch.ones(4))
    assert q.argmax(1).tolist() == [0, 1, 1, 0]


def test_equal_masses() -> None:
    rng = torch.Generator().manual_seed(0)
    scores = torch.randn(400, 4, generator=rng)
    scores[:, 0] += 3  # the nearest part would get nearly all
    groups = torch.arange(400) % 2
    for dtype in (torch.float32, torch.bfloat16):
        q = equipartition(scores.to(dtype), groups, 2, 0.5, 50)
        for group in (0, 1):
            torch.testing.assert_close(q[groups == group].sum(0), torch.full((4,), 50.0), rtol=0.02, atol=0)


# ---- moving prototypes ----


def test_update_golden() -> None:
    golden = golden_op("mpcl_update")
    f, labels, assigned = (golden.tensor(name) for name in ("feat", "labels", "assign"))
    found = moments(f, labels, assigned, C, K)
    golden.assert_close("count", found.counts.long())
    empty = (found.counts == 0)[..., None]
    golden.assert_close("batch_mean", found.means.masked_fill(empty, torch.nan))
    golden.assert_close("batch_var", found.variances.masked_fill(empty, torch.nan))
    for suffix, alpha in (("", golden.params["alpha"]), ("_a09", golden.params["alpha_a09"])):
        golden.assert_close(f"mean_new{suffix}", moved(golden.tensor("mean"), found.means, found.counts, alpha))
        golden.assert_close(f"var_new{suffix}", moved(golden.tensor("var"), found.variances, found.counts, alpha))
    full = moments(f, labels, assigned, C, K, full=True)
    moved_to = moved(golden.tensor("cov"), full.variances, full.counts, golden.params["alpha_a09"])
    golden.assert_close("cov_new_a09", moved_to)


def test_own_class() -> None:
    _, labels, _, _, means = noise()
    s = torch.arange(40 * 12).view(40, 4, 3)
    labels = torch.where(labels == IGNORE, 0, labels)
    assert torch.equal(own_class(s, labels), torch.stack([s[i, c] for i, c in enumerate(labels.tolist())]))
    assert means.shape == (4, 3, 6)
