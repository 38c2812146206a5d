"""Reading the log and the pictures, the figures and the words."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from segadapt.report import words
from segadapt.report.figures import Curve, Level, bar_group, compact, curve_chart, thin, ticks
from segadapt.report.log import LabelSet, Log, read_log
from segadapt.report.pictures import read_album
from tests.report.making import HEIGHT, SPACE, WIDTH, online_labels, write_pictures


def step(round_index: int, number: int, loss: float) -> str:
    return json.dumps({"event": "step", "stage": "s", "round": round_index, "step": number, "losses": {"a": loss}})


def test_steps_are_counted_over_rounds_and_redone_steps_replace(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    lines = [step(0, 10, 3), step(0, 20, 2), step(1, 10, 9), step(1, 10, 1), step(1, 20, 0.5), '{"event": "ste']
    path.write_text("\n".join(lines))
    steps = read_log(path).steps
    assert [(s.position, s.losses["a"]) for s in steps["s"]] == [(10, 3), (20, 2), (30, 1), (40, 0.5)]


def test_a_log_with_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(
        b'\xff\xfe\n[]\n{"event": "step", "stage": "s", "step": "x", "losses": {}}\n'
        b'{"event": "evaluation", "stage": "s", "step": 3, "round": 0, "scores": {"miou": null}}\n'
        b'{"event": "online_labels", "stage": "s", "step": 3, "sets": {"a": {"accuracy": null}, "b": 1}}\n'
        b'{"event": "step", "stage": "s", "step": 5, "losses": {"a": NaN, "b": 1}, "time": 1700000000}\n'
    )
    log = read_log(path)
    assert [(s.position, s.losses) for s in log.steps["s"]] == [(5, {"b": 1.0})]
    assert log.evaluations == {}
    assert log.online == {}
    assert log.finished == "14 November 2023"
    assert read_log(tmp_path / "none") == Log()


def test_pseudo_labels_are_placed_as_the_steps_are(tmp_path: Path) -> None:
    """The first round ends with its losses, not with the last measurement of its labels; repeated steps replace."""
    labels = [json.dumps({**online_labels(*e), "stage": "s"}) for e in ((0, 20, 0.5), (1, 20, 0.1), (1, 20, 0.75))]
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join([labels[0], step(0, 30, 1.0), *labels[1:]]))
    found = read_log(path).online["s"]
    assert [labels.position for labels in found] == [20, 50]
    stored = LabelSet(0.5, 0.5, 0.25, 0.5, (0.75, 0.25, 0.0))
    assert found[0].sets == {"rectified": LabelSet(0.5, 0.5, 1.0, 0.5, (0.5, 0.49, 0.01)), "stored": stored}
    assert found[1].sets["rectified"].accuracy == 0.75
    assert found[0].truth == (0.5, 0.4, 0.1)


def test_kinds_of_pseudo_labels_of_which_nothing_is_known_are_left_out(tmp_path: Path) -> None:
    sets = [{"a": {"accuracy": None, "density": None}, "b": {"miou": 0.5}}, {"a": 3}, [1], None]
    events = [{"event": "online_labels", "stage": "s", "step": i, "sets": s} for i, s in enumerate(sets)]
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(map(json.dumps, events)))
    assert [labels.sets for labels in read_log(path).online["s"]] == [{"b": LabelSet(0.5)}]


def test_class_shares_that_are_none_are_left_out(tmp_path: Path) -> None:
    wrong: list[Any] = [[0.5, None], [0.5, "x"], [], 0.5, [0.5, -1], [True, 0.5]]
    events = [
        {"event": "online_labels", "stage": "s", "step": i, "sets": {"b": {"miou": 0.5, "classes": w}}, "truth": w}
        for i, w in enumerate(wrong)
    ]
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(map(json.dumps, events)))
    found = read_log(path).online["s"]
    assert [labels.truth for labels in found] == [None] * len(wrong)
    assert [labels.sets["b"].classes for labels in found] == [None] * len(wrong)


def decoded(uri: str) -> np.ndarray:
    import base64

    data = np.frombuffer(base64.b64decode(uri.split(",", 1)[1]), np.uint8)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED))


def test_labels_are_packed_without_loss_and_ignored_pixels_are_clear(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    album = read_album(tmp_path)
    entry = album.test[0]
    truth = decoded(album.assets[entry["truth"]])
    expected = cv2.imread(str(tmp_path / "test/one_truth.png"))
    assert truth.shape == (HEIGHT, WIDTH, 4)
    assert (truth[..., :3] == expected).all()
    assert (truth[0, :, 3] == 0).all()
    assert (truth[1:, :, 3] == 255).all()
    assert entry["stages"]["cbst"]["label"] == entry["truth"]  # the same picture is kept once
    assert len(album.pseudo) == 4


def test_missing_damaged_and_foreign_pictures_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    write_pictures(folder)
    (folder / "test/one_source.png").unlink()
    (folder / "test/one_confidence.jpg").write_bytes(b"")
    (folder / "test/two_image.jpg").write_bytes(b"no picture")
    index = json.loads((folder / "index.json").read_text())
    outside = tmp_path / "outside.png"
    cv2.imwrite(str(outside), SPACE.colorize(np.zeros((4, 4), np.uint8)))
    index["test"][0]["truth"] = "../outside.png"
    index["pseudo"] = [{"id": "x", "image": str(outside), "round": 0}, 3, {"image": None}]
    (folder / "index.json").write_text(json.dumps(index))
    album = read_album(folder)
    assert [p["id"] for p in album.test] == ["one"]
    assert album.test[0]["truth"] is None
    assert album.test[0]["stages"]["source"] == {"label": None, "confidence": None}
    assert album.pseudo == []
    (folder / "index.json").write_text("{")
    assert read_album(folder).test == []


def test_ticks_are_round_and_enclose() -> None:
    assert ticks(0, 1500, 4) == [0, 500, 1000, 1500]
    assert ticks(41.2, 50.4, 4) == [40, 42.5, 45, 47.5, 50, 52.5]
    assert ticks(3, 3, 4) == [2.5, 2.75, 3, 3.25, 3.5]
    for low, high in ((-0.013, 0.7), (0, 1e-6), (12, 98765)):
        found = ticks(low, high, 4)
        assert found[0] <= low < high <= found[-1]
        assert 3 <= len(found) <= 8


def test_chart_places_points_and_escapes_names() -> None:
    chart = curve_chart(
        [Curve("<a>", "red", [(0, 0.0), (100, 1.0)], marked=True, notes=["first"])], [Level("top", "blue", 2.0)]
    )
    assert 'points="0.0,1000.0 1000.0,500.0"' in chart
    assert chart.count('class="dot"') == 2
    assert "<title>first</title>" in chart
    assert "&lt;a&gt;" in chart
    assert re.search(r'class="level"[^>]*y1="0\.0"', chart)
    assert 'class="dot"' in curve_chart([Curve("one", "red", [(5, 1.0)])])


def test_thin_keeps_the_mean() -> None:
    points = [(float(i), float(i % 7)) for i in range(1000)]
    found = thin(points, 100)
    assert len(found) == 100
    assert np.mean([y for _, y in found]) == pytest.approx(np.mean([y for _, y in points]))
    assert thin(points[:50], 100) == points[:50]


def test_bars_are_as_long_as_their_values() -> None:
    bars = bar_group({"source": 25.0, "adapted": None, "oracle": 120.0})
    assert re.findall(r'class="bar (\w+)"[^>]*width="([\d.]+)%"', bars) == [("source", "25.00"), ("oracle", "100.00")]
    assert bars.count('class="rail"') == 3


def test_words() -> None:
    assert [words.gain(v) for v in (6.44, -1.06, 0.04, -0.04, None)] == ["+6.4", "−1.1", "0.0", "0.0", "–"]
    assert [words.share(v) for v in (0.0, 0.00012, 0.21, 1.0, None)] == ["0.0%", "0.012%", "21.0%", "100.0%", "–"]
    durations = [words.duration(v) for v in (4.4, 59.6, 210, 3599.7, 7500, None)]
    assert durations == ["4 s", "1 min 00 s", "3 min 30 s", "1 h 00 min", "2 h 05 min", "–"]
    assert [words.memory(v) for v in (900, 1310, None)] == ["900 MB", "1.3 GB", "–"]
    assert [words.separation(v) for v in (0.424, 1.1, 27.56, None)] == ["0.42", "1.10", "27.6", "–"]
    assert words.count(1234567.0) == "1\N{NARROW NO-BREAK SPACE}234\N{NARROW NO-BREAK SPACE}567"
    assert [compact(v) for v in (0.5, -2.0, 1500, 12)] == ["0.5", "−2", "1.5k", "12"]
