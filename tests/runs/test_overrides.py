"""Whatever a recipe says, an override can take it back; and a recipe runs on another network than its own."""

from __future__ import annotations

from typing import Any

import pytest

from segadapt.core.settings import Settings
from segadapt.errors import RequestError
from segadapt.models.build import accepted_arguments, build_segmenter
from segadapt.runs.config import RunConfig, resolve
from segadapt.runs.settings import GROUPS, settings_of

RECIPE = "gta5_cityscapes/dacs"  # deeplabv2_resnet101 with the argument stride_in


def arguments(*overrides: str) -> dict[str, Any]:
    return resolve(RECIPE, overrides).config.model.arguments


@pytest.mark.parametrize("clear", ["model.arguments={}", "model.arguments=null", "model.arguments.stride_in=null"])
def test_arguments_are_taken_back(clear: str) -> None:
    assert arguments() == {"stride_in": "3x3"}
    assert arguments(clear) == {}
    assert arguments(clear, "model.arguments.auxiliary=true") == {"auxiliary": True}
    assert arguments("model.arguments.auxiliary=true", clear).get("stride_in") is None


@pytest.mark.parametrize(
    ("overrides", "left", "said"),
    [
        (["model.name=lite"], {}, "model.name=lite takes none of the recipe's stride_in"),
        (["model.name=deeplabv2_resnet50"], {"stride_in": "3x3"}, ""),
        (["model.name=lite", "model.arguments.width=64"], {"width": 64}, "none of the recipe's stride_in"),
        (["model={name: timm:resnet10t}"], {}, "none of the recipe's stride_in"),
        (["model.name=hrda:deeplabv2_resnet50"], {}, "none of the recipe's stride_in"),
    ],
)
def test_another_network_loses_what_it_lacks(overrides: list[str], left: dict[str, Any], said: str) -> None:
    resolved = resolve(RECIPE, overrides)
    assert resolved.config.model.arguments == left
    assert said in " ".join(resolved.notes)
    assert bool(resolved.notes) == bool(said)


def test_the_network_of_a_stage_loses_what_it_lacks() -> None:
    own = resolve("gta5_cityscapes/proda", ["stage2.network.name=lite"])
    assert own.config.stages[2].network is not None
    assert own.config.stages[2].network.arguments == {}
    assert own.notes == (
        "stage2.network.name=lite takes none of the recipe's extra_norm; left out of stage2.network.arguments",
    )
    inner = resolve("gta5_cityscapes/hrda", ["model.arguments.base.norm=batch", "model.name=hrda:lite"])
    assert inner.config.model.arguments["base"] == {"norm": "batch"}  # said, so the network refuses it in its words
    cleared = resolve("toy/hrda", ["adapt.network.arguments.detail=null"]).config.stages[1].network
    assert cleared is not None
    assert cleared.arguments == {}


@pytest.mark.parametrize("name", ["lite", "daformer_lite", "daformer_mit_b0", "deeplabv2_resnet50", "hrda:lite"])
def test_a_network_takes_what_it_is_said_to_accept(name: str) -> None:
    accepted = accepted_arguments(name)
    assert accepted is not None
    with pytest.raises(RequestError, match="does not take these arguments"):
        build_segmenter(name, 2, no_such=1)
    assert "no_such" not in accepted
    assert set(build_segmenter(name, 2).description()) - {"name", "classes"} <= accepted | {"depth"}


def _nullable(cls: type[Settings], name: str) -> bool:
    return type(None) in getattr(cls.model_fields[name].annotation, "__args__", ())


@pytest.mark.parametrize("cls", [*GROUPS.values()])
def test_null_is_the_default_of_every_setting_that_cannot_be_null(cls: type[Settings]) -> None:
    checked_any = 0
    for name, field in cls.model_fields.items():
        if not field.is_required() and not _nullable(cls, name):
            filled = cls._over_defaults({name: None})  # type: ignore[operator]
            assert name not in filled, name
            checked_any += 1
    assert checked_any


@pytest.mark.parametrize(
    ("overrides", "read", "wanted"),
    [
        (["adapt.augmentation={}"], lambda c: c.stages[1].augmentation.crop, None),
        (["adapt.augmentation=null"], lambda c: c.stages[1].augmentation.jitter, 0.0),
        (["adapt.optimiser=null"], lambda c: c.stages[1].optimiser.name, "sgd"),
        (["every={}"], lambda c: c.stages[0].norm, "affine"),
        (["every=null", "source.augmentation.crop=null"], lambda c: c.stages[0].augmentation.crop, None),
        (["adapt.batch_size=null"], lambda c: c.stages[1].batch_size, 2),
        (["data.workers=null"], lambda c: c.data.workers, "auto"),
        (["data.source.merge={a: b}", "data.source.merge.a=null"], lambda c: c.data.source.merge, {}),
    ],
)
def test_groups_are_emptied(overrides: list[str], read: Any, wanted: Any) -> None:
    config: RunConfig = resolve("toy/cbst", overrides).config
    assert read(config) == wanted


@pytest.mark.parametrize("override", ["data.qqqq=1", "adapt.qqqq=1", "model.zzzz=1"])
def test_an_unknown_key_without_a_near_one_lists_the_keys(override: str) -> None:
    with pytest.raises(RequestError, match="there are: ") as refused:
        resolve("toy/cbst", [override])
    group = {"data": "data", "adapt": "cbst", "model": "model"}[override.partition(".")[0]]
    first = settings_of(group)[0].name.rpartition(".")[2]
    assert first in str(refused.value)
