"""Predictions in tiles: the same as of the whole, without seams, at the same place, with few rows in memory."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from segadapt.data.dataset import Dataset, Item
from segadapt.data.decode import read_index, read_picture
from segadapt.data.files.raster import Raster, Window
from segadapt.data.masks.labelling import no_labels
from segadapt.data.masks.mask_format import mask_format
from segadapt.data.masks.stamp import read_stamp
from segadapt.data.memory import in_memory
from segadapt.errors import RequestError, RunError
from segadapt.evaluation.mosaic import Mosaic, is_mosaic
from segadapt.evaluation.predict import predict_array, predict_path
from segadapt.evaluation.results import Look
from segadapt.evaluation.tiling import View, plan_axis, usual_size, view_by_size, view_of
from segadapt.labels import IGNORE, SYNTHIA
from segadapt.models.inference import InferenceConfig
from segadapt.models.segmenter import Output
from segadapt.models.store import LoadedModel
from tests.data.test_raster import rasterio, write_tiff
from tests.evaluation.test_scoring import FOUR, blocks, grey_image
from tests.evaluation.tiny import GreyLevels, TinySegmenter

Numbers = npt.NDArray[Any]


def scene(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Return RGB [H, W, 3] of blocks of grey, none of it 0."""
    return np.maximum(grey_image(blocks(height, width, seed)), 1)


def tiff(path: Path, picture: Numbers, **more: Any) -> Path:
    return write_tiff(path, np.moveaxis(picture, -1, 0), **more)


def predicted(path: Path, model: Any, out: Path, view: View, **more: Any) -> tuple[Numbers, Numbers]:
    """Return index and confidence of a mosaic, as rasterio reads them."""
    files = {"index": out / "x.tif", "confidence": out / "x_confidence.tif", "overlay": out / "x_overlay.jpg"}
    Mosaic(path, model, InferenceConfig(**more), view).predict(files, Look(mask_format(FOUR, "train")))
    read = []
    for kind in ("index", "confidence"):
        with rasterio.open(files[kind]) as file:
            read.append(file.read(1))
    return read[0], read[1]


@settings(max_examples=100, deadline=None)
@given(
    length=st.integers(1, 100_000),
    scale=st.floats(0.01, 8),
    tile=st.integers(1, 1024),
    overlap=st.floats(0, 0.9),
    stride=st.sampled_from([1, 4, 8, 32]),
)
def test_tiles_cover_a_side_at_whole_pixels_and_cells(
    length: int, scale: float, tile: int, overlap: float, stride: int
) -> None:
    axis = plan_axis(length, scale, tile, overlap, stride)
    assert axis.pixels * (axis.units - 1) < length <= axis.pixels * axis.units
    assert axis.shown == axis.cells * stride
    assert axis.scale == pytest.approx(scale, rel=0.011)
    assert axis.starts[0] == 0
    assert axis.starts[-1] + axis.tile == axis.units
    steps = np.diff(axis.starts)
    assert (steps > 0).all()
    assert (steps <= max(1, axis.tile * (1 - overlap))).all()


@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 150), width=st.integers(1, 150), tile=st.sampled_from([24, 40, 64]), block=st.booleans())
def test_tiles_give_what_the_whole_image_gives(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, tile: int, block: bool
) -> None:
    """Exactly, for a network that sees no further than a cell."""
    out = tmp_path_factory.mktemp("m")
    picture = scene(height, width, height)
    how: dict[str, Any] = {"tiled": True, "blockxsize": 16, "blockysize": 16} if block else {}
    path = tiff(out / "in.tif", picture, **how)
    view = View((1.0, 1.0), (tile, tile), "")
    if Mosaic(path, GreyLevels(4), InferenceConfig(), view).tiles > 1:
        picture = np.pad(picture, ((0, -height % 4), (0, -width % 4), (0, 0)), mode="edge")  # to whole cells
    label, confidence = predict_array(GreyLevels(4), picture)
    found, sure = predicted(path, GreyLevels(4), out, view)
    assert (found != label[:height, :width]).mean() <= 0.001
    assert np.abs(sure / 255 - confidence[:height, :width]).max() < 0.003


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5])
def test_other_scales_are_those_of_the_whole(tmp_path: Path, scale: float) -> None:
    picture = scene(240, 320)
    path = tiff(tmp_path / "in.tif", picture)
    label, _ = predict_array(GreyLevels(4), picture, size=(round(240 * scale), round(320 * scale)))
    found, _ = predicted(path, GreyLevels(4), tmp_path, View((scale, scale), (48, 64), ""))
    assert (found == label).mean() > 0.97


