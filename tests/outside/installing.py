"""Installs the package beside this file as a user would: a wheel, and pip."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).parent

ENTRY_POINTS = """[segadapt.methods]
agree_installed = dusk_methods:Agree
[segadapt.networks]
stack = dusk_methods.network:Stack
"""


def install(folder: Path) -> Path:
    """Build a wheel of ``dusk_methods`` and install it into ``folder/site``; needs no network."""
    info = "dusk_methods-1.0.dist-info"
    content = {
        **{f"dusk_methods/{p.name}": p.read_text() for p in sorted((HERE / "dusk_methods").glob("*.py"))},
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: dusk-methods\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": ENTRY_POINTS,
    }
    content[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*content, f"{info}/RECORD"])
    wheel = folder / "dusk_methods-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in content.items():
            archive.writestr(name, text)
    site = folder / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    return site
