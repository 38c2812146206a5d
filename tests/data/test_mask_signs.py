"""What masks hold: found once, kept by content, shared by the processes of a run."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from segadapt.core.kept import VARIABLE, kept_folder
from segadapt.data.dataset import DamagedFile
from segadapt.data.folder import open_folder
from segadapt.data.masks import mask_signs
from segadapt.data.masks.mask_signs import MaskSigns, look_at_masks
from tests.data.team import as_team
from tests.data.writing import odd_palette, picture, save

Decoded = list[Path]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Decoded:
    """The masks that were decoded, from a start without findings."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "kept"))
    found: Decoded = []
    inner = mask_signs.signs_of

    def counting(path: Path, ignore_ids: object) -> MaskSigns:
        found.append(path)
        return inner(path, ignore_ids)

    monkeypatch.setattr(mask_signs, "signs_of", counting)
    return found


def masks(root: Path, count: int = 5) -> list[Path]:
    """Index, palette and colour masks."""
    rng = np.random.default_rng(0)
    paths = [save(root / f"{n}.png", rng.integers(0, 3 + n, (9, 12), dtype=np.uint8)) for n in range(count - 2)]
    paths.append(save(root / "palette.png", rng.integers(0, 3, (9, 12), dtype=np.uint8), odd_palette()))
    return [*paths, save(root / "colour.png", picture(9, 12))]


def looked(paths: list[Path]) -> list[tuple[object, ...]]:
    """What was found, as values that can be compared."""
    rows = []
    for path, found in look_at_masks(paths, (255,)):
        assert isinstance(found, MaskSigns)
        palette = None if found.palette is None else found.palette.tolist()
        rows.append((path, *found._replace(palette=None), palette))
    return rows


def test_masks_are_decoded_once(tmp_path: Path, decoded: Decoded) -> None:
    paths = masks(tmp_path / "masks")
    first = looked(paths)
    assert sorted(decoded) == sorted(paths)
    assert looked(paths) == first
    assert looked(paths[1:3]) == first[1:3]
    assert len(decoded) == len(paths)
    more = save(tmp_path / "masks" / "more.png", np.full((4, 4), 9, np.uint8))
    assert looked([*paths, more])[:-1] == first
    assert decoded[len(paths) :] == [more]
    list(look_at_masks(paths, (0,)))  # other numbers may mean no data, so masks may hold others
    assert len(decoded) == 2 * len(paths) + 1


def test_a_changed_mask_is_decoded_anew(tmp_path: Path, decoded: Decoded) -> None:
    paths = masks(tmp_path / "masks")
    looked(paths)
    decoded.clear()
    time = paths[1].stat().st_mtime_ns
    save(paths[1], np.full((9, 12), 7, np.uint8))
    os.utime(paths[1], ns=(time, time))
    assert looked(paths)[1][1] == (7,)
    assert decoded == [paths[1]]


@pytest.mark.parametrize("damage", ["cut", "value", "kind", "empty"])
def test_damaged_findings_are_found_again(tmp_path: Path, decoded: Decoded, damage: str) -> None:
    paths = masks(tmp_path / "masks")
    first = looked(paths)
    (file,) = (tmp_path / "kept" / "masks").iterdir()
    text = file.read_text()
    if damage == "value":
        held = json.loads(text)
        next(iter(held["masks"]["by_key"].values()))[0] = [0, 200]
        file.write_text(json.dumps(held))
    else:
        file.write_text({"cut": text[: len(text) // 2], "kind": "[1, 2]", "empty": ""}[damage])
    assert looked(paths) == first
    assert len(decoded) == 2 * len(paths)
    assert looked(paths) == first
    assert len(decoded) == 2 * len(paths)


def test_processes_look_at_a_part_each(tmp_path: Path, decoded: Decoded) -> None:
    paths = masks(tmp_path / "masks")
    one, two = as_team(2, lambda rank: looked(paths))
    assert one == two == looked(paths)
    assert sorted(decoded) == sorted(paths)


def test_what_cannot_be_read_is_said_each_time(tmp_path: Path, decoded: Decoded) -> None:
    paths = [*masks(tmp_path / "masks"), tmp_path / "masks" / "gone.png"]
    paths[0].write_bytes(b"\x89PNG no more")
    for _ in range(2):
        found = [signs for _, signs in look_at_masks(paths, ())]
        assert [isinstance(signs, DamagedFile) for signs in found] == [True, *[False] * 4, True]


def test_nothing_is_kept_where_that_is_wanted(
    tmp_path: Path, decoded: Decoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = masks(tmp_path / "masks")
    monkeypatch.setenv(VARIABLE, "")
    assert kept_folder("masks") is None
    assert looked(paths) == looked(paths)
    assert len(decoded) == 2 * len(paths)
    assert not (tmp_path / "kept").exists()
    monkeypatch.setenv(VARIABLE, str(paths[0]))  # where nothing can be written, everything still works
    assert looked(paths) == looked(paths)


def test_the_folder_is_that_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert kept_folder("masks") == Path("/somewhere/segadapt/masks")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert kept_folder("masks") == Path.home() / ".cache" / "segadapt" / "masks"


def test_a_folder_without_classes_file_is_opened_again_from_findings(tmp_path: Path, decoded: Decoded) -> None:
    for number in range(3):
        save(tmp_path / "images" / f"{number}.png", picture(9, 12))
        save(tmp_path / "masks" / f"{number}.png", np.kron([[0, 1], [2, number]], np.ones((5, 6))).astype(np.uint8))
    first = open_folder(tmp_path / "images", tmp_path / "masks")
    again = open_folder(tmp_path / "images", tmp_path / "masks")
    assert first.space.names == again.space.names == ("class_0", "class_1", "class_2")
    assert len(decoded) == 3
