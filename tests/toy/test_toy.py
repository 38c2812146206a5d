"""The toy renderer: properties of its pictures and ground truth, and the folders it writes."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from segadapt.data.ids import CITYSCAPES_TRAIN_ID, SYNTHIA_TRAIN_ID
from segadapt.errors import RequestError
from segadapt.labels import CITYSCAPES, IGNORE, SYNTHIA
from segadapt.toy import LOOKS, Rendered, render, write_cityscapes, write_gta5, write_synthia
from segadapt.toy.canvas import TRAIN_ID, Brush, Camera, Canvas
from segadapt.toy.rendering import draw, layout
from segadapt.toy.scene import Placed
from segadapt.toy.vehicles import draw_vehicle
from segadapt.toy.write import RECORD, image_seed
from tests.data.writing import lookup_table

SMALL = (64, 128)
THINGS = {"person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"}


@pytest.fixture(scope="module")
def streets() -> dict[str, list[Rendered]]:
    """40 streets of each layout at a quarter of the size."""
    return {look: [render(seed, look, 128, 256) for seed in range(40)] for look in ("game", "camera")}  # type: ignore[arg-type]


@pytest.mark.parametrize("look", LOOKS)
def test_shapes_types_and_determinism(look: str) -> None:
    one, again = render(3, look, 96, 200), render(3, look, 96, 200)  # type: ignore[arg-type]
    assert one.image.shape == (96, 200, 3)
    assert one.image.dtype == np.uint8
    assert one.label.shape == one.instance.shape == (96, 200)
    assert (one.label.dtype, one.instance.dtype) == (np.uint8, np.uint16)
    for a, b in zip(one, again, strict=True):
        np.testing.assert_array_equal(a, b)
    other = render(4, look, 96, 200)  # type: ignore[arg-type]
    assert (one.image != other.image).mean() > 0.5


def test_an_image_does_not_depend_on_what_was_rendered_before() -> None:
    alone = render(11, "camera", *SMALL)
    render(12, "night", *SMALL)
    np.testing.assert_array_equal(render(11, "camera", *SMALL).image, alone.image)


@pytest.mark.parametrize("look", ["game", "camera"])
def test_every_class_has_its_share(streets: dict[str, list[Rendered]], look: str) -> None:
    seen = np.stack([np.bincount(s.label.ravel(), minlength=256) >= 8 for s in streets[look]]).mean(0)
    assert seen[: len(CITYSCAPES)].min() >= 0.15, dict(zip(CITYSCAPES.names, seen, strict=False))
    labels = set(np.unique(np.stack([s.label for s in streets[look]])).tolist())
    assert labels <= {*range(len(CITYSCAPES)), IGNORE}


def test_an_instance_is_of_one_thing_class(streets: dict[str, list[Rendered]]) -> None:
    for street in streets["game"] + streets["camera"]:
        pairs = np.unique(np.stack([street.instance.ravel(), street.label.ravel()]), axis=1)
        things = pairs[:, pairs[0] > 0]
        assert len(np.unique(things[0])) == things.shape[1], "an instance number stands for two classes"
        assert {CITYSCAPES.names[c] for c in things[1]} <= THINGS
        bare = {CITYSCAPES.names[c] for c in pairs[1, pairs[0] == 0] if c != IGNORE}
        assert not bare & THINGS, "a thing without an instance number"


def test_camera_has_void_margins_and_game_has_none(streets: dict[str, list[Rendered]]) -> None:
    for street in streets["camera"]:
        assert (street.label[0] == IGNORE).all()
        assert (street.label[:, [0, -1]] == IGNORE).all()
        assert (street.label[-1] == IGNORE).mean() > 0.7
        assert (street.label == IGNORE).mean() < 0.15
    assert all((street.label != IGNORE).all() for street in streets["game"])


def test_camera_and_night_show_the_same_street() -> None:
    for seed in (1, 2, 3):
        day, dark = render(seed, "camera", *SMALL), render(seed, "night", *SMALL)
        np.testing.assert_array_equal(day.label, dark.label)
        np.testing.assert_array_equal(day.instance, dark.instance)
        assert dark.image.mean() < 0.75 * day.image.mean()


def test_the_domains_differ_in_appearance_and_in_layout(streets: dict[str, list[Rendered]]) -> None:
    def saturation(street: Rendered) -> float:
        return float(cv2.cvtColor(street.image, cv2.COLOR_RGB2HSV)[..., 1].mean())

    def grain(street: Rendered) -> float:
        road = street.label == TRAIN_ID["road"]
        return float(np.median(np.abs(cv2.Laplacian(street.image[..., 1].astype(np.float32), cv2.CV_32F))[road]))

    def share(look: str, name: str) -> float:
        return float(np.mean([(s.label == TRAIN_ID[name]).mean() for s in streets[look]]))

    game, camera = streets["game"], streets["camera"]
    assert np.mean([saturation(s) for s in game]) > 1.3 * np.mean([saturation(s) for s in camera])
    assert np.mean([grain(s) for s in camera]) > 3 * np.mean([grain(s) for s in game])
    assert share("camera", "person") > share("game", "person")
    assert share("camera", "sky") < share("game", "sky")


def test_sky_is_above_and_road_below(streets: dict[str, list[Rendered]]) -> None:
    rows = np.arange(128)[:, None]
    for look in ("game", "camera"):
        for seed, street in enumerate(streets[look]):
            horizon = layout(seed, look, 128, 256).camera.horizon  # type: ignore[arg-type]
            assert not ((street.label == TRAIN_ID["sky"]) & (rows > horizon + 2)).any()
            assert not ((street.label == TRAIN_ID["road"]) & (rows < horizon - 2)).any()


def _car(x: float, z: float, instance: int, length: float = 4.4) -> Placed:
    return Placed("sedan", x, z, 1.8, 1.45, length, 0.0, (200.0, 30.0, 30.0), 1, instance)


def _plain_canvas() -> Canvas:
    return Canvas(Camera(focal=280.0, height=1.4, horizon=100.0, centre=256.0), (0.3, 0.9, -0.3), 256, 512)


def _drawn(canvas: Canvas, instance: int) -> np.ndarray:
    return np.asarray([p.instance for p in canvas.parts])[canvas.ids] == instance


def test_size_falls_with_depth_as_a_pinhole_has_it() -> None:
    widths = []
    for z in (12.0, 24.0, 48.0):
        canvas = _plain_canvas()
        draw_vehicle(canvas, _car(0.0, z, 1))
        columns = np.flatnonzero(_drawn(canvas, 1).any(0))
        widths.append((columns[-1] - columns[0] + 1) / 2)
        # Seen from behind, the rear end (half a length nearer) sets the width: focal * metres / depth.
        assert widths[-1] == pytest.approx(280.0 * 1.8 / (z - 2.2), abs=2.0)
    assert widths[0] > widths[1] > widths[2]


def test_cars_of_real_streets_stand_lower_the_nearer_they_are() -> None:
    scene = layout(2, "game", 256, 512)
    canvas = draw(scene, 2, 256, 512)
    instance = np.asarray([p.instance for p in canvas.parts])[canvas.ids]
    cars = sorted((p for p in scene.placed if p.kind in ("sedan", "hatchback", "suv", "van")), key=lambda p: p.z)
    whole = []
    for car in cars:
        rows, columns = np.nonzero(instance == car.instance)
        if len(rows) and columns.min() > 0 and columns.max() < instance.shape[1] - 1 and rows.max() < 511:
            foot = scene.camera.horizon + scene.camera.focal * scene.camera.height / (car.z - car.length / 2)
            assert rows.max() / 2 <= foot + 2.0, "drawn below the ground it stands on"
            whole.append(car)
    assert len(whole) >= 3


def test_the_nearer_car_covers_the_farther_one() -> None:
    far, near = _car(1.6, 20.0, 1), _car(0.0, 10.0, 2)
    alone = _plain_canvas()
    draw_vehicle(alone, near)
    both = _plain_canvas()
    for car in sorted((near, far), key=lambda p: -p.key):
        draw_vehicle(both, car)
    np.testing.assert_array_equal(_drawn(both, 2), _drawn(alone, 2))
    assert 0 < _drawn(both, 1).sum() < _drawn(both, 2).sum() / 2


def test_painters_order_holds_in_a_whole_scene() -> None:
    """Where two vehicles of one lane overlap in the picture, the nearer one is seen."""
    hits = 0
    for seed in range(6):
        scene = layout(seed, "camera", 128, 256)
        canvas = draw(scene, seed, 128, 256)
        seen = np.asarray([p.instance for p in canvas.parts])[canvas.ids]
        cars = [p for p in scene.placed if p.kind in ("sedan", "hatchback", "suv", "van") and p.z < 40]
        for near in cars:
            lone = Canvas(scene.camera, scene.sun, 128, 256)
            draw_vehicle(lone, near)
            mask = _drawn(lone, near.instance)
            behind = [p.instance for p in cars if p.z > near.z + 6 and abs(p.x - near.x) < 1.0]
            assert not np.isin(seen[mask], behind).any()
            hits += bool(behind)
    assert hits >= 3


def test_a_bar_seen_end_on_and_things_beside_the_picture_do_no_harm() -> None:
    canvas = _plain_canvas()
    Brush(canvas, "pole", 0, 0.0, 10.0).limb((0, 0, 1.4), (2, 0, 1.4), 0.1, (9.0, 9.0, 9.0))
    Brush(canvas, "pole", 0, 500.0, 1.0).limb((0, 0, 0), (0, 0, 5), 0.1, (9.0, 9.0, 9.0))
    labels = np.asarray([p.label for p in canvas.parts])[canvas.ids]
    assert 0 < (labels == TRAIN_ID["pole"]).sum() < 200


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((1, "rainy"), "no look 'rainy'"), ((-1, "game"), "seed -1"), ((1, "game", 16, 512), "size 16x512")],
)
def test_wrong_requests(arguments: tuple, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        render(*arguments)


# --- folders ----------------------------------------------------------------------------------------


def _expected(seed: int, look: str, index: int, split: str = "") -> Rendered:
    return render(image_seed(seed, look, index, split), look, *SMALL)  # type: ignore[arg-type]


def _rgb(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def test_gta5_folder(tmp_path: Path) -> None:
    write_gta5(tmp_path, 2, 7, *SMALL)
    assert sorted(p.name for p in (tmp_path / "images").iterdir()) == ["00001.png", "00002.png"]
    assert sorted(p.name for p in (tmp_path / "labels").iterdir()) == ["00001.png", "00002.png"]
    for i in range(2):
        shot = _expected(7, "game", i)
        picture = Image.open(tmp_path / "labels" / f"{i + 1:05d}.png")
        assert picture.mode == "P"
        np.testing.assert_array_equal(lookup_table(CITYSCAPES_TRAIN_ID)[np.asarray(picture)], shot.label)
        # The palette carries the Cityscapes colours.
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), CITYSCAPES.colorize(shot.label))
        np.testing.assert_array_equal(_rgb(tmp_path / "images" / f"{i + 1:05d}.png"), shot.image)


def test_synthia_folder(tmp_path: Path) -> None:
    count = 4
    write_synthia(tmp_path, count, 1, *SMALL)
    lacking = [TRAIN_ID[name] for name in CITYSCAPES.names if name not in SYNTHIA.names]
    lost = 0
    for i in range(count):
        shot = _expected(1, "game", i)
        raw = cv2.imread(str(tmp_path / "GT" / "LABELS" / f"{i:07d}.png"), cv2.IMREAD_UNCHANGED)
        assert raw.dtype == np.uint16
        assert raw.shape == (*SMALL, 3)
        blue, instance, kind = raw[..., 0], raw[..., 1], raw[..., 2]
        missing = np.isin(shot.label, lacking)
        lost += int(missing.sum())
        np.testing.assert_array_equal(
            lookup_table(SYNTHIA_TRAIN_ID)[kind], np.where(missing, IGNORE, shot.label).astype(np.uint8)
        )
        np.testing.assert_array_equal(instance, shot.instance)
        assert not blue.any()
        assert set(np.unique(kind)) <= set(range(23)) - {16, 18, 20}
        np.testing.assert_array_equal(_rgb(tmp_path / "RGB" / f"{i:07d}.png"), shot.image)
        assert _rgb(tmp_path / "GT" / "COLOR" / f"{i:07d}.png").shape == (*SMALL, 3)
    assert lost > 0, "the seeds show none of the classes that SYNTHIA lacks, so nothing was tested"


def test_cityscapes_folder(tmp_path: Path) -> None:
    write_cityscapes(tmp_path, {"train": 3, "val": 2}, 5, *SMALL, labelled_splits=("val",))
    train = sorted((tmp_path / "leftImg8bit" / "train").rglob("*.png"))
    assert len(train) == 3
    assert len({p.parent.name for p in train}) == 2
    assert not (tmp_path / "gtFine" / "train").exists(), "an unlabelled split has label files"
    val = sorted((tmp_path / "leftImg8bit" / "val").rglob("*_leftImg8bit.png"))
    assert len(val) == 2
    for i, path in enumerate(val):
        shot = _expected(5, "camera", i, "val")
        np.testing.assert_array_equal(_rgb(path), shot.image)
        stem = path.name.removesuffix("_leftImg8bit.png")
        city, sequence, frame = stem.split("_")
        assert (city, len(sequence), len(frame)) == (path.parent.name, 6, 6)
        truth = tmp_path / "gtFine" / "val" / city
        ids = np.asarray(Image.open(truth / f"{stem}_gtFine_labelIds.png"))
        np.testing.assert_array_equal(lookup_table(CITYSCAPES_TRAIN_ID)[ids], shot.label)
        instances = cv2.imread(str(truth / f"{stem}_gtFine_instanceIds.png"), cv2.IMREAD_UNCHANGED).astype(int)
        np.testing.assert_array_equal(np.where(instances >= 1000, instances // 1000, instances), ids)
        assert len(np.unique(instances[instances >= 1000])) == len(np.unique(shot.instance[shot.instance > 0]))
        np.testing.assert_array_equal(_rgb(truth / f"{stem}_gtFine_color.png"), CITYSCAPES.colorize(shot.label))


def test_a_split_does_not_change_with_the_others(tmp_path: Path) -> None:
    write_cityscapes(tmp_path / "a", {"train": 1, "val": 1}, 5, *SMALL)
    write_cityscapes(tmp_path / "b", {"val": 1}, 5, *SMALL)
    name = "leftImg8bit/val/westbruck/westbruck_000000_000019_leftImg8bit.png"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def _stamps(root: Path) -> dict[str, int]:
    return {str(p.relative_to(root)): p.stat().st_mtime_ns for p in root.rglob("*.png")}


def test_a_second_call_writes_nothing(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    write_gta5(tmp_path, 3, 7, *SMALL, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    before = _stamps(tmp_path)
    write_gta5(tmp_path, 3, 7, *SMALL)
    assert _stamps(tmp_path) == before


def test_other_parameters_replace_the_folder(tmp_path: Path) -> None:
    write_gta5(tmp_path, 3, 7, *SMALL)
    write_gta5(tmp_path, 2, 8, *SMALL)
    assert len(list((tmp_path / "images").iterdir())) == 2
    np.testing.assert_array_equal(_rgb(tmp_path / "images" / "00001.png"), _expected(8, "game", 0).image)


def test_an_interrupted_set_does_not_look_complete_and_is_finished(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_gta5(tmp_path, 4, 7, *SMALL, progress=stop)
    assert not json.loads((tmp_path / RECORD).read_text())["complete"]
    first = _stamps(tmp_path)
    write_gta5(tmp_path, 4, 7, *SMALL)
    after = _stamps(tmp_path)
    assert json.loads((tmp_path / RECORD).read_text())["complete"]
    assert len(after) == 8
    assert all(after[name] == stamp for name, stamp in first.items()), "finished images were rendered again"


def test_a_lost_file_is_written_again(tmp_path: Path) -> None:
    write_gta5(tmp_path, 2, 7, *SMALL)
    gone = tmp_path / "images" / "00002.png"
    content = gone.read_bytes()
    gone.unlink()
    write_gta5(tmp_path, 2, 7, *SMALL)
    assert gone.read_bytes() == content


def test_foreign_data_is_never_touched(tmp_path: Path) -> None:
    real = tmp_path / "images" / "00001.png"
    real.parent.mkdir()
    real.write_bytes(b"a real image")
    with pytest.raises(RequestError, match="choose another folder"):
        write_gta5(tmp_path, 1, 7, *SMALL)
    assert real.read_bytes() == b"a real image"


def test_wrong_counts(tmp_path: Path) -> None:
    for count in (0, -1):
        with pytest.raises(RequestError, match="at least one image"):
            write_gta5(tmp_path / "x", count, 7, *SMALL)
    assert not (tmp_path / "x").exists()


def test_several_processes_write_the_same_files(tmp_path: Path) -> None:
    write_synthia(tmp_path / "one", 3, 2, *SMALL)
    write_synthia(tmp_path / "two", 3, 2, *SMALL, workers=2)
    for path in sorted((tmp_path / "one").rglob("*.png")):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()
