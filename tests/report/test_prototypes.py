"""Maps of prototypes on the page, and missing or damaged parts of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segadapt.report import write_report
from segadapt.report.figures import stacked_bar
from tests.report.making import results, write_prototypes, write_results

pytest.importorskip("jinja2")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_results(tmp_path, {**results(), "labels": []})
    write_prototypes(tmp_path / "pictures")
    return tmp_path


def section(run: Path) -> str:
    found = re.search(r'<section id="prototypes".*?</section>', write_report(run).read_text(encoding="utf-8"), re.S)
    return found[0] if found else ""


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


def test_maps_and_shares(run: Path) -> None:
    html = section(run)
    text = text_of(html)
    captions = re.findall(r'alt="(Prototype[^"]*)"', html)
    assert captions[0] == "Prototype 1 of road in one: matches 75.0% of the pixels predicted as road best"
    assert len(captions) == 4
    assert "&lt;b&gt;cloud" in captions[2]
    assert len(re.findall(r"<img data-asset=\"\w+\" alt=\"[^\"]+\"", html)) == html.count("<img ") == 6
    for said in ("CBST, one", "road 20.0% of the image", "in 4 images", "Never predicted there: train."):
        assert said in text, said
    assert re.search(r"road 2 of 2 75\.0%", text_of(re.sub(r"<svg.*?</svg>", "", html, flags=re.S)))
    assert "1 of 2" in text  # the second class has nearly all pixels at one of them
    assert re.findall(r'<rect style="fill:(#\w+)" x="([\d.]+)%" width="([\d.]+)%"', html)[:2] == [
        ("#ff0000", "0.00", "75.00"),
        ("#0000ff", "75.00", "25.00"),
    ]


def test_absent_without_prototypes(run: Path) -> None:
    index = json.loads((run / "pictures/index.json").read_text())
    for nothing in (None, [], [{}], {"stage": "cbst"}, [3], [{**index["prototypes"][0], "classes": [], "images": []}]):
        (run / "pictures/index.json").write_text(json.dumps({**index, "prototypes": nothing}))
        assert section(run) == ""
        assert "#prototypes" not in (run / "report.html").read_text(encoding="utf-8").split("<main")[1]


def spoil(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(run: Path) -> None:
        path = run / "pictures/index.json"
        index = json.loads(path.read_text())
        change(index["prototypes"][0])
        path.write_text(json.dumps(index))

    return apply


@pytest.mark.parametrize(
    ("harm", "maps"),
    [
        (lambda run: (run / "pictures/prototypes/0_0.jpg").unlink(), 3),
        (lambda run: (run / "pictures/prototypes/1_1.jpg").write_bytes(b"no picture"), 3),
        (lambda run: [p.unlink() for p in (run / "pictures/prototypes").iterdir()], 0),
        (spoil(lambda e: e["images"][0]["classes"][0].update(counts=["x", 3])), 2),
        (spoil(lambda e: e["images"][0]["classes"][0].update(counts=[-1, 3])), 2),
        (spoil(lambda e: e["images"][0]["classes"][0].update(maps="0_0.jpg")), 2),
        (spoil(lambda e: e["images"][0].update(pixels=None, id=None, which=7)), 4),
        (spoil(lambda e: e.update(images=3, pictured="many")), 0),
        (spoil(lambda e: e.update(stage="unknown", colors=[[1, 2, 3], [999, -4, None], "red"])), 4),
    ],
)
def test_damage_leaves_the_rest(run: Path, harm: Callable[[Path], Any], maps: int) -> None:
    harm(run)
    html = section(run)
    assert len(re.findall(r'alt="Prototype ', html)) == maps
    assert "2 of 2" in html


def test_a_bar_is_as_long_as_its_parts() -> None:
    bar = stacked_bar([("a <b>", 0.25, "red"), ("c", 0.75, "blue")], "what & why")
    assert re.findall(r'x="([\d.]+)%" width="([\d.]+)%"', bar) == [("0.00", "25.00"), ("25.00", "75.00")]
    assert "a &lt;b&gt;" in bar
    assert 'aria-label="what &amp; why"' in bar
