"""Pictures of pseudo labels: what a power cut left damaged is named and left out, what another run keeps is missing."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from segadapt.data.folder import open_folder
from segadapt.labels import LabelSpace, distinct_colors
from segadapt.report.pictures import picture_index
from segadapt.report.write_pictures import show_labels
from tests.tiny import write_folder


@pytest.mark.parametrize("part", ["labels", "confidence"])
def test_a_damaged_label_is_named_and_left_out(tmp_path: Path, part: str) -> None:
    write_folder(tmp_path / "target", 4, labels=False)
    target, stage = open_folder(tmp_path / "target" / "images"), tmp_path / "stage"
    for number in range(3):  # of the fourth image there is nothing, as in a stage that was taken over
        for kind, name in (("labels", f"{number:03d}"), ("confidence", f"{number:06d}")):
            (stage / "round0" / kind).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(stage / "round0" / kind / f"{name}.png"), np.full((40, 56), number % 2, np.uint8))
    file = stage / "round0" / part / ("001.png" if part == "labels" else "000001.png")
    file.write_bytes(file.read_bytes()[:40])
    space = LabelSpace("run", ("ground", "box"), distinct_colors(2))
    told = show_labels(tmp_path / "pictures", "adapt", stage, [{"round": 0, "shown": [0, 1, 2, 3]}], target, space)
    assert len(told) == 1
    assert str(file) in told[0]
    shown = picture_index(tmp_path / "pictures")["pseudo"]
    assert [(entry["id"], entry["density"]) for entry in shown] == [("000", 1.0), ("002", 1.0)]
    written = {path.name for path in (tmp_path / "pictures" / "pseudo").iterdir()}
    assert written == {Path(entry[kind]).name for entry in shown for kind in ("image", "label", "confidence")}
