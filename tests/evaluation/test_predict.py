"""Prediction on files: what is written, what is refused, what is skipped and said."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from segadapt.core.files import write_bytes
from segadapt.data.decode import read_index
from segadapt.data.files.writing import encode_index_png
from segadapt.data.masks.mask_format import mask_format
from segadapt.errors import RequestError
from segadapt.evaluation.inputs import find_inputs
from segadapt.evaluation.predict import predict_array, predict_path
from segadapt.labels import CITYSCAPES, IGNORE, NTHU, SYNTHIA, LabelSpace, distinct_colors
from segadapt.models.inference import InferenceConfig, predict_labels
from tests.evaluation.test_scoring import FOUR, blocks, grey_image
from tests.evaluation.tiny import GreyLevels, TinySegmenter


def write(path: Path, image: npt.NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of odd sizes in sub-folders, one damaged, two with one stem, and a file that is not an image."""
    root = tmp_path / "in"
    for number, (name, height, width) in enumerate(
        [("plain.png", 33, 47), ("town/first.jpg", 20, 64), ("town/first.png", 1, 5), ("town/deep/last.PNG", 37, 9)]
    ):
        write(root / name, grey_image(blocks(height, width, number)))
    (root / "town" / "damaged.png").write_bytes((root / "plain.png").read_bytes()[:200])
    (root / "notes.txt").write_text("no image")
    return root


def names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_folder(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    calls: list[tuple[int, int]] = []
    config = InferenceConfig(flip=True)
    summary = predict_path(
        GreyLevels(4), FOUR, folder, out, config, "cpu", progress=lambda done, total: calls.append((done, total))
    )
    bases = ["plain", "town/deep/last", "town/first.jpg", "town/first.png"]
    files = [f"{b}{end}" for b in bases for end in (".png", "_overlay.jpg", "_confidence.png")]
    assert names(out) == sorted([*files, "legend.json"])
    assert summary.count == 4
    assert len(summary.skipped) == 1
    assert "damaged.png" in summary.skipped[0]
    assert calls[-1] == (5, 5)
    assert json.loads(json.dumps(summary.to_dict()))["count"] == 4
    for base, source in zip(
        bases, ["plain.png", "town/deep/last.PNG", "town/first.jpg", "town/first.png"], strict=True
    ):
        image = cv2.cvtColor(cv2.imread(str(folder / source)), cv2.COLOR_BGR2RGB)
        label, confidence = predict_array(GreyLevels(4), image, config)
        stored = Image.open(out / f"{base}.png")
        assert stored.mode == "P"
        assert np.array_equal(np.asarray(stored), label)
        assert np.array_equal(np.asarray(stored.convert("RGB")), FOUR.colorize(label))
        assert np.array_equal(read_index(out / f"{base}.png"), label)
        grey = np.asarray(Image.open(out / f"{base}_confidence.png"))
        assert np.array_equal(grey, np.rint(confidence * 255))
        assert Image.open(out / f"{base}_overlay.jpg").size == (image.shape[1], image.shape[0])


def test_known_prediction_and_single_file(tmp_path: Path) -> None:
    label = np.repeat(np.arange(4, dtype=np.uint8), 16)[None].repeat(32, 0)
    write(tmp_path / "in" / "bands.png", grey_image(label))
    out = tmp_path / "out"
    predict_path(GreyLevels(4), FOUR, tmp_path / "in" / "bands.png", out, kinds=("index", "color"))
    assert names(out) == ["bands.png", "bands_color.png", "legend.json"]
    assert (read_index(out / "bands.png") == label).mean() > 0.9
    color = cv2.cvtColor(cv2.imread(str(out / "bands_color.png")), cv2.COLOR_BGR2RGB)
    assert np.array_equal(color, FOUR.colorize(read_index(out / "bands.png")))


def test_results_do_not_land_on_each_other(tmp_path: Path) -> None:
    """The confidence of ``a`` and the index of ``a_confidence`` would be one file; so would A and a on some systems."""
    for number, name in enumerate(["a.png", "a_confidence.png", "B.png", "b.jpg"]):
        write(tmp_path / "in" / name, grey_image(blocks(16, 16 + number, number)))
    summary = predict_path(GreyLevels(4), FOUR, tmp_path / "in", tmp_path / "out", kinds=("index", "confidence"))
    assert summary.count == 4
    written = [name for name in names(tmp_path / "out") if name != "legend.json"]
    assert len({name.casefold() for name in written}) == 8
    for number, name in enumerate(["a.png", "a_confidence.png", "B.png", "b.jpg"]):
        assert read_index(tmp_path / "out" / f"{name}.png").shape == (16, 16 + number)


def test_existing_results_and_images_are_safe(folder: Path, tmp_path: Path) -> None:
    out = folder / "predictions"
    predict_path(GreyLevels(4), FOUR, folder, out)
    before = names(out)
    with pytest.raises(RequestError, match="--overwrite"):
        predict_path(GreyLevels(4), FOUR, folder, out)
    assert predict_path(GreyLevels(4), FOUR, folder, out, overwrite=True).count == 4
    assert names(out) == before
    with pytest.raises(RequestError, match="folder of the images"):
        predict_path(GreyLevels(4), FOUR, folder, folder, overwrite=True)
    with pytest.raises(RequestError, match="would replace an image"):
        predict_path(GreyLevels(4), FOUR, folder / "plain.png", folder, overwrite=True)


def test_wrong_requests(folder: Path, tmp_path: Path) -> None:
    model, out = GreyLevels(4), tmp_path / "out"
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "x.png").write_bytes(b"no image")
    for path, message in (
        (tmp_path / "nowhere", "there is no image, video or folder"),
        (tmp_path / "empty", "no images or videos in"),
        (folder / "notes.txt", "neither an image nor a video"),
        (tmp_path / "broken", "none of the 1 files"),
    ):
        with pytest.raises(RequestError, match=message):
            predict_path(model, FOUR, path, out)
    with pytest.raises(RequestError, match="did you mean 'overlay'"):
        predict_path(model, FOUR, folder, out, kinds=("overlays",))
    with pytest.raises(RequestError, match="no result"):
        predict_path(model, FOUR, folder, out, kinds=())
    with pytest.raises(RequestError, match="did you mean 'cityscapes'"):
        predict_path(model, FOUR, folder, out, ids="cityscape")
    with pytest.raises(RequestError, match="'a' of label space 'four' has no Cityscapes id"):
        predict_path(model, FOUR, folder, out, ids="cityscapes")
    with pytest.raises(RequestError, match="5 classes"):
        predict_path(GreyLevels(5), FOUR, folder, out)
    assert not out.exists()


