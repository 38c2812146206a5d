"""The default of two folders, decided from facts: network, sizes and length for data, machine and minutes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from segadapt.errors import RequestError
from segadapt.runs.budget import ENOUGH, LEAST, UNTIMED, decide, lengths_for, minutes_of, options
from segadapt.runs.choice import LONGEST, SIZES, SPARED, Cost, Facts, Option, StageCost, crop_of, wanted_size
from segadapt.runs.probe import kept_at
from segadapt.runs.reasons import in_words, lines_of

POLES: Mapping[int, Mapping[str, float]] = {
    size: {"road": 0.95, "pole": min(1.0, size / 1200)} for size in (256, 384, 512, 768, 1024, 1536, 2048)
}
"""A pole keeps 0.7 from 1024 on."""
STREETS = Facts("cpu", "4 processor cores", (1024, 2048), (1024, 2048), ["lite"], POLES)
GPU = replace(STREETS, device="cuda", machine="a GPU, 24 GB", networks=["vit", "convnext", "lite"])


class Machine:
    """A machine of so many pixels a second; remembers what was tried."""

    def __init__(self, speed: float, memory: Mapping[str, int] | None = None, around: float = 20.0, **stage: Any):
        self.speed, self.memory, self.around, self.stage = speed, memory or {}, around, stage
        self.tried: list[Option] = []

    def __call__(self, option: Option) -> Cost | None:
        self.tried.append(option)
        if option.crop > self.memory.get(option.network, 4096):
            return None
        seconds = option.crop**2 / self.speed * (1 if option.network == "lite" else 10)
        adapt = StageCost("adapt", 800, 2 * seconds, **{"length": 0.02, **self.stage})
        return Cost((StageCost("source", 1200, seconds), adapt), self.around)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("30m", 30), ("2h", 120), ("90", 90), (90, 90), ("1.5h", 90), ("1h30m", 90), ("45s", 0.75), (" 5 min", 5)],
)
def test_a_budget_is_minutes_or_has_units(text: str | float, minutes: float) -> None:
    assert minutes_of(text) == pytest.approx(minutes)


@pytest.mark.parametrize("text", ["", "soon", "0", "-5", "3x", "m", "nan", "inf", "1h or so"])
def test_no_time_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(RequestError, match=r"budget '.*' is no time.*30m, 2h"):
        minutes_of(text)


def test_the_size_wanted_is_the_smallest_that_keeps_every_class() -> None:
    assert wanted_size(STREETS) == 1024
    assert wanted_size(replace(STREETS, kept={256: {"road": 0.9}})) == 256
    assert wanted_size(replace(STREETS, source=(300, 400), target=(480, 640))) == 768  # nothing shrinks
    assert wanted_size(replace(STREETS, kept={size: {"vein": 0.1} for size in SIZES}, source=(4000, 9000))) == 2048


@pytest.mark.parametrize(
    ("source", "target", "size", "crop"),
    [
        ((1024, 2048), (1024, 2048), 1024, 512),  # as published
        ((360, 480), (360, 480), 512, 256),
        ((180, 240), (180, 240), 256, 128),
        ((2048, 1024), (1024, 2048), 512, 256),
        ((100, 2000), (1024, 2048), 512, 32),  # strips: no crop is higher than the images
        ((20, 30), (20, 30), 256, 32),
    ],
)
def test_a_crop_has_half_of_the_longest_side(source: Any, target: Any, size: int, crop: int) -> None:
    assert crop_of(replace(STREETS, source=source, target=target), size) == crop


def test_without_minutes_a_processor_keeps_the_size_of_the_recipe_and_a_gpu_takes_the_detail() -> None:
    machine = Machine(1e9)
    chosen = decide(STREETS, None, machine)
    assert (chosen.option, chosen.lengths, chosen.seconds) == (Option("lite", UNTIMED, 256), {}, None)
    assert "43 % of pole" in chosen.reasons["size"]
    assert "data.source.size=1024" in chosen.reasons["size"]
    assert decide(GPU, None, machine).option == Option("vit", 1024, 512)
    assert machine.tried == []


def test_time_enough_takes_the_size_wanted_and_less_time_a_smaller_one() -> None:
    """Steps at 1024: 512 x 512 pixels; 1200 + 2 x 800 of them at the recipe's length."""
    full = 2800 * 512**2 / 1e6
    slow = Machine(1e6)
    assert decide(STREETS, (20 + full) / (1 - SPARED), slow).option.size == 1024
    assert slow.tried == [Option("lite", 1024, 512)]
    third = decide(STREETS, (20 + full / 3) / (1 - SPARED), Machine(1e6))
    assert third.option.size == 768
    fifth = decide(STREETS, (20 + full / 20) / (1 - SPARED), again := Machine(1e6))
    assert fifth.option.size == 256
    assert Option("lite", 768, 384) not in again.tried  # far too slow by what was measured
    assert "of pole" in fifth.reasons["size"]


