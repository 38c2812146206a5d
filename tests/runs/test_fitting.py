"""A given memory: which way is taken, what is refused, and that a run keeps it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import segadapt
from segadapt.api import planning
from segadapt.core.process_memory import forget_process_peak
from segadapt.engine.loop import Loop
from segadapt.engine.runtime import Runtime, process_peak
from segadapt.errors import RequestError
from segadapt.methods.stage_config import StageConfig
from segadapt.runs import memory
from segadapt.runs.config import build_config
from segadapt.runs.fitting import Way, fit, gigabytes, memory_of, ways
from segadapt.runs.memory import Fitter
from segadapt.runs.opening import open_data
from segadapt.runs.reasons import lines_of
from tests.tiny import raw_config, write_folder

GB = 10**9


def stage(batch_size: int = 4, **more: Any) -> StageConfig:
    return StageConfig(name="adapt", method="x", steps=5, batch_size=batch_size, **more)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("11GB", 11 * GB), ("11g", 11 * GB), (" 10.5 GiB", 10.5 * 2**30), ("800MB", 800 * 10**6), (2e9, 2 * GB)],
)
def test_memory_as_people_say_it(text: str | float, expected: float) -> None:
    assert memory_of(text) == expected


@pytest.mark.parametrize("text", ["11", "eleven", "", "-4GB", "1e3GB", "11TB", "10MB", "GB", "11 G B", float("nan")])
def test_what_is_no_memory_is_refused(text: str | float) -> None:
    with pytest.raises(RequestError, match="give it with its unit"):
        memory_of(text)


def test_ways_from_the_fastest_to_the_least_memory() -> None:
    nothing = lambda key: False  # noqa: E731
    assert ways(stage(4), 1, True, nothing) == [
        Way(1),
        Way(1, True),
        Way(2),
        Way(4),
        Way(2, True),
        Way(4, True),
    ]
    assert ways(stage(4), 1, False, nothing) == [Way(1), Way(2), Way(4)]
    assert ways(stage(4), 2, False, nothing) == [Way(1), Way(2)]
    assert ways(stage(3), 1, False, nothing) == [Way(1), Way(2), Way(3)]
    assert ways(stage(1), 1, True, nothing) == [Way(1), Way(1, True)]


def test_what_a_person_says_stays() -> None:
    said = {"accumulate"}.__contains__
    assert ways(stage(4, accumulate=2), 1, True, said) == [Way(2), Way(2, True)]
    said = {"accumulate", "checkpoint_activations"}.__contains__
    assert ways(stage(4, checkpoint_activations=True), 1, True, said) == [Way(1, True)]


def table(**bytes_by_way: int | None) -> Any:
    """Return a measure: GB by number of parts, ``again_`` in front where activations are computed again."""

    def measure(way: Way) -> int | None:
        found = bytes_by_way[f"{'again_' * way.recomputed}{'n' + str(way.accumulate)}"]
        return None if found is None else found * GB

    return measure


MEASURED = table(n1=20, again_n1=12, n2=13, again_n2=8, n4=None, again_n4=6)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(20, Way(1)), (19, Way(1, True)), (12, Way(1, True)), (11, Way(2, True)), (8, Way(2, True)), (7, Way(4, True))],
)
def test_the_fastest_way_that_fits_is_taken(limit: int, expected: Way) -> None:
    found = fit(ways(stage(4), 1, True, lambda key: False), limit * GB, MEASURED, "adapt")
    assert found.way == expected
    need = found.tried[found.way]
    assert need is not None
    assert need <= limit * GB


def test_what_does_not_fit_is_refused_with_what_it_takes() -> None:
    found = ways(stage(4), 1, True, lambda key: False)
    seen: list[Way] = []
    with pytest.raises(RequestError) as told:
        fit(found, 5 * GB, lambda way: seen.append(way) or MEASURED(way), "adapt")
    assert "stage 'adapt' takes 6.00 GB at the least (in 4 parts, activations computed again)" in str(told.value)
    assert seen == [Way(4, True)]  # nothing larger is tried, which might end the program
    with pytest.raises(RequestError, match="takes more than there is at the least"):
        fit(found, 5 * GB, lambda way: None, "adapt")
    with pytest.raises(RequestError, match=r"predicting an image takes 7.00 GB here.*evaluation.window"):
        fit(found, 5 * GB, MEASURED, "adapt", 7 * GB)


def fitter(folder: Path, limit: int, *said: str) -> Fitter:
    """A fitter of a tiny run, in which a person has said some settings."""
    config = build_config(raw_config(folder, "cbst"), "tiny")
    stages = tuple(s.model_copy(update={"batch_size": 4 - 2 * n}) for n, s in enumerate(config.stages))
    config = config.model_copy(update={"stages": stages})
    return Fitter(config, open_data(config.data, {}, None), Runtime("cpu"), {}, folder, limit, said.__contains__)


def test_stages_get_the_settings_with_which_they_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def steps(self: Fitter, stage: StageConfig, streams: Any) -> int:
        share = -(-stage.batch_size // stage.accumulate)
        return share * GB // (2 if stage.checkpoint_activations else 1)

    monkeypatch.setattr(Fitter, "_steps", steps)
    monkeypatch.setattr(memory, "around_the_steps", lambda *_: 0.0)
    settings, line = fitter(tmp_path, 5 * GB // 2).settings()
    assert settings == [
        "source.accumulate=1",
        "source.checkpoint_activations=true",
        "adapt.accumulate=1",
        "adapt.checkpoint_activations=false",
    ]
    assert line == (
        "source: batches of 4 whole, activations computed again, 2.00 GB (whole: 4.00 GB); "
        "adapt: batches of 2 whole, 2.00 GB; of 2.50 GB, measured"
    )
    settings, _ = fitter(tmp_path, 4 * GB, "source.checkpoint_activations", "every.accumulate").settings()
    assert settings == ["adapt.checkpoint_activations=false"]


def test_real_steps_are_measured_and_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = Loop.step

    def step(self: Loop, *given: Any) -> Any:
        if self.config.name == "source" and self.config.accumulate == 1:
            raise RuntimeError("CUDA out of memory. Tried to allocate 38 GB")
        return inner(self, *given)

    monkeypatch.setattr(Loop, "step", step)
    settings, line = fitter(tmp_path, 10**13).settings()
    assert settings[0] == "source.accumulate=2"
    assert "(whole: more than there is); adapt: batches of 2 whole, " in line
    assert not list(tmp_path.rglob("*.safetensors"))
    with pytest.raises(RequestError, match="predicting an image takes"):
        fitter(tmp_path, 10**8).settings()


def asked(tmp_path: Path, **more: Any) -> dict[str, Any]:
    write_folder(tmp_path / "A", 2)
    folders = {"source_images": "A/images", "source_labels": "A/labels", "target_images": "A/images"}
    given = {name: tmp_path / folder for name, folder in folders.items()}
    return segadapt.plan(**given, method="cbst", measure=False, **more)


def test_the_plan_takes_the_settings_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "plan_run", lambda config, *_: {"config": config})
    monkeypatch.setattr(Fitter, "settings", lambda self: (["adapt.accumulate=2"], f"{self.limit} bytes"))
    found = asked(tmp_path, fit_memory="3GB")
    assert {s.name: s.accumulate for s in found["config"].stages} == {"source": 1, "adapt": 2}
    assert found["chosen"]["because"] == {"memory": "3000000000 bytes"}
    assert found["chosen"]["asked"]["memory"] == 3 * GB
    assert lines_of(found["chosen"])[1:] == ["  memory  3000000000 bytes"]


def test_requests_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="give --budget or --fit-memory"):
        asked(tmp_path, fit_memory="3GB", budget="1h")
    config = build_config(raw_config(tmp_path / "tiny", "cbst"), "tiny")
    with pytest.raises(RequestError, match="a configuration is complete"):
        segadapt.plan(config, fit_memory="3GB")


def test_the_peak_of_a_process_is_forgotten() -> None:
    torch.ones(60 << 20)  # 240 MB, gone at once
    high = process_peak()
    forget_process_peak()
    low = process_peak()
    assert high - low > 200 << 20
    torch.ones(30 << 20)
    assert 100 << 20 < process_peak() - low < 200 << 20


def test_gigabytes() -> None:
    assert [gigabytes(n) for n in (10**8, 1_544_000_000, 23_040_000_000)] == ["0.10 GB", "1.54 GB", "23.0 GB"]
