"""The default of two folders: settings that data, machine and budget decide, laid below those that a person gives.

:mod:`segadapt.runs.budget` decides, :mod:`segadapt.runs.probe` measures. What was chosen is kept in config.json of the
run, with its reasons; the same request into the same folder takes it from there, so that a run goes on as it began.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from segadapt.api.asking import Ask, Asked
from segadapt.core.kept import STATISTICS, kept_folder
from segadapt.data.sharing import shared_among
from segadapt.engine.run_files import read_held
from segadapt.engine.runtime import Runtime
from segadapt.engine.speed import set_speed
from segadapt.errors import RequestError
from segadapt.runs.at_hand import FOUNDATION, RATE, networks_at_hand
from segadapt.runs.budget import BECAUSE, METHOD, decide, minutes_of
from segadapt.runs.choice import Choice, Cost, Facts, Option, StageCost
from segadapt.runs.config import RunConfig
from segadapt.runs.fitting import memory_of
from segadapt.runs.length import shorter
from segadapt.runs.memory import Fitter
from segadapt.runs.opening import OpenedData, open_data
from segadapt.runs.probe import cost_of, facts_of, with_sizes
from segadapt.runs.start import known_of

_LENGTHS = ("steps", "epochs", "length")
_PATIENCE = 0.01
"""Share of the budget that timed steps of a stage may take, beyond the first three."""


@dataclass(frozen=True)
class Wish:
    """The words of a request about its default.

    Attributes:
        budget: time for the whole run, as :func:`~segadapt.runs.budget.minutes_of` reads it; None for none.
        method: name of the method; None for the default.
        changes: overrides of the request.
        given: whether the request gives a recipe; then nothing is chosen.
        shortened: whether it says a length, or steps, of the whole run.
        memory: bytes that the run is to fit into; None where nothing is said.
    """

    budget: str | float | None
    method: str | None
    changes: tuple[str, ...]
    given: bool = False
    shortened: bool = False
    memory: int | None = None

    @classmethod
    def of(
        cls,
        recipe: Any,
        changes: Sequence[str],
        method: str | None,
        budget: str | float | None,
        memory: str | float | None,
        **whole: Any,
    ) -> Wish:
        """Return the wish of a request; ``whole``: what it says of the length of the whole run.

        Raises:
            RequestError: the budget is no time, the memory no memory, or not for this request.
        """
        length = any(value is not None for value in whole.values()) or any(
            change.partition("=")[0].strip() == "length" for change in changes
        )
        room = None if memory is None else memory_of(memory)
        wish = cls(budget, method, tuple(changes), given=recipe is not None, shortened=length, memory=room)
        if room is not None and budget is not None:
            raise RequestError(
                "a budget measures the time of whole batches, so give --budget or --fit-memory; the settings that "
                "'segadapt plan --fit-memory' prints can be given along with a budget"
            )
        if room is not None and isinstance(recipe, RunConfig):
            raise RequestError("a configuration is complete; --fit-memory (fit_memory) is for a recipe's name, or data")
        if wish.minutes is None:
            return wish
        if wish.given:
            raise RequestError(
                "a budget is for folders and data sets; a recipe has its length: give --length, or --steps, and "
                "'segadapt plan' says what it takes"
            )
        if wish.shortened:
            raise RequestError("a budget chooses the length; leave out --budget, or --length and --steps")
        if wish.said("start"):
            raise RequestError("a budget is not for a run from a given model; give --length, or --steps")
        return wish

    @property
    def minutes(self) -> float | None:
        """The budget in minutes; None for none."""
        return None if self.budget is None else minutes_of(self.budget)

    @property
    def nothing_to_choose(self) -> bool:
        """Whether a recipe, a given model, or a method without a budget leaves nothing to choose."""
        return self.given or self.said("start") or (self.minutes is None and self.method is not None)

    @property
    def asked(self) -> dict[str, Any]:
        """The words that have to be the same for a choice to be taken again."""
        return {
            "budget": self.minutes,
            "method": self.method,
            "settings": list(self.changes),
            **({} if self.memory is None else {"memory": self.memory}),
        }

    def said(self, key: str) -> bool:
        """Return whether an override gives a setting, or one in it or around it."""
        keys = [change.partition("=")[0].strip().removeprefix("stages.") for change in self.changes]
        return any(f"{k}.".startswith(f"{key}.") or f"{key}.".startswith(f"{k}.") for k in keys)


def chosen(
    request: Asked,
    ask: Ask,
    wish: Wish,
    roots: Mapping[str, str],
    folders: Sequence[Path] = (),
    say: Callable[[str], None] | None = None,
) -> tuple[Asked, dict[str, Any] | None]:
    """Return a request with the settings chosen for it, and the choice as config.json keeps it; None where nothing is.

    Args:
        request: its settings as they were asked for.
        ask: makes them with others below.
        wish: what it says about its default.
        roots: where named data sets lie.
        folders: runs whose choice is taken where they were asked for alike, the run's own first.
        say: told what is measured; None for nobody.

    Raises:
        RequestError: the budget is too short, or the memory too small.
    """
    started = time.perf_counter()
    if wish.nothing_to_choose and wish.memory is None:
        return request, None
    for folder in folders:
        kept = (read_held(folder) or {}).get("chosen")
        if kept is not None and kept["asked"] == wish.asked:
            return ask(kept["settings"]), kept
    runtime = Runtime(request.config.accelerator, request.config.precision)
    set_speed(runtime, request.config)
    with tempfile.TemporaryDirectory() as scratch:
        with shared_among(runtime):
            data, known = request.config.data, known_of(request.config)
            opened = open_data(data, roots, kept_folder(STATISTICS), request.given, known)
        settings, reasons, seconds = list[str](), dict[str, str](), None
        if not wish.nothing_to_choose:
            maker = _Chooser(ask, wish, request.config, opened, runtime, roots, Path(scratch), say, started)
            choice = maker.choose(wish.minutes)
            settings, reasons, seconds = maker.settings(choice), _reasons(wish, choice), choice.seconds
        if wish.memory is not None:
            config = ask(settings).config
            opened = with_sizes(opened, config.data)
            fitter = Fitter(config, opened, runtime, roots, Path(scratch), wish.memory, wish.said, say)
            more, reasons["memory"] = fitter.settings()
            settings += more
    document = {"asked": wish.asked, "settings": settings, "because": reasons, "seconds": seconds}
    return ask(settings), document


def _reasons(wish: Wish, choice: Choice) -> dict[str, str]:
    """Return the reasons of a choice, by what they are about."""
    reasons = {"method": f"{METHOD}: {BECAUSE}"} if wish.method is None else {}
    reasons |= choice.reasons
    if wish.minutes is None and "length" not in reasons:
        reasons["length"] = "the recipe's; --budget 30m fits it to a time, and 'segadapt plan' says what it takes here"
    return reasons


@dataclass(frozen=True)
class _Chooser:
    """Measures options of one request and makes settings of them."""

    ask: Ask
    wish: Wish
    config: RunConfig
    opened: OpenedData
    runtime: Runtime
    roots: Mapping[str, str]
    scratch: Path
    say: Callable[[str], None] | None
    started: float

    def choose(self, minutes: float | None) -> Choice:
        """Return the choice, the same in every process."""
        return decide(self._facts(), None if minutes is None else 60 * minutes, self._measure, self._spent)

    def _facts(self) -> Facts:
        names = (
            [self.config.model.name]
            if self._network_said
            else networks_at_hand(self.config.model.name, self.runtime.device.type)
        )
        facts = facts_of(self.opened, self.runtime, names)
        assert self.config.data.source is not None  # nothing is chosen for a run from a given model
        size = self.config.data.source.size
        alone = size == self.config.data.target.size == self.config.data.test_size and isinstance(size, int)
        said = any(self.wish.said(f"data.{part}.size") for part in ("source", "target", "test"))
        cropped = self.wish.said("every.augmentation.crop") or any(
            self.wish.said(f"{stage.name}.augmentation.crop") for stage in self.config.stages
        )
        return replace(
            facts,
            size=size if said and isinstance(size, int) else None,
            sized=not cropped and alone and self._crops_follow(),
            named=self._network_said,
        )

    @property
    def _network_said(self) -> bool:
        return self.wish.said("model.name") or self.wish.said("model.weights") or ":" in self.config.model.name

    def _crops_follow(self) -> bool:
        """Return whether all stages take the crop of ``every``; a recipe on two resolutions has crops of its own."""
        stages = self.ask(["every.augmentation.crop=[32, 32]"]).config.stages
        return all(stage.augmentation.crop == (32, 32) for stage in stages)

    def _spent(self) -> float:
        return float(self.runtime.gather([repr(time.perf_counter() - self.started)])[0])

    def _measure(self, option: Option) -> Cost | None:
        """Return what an option takes, as the main process measured it."""
        at = f" at {option.size} pixels" if option.size else ""
        if self.say is not None and self.runtime.main:
            self.say(f"measuring a few steps of {option.network}{at} ...")
        cost = cost_of(
            self.ask(self._of_option(option)).config,
            self.opened,
            self.runtime,
            self.roots,
            self.scratch,
            free=self._free,
            patience=min(10.0, 60 * _PATIENCE * (self.wish.minutes or 0)),
        )
        found = json.loads(self.runtime.gather([json.dumps(None if cost is None else asdict(cost))])[0])
        return None if found is None else Cost(tuple(StageCost(**s) for s in found.pop("stages")), **found)

    @property
    def _free(self) -> list[str]:
        """Names of the stages whose length the request does not say."""
        stages = [stage.name for stage in self.config.stages]
        return [name for name in stages if not any(self.wish.said(f"{name}.{key}") for key in _LENGTHS)]

    def _of_option(self, option: Option) -> list[str]:
        settings = []
        if option.network != self.config.model.name:
            settings += [f"model.name={option.network}", "model.weights=imagenet"]
        if option.size:
            parts = ["source", "target", *(["test"] if self.config.data.test is not None else [])]
            settings += [f"data.{part}.size={option.size}" for part in parts]
            settings.append(f"every.augmentation.crop=[{option.crop}, {option.crop}]")
        return settings

    def settings(self, choice: Choice) -> list[str]:
        """Return overrides that make the choice."""
        settings = self._of_option(choice.option)
        for stage in self.ask(settings).config.stages:
            factor = choice.lengths.get(stage.name, 1.0)
            if factor == 1.0:
                continue
            if stage.length < 1:
                settings.append(f"{stage.name}.length={stage.length * factor:.6g}")
                if factor < 1:  # the recipe's is far above the published one already, and a higher one does harm
                    settings.append(f"{stage.name}.optimiser.lr={stage.optimiser.lr:.6g}")
            else:  # length= would lay what all stages have over what this one says itself
                settings += _overrides(shorter(stage, factor), stage.name)
        if choice.option.network.startswith(FOUNDATION) and not self._network_said:
            rates = {stage.name: stage.optimiser.lr * RATE for stage in self.ask(settings).config.stages}
            settings += [f"{name}.optimiser.lr={rate:.3g}" for name, rate in rates.items()]
        return settings


def _overrides(settings: Mapping[str, Any], prefix: str) -> list[str]:
    """Return a mapping of settings as overrides.

    Example:
        >>> _overrides({"steps": 50, "optimiser": {"lr": 2e-4}}, "source")
        ['source.steps=50', 'source.optimiser.lr=0.0002']
    """
    found = []
    for name, value in settings.items():
        inner = isinstance(value, Mapping)
        found += _overrides(value, f"{prefix}.{name}") if inner else [f"{prefix}.{name}={json.dumps(value)}"]
    return found
