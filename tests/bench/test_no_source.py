"""The section of docs/no_source.md: means over seeds, and what lacks."""

from __future__ import annotations

from benchmarks.no_source_table import section

RUNS = [
    {"method": "cbst", "source": False, "seed": seed, "before": 38.0 + seed, "after": 39.0 + 2 * seed}
    for seed in range(3)
]
RUNS += [{"method": "mic", "source": True, "seed": 1, "before": 39.0, "after": 41.5}]


def test_means_have_their_spread_and_what_lacks_says_so() -> None:
    lines = section({"machine": {"cpu": "two cores"}, "steps": 400, "runs": RUNS}).splitlines()
    assert "| the given model | 39.0 ± 1.0 | |" in lines
    assert "| CBST | 41.0 ± 2.0 | - |" in lines
    assert "| MIC | - | 41.5 (seed 1) |" in lines
    assert "standard deviation over seeds 0, 1, 2." in lines[3]
    assert lines[-1].startswith("Machine: cpu two cores.")
