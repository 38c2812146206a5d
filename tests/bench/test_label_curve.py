"""What labels of a few target images are worth: from finished runs to the section of the page."""

from __future__ import annotations

from pathlib import Path

from benchmarks.few_labels import results_in
from benchmarks.label_curve import section

from segadapt.core.files import write_json


def test_scores_of_finished_runs_become_a_table(tmp_path: Path) -> None:
    for row, seed, miou in (("random0", 0, 40.0), ("random0", 1, 42.0), ("suggested20", 0, 44.123)):
        scores = {"miou": miou, "iou": {"sky": 90.04, "fence": None}}
        results = {"rows": [{"scores": scores, "steps": 200}]}
        write_json(tmp_path / f"camvid_day_dusk/{row}/seed{seed}/results.json", results)
    write_json(tmp_path / "camvid_day_dusk/random5/seed0/results.json", {"rows": []})  # begun
    runs = results_in(tmp_path)
    assert [(run["choice"], run["labels"], run["seed"], run["miou"]) for run in runs] == [
        ("random", 0, 0, 40.0),
        ("random", 0, 1, 42.0),
        ("suggested", 20, 0, 44.12),
    ]
    assert runs[0]["iou"] == {"sky": 90.0, "fence": None}
    lines = section({"machine": {"cpu": "this"}, "runs": runs}).splitlines()
    assert lines[2:6] == [
        "| labelled images | day to dusk, random | day to dusk, suggested |",
        "| --- | --- | --- |",
        "| 0 | 41.0 ± 1.4 | - |",
        "| 20 | - | 44.1 (seed 0) |",
    ]
    assert "seeds 0, 1" in lines[7]
    assert "Machine: cpu this." in " ".join(lines)
