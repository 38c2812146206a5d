"""The command answers at once: what needs no tensor imports no torch."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

import segadapt

HEAVY = {"torch", "torchvision", "timm", "cv2", "lightning_fabric", "numpy"}
"""Packages that take longer to import than a listing may take in all."""

SHOW = "import sys; print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"


def imported(code: str) -> tuple[int, str, set[str]]:
    """Run code in a new process: its exit status, output and the top-level packages that it imported."""
    wrapped = f"import sys, atexit\natexit.register(lambda: exec({SHOW!r}))\n{code}"
    done = subprocess.run([sys.executable, "-c", wrapped], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--help"], 0, "recipes"),
        (["--version"], 0, segadapt.__version__),
        (["recipes"], 0, "toy/cbst"),
        (["recipes", "--json"], 0, "gta5_cityscapes/proda"),
        (["methods"], 0, "ECCV 2018"),
        (["methods", "--json"], 0, "cpsl_official"),
        (["recipies"], 2, ""),
        (["adapt", "--help"], 0, "--source-images"),
        (["import", "--help"], 0, "AdaptSegNet"),
        (["serve", "--help"], 0, "--max-mb"),
        (["bench", "step", "--help"], 0, "--crop"),
        (["adapt"], 2, ""),
    ],
)
def test_commands_answer_without_torch(arguments: list[str], status: int, words: str) -> None:
    code, out, packages = imported(f"sys.argv = ['segadapt', *{arguments!r}]\nfrom segadapt.cli import main\nmain()")
    assert code == status
    assert words in out
    assert packages & HEAVY == set()
    assert "segadapt" in packages


def test_a_listing_takes_less_than_half_a_second_of_processor_time() -> None:
    """Generous beside the 0.25 s that it takes, and far below the two seconds of torch."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "segadapt", "recipes"], capture_output=True, check=True, cwd=Path(__file__).parent
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


def test_layouts_and_spaces_of_the_help_are_those_that_are_read() -> None:
    from segadapt.cli import importing
    from segadapt.labels import SPACES
    from segadapt.models.importing import LAYOUTS

    assert {name: layout.title for name, layout in LAYOUTS.items()} == importing.LAYOUTS
    assert list(importing.SPACES) == list(SPACES)
