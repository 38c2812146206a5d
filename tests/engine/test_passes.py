"""Passes over a target set: what is at work at the same time, what is on the disk when, and where they can be ended."""

from __future__ import annotations

import ast
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segadapt.data.dataset import Dataset, Item, Picture
from segadapt.data.decode import read_index
from segadapt.engine.bundle import DataBundle
from segadapt.engine.environment import RoundEnvironment
from segadapt.engine.record import Record
from segadapt.engine.runtime import Runtime
from segadapt.engine.stored import KeptScores
from segadapt.engine.together import Together
from segadapt.errors import Interrupted
from segadapt.evaluation.predictor import Predictor, predict_each
from segadapt.evaluation.scoring import evaluate
from segadapt.labels import LabelSpace
from segadapt.methods.ranking import rank_target
from segadapt.models.inference import InferenceConfig
from segadapt.models.segmenter import Output
from segadapt.pieces.pseudo_labels import select
from segadapt.pieces.thresholds import ClassThresholds
from segadapt.runs.config import build_config
from segadapt.runs.run import Run, resumed
from tests.evaluation.tiny import TinySegmenter
from tests.tiny import raw_config

COUNT = 6
SOON = 20.0
SPACE = LabelSpace("three", ("a", "b", "c"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))


class Watched(TinySegmenter):
    """Waits in its third call until the fourth image is decoded and the first result is being written.

    It can go on only if decoding runs ahead of the network and writing behind it.
    """

    def __init__(self) -> None:
        super().__init__(3)
        self.calls = 0
        self.decoded, self.writing = threading.Event(), threading.Event()

    def network(self, x: torch.Tensor) -> Output:
        self.calls += 1
        if self.calls == 3:
            assert self.decoded.wait(SOON)
            assert self.writing.wait(SOON)
        return super().network(x)


def dataset(read: Callable[[Path], Picture] | None = None) -> Dataset:
    items = tuple(Item(str(i), Path(f"{i}"), Path(f"{i}")) for i in range(COUNT))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (COUNT, 16, 24, 3), np.uint8)
    label = rng.integers(0, 3, (16, 24), np.uint8)
    return Dataset("six", SPACE, items, read or (lambda path: images[int(path.name)]), lambda _: label)


def environment(folder: Path, target: Dataset, look: Callable[[], None] = lambda: None) -> RoundEnvironment:
    unlabelled = replace(target, items=tuple(replace(item, label=None) for item in target.items))
    data = DataBundle(source=None, target=unlabelled, truth=target, cache_folder=folder)
    record, runtime = Record(folder, False), Runtime("cpu")
    return RoundEnvironment(data, SPACE, seed=0, runtime=runtime, record=record, folder=folder / "round0", look=look)


def watched_data(model: Watched) -> Dataset:
    plain = dataset()

    def read(path: Path) -> Picture:
        if path.name == "3":
            model.decoded.set()
        return plain.read_image(path)

    return dataset(read)


def test_scores_are_written_while_the_network_computes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not so the last ones: all are there when the pass is over."""
    model = Watched().eval()
    keep = KeptScores.keep

    def watched(self: KeptScores, index: int, scores: torch.Tensor) -> None:
        model.writing.set()
        keep(self, index, scores)

    monkeypatch.setattr(KeptScores, "keep", watched)
    predictions = environment(tmp_path, watched_data(model)).predict_target(model, InferenceConfig())
    assert [seen.index for seen in predictions] == list(range(COUNT))
    assert len(list((tmp_path / "round0/scores").glob("*.scores"))) == COUNT


def test_kept_scores_are_the_same_bits_and_read_without_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several threads read them, see tests/test_house.py::test_no_thread_reads_python."""
    monkeypatch.setattr(ast, "parse", lambda *_, **__: pytest.fail("reads Python"))
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int16)  # all there are: zeros, infinities, not-a-numbers
    kept = KeptScores(tmp_path)
    kept.keep(7, bits.view(torch.float16).view(4, 128, 128))
    found = kept(7)
    assert (found.dtype, found.shape, found.flags.writeable) == (np.float16, (4, 128, 128), True)
    np.testing.assert_array_equal(found.ravel().view(np.int16), bits.numpy())