def test_away_from_borders_a_tile_sees_what_the_whole_shows(tmp_path: Path) -> None:
    """And two calls give the same bytes; mirrored views and scales work on each tile."""
    model = TinySegmenter(4).eval()
    picture = np.random.default_rng(0).integers(0, 256, (160, 200, 3)).astype(np.uint8)
    path = tiff(tmp_path / "in.tif", picture)
    several: dict[str, Any] = {"flip": True, "scales": (0.75, 1.0)}  # the grid at 0.75 begins anew in each tile
    for more, most in (({}, 0.005), (several, 0.05)):
        _, whole = predict_array(model, picture, InferenceConfig(**more))
        first = predicted(path, model, tmp_path, View((1.0, 1.0), (64, 64), ""), **more)
        assert np.abs(first[1] / 255 - whole).mean() < most
        again = predicted(path, model, tmp_path, View((1.0, 1.0), (64, 64), ""), **more)
        assert (first[0] == again[0]).all()
        assert (first[1] == again[1]).all()


class Sided(GreyLevels):
    """Is sure of class 0 at the left of what it sees, less and less to the right: tiles disagree at their borders."""

    def network(self, x: Tensor) -> Output:
        features = super().network(x).features
        ramp = torch.linspace(1.5, -1.5, features.shape[3]).expand(features[:, :1].shape)
        return Output(torch.cat([ramp, -ramp, ramp * 0 - 9, ramp * 0 - 9], 1), features)


def test_tiles_that_disagree_leave_no_seam(tmp_path: Path) -> None:
    path = tiff(tmp_path / "in.tif", scene(64, 400))
    found, sure = predicted(path, Sided(4), tmp_path, View((1.0, 1.0), (64, 128), ""))
    share = np.where(found == 0, sure, 255 - sure.astype(int))[32]
    assert share.max() > 200  # the network is sure in places,
    assert share.min() < 90
    assert np.abs(np.diff(share[4:-4])).max() <= 8  # and neighbours differ by a step of a ramp


def test_results_lie_where_the_image_lies(tmp_path: Path) -> None:
    picture = scene(150, 130)
    picture[:40, :50] = 0
    path = tiff(tmp_path / "in" / "ortho.tif", picture, nodata=0)
    calls: list[tuple[int, int]] = []
    summary = predict_path(
        GreyLevels(4),
        FOUR,
        path,
        tmp_path / "out",
        InferenceConfig(window=(64, 64)),
        kinds=("index", "confidence", "overlay", "color"),
        progress=lambda done, total: calls.append((done, total)),
    )
    assert summary.count == 1
    assert summary.mosaics == (
        "ortho.tif: 130x150 pixels in 12 tiles, each 64x64 to the network; scale 1, the file's own",
    )
    assert calls == [(n, 12) for n in range(1, 13)]
    names = sorted(file.name for file in (tmp_path / "out").glob("ortho*"))
    assert names == ["ortho.tif", "ortho_color.tif", "ortho_confidence.tif", "ortho_overlay.jpg"]
    with rasterio.open(path) as given:
        for name in names[:3]:
            with rasterio.open(tmp_path / "out" / name) as made:
                assert (made.crs, made.transform, made.shape) == (given.crs, given.transform, given.shape)
    with rasterio.open(tmp_path / "out" / "ortho.tif") as made, rasterio.open(tmp_path / "out" / names[2]) as sure:
        index = made.read(1)
        assert made.nodata == IGNORE
        assert [made.colormap(1)[n][:3] for n in range(4)] == [tuple(colour) for colour in FOUR.colors]
        assert ((index == IGNORE) == (picture[..., 0] == 0)).all()
        assert (sure.read(1)[:40, :50] == 0).all()
        assert (sure.read(1)[60:, 60:] > 0).all()
    assert (read_index(tmp_path / "out" / "ortho.tif") == index).all()
    assert np.asarray(Image.open(tmp_path / "out" / "ortho_overlay.jpg")).shape == (150, 130, 3)