@pytest.mark.parametrize("minutes", [2, 5, 20, 60, 240, 6000])
def test_a_run_fits_into_its_time_and_uses_it(minutes: float) -> None:
    chosen = decide(STREETS, 60 * minutes, machine := Machine(1e6), spent=lambda: 5.0)
    cost = machine(chosen.option)
    assert cost is not None
    whole = 5 + cost.seconds(chosen.lengths)
    assert whole == pytest.approx(chosen.seconds)
    assert whole <= 60 * minutes * (1 - SPARED) + 1e-6
    if chosen.lengths.get("adapt", 1) * 0.02 < LONGEST - 1e-6:
        assert whole == pytest.approx(60 * minutes * (1 - SPARED))
    else:
        assert "more is not used, the published length is reached" in chosen.reasons["time"]


def test_more_time_lengthens_the_published_stages_alone() -> None:
    cost = Cost((StageCost("source", 1200, 0.5), StageCost("adapt", 800, 1.0, length=0.02)), 100.0)
    assert lengths_for(cost, 100 + 700) == ({"source": pytest.approx(0.5), "adapt": pytest.approx(0.5)}, 0.5)
    assert lengths_for(cost, 100 + 600 + 2400)[0] == {"adapt": pytest.approx(3.0)}
    assert lengths_for(cost, 1e9)[0] == {"adapt": LONGEST / 0.02}
    said = Cost((StageCost("source", 1200, 0.5, free=False), cost.stages[1]), 100.0)
    assert lengths_for(said, 100 + 600 + 400) == ({"adapt": pytest.approx(0.5)}, 0.5)
    assert lengths_for(replace(said, stages=said.stages[:1]), 1000.0) == ({}, 1.0)


def test_a_time_too_short_names_the_least_one_which_is_enough() -> None:
    slow = replace(STREETS, kept={256: {"road": 1.0}})
    with pytest.raises(RequestError, match="too short for these data on this machine") as refused:
        decide(slow, 30.0, Machine(1e5, around=60.0))
    found = re.search(r"at least --budget (\S+)$", str(refused.value))
    assert found is not None
    least = 60 * minutes_of(found[1])
    chosen = decide(slow, least, Machine(1e5, around=60.0))
    assert min(chosen.lengths.values()) >= LEAST
    with pytest.raises(RequestError, match="too short"):
        decide(slow, least - 60, Machine(1e5, around=60.0))


def test_a_gpu_takes_the_strongest_network_that_its_memory_and_the_time_allow() -> None:
    fast = Machine(1e8)
    chosen = decide(GPU, 3600.0, fast)
    assert chosen.option == Option("vit", 1024, 512)
    assert "the strongest whose weights are at hand" in chosen.reasons["network"]
    small = decide(GPU, 3600.0, Machine(1e8, memory={"vit": 100}))
    assert small.option == Option("convnext", 1024, 512)
    assert "vit had not the time or the memory here" in small.reasons["network"]
    assert decide(GPU, 60.0, Machine(2e7)).option.network == "lite"
    with pytest.raises(RequestError, match="memory of this machine"):
        decide(GPU, 3600.0, Machine(1e8, memory=dict.fromkeys(GPU.networks, 1)))


def test_sizes_that_a_person_says_are_taken() -> None:
    said = replace(STREETS, size=640)
    assert decide(said, 60.0, Machine(1e9)).option == Option("lite", 640, 320)
    assert "as you said" in decide(said, None, Machine(1e9)).reasons["size"]
    assert options(replace(STREETS, sized=False), True) == [Option("lite")]


def test_a_thin_line_is_lost_where_an_area_stays() -> None:
    mask = np.zeros((64, 128), np.uint8)
    mask[:, 64:] = 1
    mask[:, 31] = 2
    mask[0, 0] = 3  # too few to count
    mask[:2] = 255
    kept = kept_at([mask], ("left", "right", "line", "dot"), (16, 32, 64, 128))
    assert set(kept[16]) == {"left", "right", "line"}
    assert kept[128] == {"left": 1.0, "right": 1.0, "line": 1.0}
    assert kept[32]["line"] < 0.5 < 0.9 < kept[32]["right"]
    assert kept_at([], ("left",), (16,)) == {16: {}}


def test_reasons_are_lines() -> None:
    chosen = decide(STREETS, 1200.0, Machine(1e6))
    lines = lines_of({"asked": {"budget": 20}, "because": chosen.reasons})
    assert lines[0] == "chosen for these data, this machine and 20 minutes; a setting of your own counts more:"
    assert [line.split()[0] for line in lines[1:]] == ["network", "size", "length", "time"]
    assert lines_of(None) == []
    assert [in_words(seconds) for seconds in (59, 60, 3540, 7200)] == ["59 s", "1 minute", "59 minutes", "2 hours"]
    assert 0 < LEAST < ENOUGH < 1
