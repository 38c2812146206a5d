"""The section of docs/no_source.md is that of the measured numbers."""

from __future__ import annotations

from typing import Any

from benchmarks.no_source import BEGIN, MEASURED, PAGE, with_section

from segadapt.core.files import read_json

RUNS = [
    {"method": "cbst", "source": False, "seed": seed, "before": 38.0 + seed, "after": 39.0 + 2 * seed}
    for seed in range(3)
]
RUNS += [{"method": "mic", "source": True, "seed": 1, "before": 39.0, "after": 41.5}]
MADE: dict[str, Any] = {"machine": {"cpu": "two cores"}, "steps": 400, "runs": RUNS}


def test_means_have_their_spread_and_what_lacks_says_so() -> None:
    page = with_section(PAGE.read_text(), MADE)
    lines = page.splitlines()
    assert "| the given model | 39.0 ± 1.0 | |" in lines
    assert "| CBST | 41.0 ± 2.0 | not measured |" in lines
    assert "| MIC | not measured | 41.5 (seed 1) |" in lines
    assert "Machine: cpu two cores." in page
    assert with_section(page, MADE) == page
    assert page.split(BEGIN)[0] == PAGE.read_text().split(BEGIN)[0]


def test_the_page_shows_what_was_measured() -> None:
    measured = read_json(MEASURED)
    page = PAGE.read_text()
    assert page == (with_section(page, measured) if measured else page)
    assert bool(measured) == ("## Measured" in page)
