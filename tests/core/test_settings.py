"""Settings as lists show them: every one has a type in a recipe's words, a default and a meaning."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import Field

from segadapt.core.settings import Settings, Shown, describe, documented
from segadapt.data.strong import StrongAugmentation
from segadapt.methods.registry import METHODS, stage_settings
from segadapt.methods.stage_config import StageConfig
from segadapt.pieces.margins import Margins
from segadapt.runs.settings import GROUPS, own_settings, settings_of, shared_settings
from tests.test_cli import call

NAMES = [*GROUPS, *METHODS]


class Inner(Settings):
    """Settings of a part.

    Attributes:
        lr: learning rate.
        betas: two decays
            of averages.
    """

    lr: float = Field(default=0.1, gt=0)
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)


class Base(Settings):
    """Settings of all.

    Attributes:
        steps: length in steps.
        kind, other: which of two; see :func:`segadapt.adapt` and ``kind: a``.
        inner: the part.
    """

    steps: int
    kind: Literal["a", "b"] = "a"
    other: str | None = None
    inner: Inner = Inner()


class Derived(Base):
    """Settings of one.

    Attributes:
        kind: which, for this one.
        maybe: a part that may be missing.
        shares: margins.
        share: a share.
        names: names.
        options: more.
        size: a size.
        on: a switch.
    """

    maybe: Inner | None = None
    shares: Margins = Margins(top=0.25)
    share: float | None = Field(default=None, gt=0, le=1)
    names: Literal["all"] | tuple[str, ...] = ("x", "y")
    options: dict[str, Any] = Field(default_factory=dict)
    size: Annotated[tuple[int, int] | None, Shown("[height, width] | null")] = None
    on: bool = False


def by_name(cls: type[Settings], *arguments: Any, **options: Any) -> dict[str, tuple[str, str]]:
    return {s.name: (s.type, s.default) for s in describe(cls, *arguments, **options)}


# ---- one class ----


def test_types_and_limits_are_words_of_a_recipe() -> None:
    found = by_name(Derived)
    assert found == {
        "steps": ("integer", "required"),
        "kind": ("a | b", "a"),
        "other": ("text | null", "null"),
        "inner": ("settings", "as below"),
        "inner.lr": ("number > 0", "0.1"),
        "inner.betas": ("[number in [0, 1), number in [0, 1)]", "[0.9, 0.999]"),
        "maybe": ("settings | null", "null"),
        "maybe.lr": ("number > 0", "0.1"),
        "maybe.betas": ("[number in [0, 1), number in [0, 1)]", "[0.9, 0.999]"),
        "shares": ("[top, bottom, left, right], each a number", "[0.25, 0, 0, 0]"),
        "share": ("number in (0, 1] | null", "null"),
        "names": ("all | list of text", "[x, y]"),
        "options": ("mapping", "{}"),
        "size": ("[height, width] | null", "null"),
        "on": ("true | false", "false"),
    }


def test_the_nearest_docstring_counts_and_is_one_plain_line() -> None:
    found = documented(Derived)
    assert found["steps"] == "length in steps."
    assert found["kind"] == "which, for this one."
    assert found["other"] == "which of two; see `segadapt.adapt` and `kind: a`."
    assert documented(Inner)["betas"] == "two decays of averages."


def test_values_replace_defaults_and_open_groups() -> None:
    found = by_name(Derived, {"steps": 3, "maybe": {"lr": 0.5}, "inner": {"lr": 2.0}}, leave_out=("on",), prefix="s.")
    assert found["s.steps"] == ("integer", "3")
    assert found["s.maybe"] == ("settings | null", "as below")
    assert (found["s.maybe.lr"][1], found["s.maybe.betas"][1]) == ("0.5", "[0.9, 0.999]")
    assert found["s.inner.lr"][1] == "2"
    assert "s.on" not in found


def test_a_closed_group_is_one_entry() -> None:
    found = by_name(Derived, closed=("inner", "maybe"))
    assert found["inner"] == ("settings", "as listed there")
    assert not any(name.startswith(("inner.", "maybe.")) for name in found)


# ---- the settings of the library ----


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_has_a_type_a_default_and_a_meaning(name: str) -> None:
    found = settings_of(name)
    assert len({setting.name for setting in found}) == len(found)
    for setting in found:
        assert setting.type, setting
        assert setting.default, setting
        assert len(setting.meaning) > 3, setting
        assert not re.search(r"\bNone\b|\bTrue\b|\bFalse\b|``|:\w+:`|any value|\bAny\b", f"{setting}"), setting
        assert len(setting.type) <= 80, setting


@pytest.mark.parametrize("name", METHODS)
def test_the_defaults_listed_make_the_settings_of_the_method(name: str) -> None:
    """Each default, read as YAML, is a value that the settings class takes; and the list leaves out no field."""
    cls, values = stage_settings("stage", {"method": name})
    found = settings_of(name)
    assert {setting.name.partition(".")[0] for setting in found} | {"name", "method"} == set(cls.model_fields)
    flat = {s.name: yaml.safe_load(s.default) for s in found if "." not in s.name and not s.default.startswith("as ")}
    made = cls(**{**values, **flat})
    expected = cls(**values)
    for field in flat:
        value = getattr(expected, field)
        near = pytest.approx(value, rel=1e-5) if isinstance(value, float) else value  # lists show six digits
        assert getattr(made, field) == near, field


def test_presets_of_a_name_are_its_defaults() -> None:
    def default(method: str, name: str) -> str:
        return next(s.default for s in settings_of(method) if s.name == name)

    assert (default("dacs", "feature_distance"), default("daformer", "feature_distance")) == ("0", "0.005")
    assert (default("dacs", "rare_temperature"), default("dacs", "teacher_momentum")) == ("null", "0.99")
    assert (default("st", "policy"), default("cbst", "policy")) == ("global", "class_balanced")
    assert (default("mpcl", "mpcl"), default("daformer", "mpcl")) == ("as below", "null")
    assert default("oracle", "data") == "oracle"
    assert default("cbst", "title") == "CBST"


def test_own_settings_are_additions_and_changed_defaults() -> None:
    shared = {setting.name: setting for setting in shared_settings()}
    assert {"optimiser.lr", "augmentation.crop", "inference.flip", "steps"} <= set(shared)
    own = {setting.name: setting for setting in own_settings("daformer")}
    assert own["optimiser.lr"].default == "6e-05"
    assert own["initial"].default == "scratch"
    assert {"rare_temperature", "mpcl.kind", "crop_margins"} <= set(own)
    assert not {"batch_size", "augmentation.crop", "title"} & set(own)
    assert {s.name for s in own_settings("source_only")} == {"data", "role"}
    listed = {s.name: s for s in settings_of("daformer")}
    assert all(listed[name] == shared[name] for name in set(shared) - set(own) - {"title"})


def test_what_is_nested_is_listed_for_every_stage() -> None:
    names = {s.name for s in settings_of("proda")}
    assert {f"strong.{field}" for field in StrongAugmentation.model_fields} <= names
    assert set(StageConfig.model_fields) - {"name", "method"} <= names
    assert {s.name for s in settings_of("data")} >= {"data.source.size", "data.test.merge", "data.workers"}
    assert [s.name for s in settings_of("model")] == ["model.name", "model.weights", "model.arguments"]


# ---- the command ----


@pytest.mark.parametrize("name", ["run", "data", "model", "inference", "mpcl", "proda"])
def test_the_command_prints_every_setting_and_json_has_all(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    found = settings_of(name)
    code, out, err = call(monkeypatch, capsys, "settings", name)
    assert code == 0, err
    lines = out.splitlines()
    for setting in found:
        assert f"{setting.name}  {setting.type} = {setting.default}" in lines
    said = " ".join(out.split())
    assert all(setting.meaning in said for setting in found)
    code, out, err = call(monkeypatch, capsys, "settings", name, "--json")
    assert code == 0, err
    assert json.loads(out) == {s.name: {"type": s.type, "default": s.default, "meaning": s.meaning} for s in found}


def test_an_unknown_method_has_no_settings(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(monkeypatch, capsys, "settings", "cbts")
    assert code == 2
    assert "no method 'cbts' (did you mean 'cbst'?)" in err
