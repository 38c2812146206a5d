"""Builds what a release consists of, from the files that the repository has, and installs it as a user would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOT_DISTRIBUTED = (".ci/", ".gitignore", ".pre-commit-config.yaml")
"""What a repository needs and a source distribution does not."""


def kept_files() -> list[str]:
    """Return the files of the repository that a source distribution has to hold, by paths from its root.

    Those that git would take, new ones included; in an unpacked source distribution, where git knows nothing, the
    test is skipped.
    """
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("only a checkout knows which files belong to it")
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return sorted(name for name in listed if name and (ROOT / name).is_file() and not name.startswith(NOT_DISTRIBUTED))


def build(kind: str, source: Path, out: Path) -> Path:
    """Build a distribution of the folder ``source`` by the backend that pyproject.toml names; needs no network.

    Args:
        kind: ``sdist`` or ``wheel``.
        source: folder of pyproject.toml; the backend writes into it.
        out: folder for the result.
    """
    code = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(out)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=source, env=clean(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return out / done.stdout.splitlines()[-1]


def copied(files: list[str], folder: Path) -> Path:
    """Copy files of the repository, and nothing else that lies beside them, into a folder."""
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    return folder


def unpacked(archive: Path, folder: Path) -> Path:
    """Unpack a source distribution; return the one folder that it holds."""
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    (only,) = folder.iterdir()
    return only


def install(wheel: Path, folder: Path) -> Path:
    """Install a wheel into a fresh environment; return the folder of its programs.

    The environment sees the packages of this one, but not what those install into it by ``.pth`` files, such as the
    library in development; so nothing has to be downloaded.
    """
    venv.create(folder, symlinks=True)
    programs = folder / "bin"
    pip = [sys.executable, "-m", "pip", "--python", str(programs / "python"), "install"]
    options = ["--quiet", "--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check"]
    done = subprocess.run([*pip, *options, str(wheel)], capture_output=True, text=True, env=clean())
    assert done.returncode == 0, done.stderr
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "packages_of_the_tests.pth").write_text(
        "\n".join({sysconfig.get_path(kind) for kind in ("purelib", "platlib")})
    )
    return programs


def clean() -> dict[str, str]:
    """Return the environment variables without those that lead Python elsewhere."""
    return {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    }
