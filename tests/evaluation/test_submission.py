"""Files for the benchmarks' servers: names, places, numbers and sizes; and what is refused."""

from __future__ import annotations

import zipfile
from argparse import Namespace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from segadapt.errors import RequestError
from segadapt.evaluation.predict import predict_array
from segadapt.evaluation.submission import SERVERS, predict_submission, submission_images
from segadapt.labels import CAMVID, CITYSCAPES, SYNTHIA, LabelSpace
from segadapt.models.inference import InferenceConfig
from tests.data.writing import picture, save
from tests.evaluation.tiny import TinySegmenter

# train id -> label id of Cityscapes, typed from the specification
LABEL_ID = np.array([7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33], np.uint8)
CITIES = ("berlin_000000_000019", "bonn_000004_000019", "berlin_000001_000019")


def network(classes: int = len(CITYSCAPES)) -> TinySegmenter:
    torch.manual_seed(0)
    return TinySegmenter(classes).eval()


def write_test_split(benchmark: str, root: Path) -> list[Path]:
    """Write the test images of a data set as downloaded, with other files beside them."""
    if benchmark == "cityscapes":
        base = root / "leftImg8bit"
        save(base / "val" / "ulm" / "ulm_000000_000019_leftImg8bit.png", picture())
        return [
            save(base / "test" / n.split("_")[0] / f"{n}_leftImg8bit.png", picture(24, 36, i))
            for i, n in enumerate(CITIES)
        ]
    if benchmark == "dark_zurich":
        base = root / "rgb_anon"
        save(base / "val" / "night" / "GOPR0356" / "GOPR0356_frame_000321_rgb_anon.png", picture())
        folder = base / "test" / "night" / "GOPR0364"
        return [save(folder / f"GOPR0364_frame_{i:06d}_rgb_anon.png", picture(24, 36, i)) for i in (1, 2)]
    made = []
    for i, weather in enumerate(("fog", "night", "rain", "snow")):
        base, name = root / "rgb_anon" / weather, f"GP01{i}"
        save(base / "test_ref" / name / f"{name}_frame_000001_rgb_ref_anon.png", picture())
        made.append(save(base / "test" / name / f"{name}_frame_000001_rgb_anon.png", picture(24, 36, i)))
    return made


def stored(path: Path) -> np.ndarray:
    values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert values is not None, path
    return values