def test_predictions_are_written_while_the_network_computes() -> None:
    model, written = Watched(), []
    data = watched_data(model)

    def write(path: Path, image: Picture, made: object) -> None:
        model.writing.set()
        written.append(int(path.name))

    paths = [item.image for item in data.items]
    predictor = Predictor.of(model.eval(), None, "cpu")
    predict_each(predictor, paths, data.read_image, write, lambda *_: pytest.fail("damaged"), lambda: None)
    assert sorted(written) == list(range(COUNT))


def test_test_images_are_decoded_while_the_network_computes() -> None:
    model = Watched().eval()
    model.writing.set()
    assert evaluate(model, watched_data(model), InferenceConfig(), "cpu").pixels == tuple(
        np.bincount(dataset().label(0).ravel(), minlength=3) * COUNT
    )


def test_labels_are_on_the_disk_before_anything_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the disk is."""
    from segadapt.engine import label_store

    order, write_bytes, write_document = [], label_store.write_bytes, label_store.write_document

    def slow(path: Path, content: bytes, **how: Any) -> None:
        threading.Event().wait(0.05)
        write_bytes(path, content, **how)
        order.append(path.name)

    def note(path: Path, value: Any) -> None:
        order.append(path.name)
        write_document(path, value)

    monkeypatch.setattr(label_store, "write_bytes", slow)
    monkeypatch.setattr(label_store, "write_document", note)
    made = environment(tmp_path, dataset())
    with made.storing():
        for index in range(COUNT):
            label = torch.full((16, 24), index % 3, dtype=torch.uint8)
            made.keep_label(index, label)
            label.fill_(9)  # what a method does with its tensor afterwards changes nothing
            made.keep_soft_label(index, torch.full((3, 2, 3), -1.0))
    assert len(order) == COUNT
    assert [sorted(np.unique(made.pseudo_labelled().label(i))) for i in range(3)] == [[0], [1], [2]]
    summary = made.finish_preparation("stage", 0)
    assert order[-1] == "labels.json"
    assert summary is not None
    assert summary["accuracy"] == pytest.approx(
        np.mean([(dataset().label(0) == index % 3).mean() for index in range(COUNT)])
    )


@pytest.mark.parametrize("images", [3, COUNT + 3, 3 * COUNT + 3], ids=["scores", "ranking", "labels"])
def test_a_pass_ends_between_two_images(tmp_path: Path, images: int) -> None:
    """With whole files behind it; the pass can be repeated."""
    looks = iter(range(images))
    model, ranking = TinySegmenter(3).eval(), ClassThresholds(3, 0.5)

    def look() -> None:
        if next(looks, None) is None:
            raise Interrupted("stopped")

    def prepare(made: RoundEnvironment, ranking: ClassThresholds) -> None:
        with torch.no_grad(), made.storing():
            predictions = made.predict_target(model, InferenceConfig())
            rank_target(ranking, predictions, made)
            for seen in predictions:
                made.keep_label(seen.index, select(seen.probabilities[None], ranking.thresholds())[0])

    before = threading.active_count()
    with pytest.raises(Interrupted):
        prepare(environment(tmp_path, dataset(), look), ranking)
    assert threading.active_count() <= before + 2  # those that decode end when the error is forgotten
    assert len(list((tmp_path / "round0").rglob("*.part*"))) == 0
    labels = list((tmp_path / "round0").rglob("labels/*.png"))
    assert len(labels) <= 3
    assert all(set(np.unique(read_index(path))) <= {0, 1, 2, 255} for path in labels)
    again = environment(tmp_path, dataset())
    again.discard_preparation()
    prepare(again, ClassThresholds(3, 0.5))
    summary = again.finish_preparation("stage", 0)
    assert summary is not None
    assert len(list((tmp_path / "round0").rglob("labels/*.png"))) == COUNT


def test_a_run_repeats_a_pass_that_was_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = raw_config(tmp_path, "cbst", test=False, rounds=1)
    for stage in raw["stages"].values():
        stage["steps"] = 1
    looks = iter(range(20))

    def look(self: Together) -> None:
        if next(looks, None) is None:  # two labels are written
            raise Interrupted("stopped")

    with monkeypatch.context() as patched:
        patched.setattr(Together, "look", look)
        with pytest.raises(Interrupted):
            Run.open(build_config(raw, "tiny"), tmp_path / "run", quiet=True).execute()
    made = tmp_path / "run/stages/adapt/round0"
    assert not (made / "labels.json").exists()
    resumed(tmp_path / "run", quiet=True).execute()
    assert (made / "labels.json").exists()
    assert len(list((made / "labels").iterdir())) == 6
