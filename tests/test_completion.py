"""The shell's completion: recipes, settings, methods and runs, at once and in every shell."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from segadapt.cli import main
from segadapt.methods.registry import METHODS
from segadapt.runs.config import load_config
from segadapt.runs.setting_names import method_settings, names_of, override_names
from segadapt.runs.settings import GROUPS, settings_of
from tests.test_startup import HEAVY, imported


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Return what is offered behind a line, as a shell asks for it."""

    def ask(line: str, shell: str = "bash") -> list[str]:
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - (not line.endswith(" "))))
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", line)
        monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
        monkeypatch.setenv("_SEGADAPT_COMPLETE", f"complete_{shell}")
        capsys.readouterr()
        with pytest.raises(SystemExit):
            main()
        return [word for word in capsys.readouterr().out.splitlines() if word]

    return ask


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("segadapt ada", ["adapt"]),
        ("segadapt adapt toy/cbst", ["toy/cbst", "toy/cbst_sp"]),
        ("segadapt plan toy/cbst adapt.roun", ["adapt.rounds="]),
        (
            "segadapt adapt toy/cbst seed=1 source.optimiser.l",
            ["source.optimiser.lr=", "source.optimiser.layer_decay="],
        ),
        ("segadapt adapt toy/cbst adapt.method=proda adapt.temp", ["adapt.temperature=", "adapt.temperature_at="]),
        ("segadapt adapt --root toy = x toy/cbst adapt.roun", ["adapt.rounds="]),  # bash breaks words at "="
        ("segadapt adapt --target-images x --method cbst adapt.roun", ["adapt.rounds="]),
        ("segadapt adapt toy/cbst data.target.si", ["data.target.size="]),
        ("segadapt adapt toy/cbst adapt.rounds=", []),
        ("segadapt adapt no/such adapt.", []),
        ("segadapt adapt --method cpsl", ["cpsl"]),
        ("segadapt settings cpsl", ["cpsl", "cpsl_official"]),
        ("segadapt settings inf", ["inference"]),
        ("segadapt bench table toy_", ["toy_camvid"]),
    ],
)
def test_words(offered, line: str, words: list[str]) -> None:
    assert offered(line) == words


def test_runs_are_found_wherever_they_lie(offered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("runs/toy/cbst/seed0", "runs/own", ".hidden/run"):
        (tmp_path / name / "stages/adapt").mkdir(parents=True)
        (tmp_path / name / "config.json").write_text("{}")
    (tmp_path / "runs/other").mkdir()
    monkeypatch.chdir(tmp_path)
    assert offered("segadapt resume ") == ["runs/own", "runs/toy/cbst/seed0"]
    assert offered("segadapt predict runs/t") == ["runs/toy/cbst/seed0"]
    assert offered(f"segadapt rank {tmp_path}/runs/") == [f"{tmp_path}/runs/own", f"{tmp_path}/runs/toy/cbst/seed0"]
    assert offered("segadapt report runs/own/") == [], "files are left to the shell"
    assert offered("segadapt report no/such/") == []


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_a_word_has_one_line(offered, shell: str) -> None:
    """Help in several lines would be several words."""
    lines = offered("segadapt adapt --me", shell)
    assert len(lines) == 1
    assert "chosen if left out, best with --model." in lines[0]


@pytest.mark.parametrize("name", [*METHODS, *GROUPS])
def test_the_names_are_those_of_the_settings(name: str) -> None:
    groups = {
        "run": "segadapt.runs.config:RunConfig",
        "data": "segadapt.runs.config:DataConfig",
        "model": "segadapt.models.build:ModelConfig",
        "inference": "segadapt.models.inference:InferenceConfig",
    }
    found = set(names_of(groups.get(name) or method_settings(name)))
    true = {setting.name.removeprefix(f"{name}." if name in groups else "") for setting in settings_of(name)}
    if name != "run":  # which lists no settings inside those of other groups
        assert {one for one in found if "." not in one} <= true | {"name", "method"}
    inside = {one.rpartition(".")[0] for one in found}
    assert {one for one in true if one not in inside and not any(o.startswith(f"{one}.") for o in found)} <= found


def test_an_offered_setting_can_be_given() -> None:
    names = override_names("toy/mic")
    for name in ("adapt.teacher_momentum", "source.schedule.power", "data.target.size", "evaluation.flip", "seed"):
        assert name in names
    load_config("toy/mic", [f"{name}=null" for name in names if name.endswith((".size", ".limit", ".gradient_clip"))])


def test_an_answer_needs_no_torch_and_little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMP_WORDS", "segadapt adapt toy/mic adapt.teacher_m")
    monkeypatch.setenv("COMP_CWORD", "3")
    monkeypatch.setenv("_SEGADAPT_COMPLETE", "complete_bash")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _, out, packages = imported("sys.argv = ['segadapt']\nfrom segadapt.cli import main\nmain()")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert out.split() == ["adapt.teacher_momentum="]
    assert packages & HEAVY == set()
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0, "generous beside 0.4 s"


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_itself_completes(tmp_path: Path) -> None:
    command = tmp_path / "segadapt"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m segadapt "$@"\n')
    command.chmod(0o755)
    script = (
        'eval "$(segadapt --show-completion bash)"\n'
        "COMP_WORDS=(segadapt adapt toy/cbst adapt.roun); COMP_CWORD=3; _segadapt_completion segadapt\n"
        'echo "${COMPREPLY[@]}"'
    )
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "adapt.rounds=", done.stderr
