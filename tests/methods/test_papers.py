"""Every method has a paper, stages and a proof, and all that is named as one is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from segadapt.methods import papers
from segadapt.methods.papers import Paper
from segadapt.methods.registry import METHODS
from segadapt.recipes import recipe_names
from segadapt.runs.config import load_config

ROOT = Path(__file__).parents[2]
PAPERS = {name: value for name, value in vars(papers).items() if isinstance(value, Paper)}


@pytest.mark.parametrize("name", PAPERS)
def test_what_is_named_as_a_proof_is_one(name: str) -> None:
    paper = PAPERS[name]
    assert paper.golden or paper.restated
    assert paper is papers.BOUNDS or re.search(r"(19|20)\d\d$|IEEE$", paper.citation)
    for kind, paths in paper.proofs.items():
        for path in paths:
            text = (ROOT / path).read_text()
            if kind == "golden":
                assert re.search(r"golden_(op|model)|models\.golden", text), path
            elif kind == "restated":
                assert re.search(r"^def test_", text, re.MULTILINE), path


@pytest.mark.parametrize("name", METHODS)
def test_the_page_of_a_method_names_it(name: str) -> None:
    info = METHODS[name]
    assert info.paper in PAPERS.values()
    if info.paper is not papers.BOUNDS:
        page = (ROOT / info.paper.page).read_text()
        assert f"`{name}`" in page or f"methods/{name}.py" in page
        assert info.paper.citation.split(" et al.")[0] in page


def test_every_paper_is_one_of_a_method() -> None:
    assert {info.paper for info in METHODS.values()} == set(PAPERS.values())


@pytest.mark.parametrize("recipe", [r for r in recipe_names() if not r.startswith("folders/")])
def test_tables_say_what_several_prototypes_are(recipe: str) -> None:
    """MPCL is a setting of its hosts; no stage with it is shown under the name of its host alone; ``best`` has it."""
    for stage in load_config(recipe).stages:
        with_prototypes = getattr(stage, "mpcl", None) is not None
        assert with_prototypes == (stage.title.startswith("MPCL") or stage.method == "best"), f"{recipe}: {stage.title}"
        assert stage.method != "mpcl" or with_prototypes
