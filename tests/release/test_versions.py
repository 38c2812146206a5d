"""What a release says of itself: one version everywhere, a citation that programs read, packages that are declared."""

from __future__ import annotations

import datetime
import lzma
import re
import sys
from pathlib import Path

import pytest
import torch
import yaml

import segadapt
from segadapt.methods.registry import METHODS
from tests.release.building import ROOT

CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
HEADING = re.compile(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$", re.MULTILINE)

PACKAGE_OF = {"PIL": "pillow", "cv2": "opencv-python-headless", "sklearn": "scikit-learn", "yaml": "pyyaml"}
"""Names under which packages are imported, where these are not their own."""
BROUGHT_BY = {"pydantic_core": "pydantic", "markupsafe": "jinja2", "huggingface_hub": "timm"}
"""Packages that another one cannot be without."""
CFF_KEYS = {
    *("abstract", "authors", "cff-version", "commit", "contact", "date-released", "doi", "identifiers", "keywords"),
    *("license", "license-url", "message", "preferred-citation", "references", "repository", "repository-artifact"),
    *("repository-code", "title", "type", "url", "version"),
}
"""All keys of a citation file of version 1.2.0; those of a person and a reference below are the ones used here."""


NO_PAPER = ("source_only", "oracle", "given", "distill", "cpsl_official")
"""Bounds, a given model, and stages of methods that are cited under their own name."""


def test_version_citation_and_changelog_agree() -> None:
    (newest, date), *older = HEADING.findall(CHANGELOG)
    assert re.fullmatch(r"\d+\.\d+\.\d+(-[0-9a-z.]+)?", segadapt.__version__)
    assert segadapt.__version__ == newest == CITATION["version"]
    assert datetime.date.fromisoformat(date) == CITATION["date-released"]
    numbers = [tuple(map(int, number.split("."))) for number in (newest, *(number for number, _ in older))]
    assert numbers == sorted(numbers, reverse=True)


def test_the_changelog_has_the_layout_that_it_names() -> None:
    headings = re.findall(r"^## (.*)$", CHANGELOG, re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert all(HEADING.fullmatch(f"## {heading}") for heading in headings[1:])
    kinds = set(re.findall(r"^### (.*)$", CHANGELOG, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_citation_has_what_its_format_asks_for() -> None:
    assert set(CITATION) <= CFF_KEYS
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["type"] == "software"
    assert all(isinstance(CITATION[key], str) and CITATION[key] for key in ("message", "title", "abstract", "license"))
    assert CITATION["license"] == "Apache-2.0"
    assert len(CITATION["keywords"]) == len(set(CITATION["keywords"])) > 0
    for work in (CITATION, *CITATION["references"]):
        assert work["title"]
        assert len(work["authors"]) > 0
        for author in work["authors"]:
            person = {"family-names", "given-names", "name-particle"}
            assert set(author) == {"name"} or {"family-names"} <= set(author) <= person
            assert all(isinstance(part, str) and part for part in author.values())
    for paper in CITATION["references"]:
        assert set(paper) <= {"type", "title", "authors", "conference", "year", "notes"}
        assert paper["type"] in ("conference-paper", "article")
        assert (paper["type"] == "conference-paper") == ("conference" in paper)
        assert "year" not in paper or 2015 < paper["year"] < 2030
    cited = {name for paper in CITATION["references"] for name in re.findall(r"\w+", paper["notes"])}
    assert {name for name in METHODS if name not in NO_PAPER} <= cited


def test_every_package_that_is_imported_is_declared() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    stated = text[text.index("dependencies = [") : text.index("\ndev = [")]
    declared = {name.lower().replace("-", "_") for name in re.findall(r'"([\w-]+)>=', stated)}
    lines = "\n".join(path.read_text() for path in (ROOT / "src/segadapt").rglob("*.py"))
    found = re.findall(r"^ *(?:import (\w+)|from (\w+)(?:\.\w+)* import )", lines, re.MULTILINE)
    imported = {name for pair in found for name in pair if name}
    imported -= {*sys.stdlib_module_names, "segadapt"}
    packages = {PACKAGE_OF.get(name, BROUGHT_BY.get(name, name)).lower().replace("-", "_") for name in imported}
    assert packages <= declared
    assert declared - packages <= {"onnxscript"}  # which torch's export needs


def test_a_model_file_of_the_first_release_is_read(tmp_path: Path) -> None:
    """The file is the network ``lite`` for three classes, its parameters a short pattern, so that it packs well."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(lzma.decompress((Path(__file__).parent / "model_0_9_0.safetensors.xz").read_bytes()))
    loaded = segadapt.load(path)
    assert loaded.space.names == ("road", "car", "sky")
    assert loaded.provenance["run"] == "of the release 0.9.0"
    image = torch.linspace(0, 1, 3 * 32 * 48).reshape(1, 3, 32, 48)
    with torch.no_grad():
        logits = loaded.model(image).logits
    assert logits.mean(dim=(0, 2, 3)).tolist() == pytest.approx([-0.9188, 0.5411, 2.7067], abs=1e-3)