def test_ids_of_a_server_are_written_with_their_colours(tmp_path: Path) -> None:
    picture = scene(40, 40)
    picture[0] = 0
    path = tiff(tmp_path / "in.tif", picture, nodata=0)
    model = GreyLevels(len(SYNTHIA))
    predict_path(model, SYNTHIA, path, tmp_path / "ids", kinds=("index",), ids="cityscapes")
    predict_path(model, SYNTHIA, path, tmp_path / "train", kinds=("index",))
    train = read_index(tmp_path / "train" / "in.tif")
    with rasterio.open(tmp_path / "ids" / "in.tif") as made:
        assert made.nodata == 0
        assert (made.read(1)[0] == 0).all()
        for train_id in np.unique(train[1:]):
            (label_id,) = np.unique(made.read(1)[train == train_id])
            assert made.colormap(1)[int(label_id)][:3] == tuple(SYNTHIA.colors[train_id])


def test_own_ids_of_sixteen_bits_and_the_classes_are_in_the_file(tmp_path: Path) -> None:
    """So it is read as a mask again by names."""
    path = tiff(tmp_path / "in.tif", scene(40, 40))
    own = replace(FOUR, ids=(7, 300, 0, 9), ignore_id=255)
    predict_path(GreyLevels(4), own, path, tmp_path / "own", kinds=("index", "color"), ids="own")
    predict_path(GreyLevels(4), own, path, tmp_path / "train", kinds=("index",))
    train = read_index(tmp_path / "train" / "in.tif")
    with rasterio.open(tmp_path / "own" / "in.tif") as made:
        assert made.nodata == 255
        assert (made.read(1) == np.array(own.ids)[train]).all()
    for file, number in ((tmp_path / "own" / "in.tif", 300), (tmp_path / "train" / "in.tif", 1)):
        stamp = read_stamp(file)
        assert stamp is not None
        assert stamp.values[number] == "b"
    shown = read_stamp(tmp_path / "own" / "in_color.tif")
    assert shown is not None
    assert shown.colors[own.colors[3]] == "d"


