"""CBST and CRST against plain restatements of their papers' equations, on numbers small enough to loop over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segadapt.data.augment import Window
from segadapt.data.dataset import Dataset, Item
from segadapt.data.loader import Samples
from segadapt.labels import IGNORE, LabelSpace
from segadapt.methods.cbst import CBST
from segadapt.methods.environment import Prediction
from segadapt.methods.registry import METHODS, stage_settings
from segadapt.models.segmenter import Output, Segmenter
from segadapt.pieces.priors import spatial_prior

K, H, W, IMAGES = 5, 12, 16, 4
SPACE = LabelSpace("five", tuple("abcde"), tuple((i, i, i) for i in range(K)))


class Linear(Segmenter):
    """A 1x1 convolution at stride 2: the smallest network there is."""

    def __init__(self) -> None:
        super().__init__(K)
        torch.manual_seed(0)
        self.classifier = nn.Conv2d(3, K, 1)

    def network(self, x: Tensor) -> Output:
        features = x[..., ::2, ::2]
        return Output(self.classifier(features), features)


def method(name: str, **settings: Any) -> CBST:
    cls, values = stage_settings("adapt", {"method": name, **settings})
    made = METHODS[name].method(cls(**values), Linear(), SPACE)
    assert isinstance(made, CBST)
    return made


def dataset(name: str, count: int, labelled: bool) -> Dataset:
    items = tuple(
        Item(f"{i:03d}", Path(f"{name}/{i}"), Path(f"{name}/{i}y") if labelled else None) for i in range(count)
    )
    return Dataset(name, SPACE, items, lambda path: pytest.fail("opened"), lambda path: pytest.fail("opened"))


class FakeEnvironment:
    """A target set of four images whose probabilities are known."""

    def __init__(self, seed: int = 0, sharpness: float = 2.0) -> None:
        rng = torch.Generator().manual_seed(seed)
        bias = torch.tensor([2.0, 1.0, 0.0, -1.0, -3.0])[:, None, None]
        scores = torch.randn(IMAGES, K, H, W, generator=rng) * sharpness + bias
        self.probabilities = scores.softmax(1)
        self.space, self.seed = SPACE, 7
        self.has_source = True
        self.source, self.target = dataset("source", 40, True), dataset("target", IMAGES, False)
        self.source_size = self.target_size = None
        self.frequencies = torch.randint(0, 9, (K, H, W), generator=rng).float()
        self.labels: dict[int, Tensor] = {}
        self.reported: dict[str, Any] = {}
        self.kept_pass = False

    def predict_target(self, model: Any, inference: Any, keep: bool = False) -> list[Prediction]:
        self.kept_pass = keep
        return [Prediction(i, p) for i, p in enumerate(self.probabilities)]

    def sum(self, tensors: Sequence[Tensor]) -> None:
        pass

    def keep_label(self, index: int, label: Tensor, confidence: Tensor | None = None) -> None:
        assert confidence is not None
        assert torch.equal(confidence, self.probabilities[index].amax(0))
        self.labels[index] = label

    def pseudo_labelled(self) -> Dataset:
        return self.target

    def kept_scores(self, index: int) -> Any:
        raise NotImplementedError

    def source_frequencies(self, size: tuple[int, int]) -> Tensor:
        assert size == (H, W)
        return self.frequencies

    def target_shape(self) -> tuple[int, int]:
        return H, W

    def report(self, values: Any) -> None:
        self.reported.update(values)


def restated_labels(p: np.ndarray, portion: float, balanced: bool) -> tuple[np.ndarray, np.ndarray]:
    """Algorithm 1 or 2, then eq. 8, by sorting and looping. ``p`` is [N, K, H, W]."""
    guess, sure = p.argmax(1), p.max(1)
    thresholds = np.ones(K, np.float32)
    for c in range(K):
        ranked = np.sort(sure[guess == c] if balanced else sure.ravel())[::-1]
        rank = int(portion * len(ranked))
        if rank > 0:
            thresholds[c] = ranked[rank - 1]
    labels = np.full(guess.shape, IGNORE, np.uint8)
    for n, y, x in np.ndindex(guess.shape):
        quotient = p[n, :, y, x] / thresholds
        if quotient.max() >= 1:
            labels[n, y, x] = quotient.argmax()
    return thresholds, labels


@pytest.mark.parametrize(
    ("name", "scale"),
    [(n, "class") for n in ("st", "cbst", "st_sp", "cbst_sp", "crst_mrkld")]
    + [("st_sp", "place"), ("cbst_sp", "place")],
)
@pytest.mark.parametrize("round_index", [0, 2])
def test_labels_of_a_round_are_those_of_the_paper(name: str, scale: Any, round_index: int) -> None:
    environment, cbst = FakeEnvironment(), method(name, portion=0.3, portion_step=0.15, prior_scale=scale)
    cbst.prepare(round_index, environment)  # type: ignore[arg-type]
    weighted = environment.probabilities
    if name.endswith("_sp"):
        weighted = weighted * spatial_prior(environment.frequencies, scale=scale)
    thresholds, labels = restated_labels(weighted.numpy(), (0.3, 0.0, 0.5)[round_index], not name.startswith("st"))
    assert np.array_equal(cbst.thresholds.numpy(), thresholds)
    for index in range(IMAGES):
        assert np.array_equal(environment.labels[index].numpy(), labels[index])
    share = (labels != IGNORE).mean()
    assert 0.25 < share < 0.7
    assert cbst.counts.tolist() == np.bincount(weighted.argmax(1).flatten(), minlength=K).tolist()
    assert environment.reported["portion"] == pytest.approx((0.3, 0.0, 0.5)[round_index])


def test_only_every_nth_confidence_of_a_class_in_an_image_may_be_ranked() -> None:
    environment, cbst = FakeEnvironment(), method("cbst", portion=0.3, subsample=4)
    cbst.prepare(0, environment)  # type: ignore[arg-type]
    confidence, predicted = environment.probabilities.max(1)
    for c in range(K):
        fourth = [sure[guess == c][::4] for sure, guess in zip(confidence, predicted, strict=True)]
        ranked = torch.cat(fourth).sort(descending=True).values
        rank = int(0.3 * len(ranked))
        assert cbst.thresholds[c] == (ranked[rank - 1] if rank else 1)


def test_class_balance_labels_rare_classes_that_one_threshold_leaves_out() -> None:
    shares = {}
    for name in ("st", "cbst"):
        environment, chosen = FakeEnvironment(sharpness=1.0), method(name, portion=0.3)
        chosen.prepare(0, environment)  # type: ignore[arg-type]
        labels = torch.stack(list(environment.labels.values()))
        predicted = environment.probabilities.argmax(1)
        shares[name] = [float(((labels == c) & (predicted == c)).sum()) / int((predicted == c).sum()) for c in range(3)]
    assert max(shares["cbst"]) - min(shares["cbst"]) < 0.1
    assert shares["st"][0] > 0.3 > 0.2 > shares["st"][2]


def test_lrent_selects_where_the_regularised_mass_exceeds_one() -> None:
    environment, crst = FakeEnvironment(), method("crst_lrent", portion=0.3, alpha=1.0)
    crst.prepare(0, environment)  # type: ignore[arg-type]
    assert environment.kept_pass
    thresholds, hard = restated_labels(environment.probabilities.numpy(), 0.3, True)
    powers = environment.probabilities.double().numpy() / thresholds[:, None, None]
    expected = np.where(powers.sum(1) > 1, powers.argmax(1), IGNORE)
    got = torch.stack([environment.labels[i] for i in range(IMAGES)]).numpy()
    assert np.array_equal(got, expected)
    assert (got != IGNORE).mean() > (hard != IGNORE).mean()


def names(items: Sequence[Item]) -> set[str]:
    return {item.id for item in items}


def test_the_source_share_grows_and_is_kept_or_redrawn() -> None:
    environment = FakeEnvironment()
    settings = {"source_portion": 0.2, "source_portion_step": 0.1, "source_portion_max": 0.35}
    kept, drawn = method("cbst", **settings), method("cbst", source_policy="redrawn", **settings)
    subsets = {
        m: [names(m.streams(r, environment)["pool"].parts[0].dataset.items) for r in range(4)]  # type: ignore[arg-type]
        for m in (kept, drawn)
    }
    for found in subsets.values():
        assert [len(s) for s in found] == [8, 12, 14, 14]
    assert subsets[kept][0] < subsets[kept][1] < subsets[kept][2] == subsets[kept][3]
    assert not subsets[drawn][0] <= subsets[drawn][1]
    assert subsets[drawn][2] != subsets[drawn][3]


def test_without_a_share_as_many_source_images_as_target_images_take_part() -> None:
    environment = FakeEnvironment()
    made = method("cbst", source_portion=None, source_policy="redrawn")
    sizes = []
    for round_index in range(3):
        source, target = made.streams(round_index, environment)["pool"].parts  # type: ignore[arg-type]
        sizes.append((len(source.dataset), len(target.dataset)))
    wanted = min(len(environment.source), len(environment.target))
    assert sizes == [(wanted, len(environment.target))] * 3
    assert 0 < wanted < len(environment.source)


def test_mining_follows_the_predictions_and_stays_off_the_source_unless_asked() -> None:
    environment, cbst = FakeEnvironment(), method("cbst", mining=0.6, mining_share=0.05)
    cbst.counts.copy_(torch.tensor([900, 60, 30, 10, 0]))
    source, target = cbst.streams(0, environment)["pool"].parts  # type: ignore[arg-type]
    assert source.focus is None
    assert (source.domain, target.domain, target.focus_probability) == (0, 1, 0.6)
    assert target.focus is not None
    label = np.zeros((4, 4), np.uint8)
    assert target.focus(label) == ()
    label[0, 0], label[0, 1], label[1, 1] = 1, 3, 2
    assert target.focus(label) == (2, 3)  # both below 5 % of the predicted pixels; class 1 is not
    mined = method("cbst", mining_source=True)
    assert mined.streams(0, environment)["pool"].parts[0].focus is not None  # type: ignore[arg-type]


@pytest.mark.parametrize("fallback", [True, False])
def test_without_a_rare_class_a_crop_may_show_one_of_the_three_rarest(fallback: bool) -> None:
    cbst = method("cbst", mining_share=0.005, mining_fallback=fallback)
    cbst.counts.copy_(torch.tensor([900, 60, 30, 10, 0]))
    focus = cbst.streams(0, FakeEnvironment())["pool"].parts[1].focus  # type: ignore[arg-type]
    assert focus is not None
    assert focus(np.array([[0, 1], [3, 2]], np.uint8)) == ((3, 2) if fallback else ())
    assert focus(np.array([[0, 1], [1, 4]], np.uint8)) == (4,)


def test_no_source_share_trains_on_the_target_alone() -> None:
    parts = method("cbst", source_portion=0.0, source_portion_step=0.0).streams(0, FakeEnvironment())["pool"].parts  # type: ignore[arg-type]
    assert [part.domain for part in parts] == [1]


def samples(scores: Tensor | None = None) -> Samples:
    rng = torch.Generator().manual_seed(3)
    labels = torch.randint(0, K, (3, H, W), generator=rng)
    labels[torch.rand(3, H, W, generator=rng) < 0.4] = IGNORE
    window = Window(0.0, 0.0, float(H), float(W))
    images = torch.rand(3, 3, H, W, generator=rng)
    return Samples(images, labels, torch.tensor([0, 1, 1]), [window] * 3, [(H, W)] * 3, scores, ["x", "y", "z"])


def pixels(found: Samples) -> Iterator[tuple[int, int, int, int, bool]]:
    for n, y, x in np.ndindex(*found.labels.shape):
        yield n, y, x, int(found.labels[n, y, x]), bool(found.domain[n] == 1)


@torch.no_grad()
def log_p(made: CBST, x: Samples, align_corners: bool = False) -> Tensor:
    logits = made.model(x.images).logits.double()
    return torch.nn.functional.interpolate(logits, (H, W), mode="bilinear", align_corners=align_corners).log_softmax(1)


@torch.no_grad()
def loss_of(made: CBST, x: Samples) -> float:
    (terms,) = list(made.step({"pool": x}))
    return float(sum(term.mean() for term in terms.values()))


def test_cbst_loss_is_one_mean_over_both_domains() -> None:
    cbst, x = method("cbst"), samples()
    p = log_p(cbst, x)
    losses = [-float(p[n, y_, row, col]) for n, row, col, y_, _ in pixels(x) if y_ != IGNORE]
    assert loss_of(cbst, x) == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("name", ["cbst", "crst_mrkld", "crst_lrent"])
def test_logits_are_enlarged_in_training_as_in_inference(name: str, align_corners: bool) -> None:
    settings = {"kld_weight": 0.0} if name == "crst_mrkld" else {}
    made, x = method(name, inference={"align_corners": align_corners}, **settings), samples()
    x = x._replace(domain=torch.zeros(3, dtype=torch.int64))
    p = log_p(made, x, align_corners)
    losses = [-float(p[n, y_, row, col]) for n, row, col, y_, _ in pixels(x) if y_ != IGNORE]
    assert loss_of(made, x) == pytest.approx(np.mean(losses), rel=1e-5)


def test_shares_grow_to_a_bound_but_start_where_they_are_told_to() -> None:
    made = method("cbst", portion=0.7, portion_step=0.1, source_portion=1.0)
    assert [made.portion(r) for r in range(3)] == [0.7, 0.7, 0.7]
    environment = FakeEnvironment()
    assert len(made.streams(0, environment)["pool"].parts[0].dataset) == len(environment.source)  # type: ignore[arg-type]
    growing = method("cbst", portion=0.2, portion_step=0.2, portion_max=0.5)
    assert [growing.portion(r) for r in range(3)] == pytest.approx([0.2, 0.4, 0.5])


def test_target_crops_may_have_scales_of_their_own() -> None:
    made = method("cbst", target_scales=(0.6, 1.5), augmentation={"scales": (0.8, 1.2)})
    parts = made.streams(0, FakeEnvironment())["pool"].parts  # type: ignore[arg-type]
    assert [part.augmentation.scales for part in parts] == [(0.8, 1.2), (0.6, 1.5)]


def test_labels_may_come_down_to_the_logits_instead() -> None:
    cbst, x = method("cbst", loss_resolution="logits"), samples()
    p = cbst.model(x.images).logits.detach().double().log_softmax(1)
    small = x.labels[:, 1::2, 1::2]
    losses = [-float(p[n, small[n, y, c], y, c]) for n, y, c in np.ndindex(*small.shape) if small[n, y, c] != IGNORE]
    assert loss_of(cbst, x) == pytest.approx(np.mean(losses), rel=1e-5)


def test_mrkld_regularises_labelled_target_pixels_only() -> None:
    crst, x = method("crst_mrkld", kld_weight=0.3), samples()
    p = log_p(crst, x)
    losses, divergences = [], []
    for n, row, col, label, is_target in pixels(x):
        if label != IGNORE:
            losses.append(-float(p[n, label, row, col]))
            if is_target:
                divergences.append(-float(p[n, :, row, col].mean()))
    assert loss_of(crst, x) == pytest.approx(np.mean(losses) + 0.3 * np.mean(divergences), rel=1e-5)


def test_lrent_trains_on_soft_labels_from_the_kept_scores() -> None:
    scores = (torch.randn(3, K, H, W, generator=torch.Generator().manual_seed(5)) * 2).log_softmax(1).half()
    crst, x = method("crst_lrent", alpha=0.5), samples(scores)
    crst.thresholds.copy_(torch.tensor([0.8, 0.5, 0.6, 0.4, 0.3]))
    kept = scores.double().softmax(1)
    p = log_p(crst, x)
    total, count = 0.0, 0
    for n, row, col, label, is_target in pixels(x):
        if label == IGNORE:
            continue
        if not is_target:
            total, count = total - float(p[n, label, row, col]), count + 1
            continue
        powers = (kept[n, :, row, col] / crst.thresholds.double()) ** 2
        if float(powers.sum()) > 1:
            total, count = total - float((powers / powers.sum() * p[n, :, row, col]).sum()), count + 1
    assert loss_of(crst, x) == pytest.approx(total / count, rel=1e-4)


def test_settings_that_are_not_defined_together_are_refused() -> None:
    with pytest.raises(ValueError, match="not defined"):
        method("crst_lrent", spatial_prior=True)
    with pytest.raises(ValueError, match="loss_resolution"):
        method("crst_lrent", loss_resolution="logits")
