"""Pictures of features: their panels on the page, the layout, and missing or damaged files."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from segadapt.report import write_report
from segadapt.report.features import into_square, read_features, turned
from segadapt.report.figures import Dots, scatter
from tests.report.making import PIXELS, results, write_features, write_results

pytest.importorskip("jinja2")
STAGES = ["source", "cbst", "oracle"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_results(tmp_path, {**results(), "labels": []})
    return tmp_path


def section(run: Path) -> str:
    found = re.search(r'<section id="features".*?</section>', write_report(run).read_text(encoding="utf-8"), re.S)
    return found[0] if found else ""


def test_panels_of_the_page(run: Path) -> None:
    """One panel per stage in the order of the run, one dot per pixel, only classes with pixels."""
    pytest.importorskip("sklearn")
    write_features(run / "pictures/features")
    html = section(run)
    panels = re.findall(r'<svg class="scatter".*?</svg>', html, re.S)
    assert len(panels) == 2
    for panel in panels:
        ways = dict(re.findall(r'<path data-class="(\d+)"[^>]* d="([^"]*)"', panel))
        assert {c: way.count("M") for c, way in ways.items()} == {"0": 24, "1": 36}
        places = np.array(re.findall(r"M(\d+) (\d+)", "".join(ways.values())), int)
        assert places.min() >= 0
        assert places.max() <= 1000
        assert "stroke:#804080" in panel
    titles = re.findall(r"<figcaption><b>(.*?)</b> <span>separation <b>(.*?)</b>", html)
    assert titles == [("Source only", "0.25"), ("CBST", "1.25")]
    assert re.findall(r'<button type="button" aria-pressed="false" data-class="(\d)">', html) == ["0", "1"]
    assert "sky &amp; &lt;b&gt;cloud" in html
    for text in ("4 test images", "the same 60 pixels", "its true class", "compared between panels"):
        assert text in html


def test_colours_by_predictions_are_said(run: Path) -> None:
    pytest.importorskip("sklearn")
    write_features(run / "pictures/features", by="source")
    html = section(run)
    assert "4 target images" in html
    assert "the class that <b>Source only</b> predicts" in html


def test_without_scikit_learn_the_page_says_how(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_features(run / "pictures/features")
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    html = section(run)
    assert 'needs scikit-learn: pip install "segadapt[report]"' in html
    assert "<svg" not in html


def test_layouts_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second reading needs no scikit-learn; other features are laid out again."""
    pytest.importorskip("sklearn")
    write_features(tmp_path)
    first = read_features(tmp_path, STAGES)
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    again = read_features(tmp_path, STAGES)
    assert first is not None
    assert again is not None
    for one, other in zip(first.pictures, again.pictures, strict=True):
        np.testing.assert_array_equal(one.points, other.points)
    np.savez(tmp_path / "stages/cbst.npz", features=np.eye(PIXELS, dtype=np.float16))
    changed = read_features(tmp_path, STAGES)
    assert changed is not None
    assert changed.pictures == []


def test_layout_keeps_neighbours_together(tmp_path: Path) -> None:
    """Classes far apart in the features are apart in the picture."""
    pytest.importorskip("sklearn")
    write_features(tmp_path)
    album = read_features(tmp_path, STAGES)
    assert album is not None
    points, label = album.pictures[1].points, album.label
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    assert (label[distance.argmin(1)] == label).all()


def test_damaged_files_are_left_out(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    write_features(tmp_path, STAGES)
    (tmp_path / "stages/source.npz").write_bytes(b"PK no archive")
    np.savez(tmp_path / "stages/oracle.npz", features=np.full((PIXELS, 4), np.nan, np.float16))
    album = read_features(tmp_path, [*STAGES, "unknown"])
    assert album is not None
    assert [p.stage for p in album.pictures] == ["cbst"]
    for wrong in (np.zeros((PIXELS, 4)), np.ones((PIXELS - 1, 4)), np.ones(PIXELS), np.eye(PIXELS)[:, :1]):
        np.savez(tmp_path / "stages/cbst.npz", features=wrong.astype(np.float16))
        assert read_features(tmp_path, STAGES) is None
    write_features(tmp_path / "other")
    (tmp_path / "other/places.npz").write_bytes(b"")
    assert read_features(tmp_path / "other", STAGES) is None
    assert read_features(tmp_path / "none", STAGES) is None


@pytest.mark.parametrize("mirror", [1.0, -1.0])
def test_turned_finds_the_way_back(mirror: float) -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(40, 2))
    angle = 2.1
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag([1.0, mirror])
    moved = 3 * points @ matrix + [5.0, -7.0]
    np.testing.assert_allclose(turned(moved, points), 3 * (points - points.mean(0)), atol=1e-9)


def test_square_is_filled_alike_in_both_directions() -> None:
    points = np.array([[0.0, 0.0], [10.0, 5.0], [5.0, 2.5]])
    np.testing.assert_allclose(into_square(points), [[0.02, 0.26], [0.98, 0.74], [0.5, 0.5]])


def test_scatter_has_y_upwards_and_escapes() -> None:
    drawn = scatter([Dots(7, "<a>", "#010203", [(0.25, 1.0), (1.0, 0.0)])], "what & why")
    assert 'd="M250 0h.01M1000 1000h.01"' in drawn
    assert "&lt;a&gt;" in drawn
    assert 'aria-label="what &amp; why"' in drawn
    assert 'data-class="7" style="stroke:#010203"' in drawn
