"""Augmentations from outside: random numbers of the sample, refused settings, untouched labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from segadapt.core.settings import checked
from segadapt.data.augmentations import AUGMENTATIONS, augmentation, register_augmentation
from segadapt.data.loader import Feeder, Samples
from segadapt.data.memory import in_memory
from segadapt.data.streams import Augmentation, Part, Stream
from segadapt.data.strong import StrongAugmentation
from segadapt.errors import RequestError
from segadapt.labels import LabelSpace

CPU = torch.device("cpu")
SPACE = LabelSpace("two", ("a", "b"), ((1, 1, 1), (2, 2, 2)))


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AUGMENTATIONS, "_added", {})

    @register_augmentation("fog", draws=2)
    def fog(images: Tensor, draws: Tensor, density: float = 0.5) -> Tensor:
        assert draws.shape == (len(images), 2)
        share = density * draws[:, :1, None, None]
        return (1 - share) * images + share * draws[:, 1:, None, None]

    @register_augmentation("dark")
    def dark(images: Tensor, draws: Tensor, *, least: float) -> Tensor:
        return images * (least + (1 - least) * draws[:, :, None, None])


def stream(extra: dict[str, dict[str, Any]], batch: int = 4, other: dict[str, dict[str, Any]] | None = None) -> Stream:
    rng = np.random.default_rng(0)
    parts = []
    for domain, (count, further) in enumerate(((5, extra), (3, extra if other is None else other))):
        pairs = [(rng.integers(0, 256, (20, 24, 3), np.uint8), rng.integers(0, 2, (20, 24))) for _ in range(count)]
        options = Augmentation(crop=(12, 16), jitter=0.3, extra=further)
        parts.append(Part(in_memory(f"part {domain}", pairs, SPACE), domain, augmentation=options))
    return Stream(tuple(parts), batch, strong=StrongAugmentation())


def batches(
    of: Stream, first: int = 0, last: int = 6, rank: int = 0, processes: int = 1, workers: int = 0
) -> list[Samples]:
    return list(Feeder(of, 3, CPU, rank, processes, workers).batches(first, last))


BOTH: dict[str, dict[str, Any]] = {"fog": {"density": 0.4}, "dark": {"least": 0.2}}


def test_a_stream_starts_anywhere() -> None:
    whole, late = batches(stream(BOTH)), batches(stream(BOTH), first=4)
    for a, b in zip(whole[4:], late, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)


def test_numbers_belong_to_the_sample() -> None:
    whole = torch.cat([b.images for b in batches(stream(BOTH, 4))])
    others = torch.cat([b.images for b in batches(stream(BOTH, 8), last=3)])
    torch.testing.assert_close(whole, others, rtol=0, atol=2e-6)
    decoded_elsewhere = torch.cat([b.images for b in batches(stream(BOTH), workers=2)])
    assert torch.equal(whole, decoded_elsewhere)
    for rank in (0, 1):
        mine = torch.cat([b.images for b in batches(stream(BOTH), rank=rank, processes=2)])
        torch.testing.assert_close(mine, whole[rank::2], rtol=0, atol=2e-6)


def test_everything_but_the_colours_stays() -> None:
    plain, changed = batches(stream({})), batches(stream(BOTH))
    for a, b in zip(plain, changed, strict=True):
        assert a.ids == b.ids
        assert a.windows == b.windows
        assert torch.equal(a.labels, b.labels)
        assert not torch.equal(a.images, b.images)
        assert a.strong is not None
        assert b.strong is not None
        assert torch.equal(a.strong.theta, b.strong.theta)
        assert not torch.equal(a.strong.images, b.strong.images)


def test_order_is_that_of_the_names() -> None:
    turned = {name: BOTH[name] for name in reversed(BOTH)}
    for a, b in zip(batches(stream(BOTH)), batches(stream(turned)), strict=True):
        assert torch.equal(a.images, b.images)


def test_each_part_has_its_own() -> None:
    plain, mixed = batches(stream({})), batches(stream({}, other={"fog": {}}))
    for a, b in zip(plain, mixed, strict=True):
        for old, new, domain in zip(a.images, b.images, a.domain.tolist(), strict=True):
            assert torch.equal(old, new) == (domain == 0)


def test_the_function_sees_the_settings() -> None:
    plain, none = batches(stream({})), batches(stream({"fog": {"density": 0.0}}))
    for a, b in zip(plain, none, strict=True):
        torch.testing.assert_close(a.images, b.images)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"fogg": {}}, r"no augmentation 'fogg' \(did you mean 'fog'\?\); there are: .*fog, dark"),
        ({"fog": {"densty": 1}}, r"augmentation 'fog' has no setting 'densty' \(did you mean 'density'\?\)"),
        ({"dark": {}}, "augmentation 'dark' needs the setting 'least'"),
    ],
)
def test_unknown_names_and_settings_are_refused(extra: dict[str, dict[str, Any]], message: str) -> None:
    with pytest.raises(RequestError, match=message) as error:
        checked(Augmentation, {"extra": extra}, "augmentation")
    assert "\n" not in str(error.value)


def test_another_shape_is_refused_and_colours_are_clamped() -> None:
    register_augmentation("cut")(lambda images, draws: images[..., 1:])
    register_augmentation("bright", draws=0)(lambda images, draws: images + 0.5)
    with pytest.raises(RequestError, match=r"augmentation 'cut' turned .* it may change colours only"):
        batches(stream({"cut": {}}))
    assert augmentation("bright").draws == 0
    assert max(float(b.images.max()) for b in batches(stream({"bright": {}}))) == 1