def test_cityscapes_ids(tmp_path: Path) -> None:
    from cityscapesscripts.helpers.labels import name2label

    for space in (CITYSCAPES, SYNTHIA, NTHU):
        table = mask_format(space, "cityscapes").table
        assert [int(table[i]) for i in range(len(space))] == [name2label[name].id for name in space.names]
        assert table[IGNORE] == 0
    write(tmp_path / "in.png", grey_image(blocks(32, 48, 0), 16))
    model = TinySegmenter(len(SYNTHIA))
    predict_path(model, SYNTHIA, tmp_path / "in.png", tmp_path / "out", ids="cityscapes", kinds=("index",))
    predict_path(model, SYNTHIA, tmp_path / "in.png", tmp_path / "train", kinds=("index",))
    stored = Image.open(tmp_path / "out" / "in.png")
    assert stored.mode == "L"
    table = mask_format(SYNTHIA, "cityscapes").table
    assert np.array_equal(np.asarray(stored), table[read_index(tmp_path / "train" / "in.png")])


def test_array() -> None:
    model = TinySegmenter(4)
    image = grey_image(blocks(29, 31, 3))
    batch = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    label, confidence = predict_array(model, image[:, ::-1][:, ::-1])
    expected_label, expected_confidence = predict_labels(model, batch, (29, 31), InferenceConfig())
    assert np.array_equal(label, expected_label[0].numpy())
    assert np.array_equal(confidence, expected_confidence[0].numpy())
    assert predict_array(model, image, size=16)[0].shape == (29, 31)
    for bad in (image[..., 0], image.astype(np.float32), image[:0]):
        with pytest.raises(RequestError, match="RGB array"):
            predict_array(model, bad)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (40, 33)])
def test_index_png_is_read_back_by_others(tmp_path: Path, shape: tuple[int, int]) -> None:
    label = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    palette = LabelSpace("many", tuple(f"c{i}" for i in range(255)), distinct_colors(255)).palette()
    for file, content, mode in (
        ("grey.png", encode_index_png(label), "L"),
        ("palette.png", encode_index_png(label, palette), "P"),
    ):
        write_bytes(tmp_path / file, content)
        stored = Image.open(tmp_path / file)
        assert stored.mode == mode
        assert np.array_equal(np.asarray(stored), label)
        assert np.array_equal(read_index(tmp_path / file), label)
    assert np.array_equal(cv2.imread(str(tmp_path / "grey.png"), cv2.IMREAD_UNCHANGED), label)
    assert np.array_equal(cv2.imread(str(tmp_path / "palette.png"))[..., ::-1], palette[label])
    assert names(tmp_path) == ["grey.png", "palette.png"]
    with pytest.raises(ValueError, match="label map"):
        encode_index_png(label.astype(np.int64))  # type: ignore[arg-type]


def test_linked_and_hidden_files(folder: Path, tmp_path: Path) -> None:
    write(folder / ".hidden" / "x.png", grey_image(blocks(8, 8, 0)))
    write(folder / "._plain.png", grey_image(blocks(8, 8, 0)))
    write(tmp_path / "elsewhere" / "y.png", grey_image(blocks(8, 8, 0)))
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    found = [p.relative_to(folder.resolve()).as_posix() for p in find_inputs(folder).images]
    assert "link/y.png" in found
    assert not any("hidden" in name or "._" in name for name in found)
