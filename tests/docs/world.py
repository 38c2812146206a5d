"""The files that pages name: two domains, data sets in their official trees, a run, photographs, a film."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from segadapt.labels import LabelSpace, distinct_colors
from segadapt.models.store import save_model
from segadapt.toy import write_cityscapes, write_gta5
from tests.data.annotating import coco, write_images
from tests.data.test_readers import IDD
from tests.data.writing import picture, save
from tests.docs.network import Tiny
from tests.evaluation.test_video import film
from tests.tiny import write_classes, write_folder

DATA_SETS = ("camvid", "gta5", "cityscapes", "idd_lite", "nthu", "pairs", "simclr")
"""Data sets below ``data``; pages name their folders as they like."""
METHOD = '''
from segadapt.methods.method import Method, labelled_part, paired_streams
from segadapt.methods.registry import register_method
from segadapt.pieces.losses import cross_entropy


@register_method("mymethod", title="My method")
class MyMethod(Method):
    """Cross entropy on the source."""

    def streams(self, round_index, environment):
        source = labelled_part(environment.source, 0, environment.source_size, self.config)
        target = labelled_part(environment.target, 1, environment.target_size, self.config)
        return paired_streams(source, target, self.config, round_index)

    def step(self, batch):
        x = batch["source"]
        yield {"source": cross_entropy(self.model(x.images).logits, x.labels, x.labels.shape[-2:])}
'''


def domain(root: Path, images: str, masks: str | None, count: int = 4, shift: float = 0.0, seed: int = 0) -> None:
    """Write images and masks of a domain into two folders below ``root``."""
    made = root / ".made"
    write_folder(made, count, shift=shift, seed=seed, labels=masks is not None)
    for part, name in (("images", images), ("labels", masks)):
        if name is not None:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (made / part).rename(root / name)
    shutil.rmtree(made)


def write_common(root: Path) -> None:
    """Write what every page finds in its folder."""
    domain(root, "A/images", "A/masks")
    domain(root, "B/images", "B/masks", 9, shift=1.0, seed=50)
    for number in range(3, 9):
        (root / f"B/masks/{number:03d}.png").unlink()
    domain(root, "B/test/images", "B/test/masks", 3, shift=1.0, seed=90)
    for folder in ("NEW_IMAGES", "new_photos", "photos"):
        domain(root, folder, None, 2, shift=1.0, seed=120)
    (root / "shots/evening").mkdir(parents=True)
    for name in ("photo.jpg", "a.jpg", "shots/evening/night_1.jpg"):
        Image.fromarray(picture(40, 56)).save(root / name)
    save(root / "b.png", picture(40, 56, 1))
    film(root / "drive.mp4", 3)
    write_classes(root / "classes.txt")
    write_toy(root / "demo/toy")
    write_data_sets(root / "data")


def write_toy(root: Path) -> None:
    """Write a toy world of two images of each part."""
    write_gta5(root / "gta5", 2, 0, 64, 128)
    write_cityscapes(root / "cityscapes", {"train": 2, "val": 2}, 0, 64, 128)


def write_data_sets(root: Path) -> None:
    """Write the data sets that recipes of the pages name, two to ten images each."""
    for name in ("gta5", "cityscapes"):
        shutil.copytree(root.parent / "demo/toy" / name, root / name)
    test = root / "cityscapes/leftImg8bit/test/berlin/berlin_000000_000019_leftImg8bit.png"
    save(test, picture(64, 128))
    frames = [f"0006R0_f{number:05d}" for number in range(4)]
    for number, name in enumerate(frames):
        save(root / "camvid/images" / f"{name}.jpg", picture(24, 32, number))
        mask = np.roll(np.arange(12, dtype=np.uint8), number).reshape(3, 4).repeat(8, 0).repeat(8, 1)
        save(root / "camvid/labels" / f"{name}.png", mask)
    for split, part in (("day", frames[:2]), ("dusk_adapt", frames[2:]), ("dusk_test", frames[2:])):
        (root / "camvid" / f"{split}.txt").write_text("\n".join(part) + "\n")
    for split, number in (("train", 0), ("train", 1), ("val", 2), ("val", 3)):
        mask = np.roll(IDD, number).repeat(12, 0).repeat(9, 1)
        save(root / "idd_lite/leftImg8bit" / split / f"3/{number}_image.jpg", picture(*mask.shape, number))
        save(root / "idd_lite/gtFine" / split / f"3/{number}_label.png", mask)
    ids = (np.arange(32 * 48, dtype=np.uint8).reshape(32, 48) % 34).astype(np.uint8)
    for number in range(10):
        save(root / "nthu/Rome/Images/Test" / f"pano_{number:02d}.png", picture(32, 48, number))
        save(root / "nthu/Rome/Labels/Test" / f"pano_{number:02d}_eval.png", ids)
    write_folder(root / "pairs", 2)
    (root / "simclr").write_bytes(b"no weights")


# ---- what single pages name ----


def old_file(root: Path) -> None:
    (root / "last").touch()
    os.utime(root / "last", (0, 0))
    Image.fromarray(picture(40, 56, 2)).save(root / "c.jpg")
    (root / "test.txt").write_text("c.jpg\n")
    domain(root, "test", "masks", 3, shift=1.0, seed=90)


def own_folders(root: Path) -> None:
    shutil.copytree(root / "data/camvid", root / "camvid")
    shutil.copytree(root / "data/idd_lite", root / "idd")
    vessels = np.zeros((40, 56), np.uint8)
    vessels[10:20] = 255
    for folder, image, mask in (
        ("DRIVE/training", "images/{}_training.tif", "1st_manual/{}_manual1.gif"),
        ("other", "{}.tif", "{}.gif"),
    ):
        for number in (21, 22):
            save(root / folder / image.format(number), picture(40, 56, number))
            save(root / folder / mask.format(number), vessels)
    coco(write_images(root / "coco/images").parent)
    rasters(root)
    (root / "vessels.yaml").write_text("- {name: background, id: 0}\n- {name: vessel, id: 255}\n")


def rasters(root: Path) -> None:
    from tests.data.test_raster import write_tiff

    bands = np.random.default_rng(0).integers(0, 255, (3, 40, 56), dtype=np.uint8)
    write_tiff(root / "ortho.tif", bands)
    write_tiff(root / "orthos/one.tif", bands)
    write_tiff(root / "masks/one.tif", bands[:1] % 3)


def runs(root: Path) -> None:
    for name in ("run1", "runs/cbst", "runs/mic"):
        shutil.copytree(root / "RUN", root / name)


def own_package(root: Path) -> None:
    (root / "my_package.py").write_text(METHOD)


def checkpoint(root: Path) -> None:
    import torch

    from tests.models.test_importing_daformer import drawn, named

    torch.save({"state_dict": named(drawn("daformer_mit_b0", 19, 0), "model.")}, root / "CHECKPOINT")


BY_PAGE: dict[str, Callable[[Path], None]] = {
    "README.md": own_package,
    "docs/folders.md": own_folders,
    "docs/import.md": checkpoint,
    "docs/knowing_without_labels.md": runs,
    "docs/no_source.md": runs,
    "docs/predict.md": old_file,
}


A_RUN = ["--source-images", "A/images", "--source-labels", "A/masks", "--target-images", "B/images"]
A_RUN += ["--method", "cbst"]
RUNS: dict[str, list[str]] = {
    "docs/data.md": ["toy/source_only", "--root", "toy=demo/toy"],
    "docs/extending.md": [*A_RUN, "--classes", "classes.txt"],
}
"""What is adapted to become the folder ``RUN`` of a page."""


def write_model(path: Path) -> None:
    """Write a model of the classes of ``A``."""
    space = LabelSpace("three", ("class_0", "class_1", "class_2"), distinct_colors(3))
    save_model(path, Tiny(3), space, {})