def files_below(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("benchmark", list(SERVERS))
def test_every_server_gets_its_files(tmp_path: Path, benchmark: str) -> None:
    images = write_test_split(benchmark, tmp_path / "data")
    out, model = tmp_path / "sub", network()
    config = InferenceConfig(flip=True)
    made = predict_submission(model, CITYSCAPES, tmp_path / "data", out, benchmark, config, archive=True, size=20)
    folders = {
        "cityscapes": [""], "acdc": ["labelTrainIds/"],
        "dark_zurich": ["labelTrainIds/", "labelTrainIds_invalid/", "confidence/"],
    }[benchmark]  # fmt: skip
    expected = sorted(f"{folder}{path.name}" for folder in folders for path in images)
    assert files_below(out) == expected
    with zipfile.ZipFile(tmp_path / "sub.zip") as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == expected
        assert archive.read(expected[0]) == (out / expected[0]).read_bytes()
    assert (made.count, made.archive) == (len(images), str(tmp_path / "sub.zip"))
    assert made.expected == {"cityscapes": 1525, "acdc": 2000, "dark_zurich": 151}[benchmark]
    seen = set()
    for path in images:
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        label, confidence = predict_array(model, image, config, size=20)
        wanted = LABEL_ID[label] if benchmark == "cityscapes" else label
        for folder in folders:
            got = stored(out / folder / path.name)
            assert got.shape == (24, 36)
            if folder == "confidence/":
                assert got.dtype == np.uint16
                assert np.abs(got / 65535 - confidence).max() < 1e-5
            else:
                assert got.dtype == np.uint8
                assert np.array_equal(got, wanted)
        seen |= set(np.unique(label).tolist())
    assert len(seen) > 3


def test_the_cityscapes_scripts_find_every_prediction(tmp_path: Path) -> None:
    scripts = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    write_test_split("cityscapes", tmp_path / "data")
    predict_submission(network(), CITYSCAPES, tmp_path / "data", tmp_path / "sub", "cityscapes")
    arguments = Namespace(predictionPath=str(tmp_path / "sub"), predictionWalk=None)
    for name in CITIES:
        found = scripts.getPrediction(arguments, f"{name}_gtFine_labelIds.png")
        assert Path(found).name.startswith(name)


def test_classes_in_another_order_are_renumbered(tmp_path: Path) -> None:
    images = write_test_split("acdc", tmp_path / "data")
    turned = LabelSpace("turned", CITYSCAPES.names[::-1], CITYSCAPES.colors[::-1])
    for space, name in ((CITYSCAPES, "a"), (turned, "b")):
        predict_submission(network(), space, tmp_path / "data", tmp_path / name, "acdc")
    for path in images:
        a, b = (stored(tmp_path / name / "labelTrainIds" / path.name) for name in "ab")
        assert np.array_equal(a, len(CITYSCAPES) - 1 - b)


def test_any_folder_of_images_will_do(tmp_path: Path) -> None:
    images = write_test_split("acdc", tmp_path / "data")
    some = submission_images(tmp_path / "data" / "rgb_anon" / "fog", tmp_path / "out", "acdc")
    assert some == [images[0].resolve()]
    with pytest.raises(RequestError, match=r"no image in .* is called \*_leftImg8bit\.png"):
        submission_images(tmp_path / "data", tmp_path / "out", "cityscapes")
    save(tmp_path / "data" / "rgb_anon" / "copy" / images[0].name, picture())
    with pytest.raises(RequestError, match="two images"):
        submission_images(tmp_path / "data" / "rgb_anon", tmp_path / "out", "acdc")


def test_other_label_spaces_and_servers_are_refused(tmp_path: Path) -> None:
    write_test_split("cityscapes", tmp_path / "data")
    for space in (CAMVID, SYNTHIA):
        with pytest.raises(RequestError, match=f"this model predicts the {len(space)} of '{space.name}'"):
            predict_submission(network(len(space)), space, tmp_path / "data", tmp_path / "sub", "cityscapes")
    with pytest.raises(RequestError, match=r"no server 'darkzurich' \(did you mean 'dark_zurich'"):
        predict_submission(network(), CITYSCAPES, tmp_path / "data", tmp_path / "sub", "darkzurich")
    assert not (tmp_path / "sub").exists()


def test_nothing_is_mixed_or_overwritten(tmp_path: Path) -> None:
    write_test_split("dark_zurich", tmp_path / "data")

    def again(overwrite: bool = False, archive: bool = False) -> None:
        predict_submission(
            network(),
            CITYSCAPES,
            tmp_path / "data",
            tmp_path / "sub",
            "dark_zurich",
            overwrite=overwrite,
            archive=archive,
        )

    again()
    with pytest.raises(RequestError, match="exists; name another output folder"):
        again()
    again(overwrite=True, archive=True)
    save(tmp_path / "sub" / "labelTrainIds" / "GOPR0364_frame_000001_old.png", picture())
    with pytest.raises(RequestError, match="not part of this submission"):
        again(overwrite=True)
    flat = save(tmp_path / "flat" / "leftImg8bit" / "test" / f"{CITIES[0]}_leftImg8bit.png", picture())
    with pytest.raises(RequestError, match="would replace an image"):
        predict_submission(network(), CITYSCAPES, tmp_path / "flat", flat.parent, "cityscapes", overwrite=True)


def test_an_image_that_cannot_be_read_leaves_no_archive(tmp_path: Path) -> None:
    images = write_test_split("acdc", tmp_path / "data")
    images[2].write_bytes(images[2].read_bytes()[:100])
    with pytest.raises(RequestError, match=images[2].name):
        predict_submission(network(), CITYSCAPES, tmp_path / "data", tmp_path / "sub", "acdc", archive=True)
    assert not (tmp_path / "sub.zip").exists()