def test_only_some_rows_are_read_at_a_time_and_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a PNG too, which can only be read from the top down; it gives TIFF without a place."""
    monkeypatch.setattr("segadapt.evaluation.mosaic.MOSAIC_PIXELS", 1000)
    monkeypatch.setattr("segadapt.evaluation.strips.READ_BYTES", 32 * 96)
    windows: list[Window] = []
    read = Raster.read

    def noted(self: Raster, window: Any = None, *more: Any, **others: Any) -> Any:
        if self.path.name == "mosaic.png":
            windows.append(window)
        return read(self, window, *more, **others)

    monkeypatch.setattr(Raster, "read", noted)
    picture = scene(700, 96)
    Image.fromarray(picture).save(tmp_path / "mosaic.png")
    Image.fromarray(picture[:5, :5]).save(tmp_path / "small.png")
    assert is_mosaic(tmp_path / "mosaic.png")
    predict_path(GreyLevels(4), FOUR, tmp_path, tmp_path / "out", InferenceConfig(window=(64, 64)), kinds=("index",))
    assert {window.width for window in windows} == {96}
    assert {window.height for window in windows} <= set(range(1, 13))
    assert [row for w in windows for row in range(w.top, w.top + w.height)] == [*range(700)]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["legend.json", "mosaic.tif", "small.png"]
    label, _ = predict_array(GreyLevels(4), picture)
    assert (read_index(tmp_path / "out" / "mosaic.tif") == label).mean() > 0.999
    with rasterio.open(tmp_path / "out" / "mosaic.tif") as made:
        assert made.crs is None
        assert made.transform.is_identity


@pytest.mark.parametrize("side", [40_000, 70_000])
def test_images_larger_than_any_decoder_takes_are_mosaics(
    tmp_path: Path, side: int, recwarn: pytest.WarningsRecorder
) -> None:
    """Judged by the header; the pixels of this PNG are missing."""
    Image.fromarray(np.zeros((1, 1), np.uint8)).save(tmp_path / "mosaic.png")
    data = (tmp_path / "mosaic.png").read_bytes()
    header = b"IHDR" + struct.pack(">II", side, side) + data[24:29]
    (tmp_path / "mosaic.png").write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])
    assert is_mosaic(tmp_path / "mosaic.png")
    assert not recwarn.list
    with pytest.raises(RequestError, match=r"none of the 1 files .*mosaic\.png cannot be read"):
        predict_path(GreyLevels(4), FOUR, tmp_path, tmp_path / "out", size=64)
    assert list((tmp_path / "out").glob("*.tif")) == []


def test_a_photograph_that_has_to_be_turned_is_no_mosaic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segadapt.evaluation.mosaic.MOSAIC_PIXELS", 1000)
    exif = Image.Exif()
    for value, expected in ((1, True), (6, False)):
        exif[274] = value
        Image.fromarray(scene(50, 60)).save(tmp_path / "phone.jpg", exif=exif)
        assert is_mosaic(tmp_path / "phone.jpg") == expected


def test_a_small_geotiff_is_predicted_like_any_image_of_its_run(tmp_path: Path) -> None:
    """Its tiles have the size of the run's images, so one tile shows it, in exactly the same way."""
    picture = np.random.default_rng(0).integers(0, 256, (90, 110, 3)).astype(np.uint8)
    path = tiff(tmp_path / "tile.tif", picture)
    model = TinySegmenter(4).eval()
    loaded = LoadedModel(model, FOUR, {"pictures": [90, 110], "size": [45, None]})
    view = view_of(loaded, None)
    assert view.scale == (0.5, 0.5)
    assert view.tile == (45, 55)
    predict_path(model, FOUR, path, tmp_path / "out", size=loaded.working_size, view=view, kinds=("index",))
    label, _ = predict_array(model, picture, size=loaded.working_size)
    assert (read_index(tmp_path / "out" / "tile.tif") == label).all()


def test_the_scale_is_that_of_the_run_or_of_the_size_asked_for() -> None:
    def of(**provenance: Any) -> View:
        return view_of(LoadedModel(TinySegmenter(4), FOUR, provenance), None)

    assert of(pictures=[3000, 4000], size=1000)[:2] == ((0.25, 0.25), (750, 1000))
    assert of(pictures=[300, 400], size=1000)[:2] == ((1.0, 1.0), (300, 400))
    assert of(pictures=[5000, 5000], size=None)[:2] == ((1.0, 1.0), (1024, 1024))
    assert of(size=1000)[:2] == ((1.0, 1.0), (512, 512))
    assert view_by_size((30000, 40000), 400, None)[:2] == ((0.01, 0.01), (300, 400))
    assert view_by_size((30000, 40000), None, (64, 64))[:2] == ((1.0, 1.0), (64, 64))


def test_damage_in_the_middle_leaves_no_file(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 64, 3)).astype(np.uint8)
    path = tiff(tmp_path / "in" / "a.tif", noise, blockysize=16, compress="deflate")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = bytes(400)
    path.write_bytes(data)
    tiff(tmp_path / "in" / "b.tif", noise)
    summary = predict_path(
        GreyLevels(4), FOUR, tmp_path / "in", tmp_path / "out", InferenceConfig(window=(64, 64)), kinds=("index",)
    )
    assert summary.count == 1
    assert len(summary.skipped) == 1
    assert "a.tif cannot be read" in summary.skipped[0]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["b.tif", "legend.json"]


