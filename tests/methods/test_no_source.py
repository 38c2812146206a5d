"""Methods in a run without source images: their steps have the terms of the target alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from segadapt.engine.bundle import DataBundle
from segadapt.errors import RequestError
from segadapt.methods.daformer import DAFormer
from segadapt.methods.mean_teacher import PseudoLabels
from tests.methods.small import K, Pointwise, backward, make, samples
from tests.methods.test_self_training import FakeEnvironment, dataset, method

B, H, W = 3, 8, 12


def pseudo_labels(seed: int = 0) -> PseudoLabels:
    """Random labels of which a tenth is not trusted; the weight of a crop is its number."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, K, (B, H, W), generator=rng)
    trusted = torch.rand(B, H, W, generator=rng) > 0.1
    weights = trusted * torch.arange(1.0, B + 1)[:, None, None] / B
    return PseudoLabels(labels, weights, trusted, trusted & (labels > 1), weights.mean(), weights)


def test_classes_of_another_target_crop_are_pasted_with_its_labels_and_weights() -> None:
    host = make("dacs", Pointwise())
    assert isinstance(host, DAFormer)
    t, pseudo = samples(1, B, H, W, 1, labelled=False), pseudo_labels()
    torch.manual_seed(0)
    images, mixed = host.mixed(None, t, pseudo)
    assert 0.2 < mixed.pasted.float().mean() < 0.8
    for place in range(B):
        other, pasted = (place - 1) % B, mixed.pasted[place]
        assert pseudo.trusted[other][pasted].all()  # nothing comes from a margin
        chosen = pseudo.labels[other][pasted].unique()
        for origin, where in ((other, pasted), (place, ~pasted)):
            assert torch.equal(images[place][:, where], t.images[origin][:, where])
            assert torch.equal(mixed.labels[place][where], pseudo.labels[origin][where])
            assert torch.equal(mixed.weights[place][where], pseudo.weights[origin][where])
            assert torch.equal(mixed.sure[place][where], pseudo.sure[origin][where])
        present = pseudo.labels[other][pseudo.trusted[other]].unique()
        assert len(chosen) == (len(present) + 1) // 2  # half of its classes, whole


def test_a_single_crop_is_mixed_with_itself() -> None:
    host = make("dacs", Pointwise())
    assert isinstance(host, DAFormer)
    t, pseudo = samples(1, B, H, W, 1, labelled=False), pseudo_labels()
    one = PseudoLabels(*(x[:1] if x.ndim == 3 else x for x in pseudo))
    images, mixed = host.mixed(None, t._replace(images=t.images[:1]), one)
    assert torch.equal(images, t.images[:1])
    assert torch.equal(mixed.labels, one.labels)


@pytest.mark.parametrize(
    ("name", "settings", "terms"),
    [
        ("dacs", {}, {"mixed"}),
        ("mic", {"feature_distance": 0.0, "rare_temperature": None}, {"mixed", "masked target"}),
        (
            "best",
            {"feature_distance": 0.0, "rare_temperature": None, "source_share": 0.0, "mpcl": None},
            {"mixed", "masked target"},
        ),
    ],
)
def test_a_step_has_the_terms_of_the_target_alone(name: str, settings: dict[str, object], terms: set[str]) -> None:
    host = make(name, Pointwise(), **settings)
    torch.manual_seed(0)
    assert set(backward(host.step({"target": samples(1, B, H, W, 1, labelled=False)}))) == terms


def test_the_pool_is_the_target() -> None:
    environment = FakeEnvironment()
    made = method("cbst")
    both = made.streams(0, environment)["pool"].parts  # type: ignore[arg-type]
    environment.has_source = False
    (target,) = made.streams(0, environment)["pool"].parts  # type: ignore[arg-type]
    assert target.domain == both[-1].domain == 1
    assert target.dataset is environment.target


def test_who_asks_for_the_source_is_told_that_there_is_none(tmp_path: Path) -> None:
    data = DataBundle(source=None, target=dataset("target", 2, False), cache_folder=tmp_path)
    with pytest.raises(RequestError, match="no source images"):
        data.labelled_source()
