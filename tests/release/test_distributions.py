"""Wheel and source distribution: complete, without junk, and working where the repository is not."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from email import message_from_string
from pathlib import Path
from typing import NamedTuple

import pytest

import segadapt
from segadapt.recipes import recipe_names
from tests.release.building import build, clean, copied, install, kept_files, unpacked

SHORT = [
    *("model.name=timm:resnet10t", "model.weights=null", "model.arguments.width=16", "accelerator=cpu"),
    *("source.steps=1", "source.batch_size=1"),
]
RUN = """
import sys
from segadapt.cli import main

for line in sys.argv[1:]:
    sys.argv[1:] = line.split()
    try:
        main()
    except SystemExit as end:
        assert not end.code, line
"""


class Built(NamedTuple):
    """A release that was built of what the repository holds.

    Attributes:
        files: paths of the repository that belong to it.
        sdist: the unpacked source distribution.
        wheel: the wheel that was built of it.
    """

    files: list[str]
    sdist: Path
    wheel: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("release")
    files = kept_files()
    archive = build("sdist", copied(files, folder / "repository"), folder)
    assert archive.name == f"segadapt-{segadapt.__version__}.tar.gz"
    sdist = unpacked(archive, folder / "unpacked")
    present = {str(path.relative_to(sdist)) for path in sdist.rglob("*") if path.is_file()}
    made = {name for name in present if name in ("PKG-INFO", "setup.cfg") or ".egg-info/" in name}
    assert sorted(present - made) == files, "MANIFEST.in says what a source distribution has beside the package"
    return Built(files, sdist, build("wheel", sdist, folder))


def test_the_wheel_has_every_file_of_the_package_and_no_other(built: Built) -> None:
    package = {name.removeprefix("src/"): name for name in built.files if name.startswith("src/")}
    with zipfile.ZipFile(built.wheel) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
        assert held == set(package), "package-data in pyproject.toml says which files are none of Python"
        assert all(wheel.read(name) == (built.sdist / path).read_bytes() for name, path in package.items())


def test_the_metadata_are_complete(built: Built) -> None:
    info = f"segadapt-{segadapt.__version__}.dist-info"
    with zipfile.ZipFile(built.wheel) as wheel:
        told = message_from_string(wheel.read(f"{info}/METADATA").decode())
        assert "Apache License" in wheel.read(f"{info}/licenses/LICENSE").decode()
    assert (told["Name"], told["Version"], told["Requires-Python"]) == ("segadapt", segadapt.__version__, ">=3.10")
    assert (told["License-Expression"], told["Description-Content-Type"]) == ("Apache-2.0", "text/markdown")
    assert told["Summary"]
    assert told["Author"]
    assert "domain adaptation" in told["Keywords"]
    classifiers = told.get_all("Classifier")
    assert {"Typing :: Typed", "Operating System :: POSIX :: Linux"} <= set(classifiers)
    assert f"Programming Language :: Python :: 3.{sys.version_info[1]}" in classifiers
    assert {"all", "lite", "report", "convert", "heif", "export", "geo", "docs", "dev"} == set(
        told.get_all("Provides-Extra")
    )
    assert told.get_payload().startswith("# segadapt")


def test_it_works_in_a_fresh_environment(built: Built, tmp_path: Path) -> None:
    programs = install(built.wheel, tmp_path / "environment")
    empty = tmp_path / "empty"
    empty.mkdir()

    def run(*words: str) -> str:
        done = subprocess.run(words, cwd=empty, env=clean(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    command, python = str(programs / "segadapt"), str(programs / "python")
    assert run(command, "--version") == f"segadapt {segadapt.__version__}\n"
    assert list(json.loads(run(command, "recipes", "--json"))) == recipe_names()
    run(
        *(python, "-I", "-c", RUN),
        "data toy --source 2 --target 2 --test 1 --height 64 --width 128 -q",
        f"adapt toy/source_only --root toy=toy --out run -q {' '.join(SHORT)}",
        "predict run toy/cityscapes/leftImg8bit/val --out predictions -q",
    )
    assert len(list((empty / "predictions").rglob("*.png"))) >= 1
    page = (empty / "run/report.html").read_text()
    assert page.count("<style>") >= 1
    assert "Source only" in page
    where = run(python, "-I", "-c", "import segadapt; print(segadapt.__file__)").strip()
    assert Path(where).is_relative_to(tmp_path / "environment")
