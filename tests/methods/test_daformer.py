"""DAFormer, DACS and MIC restated pixel by pixel, with a network of two pointwise convolutions."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segadapt.errors import RequestError
from segadapt.labels import IGNORE
from segadapt.methods.imagenet_features import kept_near
from segadapt.methods.mean_teacher import MeanTeacher, MeanTeacherConfig, recoloured
from segadapt.methods.mic import MaskedConfig, masked
from segadapt.methods.registry import stage_settings
from segadapt.models.build import build_segmenter
from segadapt.pieces.margins import Margins
from tests.methods.small import SPACE, K, Pointwise, backward, gradients, make, samples

B, H, W = 2, 12, 16
PLAIN = {"jitter_probability": 0.0, "blur_probability": 0.0, "threshold": 0.3}


def batch(seed: int = 0) -> dict[str, Any]:
    return {
        "source": samples(seed, B, H, W, 0, labelled=True),
        "target": samples(seed + 1, B, H, W, 1, labelled=False),
    }


def method(name: str = "daformer", **settings: Any) -> Any:
    if name in ("daformer", "mic"):
        settings = {"feature_classes": ["a", "c", "d"], "feature_share": 0.1, **settings}
    made = make(name, Pointwise(seed=3), **{**PLAIN, **settings})
    with torch.no_grad():  # a teacher and a reference of their own, as after some steps
        for part, seed in ((made.teacher, 5), (made.imagenet, 6)):
            if part is not None:
                part.network.load_state_dict(Pointwise(seed=seed).state_dict())
    return made.train()


def up(logits: Tensor) -> Tensor:
    return F.interpolate(logits, (H, W), mode="bilinear", align_corners=False)


def mean_ce(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean over all pixels of w CE, zero where nothing is labelled (mmsegmentation)."""
    log_p = up(logits).log_softmax(1)
    total = torch.zeros(())
    for b in range(B):
        for y in range(H):
            for x in range(W):
                label = int(labels[b, y, x])
                if label != IGNORE:
                    total = total - log_p[b, label, y, x] * (1 if weights is None else weights[b, y, x])
    return total / (B * H * W)


def pseudo_labels(teacher: Pointwise, images: Tensor, threshold: float, over: str) -> tuple[Tensor, Tensor]:
    p = up(teacher(images).logits).softmax(1)
    sure = (p.amax(1) >= threshold).float()
    q = sure.mean((1, 2), keepdim=True) if over == "image" else sure.mean().expand(B, 1, 1)
    return p.argmax(1), q.expand(B, H, W)


def mixture(s: Any, t: Any, labels: Tensor, weights: Tensor, draws: Tensor, over: str) -> tuple[Tensor, ...]:
    """Half of the classes, those with the smallest numbers, taken from the source."""
    x, y, w = t.images.clone(), labels.clone(), weights.clone()
    everything = {int(v) for v in s.labels.unique()}
    for b in range(B):
        found = everything if over == "batch" else {int(v) for v in s.labels[b].unique()} - {IGNORE}
        order = sorted(found, key=lambda c: float(draws[b, K if c == IGNORE else c]))
        for c in order[: math.ceil(len(found) / 2)]:
            here = s.labels[b] == c
            x[b][:, here], y[b][here], w[b][here] = s.images[b][:, here], s.labels[b][here], 1.0
    return x, y, w


