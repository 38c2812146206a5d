"""The library's own method: a mirrored teacher, a choice of pixels per class, and the network that is kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from segadapt.methods.best import Best
from segadapt.methods.mean_teacher import MeanTeacher, MeanTeacherConfig
from segadapt.pieces.class_confidence import ClassConfidence
from tests.methods.small import K, Pointwise, backward, make, samples

B, H, W = 2, 12, 16


class Environment:
    """One process."""

    def sum(self, tensors: list[torch.Tensor]) -> None:
        """Add nothing."""


def batch(seed: int = 0) -> dict[str, Any]:
    return {
        "source": samples(seed, B, H, W, 0, labelled=True),
        "target": samples(seed + 1, B, H, W, 1, labelled=False),
    }


def best(**settings: Any) -> Best:
    settings = {"source_share": 0.0, "mpcl": None, **settings}
    made = make("best", Pointwise(seed=3), block=4, feature_distance=0.0, rare_temperature=None, **settings)
    assert isinstance(made, Best)
    made.teacher.network.load_state_dict(Pointwise(seed=5).state_dict())
    return made.train()


class Lopsided(Pointwise):
    """A network that sees left and right with other eyes, as a crop at the border of an image makes one."""

    def network(self, x: torch.Tensor) -> Any:
        output = super().network(x)
        places = torch.linspace(-2, 2, output.logits.shape[3])
        return output._replace(logits=output.logits + places * torch.arange(K)[:, None, None])


def test_a_mirrored_teacher_labels_by_the_mean_of_both_views() -> None:
    network, t = Lopsided(seed=5), batch()["target"]
    made = MeanTeacher(network, MeanTeacherConfig(teacher_flip=True), "affine")
    pseudo = made.label(t, False)
    both = [network(t.images).logits.softmax(1), network(t.images.flip(3)).logits.softmax(1).flip(3)]
    scores = torch.nn.functional.interpolate((sum(both) / 2).log(), (H, W), mode="bilinear", align_corners=False)
    confidence, labels = scores.softmax(1).max(1)
    assert torch.equal(pseudo.labels, labels)
    torch.testing.assert_close(pseudo.confidence, confidence)
    alone = MeanTeacher(network, MeanTeacherConfig(), "affine").label(t, False)
    assert not torch.equal(alone.labels, labels)


def test_labels_weigh_by_what_is_usual_for_their_class() -> None:
    made = best(choice_momentum=0.5)
    first, second = batch(0), batch(7)
    backward(made.step(first))
    assert made.pseudo_labels(first["target"]).weights.eq(1).all()  # nothing is known yet
    made.after_step(Environment())  # type: ignore[arg-type]
    pseudo = made.pseudo_labels(second["target"])
    known = made.teacher  # it has moved; what was tallied came from the teacher before
    usual = MeanTeacher(Pointwise(seed=5), known.config, "affine").label(first["target"], False)
    for c in usual.labels.unique().tolist():
        of_class = usual.confidence[usual.labels == c].double()
        torch.testing.assert_close(
            made.sureness.mean[c].double(), of_class.mean(), rtol=1e-4, atol=1e-6, check_dtype=False
        )
        here = pseudo.labels == c
        below = (of_class.mean() - pseudo.confidence[here]).clamp(min=0)
        expected = torch.exp(-(below**2) / (2 * 0.25 * of_class.var(correction=0).clamp(min=1e-6)))
        torch.testing.assert_close(pseudo.weights[here].double(), expected, rtol=2e-3, atol=1e-5, check_dtype=False)
        assert made.sureness.steps[c] == 1


def test_the_choice_of_dacs_is_one_number_per_image() -> None:
    pseudo = best(choice="image", threshold=0.3).pseudo_labels(batch()["target"])
    assert all(len(image.unique()) == 1 for image in pseudo.weights)
    assert 0 < float(pseudo.weights.min()) < 1


@pytest.mark.parametrize("keep", ["teacher", "student"])
def test_the_network_that_is_kept(keep: str) -> None:
    made = best(keep=keep)
    assert made.result() is (made.teacher.network if keep == "teacher" else made.model)


def test_the_first_steps_are_those_of_source_training() -> None:
    made = best(source_share=0.5, steps=4)
    for expected in (
        ["source"],
        ["source"],
        ["source", "mixed", "masked target"],
        ["source", "mixed", "masked target"],
    ):
        assert list(backward(made.step(batch()))) == expected
        made.after_step(Environment())  # type: ignore[arg-type]
    assert int(made.teacher.steps) == 4
    assert int(made.sureness.steps.max()) == 2  # labels were made in two of the steps
    again = best(source_share=0.5, steps=4)
    again.load_state_dict(made.state_dict())  # a run that goes on knows how far it is
    assert len(backward(again.step(batch()))) == 3


def test_moments_of_a_class_that_is_absent_stay() -> None:
    sureness = ClassConfidence(3)
    labels, confidence = torch.tensor([[0, 0, 1]]), torch.tensor([[0.9, 0.7, 0.5]])
    for _ in range(3):
        sureness.follow(sureness.tally(labels, confidence, labels == 0), momentum=0.9)
    assert sureness.steps.tolist() == [3, 0, 0]
    assert sureness.mean.tolist() == pytest.approx([0.8, 0, 0])
    assert sureness.variance.tolist() == pytest.approx([0.01, 0, 0])
    assert sureness.weights(labels, confidence, 0.5).tolist()[0] == pytest.approx([1, 0.1353, 1], abs=1e-3)


def test_tallies_of_processes_add_up() -> None:
    rng = torch.Generator().manual_seed(0)
    labels, confidence = torch.randint(0, 3, (4, 50), generator=rng), torch.rand(4, 50, generator=rng)
    whole, parts = ClassConfidence(3), ClassConfidence(3)
    whole.follow(whole.tally(labels, confidence), 0.9)
    parts.follow(parts.tally(labels[:1], confidence[:1]) + parts.tally(labels[1:], confidence[1:]), 0.9)
    torch.testing.assert_close(whole.state_dict(), parts.state_dict())
