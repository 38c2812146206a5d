"""What the page gets and hands out is what ``segadapt predict`` writes; little is kept; names in archives are safe."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
import urllib.request
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import segadapt
from segadapt.cli.serving import serve
from segadapt.core.documents import write_document
from segadapt.core.limits import VARIABLE
from segadapt.core.signals import answering
from segadapt.data.decode import read_picture
from segadapt.errors import RequestError, Stopped
from segadapt.evaluation.predict import predict_array, predict_path
from segadapt.labels import CITYSCAPES, LabelSpace
from segadapt.models.build import build_segmenter
from segadapt.models.store import save_model
from segadapt.serve import Limits, Server, served_models
from segadapt.serve.results import KINDS, Result, Store, result_of
from segadapt.serve.uploads import archived_name, sent_name
from tests.evaluation.tiny import GreyLevels
from tests.serve.making import HEIGHT, SPACE, WIDTH, Shifted, get, picture, png, post, served, serving


def pixels(content: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(content)))


def test_a_prediction_is_what_the_command_predicts(tmp_path: Path) -> None:
    """A photograph on its side, through the server and with predict; every download is the same file."""
    turned = Image.Exif()
    turned[274] = 6
    content = png(picture(1), "JPEG", quality=95, exif=turned)
    (tmp_path / "b.jpg").write_bytes(content)
    image = read_picture(tmp_path / "b.jpg")
    assert image.shape == (WIDTH, HEIGHT, 3)
    with serving() as server:
        status, found = post(server, content, name="a/b.jpg")
        assert (status, found["height"], found["width"], found["base"]) == (200, WIDTH, HEIGHT, "a/b")
        at = f"/results/{found['id']}"
        models = {model.key: model.loaded.model for model in server.served.models}
        made = {key: predict_array(model, image) for key, model in models.items()}
        for key, model in models.items():
            where = tmp_path / key
            kinds = [*KINDS]
            predict_path(model, SPACE, tmp_path / "b.jpg", where, kinds=kinds, ids="own")
            for kind, ending in KINDS.items():
                status, headers, file = get(server, f"{at}/{key}-{kind}.png")
                assert (status, headers["Content-Disposition"]) == (200, "attachment")
                assert file == (where / f"b{ending}").read_bytes()
        labels, confidence = pixels(get(server, f"{at}/labels.png")[2]), pixels(get(server, f"{at}/confidence.png")[2])
        for place, prediction in enumerate(made.values()):
            assert np.array_equal(labels[..., place], prediction.labels)
            assert np.array_equal(confidence[..., place], np.rint(prediction.confidence * 255))
        assert pixels(get(server, f"{at}/image.jpg")[2]).shape == image.shape
        assert get(server, f"{at}/thumb.jpg")[0] == 200
        for wrong in ("image.png", "labels.jpg", "oracle-index.png", "source-overlay.png", "source.png", "thumb-x.jpg"):
            assert get(server, f"{at}/{wrong}")[0] == 404
    before, after = (prediction.labels for prediction in made.values())
    differing = before != after
    assert 0.1 < differing.mean() < 0.9
    assert found["differing"] == pytest.approx(differing.mean(), abs=1e-6)
    for shares, label in zip(found["shares"], (before, after), strict=True):
        assert shares == pytest.approx([(label == k).mean() for k in range(3)], abs=1e-6)
    flows = {(a, b): share for a, b, share in found["flows"]}
    assert flows == pytest.approx(
        {(a, b): ((before == a) & (after == b)).mean() for a in range(3) for b in range(3)
         if a != b and ((before == a) & (after == b)).any()}, abs=1e-6
    )  # fmt: skip
    assert [*flows.values()] == sorted(flows.values(), reverse=True)


def test_a_large_image_is_drawn_smaller_and_downloaded_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segadapt.serve.results.DRAWN", 200)
    monkeypatch.setattr("segadapt.serve.results._COUNTED", 100)
    shown, image = served(), picture(2)
    made = [predict_array(model.loaded.model, image) for model in shown.models]
    result = result_of("a", image, made, shown)
    drawn = pixels(result.drawn["labels.png"])
    assert drawn.shape[:2] == pixels(result.drawn["image.jpg"]).shape[:2] == (12, 17)
    rows, columns = (np.arange(12) + 0.5) * HEIGHT // 12, (np.arange(17) + 0.5) * WIDTH // 17
    assert np.array_equal(drawn[..., 1], made[1].labels[np.ix_(rows.astype(int), columns.astype(int))])
    assert pixels(result.download(shown, "adapted", "confidence")).shape == (HEIGHT, WIDTH)
    assert result.facts["differing"] == pytest.approx((made[0].labels != made[1].labels).mean(), abs=1e-6)
    assert sum(result.facts["shares"][0]) == pytest.approx(1, abs=1e-5)


def test_a_raster_on_earth_is_predicted_in_tiles(tmp_path: Path) -> None:
    """At the scale of the images of its run, as the command does; no data is no class."""
    pytest.importorskip("rasterio")
    from tests.data.test_raster import write_tiff

    image = picture(3)
    image[:8, :8] = 0
    write_tiff(tmp_path / "a.tif", np.moveaxis(image, -1, 0), crs="EPSG:32633", nodata=0)
    network = GreyLevels(3, 20.0)
    with serving(of=served(network, size=[16, 24], pictures=[64, 96])) as server:
        status, found = post(server, (tmp_path / "a.tif").read_bytes(), name="a.tif")
        assert status == 200
        file = get(server, f"/results/{found['id']}/model-index.png")[2]
        loaded = server.served.models[0].loaded
    from segadapt.evaluation.tiling import view_of

    predict_path(network, SPACE, tmp_path / "a.tif", tmp_path / "out", kinds=["index"], ids="own", size=(16, 24),
                 view=view_of(loaded, None))  # fmt: skip
    expected = np.array(Image.open(tmp_path / "out/a.tif"))
    assert np.array_equal(pixels(file), expected)
    assert sum(found["shares"][0]) == pytest.approx(1 - 64 / image[..., 0].size, abs=1e-5)


# ---- what is kept ----


def result(size: int) -> Result:
    return Result("a", {"base": "a"}, {"image.jpg": bytes(size)}, {})


def test_the_store_is_bounded_in_results_and_bytes() -> None:
    store = Store(3, 100)
    keys = [store.add(result(10)) for _ in range(3)]
    assert store.get(keys[0]) is not None  # asked for, so it stays longest
    store.add(result(10))
    assert [store.get(key) is not None for key in keys] == [True, False, True]
    store.add(result(85))
    assert [store.get(key) is not None for key in keys] == [False, False, True]
    large = store.add(result(1000))
    assert len(store) == 1
    assert store.get(large) is not None
    assert len({*keys, large}) == 4
    assert all(len(key) == 22 for key in keys)


def test_a_result_that_is_no_longer_kept_is_said() -> None:
    with serving(Limits(results=1)) as server:
        first, second = (post(server, png(picture(seed)))[1] for seed in range(2))
        status, _, content = get(server, f"/results/{first['id']}/image.jpg")
        assert (status, json.loads(content)["error"]) == (404, "this result is no longer kept; send its image again")
        assert get(server, f"/results/{second['id']}/image.jpg")[0] == 200
        assert post(server, json.dumps([first["id"]]).encode(), path="/archive")[0] == 404


# ---- archives ----


def test_names_become_safe_ones() -> None:
    for name, expected in {
        "../../etc/passwd": "etc/passwd",
        "/a/b.tar.png": "a/b.tar",
        "a\\..\\b.jpg": "a/b",
        "C:\\x\\y.png": "C_/x/y",
        "aux.jpg": "_aux",
        ".hidden.png": "hidden",
        "-rf.png": "rf",
        "..": "image",
        "": "image",
        "a/b/c/d/e/f/g/h/i/j/k.png": "c/d/e/f/g/h/i/j/k",
        "tu\u202egnp.exe.png": "tu_gnp.exe",
        "ö" * 300 + ".png": "ö" * 100,
    }.items():
        assert archived_name(name) == expected
    assert sent_name("a%0d%0aSet-Cookie%3a%20x%1b") == r"a Set-Cookie: x\x1b"
    assert sent_name("%ff") == "\ufffd"
    assert len(sent_name("x" * 5000)) == 400


def test_an_archive_has_all_downloads_under_safe_and_different_names() -> None:
    sent = ["../up.png", "a.png", "A.jpg", "a_color.png", "d/a.png"]
    with serving() as server:
        results = [post(server, png(picture(seed)), name=name)[1] for seed, name in enumerate(sent)]
        ids = [found["id"] for found in results]
        status, content = post(server, json.dumps([*ids, ids[0]]).encode(), path="/archive")
        assert status == 200
        archive = zipfile.ZipFile(io.BytesIO(content))
        assert archive.testzip() is None
        bases = ["up", "a", "A-2", "a_color-2", "d/a"]
        files = {f"{key}/{base}{end}" for key in ("source", "adapted") for base in bases for end in KINDS.values()}
        assert set(archive.namelist()) == {*files, "source/legend.json", "adapted/legend.json", "summary.json"}
        for base, key in zip(bases, ids, strict=True):
            expected = get(server, f"/results/{key}/adapted-index.png")[2]
            assert archive.read(f"adapted/{base}.png") == expected
        summary = json.loads(archive.read("summary.json"))
        assert [image["file"] for image in summary["images"]] == bases
        assert [image["name"] for image in summary["images"]] == sent
        for wrong in (b"", b"{}", b"[]", b"[1]", b'["../x"]', b"[" * 10_000, b"\xff", json.dumps(ids * 99).encode()):
            assert post(server, wrong, path="/archive")[0] == 400
        assert post(server, bytes(70_000), path="/archive")[0] == 413


# ---- models ----


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    network = build_segmenter("timm:resnet10t", 3, weights=None, width=16)
    for stage in ("warm", "adapt", "best"):
        save_model(folder / "stages" / stage / "model.safetensors", network, SPACE, {"stage": stage, "size": 32})
    return folder


def results(run: Path, recommended: str | None, stages: tuple[str, ...] = ("warm", "adapt", "best")) -> Path:
    roles = {"warm": "source", "adapt": "adapted", "best": "oracle"}
    rows = [{"stage": s, "role": roles[s], "title": s.title(), "method": s, "scores": None} for s in stages]
    told: dict[str, Any] = {"title": "t/c", "rows": rows}
    if recommended:
        told["guard"] = {"recommended": recommended, "source": "warm", "adapted": "adapt", "line": "it is so"}
    write_document(run / "results.json", told)
    return run


def told(path: Path, **options: Any) -> tuple[list[tuple[str, str]], str, str]:
    found = served_models(path, **options)
    return [(model.key, model.title) for model in found.models], found.recommended, found.why


def test_the_models_of_a_run(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = cache(lambda path, device, stage: segadapt.load(path, device, stage=stage))
    monkeypatch.setattr("segadapt.serve.models.load", opened)
    both = [("source", "Warm"), ("adapted", "Adapt")]
    assert told(results(run, "adapt")) == (both, "adapted", "it is so")
    assert told(results(run, "warm")) == (both, "source", "it is so")
    assert told(run, stage="best") == ([both[0], ("oracle", "Best")], "source", "it is so")
    assert told(run, stage="warm") == (both[:1], "source", "it is so")
    models, recommended, why = told(results(run, None))
    assert (models, recommended) == (both, "")
    assert "no verdict" in why
    assert told(results(run, None, ("warm",))) == (both[:1], "", "")
    file = run / "stages/adapt/model.safetensors"
    assert told(file) == ([("model", "model.safetensors")], "", "")
    with pytest.raises(RequestError, match="no finished stage 'none'"):
        served_models(results(run, "adapt"), stage="none")
    with pytest.raises(RequestError, match="without a finished stage"):
        served_models(run / "stages")
    assert served_models(file).masks.ids == "own"
    assert served_models(file, ids="train").masks.ids == "train"
    with pytest.raises(RequestError, match="no Cityscapes id"):
        served_models(file, ids="cityscapes")
    image = picture()
    expected = segadapt.predict(file, image)
    model = served_models(file).models[0]
    assert np.array_equal(model.predictor.predicted(model.predictor.prepared(image), image.shape[:2]).fetched()[0],
                          expected.labels)  # fmt: skip


def test_models_of_different_classes_are_not_compared(run: Path, tmp_path: Path) -> None:
    other = LabelSpace("o", CITYSCAPES.names[:3], CITYSCAPES.colors[:3])
    network = build_segmenter("timm:resnet10t", 3, weights=None, width=16)
    save_model(tmp_path / "stages/warm/model.safetensors", network, other, {})
    save_model(tmp_path / "stages/adapt/model.safetensors", network, SPACE, {})
    with pytest.raises(RequestError, match="different classes"):
        served_models(results(tmp_path, None, ("warm", "adapt")))
    file = tmp_path / "stages/warm/model.safetensors"
    assert served_models(file).masks.ids == "train"  # it knows no ids of masks


def test_the_command_serves_until_a_signal(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, "40000000")
    found: dict[str, Any] = {}

    def visit(address: str) -> None:
        found.update(json.loads(urllib.request.urlopen(f"{address}facts.json", timeout=5).read()))
        os.kill(os.getpid(), signal.SIGTERM)

    def opened(address: str) -> None:
        threading.Thread(target=visit, args=(address,)).start()

    monkeypatch.setattr("webbrowser.open", opened)
    with answering(), pytest.raises(Stopped, match=r"^stopped by SIGTERM; nothing of the images and results is kept$"):
        serve(results(run, "warm"), port=0, open_=True, max_mb=3, accelerator="cpu")
    assert found["limits"] == {"upload": 3 << 20, "pixels": 40_000_000, "results": 200}
    assert found["recommended"] == "source"
    out, err = capsys.readouterr()
    assert out.startswith("Warm and Adapt: http://127.0.0.1:")
    assert "it is so" in err


def test_a_port_that_is_taken_is_one_line() -> None:
    with serving() as server, pytest.raises(RequestError, match=rf"port {server.server_port} of 127.0.0.1 .*--port 0"):
        Server(served(GreyLevels(3)), port=server.server_port)
    with pytest.raises(RequestError, match="--host 'no such' is no name"):
        Server(served(Shifted(3)), host="no such")