def test_a_full_disk_is_said_and_leaves_no_file(tmp_path: Path) -> None:
    """Wherever the disk becomes full, also when GDAL notices it in silence, while it closes the file."""
    resource, signal = pytest.importorskip("resource"), pytest.importorskip("signal")
    path = tiff(tmp_path / "in.tif", np.random.default_rng(0).integers(0, 256, (200, 90, 3)).astype(np.uint8))
    out = tmp_path / "out"
    view = View((1.0, 1.0), (64, 64), "")
    predicted(path, TinySegmenter(4), out, view)
    size = (out / "x_confidence.tif").stat().st_size
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for limit in (50, size // 2, size - 2000, size - 100):
            for file in out.iterdir():
                file.unlink()
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
            with pytest.raises(RunError, match="cannot be written"):
                predicted(path, TinySegmenter(4), out, view)
            assert not (out / "x_confidence.tif").exists()
            assert [file for file in out.iterdir() if ".part" in file.name] == []
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_scores_that_do_not_fit_are_refused_with_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiff(tmp_path / "in.tif", scene(64, 256))
    view = View((1.0, 1.0), (64, 64), "")
    whole, _ = predicted(path, GreyLevels(4), tmp_path, view)
    monkeypatch.setattr("segadapt.evaluation.blending.FULL_BYTES", 0)
    half, _ = predicted(path, GreyLevels(4), tmp_path, view)
    assert (half == whole).mean() > 0.999
    monkeypatch.setattr("segadapt.evaluation.blending.MOST_BYTES", 0)
    with pytest.raises(RequestError, match=r"in\.tif: the scores of 4 classes .* give a smaller --window"):
        predicted(path, GreyLevels(4), tmp_path, view)


def test_without_rasterio_large_images_are_refused_and_small_geotiff_are_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tiff(tmp_path / "small.tif", scene(20, 20))
    monkeypatch.setitem(__import__("sys").modules, "rasterio", None)
    made = predict_path(GreyLevels(4), FOUR, small, tmp_path / "out", kinds=("index",))
    assert (tmp_path / "out" / "small.png").exists()
    assert "1 GeoTIFF give PNG files without a place" in made.left_out[0]
    Image.fromarray(scene(50, 60)).save(tmp_path / "large.png")
    monkeypatch.setattr("segadapt.evaluation.mosaic.MOSAIC_PIXELS", 1000)
    with pytest.raises(RequestError, match=r'large\.png .*pip install "segadapt\[geo\]"'):
        predict_path(GreyLevels(4), FOUR, tmp_path / "large.png", tmp_path / "out")


def test_the_usual_size_is_the_median_of_what_can_be_read(tmp_path: Path) -> None:
    for number, side in enumerate((20, 30, 40)):
        Image.fromarray(scene(side, 2 * side)).save(tmp_path / f"{number}.png")
    (tmp_path / "3.png").write_bytes(b"no image")
    items = tuple(Item(path.name, path) for path in sorted(tmp_path.iterdir()))
    dataset = Dataset("x", FOUR, items, read_picture, no_labels)
    assert usual_size(dataset) == (30, 60)
    assert usual_size(dataset.subset([])) is None
    assert usual_size(in_memory("m", [(scene(9, 12), np.zeros((9, 12), np.uint8))], FOUR)) == (9, 12)


def test_the_command_takes_the_scale_of_the_run_and_says_so(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from segadapt.cli import app
    from segadapt.models.build import build_segmenter
    from segadapt.models.store import save_model

    torch.manual_seed(0)
    model = tmp_path / "model.safetensors"
    network = build_segmenter("timm:resnet10t", len(FOUR), weights=None, width=16)
    save_model(model, network, FOUR, {"pictures": [64, 64], "size": 32})
    path = tiff(tmp_path / "ortho.tif", scene(100, 130))

    def said(*options: str) -> str:
        arguments = ["predict", str(model), str(path), "--out", str(tmp_path / "out"), "--overwrite", *options]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    assert "scale 0.5, at which its run showed images of 64x64" in said("--kinds", "index")
    assert "one tile, 65x50 to the network; scale 0.5, the whole brought to 65x50" in said("--size", "65")
    assert (tmp_path / "out" / "ortho.tif").exists()
