"""Write toy streets in the folder layouts of GTA5, SYNTHIA-RAND-CITYSCAPES and Cityscapes.

A small ``toy.json`` in the root records the parameters. A complete folder with the same parameters is
left alone, an interrupted one is finished, and any other toy folder is replaced. A folder that holds
such data without a ``toy.json`` is never touched.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from segadapt.core.files import write_bytes, write_json
from segadapt.data.ids import CITYSCAPES_TRAIN_ID, SYNTHIA_TRAIN_ID
from segadapt.errors import RequestError, nearest
from segadapt.labels import CITYSCAPES, IGNORE, SYNTHIA, Color, LabelMap
from segadapt.toy.rendering import LOOKS, Look, Rendered, render

Progress = Callable[[int, int], None]
"""Called with (images done, all images) after every image."""

RECORD = "toy.json"
# Increase it when the pictures of a seed change, so that folders of an older renderer are written again.
VERSION = 1

_CITIES = {"train": ("lindstadt", "nordhafen"), "val": ("westbruck",)}
_OTHER_CITIES = ("ostfelde",)
_VOID_COLORS: dict[int, Color] = {
    5: (111, 74, 0), 6: (81, 0, 81), 9: (250, 170, 160), 10: (230, 150, 140), 14: (180, 165, 180), 15: (150, 100, 100),
    16: (150, 120, 90), 18: (153, 153, 153), 29: (0, 0, 90), 30: (0, 0, 110), 34: (0, 0, 142),
}  # fmt: skip
_THINGS = tuple(
    CITYSCAPES.index(n) for n in ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
)


@dataclass(frozen=True)
class Task:
    """One image to render and its files, in the order of the layout's encoder."""

    layout: str
    look: Look
    seed: int
    height: int
    width: int
    files: tuple[Path, ...]


def image_seed(seed: int, look: Look, index: int, split: str = "") -> int:
    """Return the seed of one image of a set; sets of another seed, look or split share no image."""
    entropy = [seed, LOOKS.index(look), index, zlib.crc32(split.encode())]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))


def write_gta5(
    root: Path,
    count: int,
    seed: int,
    height: int = 256,
    width: int = 512,
    *,
    look: Look = "game",
    progress: Progress | None = None,
    workers: int = 1,
) -> None:
    """Write a set in the layout of GTA5: ``images/00001.png``, and palette PNGs of label ids in ``labels/``.

    Args:
        root: folder to make or complete.
        count: number of images, at least 1.
        seed: seed of the whole set, at least 0.
        height: rows of an image, at least 32.
        width: columns of an image, at least 32.
        look: see :func:`~segadapt.toy.rendering.render`.
        progress: called with (done, total) after every image.
        workers: number of processes; with more than 1, a script must call this function under
            ``if __name__ == "__main__":``.

    Raises:
        RequestError: ``root`` holds data that this function did not write, or a number is out of range.
    """
    tasks = [
        Task("gta5", look, image_seed(seed, look, i), height, width,
             (root / "labels" / f"{i + 1:05d}.png", root / "images" / f"{i + 1:05d}.png"))
        for i in range(count)
    ]  # fmt: skip
    _write(
        root, ("images", "labels"), _record("gta5", {"": count}, seed, height, width, look), tasks, progress, workers
    )


def write_synthia(
    root: Path,
    count: int,
    seed: int,
    height: int = 256,
    width: int = 512,
    *,
    look: Look = "game",
    progress: Progress | None = None,
    workers: int = 1,
) -> None:
    """Write a set in the layout of SYNTHIA: ``RGB/``, ``GT/COLOR/`` and 16-bit ``GT/LABELS/``.

    The channels of ``GT/LABELS`` are class, instance and 0. Terrain, truck and train, which SYNTHIA does
    not have, become void (0). Arguments and errors are the same as for :func:`write_gta5`.
    """
    folders = ("GT/LABELS", "GT/COLOR", "RGB")
    tasks = [
        Task("synthia", look, image_seed(seed, look, i), height, width,
             tuple(root / folder / f"{i:07d}.png" for folder in folders))
        for i in range(count)
    ]  # fmt: skip
    _write(root, ("RGB", "GT"), _record("synthia", {"": count}, seed, height, width, look), tasks, progress, workers)