def distance(model: Pointwise, reference: Pointwise, s: Any, share: float) -> Tensor:
    """Mean distance over cells of 2x2 pixels, most of which belong to a, c or d."""
    f, r = model(s.images).features, reference(s.images).features
    values = []
    for b in range(B):
        for i in range(H // 2):
            for j in range(W // 2):
                cell = s.labels[b, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].flatten().tolist()
                counts = [cell.count(c) for c in (*range(K), IGNORE)]
                best = counts.index(max(counts))
                if best in (0, 2, 3) and counts[best] >= 4 * share:
                    values.append((f[b, :, i, j] - r[b, :, i, j]).norm())
    return torch.stack(values).mean()


@pytest.mark.parametrize(("confidence", "mix"), [("image", "image"), ("batch", "batch")])
def test_a_step_of_daformer(confidence: str, mix: str) -> None:
    made = method(confidence=confidence, mix=mix)
    data = batch()
    s, t = data["source"], data["target"]
    torch.manual_seed(11)
    got = backward(made.step(data))
    torch.manual_seed(11)
    draws = torch.rand(B, K + 1)
    model = copy.deepcopy(made.model)
    model.zero_grad()
    labels, weights = pseudo_labels(made.teacher.network, t.images, 0.3, confidence)
    images, y, w = mixture(s, t, labels, weights, draws, mix)
    expected = {
        "source": mean_ce(model(s.images).logits, s.labels),
        "feature distance": 0.005 * distance(model, made.imagenet.network, s, 0.1),
        "mixed": mean_ce(model(images).logits, y, w),
    }
    torch.stack(list(expected.values())).sum().backward()
    assert 0 < float(weights.min()) < float(weights.max()) <= 1 or confidence == "batch"
    assert got == pytest.approx({k: v.item() for k, v in expected.items()}, rel=1e-4)
    for a, b in zip(gradients(made.model), gradients(model), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)
    assert not gradients(made.teacher)
    assert not gradients(made.imagenet)


def hidden(images: Tensor) -> Tensor:
    """Blocks of 4 x 4 pixels withheld with probability one half."""
    keep = torch.rand(len(images), 3, 4) > 0.5
    colour = torch.tensor([0.485, 0.456, 0.406])
    shown = images.clone()
    for b in range(len(images)):
        for i in range(3):
            for j in range(4):
                if not keep[b, i, j]:
                    shown[b, :, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4] = colour[:, None, None]
    return shown


@pytest.mark.parametrize("which", ["target", "source", "both"])
def test_a_step_of_mic_adds_what_is_masked(which: str) -> None:
    made = method("mic", block=4, ratio=0.5, masked_weight=2.0, masked_colours=False, masked=which)
    data = batch()
    s, t = data["source"], data["target"]
    torch.manual_seed(11)
    got = backward(made.step(data))
    assert list(got) == ["source", "feature distance", "mixed", f"masked {which}"]
    torch.manual_seed(11)
    for shape in ((B, K + 1), (B,), (B, 4), (2, B)):  # what mixing and its colours draw
        torch.rand(shape)
    labels, weights = pseudo_labels(made.teacher.network, t.images, 0.3, "image")
    images, y, w = {
        "target": (t.images, labels, weights),
        "source": (s.images, s.labels, None),
        "both": (  # one of each
            torch.stack([s.images[0], t.images[0]]),
            torch.stack([s.labels[0], labels[0]]),
            torch.stack([torch.ones(H, W), weights[0]]),
        ),
    }[which]
    expected = mean_ce(made.model(hidden(images)).logits, y, w).item()
    assert got[f"masked {which}"] == pytest.approx(2 * expected, rel=1e-4)


def test_masked_images_may_have_a_teacher_and_weights_of_their_own() -> None:
    settings = {"block": 4, "ratio": 0.0, "masked_colours": False}
    made = method("mic", **settings, masked_momentum=0.0, masked_confidence=False, crop_margins=[0.5, 0, 0, 0])
    with torch.no_grad():
        made.model.classifier.bias += torch.arange(K)
    made.after_step(None)
    assert made.masked_teacher is not None
    torch.testing.assert_close(made.masked_teacher.network.classifier.bias, made.model.classifier.bias)
    assert not torch.equal(made.teacher.network.classifier.bias, made.model.classifier.bias)
    data = batch()
    images = data["target"].images
    got = backward(made.step(data))
    logits = made.model(images).logits
    trusted = torch.ones(B, H, W)
    trusted[:, : H // 2] = 0  # and q is one
    expected = mean_ce(logits, up(logits).argmax(1), trusted)
    assert got["masked target"] == pytest.approx(expected.item(), rel=1e-4)
    assert "masked_teacher.network.classifier.bias" in made.state_dict()


def test_mic_on_adaptseg_has_a_teacher_of_its_own() -> None:
    made = make("adaptseg_mic", Pointwise(seed=3), block=4, masked_colours=False, **PLAIN)
    data = {"source": samples(0, B, 32, 32, 0, labelled=True), "target": samples(1, B, 32, 32, 1, labelled=False)}
    got = backward(made.train().step(data))
    assert "masked target" in got
    assert got["masked target"] > 0
    with torch.no_grad():
        made.model.classifier.bias += 1
    made.after_step(None)
    torch.testing.assert_close(
        made.teacher.network.classifier.bias, made.model.classifier.bias - 0.5
    )  # after one step the teacher is the mean of the first two students


def test_dacs_is_daformer_without_two_terms() -> None:
    made = make("dacs", Pointwise(), **PLAIN)
    assert made.imagenet is None
    assert list(backward(made.train().step(batch()))) == ["source", "mixed"]
    assert made.config.teacher_momentum == 0.99
    assert made.config.initial == "scratch"


def test_margins_and_padding_weigh_nothing() -> None:
    t = batch()["target"]
    t = t._replace(sizes=[(H, W - 4)] * B)
    config = MeanTeacherConfig(confidence="none", image_margins=Margins(bottom=0.25), crop_margins=Margins(top=0.25))
    teacher = MeanTeacher(Pointwise(), config, "affine")
    weights = teacher.label(t, False).weights
    assert weights[:, H // 4 : H * 3 // 4, : W - 4].eq(1).all()
    assert not weights[:, H * 3 // 4 :].any()
    assert not weights[:, : H // 4].any()
    assert not weights[:, :, W - 4 :].any()


@pytest.mark.parametrize("norm", ["batch", "running"])
def test_the_teacher_normalises_as_asked_and_drops_nothing(norm: str) -> None:
    class Normed(Pointwise):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 1), torch.nn.BatchNorm2d(6), torch.nn.Dropout(0.5))  # type: ignore[assignment]

    teacher = MeanTeacher(Normed(), MeanTeacherConfig(teacher_norm=norm), "train").train()
    layers = list(teacher.network.encoder)
    assert [layer.training for layer in layers] == [False, norm == "batch", False]
    pinned = MeanTeacher(Normed(), MeanTeacherConfig(teacher_norm=norm), "affine").train()
    assert not pinned.network.encoder[1].training


def test_colours_change_some_images_only() -> None:
    images = torch.rand(64, 3, 8, 8)
    config = MeanTeacherConfig(jitter_probability=0.5, blur_probability=0.0)
    changed = (recoloured(images, config) != images).flatten(1).any(1).float().mean()
    assert 0.3 < float(changed) < 0.7
    assert torch.equal(recoloured(images, MeanTeacherConfig(jitter_probability=0, blur_probability=0)), images)


def test_masks_hide_with_the_mean_colour() -> None:
    config = MaskedConfig(block=4, ratio=1.0)
    hidden = masked(torch.rand(1, 3, 8, 8), Pointwise(), config, MeanTeacherConfig())
    assert torch.equal(hidden, torch.tensor([0.485, 0.456, 0.406])[None, :, None, None].expand_as(hidden))


@pytest.mark.parametrize(("size", "side"), [((32, 48), 2), ((180, 240), 11), ((8, 8), 1)])
def test_a_block_is_a_sixteenth_of_the_height_of_the_crop(size: tuple[int, int], side: int) -> None:
    """Published: 64 of 1024 and 32 of 512 rows. Within a block of that side all pixels are hidden, or none."""
    images = torch.full((2, 3, *size), 0.25)
    torch.manual_seed(0)
    hidden = masked(images, Pointwise(), MaskedConfig(masked_colours=False), MeanTeacherConfig())
    torch.manual_seed(0)
    told = masked(images, Pointwise(), MaskedConfig(block=side, masked_colours=False), MeanTeacherConfig())
    assert torch.equal(hidden, told)
    assert (hidden != images).any()


def test_classes_whose_features_are_kept() -> None:
    assert kept_near(SPACE, "all").all()
    assert kept_near(SPACE, ("b", "e")).tolist() == [False, True, False, False, True]
    with pytest.raises(RequestError, match="feature_classes: none of the classes of 'five'"):
        kept_near(SPACE, "things")
    with pytest.raises(RequestError, match="no class 'f'"):
        kept_near(SPACE, ("f",))


def test_features_are_kept_to_initial_weights_wherever_the_network_starts() -> None:
    def second(**settings: Any) -> str | None:
        cls, values = stage_settings("adapt", {"method": "daformer", **settings})
        return cls(**values).learns_from

    assert second() is None
    assert second(initial="previous") == "scratch"
    assert second(initial="previous", feature_distance=0) is None


@pytest.mark.parametrize("name", ["fcn8s_vgg16", "deeplabv2_vgg16", "resnet38", "hrda:fcn8s_vgg16"])
def test_a_network_without_encoder_features_is_refused_at_once(name: str) -> None:
    with torch.device("meta"):
        network = build_segmenter(name, K)
    with pytest.raises(RequestError, match=f"network '{name}' does not name; set adapt.feature_distance=0"):
        make("daformer", network, feature_classes="all")
    assert make("daformer", network, feature_distance=0).imagenet is None


def test_hrda_needs_two_resolutions() -> None:
    with pytest.raises(RequestError, match="hrda:"):
        make("hrda", Pointwise(), feature_classes="all")