def write_cityscapes(
    root: Path,
    counts: Mapping[str, int],
    seed: int,
    height: int = 256,
    width: int = 512,
    look: Look = "camera",
    labelled_splits: Sequence[str] = ("train", "val"),
    *,
    progress: Progress | None = None,
    workers: int = 1,
) -> None:
    """Write a set in the layout of Cityscapes: ``leftImg8bit/<split>/<city>/`` and, for labelled splits, ``gtFine/``.

    Args:
        root: folder to make or complete.
        counts: number of images per split, e.g. ``{"train": 100, "val": 30}``.
        seed: seed of the whole set, at least 0; the images of a split do not depend on the other splits.
        height: rows of an image, at least 32.
        width: columns of an image, at least 32.
        look: see :func:`~segadapt.toy.rendering.render`.
        labelled_splits: splits that get ``labelIds``, ``instanceIds`` and ``color`` files.
        progress: called with (done, total) after every image.
        workers: number of processes; with more than 1, a script must call this function under
            ``if __name__ == "__main__":``.

    Raises:
        RequestError: ``root`` holds data that this function did not write, or a number is out of range.
    """
    tasks = []
    for split, count in counts.items():
        cities = _CITIES.get(split, _OTHER_CITIES)
        for i in range(count):
            city = cities[i * len(cities) // count]
            stem = f"{city}_{i:06d}_000019"
            files: tuple[Path, ...] = (root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png",)
            if split in labelled_splits:
                truth = root / "gtFine" / split / city
                kinds = ("labelIds", "instanceIds", "color")
                files = tuple(truth / f"{stem}_gtFine_{kind}.png" for kind in kinds) + files
            tasks.append(Task("cityscapes", look, image_seed(seed, look, i, split), height, width, files))
    record = _record("cityscapes", counts, seed, height, width, look)
    record["labelled"] = sorted(set(labelled_splits) & set(counts))
    _write(root, ("leftImg8bit", "gtFine"), record, tasks, progress, workers)


# --- encoding -------------------------------------------------------------------------------------


def _inverse(ids: Mapping[int, int], keep: Iterable[int]) -> LabelMap:
    """Return a table [256] from train ids to raw ids; ids not in ``keep`` become 0, void in both data sets."""
    table = np.zeros(256, np.uint8)
    wanted = set(keep)
    for raw, train_id in ids.items():
        if train_id in wanted:
            table[train_id] = raw
    return table


_TO_CITYSCAPES = _inverse(CITYSCAPES_TRAIN_ID, range(len(CITYSCAPES)))
_TO_SYNTHIA = _inverse(SYNTHIA_TRAIN_ID, (CITYSCAPES.index(name) for name in SYNTHIA.names))


def _palette() -> list[int]:
    """Return the Cityscapes colours by label id, flattened for Pillow."""
    table = np.zeros((256, 3), np.uint8)
    for label_id, color in _VOID_COLORS.items():
        table[label_id] = color
    for label_id, train_id in CITYSCAPES_TRAIN_ID.items():
        table[label_id] = CITYSCAPES.colors[train_id]
    return [int(v) for v in table.ravel()]


def _png(array: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> bytes:
    """Encode a grey or RGB array of 8 or 16 bits as PNG."""
    pixels = array[..., ::-1] if array.ndim == 3 else array
    packed: npt.NDArray[np.uint8] = cv2.imencode(
        ".png", np.ascontiguousarray(pixels), [cv2.IMWRITE_PNG_COMPRESSION, 1]
    )[1]
    return packed.tobytes()


def _encode_gta5(shot: Rendered) -> list[bytes]:
    picture = Image.fromarray(_TO_CITYSCAPES[shot.label])
    picture.putpalette(_palette())
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return [buffer.getvalue(), _png(shot.image)]


def _encode_synthia(shot: Rendered) -> list[bytes]:
    kind = _TO_SYNTHIA[shot.label]
    label = np.stack([kind.astype(np.uint16), shot.instance, np.zeros_like(shot.instance)], axis=2)
    color = CITYSCAPES.colorize(np.where(kind > 0, shot.label, IGNORE).astype(np.uint8))
    return [_png(label), _png(color), _png(shot.image)]


def _encode_cityscapes(shot: Rendered) -> list[bytes]:
    label_ids = _TO_CITYSCAPES[shot.label]
    return [
        _png(label_ids),
        _png(_instance_ids(shot, label_ids)),
        _png(CITYSCAPES.colorize(shot.label)),
        _png(shot.image),
    ]


def _instance_ids(shot: Rendered, label_ids: LabelMap) -> npt.NDArray[np.uint16]:
    """Return Cityscapes instance ids: 1000 * label id + number within the class for things, else the label id."""
    out = label_ids.astype(np.uint16)
    for train_id in _THINGS:
        where = (shot.label == train_id) & (shot.instance > 0)
        numbers, order = np.unique(shot.instance[where], return_inverse=True)
        if len(numbers):
            out[where] = (1000 * out[where].astype(np.int64) + np.minimum(order.ravel(), 999)).astype(np.uint16)
    return out


_ENCODERS = {"gta5": _encode_gta5, "synthia": _encode_synthia, "cityscapes": _encode_cityscapes}


# --- writing --------------------------------------------------------------------------------------


def _record(
    layout: str, counts: Mapping[str, int], seed: int, height: int, width: int, look: Look
) -> dict[str, object]:
    if look not in LOOKS:
        raise RequestError(f"toy: no look '{look}'{nearest(str(look), LOOKS)}; there are: {', '.join(LOOKS)}")
    if seed < 0 or min(height, width) < 32 or not counts or min(counts.values()) < 0 or sum(counts.values()) == 0:
        raise RequestError(
            f"toy: seed {seed}, size {height}x{width}, counts {list(counts.values())}; "
            "use a seed of 0 or more, at least 32x32 pixels and at least one image"
        )
    return {
        "layout": layout, "version": VERSION, "counts": dict(counts), "seed": seed, "height": height, "width": width,
        "look": look,
    }  # fmt: skip


def _write(
    root: Path,
    folders: Sequence[str],
    record: Mapping[str, object],
    tasks: Sequence[Task],
    progress: Progress | None,
    workers: int,
) -> None:
    """Write the missing files of ``tasks``; the record says ``complete`` only once all files exist."""
    root.mkdir(parents=True, exist_ok=True)
    old = _old_record(root)
    if old is None and any((root / folder).exists() for folder in folders):
        raise RequestError(
            f"toy: '{root}' holds data without a {RECORD}, so the toy renderer did not write it; choose another folder"
        )
    if old is not None and {k: v for k, v in old.items() if k != "complete"} != dict(record):
        for folder in folders:
            shutil.rmtree(root / folder, ignore_errors=True)
    todo = [task for task in tasks if not all(file.is_file() for file in task.files)]
    total, done = len(tasks), len(tasks) - len(todo)
    if todo or not (old or {}).get("complete"):
        _save_record(root, record, complete=False)
        for place in {file.parent for task in todo for file in task.files}:
            place.mkdir(parents=True, exist_ok=True)
        for _ in _each(todo, workers):
            done += 1
            if progress:
                progress(done, total)
        _save_record(root, record, complete=True)
    elif progress:
        progress(total, total)


def _each(tasks: Sequence[Task], workers: int) -> Iterator[None]:
    if workers <= 1 or len(tasks) < 2:
        for task in tasks:
            _do(task)
            yield
        return
    # Spawned and not forked, because a forked child of a process with OpenCV or torch threads can hang.
    with ProcessPoolExecutor(min(workers, len(tasks)), multiprocessing.get_context("spawn"), _one_thread) as pool:
        yield from pool.map(_do, tasks, chunksize=4)


def _one_thread() -> None:
    cv2.setNumThreads(1)


def _do(task: Task) -> None:
    """Render one image and write its files, the image last; each file appears whole or not at all."""
    shot = render(task.seed, task.look, task.height, task.width)
    # An unlabelled image has one file only: the picture, the last file of every encoder.
    contents = _ENCODERS[task.layout](shot)[-len(task.files) :]
    for file, content in zip(task.files, contents, strict=True):
        write_bytes(file, content)


def _old_record(root: Path) -> dict[str, object] | None:
    """Read the record of an earlier call, or None; a damaged record is {} and fits no parameters."""
    file = root / RECORD
    if not file.is_file():
        return None
    try:
        loaded = json.loads(file.read_text())
    except ValueError:
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _save_record(root: Path, record: Mapping[str, object], complete: bool) -> None:
    write_json(root / RECORD, {**record, "complete": complete})
