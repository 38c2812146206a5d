"""Files, names and settings that no honest person has: each is laid into a copy of the world before a run."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from segadapt.bench.faults.world import SIZE
from segadapt.core.files import write_bytes, write_json, write_text
from segadapt.data.files.writing import encode_picture


@dataclass
class Scene:
    """A request that a trick may spoil.

    Attributes:
        world: a copy of the data.
        out: folder of the run; not there yet.
        canary: appears if code of a file is run.
        settings: the recipe.
        text: the recipe file, where it is not the settings.
        generator: random numbers.
    """

    world: Path
    out: Path
    canary: Path
    settings: dict[str, Any]
    generator: random.Random
    text: str | None = None
    overrides: list[str] = field(default_factory=list)

    @property
    def images(self) -> Path:
        """Folder of the target images."""
        return self.world / "target" / "images"


Trick = Callable[[Scene], None]


def _fifo(scene: Scene) -> None:
    os.mkfifo(scene.images / "001b.png")


def _endless(scene: Scene) -> None:
    (scene.images / "001b.png").symlink_to("/dev/zero")


def _circle(scene: Scene) -> None:
    (scene.images / "001b.png").symlink_to("001b.png")


def _folder_as_image(scene: Scene) -> None:
    (scene.images / "001b.png").mkdir()


def _renamed(name: bytes) -> Trick:
    def trick(scene: Scene) -> None:
        (scene.images / "002.png").rename(scene.images / os.fsdecode(name))

    return trick


def _two_of_a_name(scene: Scene) -> None:
    part = scene.generator.choice(("source", "target"))
    (scene.world / part / "images" / "002.jpg").symlink_to("002.png")


def _content(make: Callable[[random.Random], bytes]) -> Trick:
    def trick(scene: Scene) -> None:
        part = scene.generator.choice(("source/images", "source/labels", "target/images", "test/images", "test/labels"))
        write_bytes(scene.world / part / "001.png", make(scene.generator))

    return trick


def _claims_to_be_huge(generator: random.Random) -> bytes:
    side = generator.choice((30_000, 200_000, 2**31 - 1))
    head = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = b"IDAT" + zlib.compress(b"\0" * 1000)
    chunks = [head, body, b"IEND"]
    packed = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def _other_values(generator: random.Random) -> bytes:
    return encode_picture(".png", np.full(SIZE, generator.randrange(3, 255), np.uint8))


def _odd_size(generator: random.Random) -> bytes:
    return encode_picture(".png", np.zeros((generator.choice((1, 3, 33)), generator.choice((1, 2, 41))), np.uint8))


def _classes(text: str) -> Trick:
    return lambda scene: write_text(scene.world / "classes.txt", text)


def _recipe(text: str) -> Trick:
    def trick(scene: Scene) -> None:
        scene.text = text

    return trick


def _setting(*keys: str, value: Any) -> Trick:
    """Return a trick that changes one setting of the recipe."""

    def trick(scene: Scene) -> None:
        place = scene.settings
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return trick


def _stage_named(name: str) -> Trick:
    def trick(scene: Scene) -> None:
        stages = scene.settings["stages"]
        scene.settings["stages"] = {name if key == "source" else key: stages[key] for key in stages}

    return trick


def _model(content: Callable[[random.Random], bytes]) -> Trick:
    def trick(scene: Scene) -> None:
        file = scene.world / "given.safetensors"
        write_bytes(file, content(scene.generator))
        scene.settings["stages"]["source"]["initial"] = str(file)

    return trick


def _safetensors(header: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header


def _model_claiming(**description: Any) -> bytes:
    space = {"name": "x", "names": ["ground", "box", "disc"], "colors": [[0, 0, 0], [1, 1, 1], [2, 2, 2]]}
    told = {"name": "timm:test_efficientnet", "classes": 3, **description}
    metadata = {
        "format": "segadapt-model-1",
        "space": json.dumps(space),
        "description": json.dumps(told),
        "provenance": "{}",
    }
    return _safetensors(json.dumps({"__metadata__": metadata}).encode())


class _Runs:
    """Makes a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)


def _weights_with_code(scene: Scene) -> None:
    file = scene.world / "given.pth"
    write_bytes(file, pickle.dumps({"state_dict": _Runs(scene.canary)}))
    scene.settings["model"] = {**scene.settings["model"], "weights": str(file)}


def _checkpoint_with_code(scene: Scene) -> None:
    folder = scene.out / "stages" / "source" / "checkpoints"
    file = folder / "checkpoint-000000002.pt"
    content = pickle.dumps(_Runs(scene.canary))
    write_bytes(file, content)
    entry = {"position": 2, "file": file.name, "fingerprint": "0" * 16, "sha256": hashlib.sha256(content).hexdigest()}
    write_json(folder / "checkpoints.json", [entry])


def _outside_checkpoint(scene: Scene) -> None:
    folder = scene.out / "stages" / "source" / "checkpoints"
    write_json(folder / "checkpoints.json", [{"position": 2, "file": "../../../../world/classes.txt", "sha256": "0"}])


def _in_the_way(name: str, how: str) -> Trick:
    """Return a trick that puts something else where the run writes a file."""

    def trick(scene: Scene) -> None:
        place = scene.out / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if how == "folder":
            place.mkdir()
            write_text(place / "x", "x")
        elif how == "fifo":
            os.mkfifo(place)
        elif how == "circle":
            place.symlink_to(place.name)
        else:
            write_text(place, how)

    return trick


_DEEP = "[" * 5000
TRICKS: Mapping[str, Trick] = {
    "a FIFO among the images": _fifo,
    "a link to /dev/zero among the images": _endless,
    "a link to itself among the images": _circle,
    "a folder named as an image": _folder_as_image,
    "an image named [red]": _renamed(b"002[red].png"),
    "an image named [/x]": _renamed(b"002[" + b"\xe2\x88\x95x].png"),
    "an image with 250 letters": _renamed(b"002" + b"x" * 243 + b".png"),
    "an image with a line break and an escape": _renamed(b"002\n\x1b[31m.png"),
    "an image whose name is not UTF-8": _renamed(b"002\xff.png"),
    "an image named as an option": _renamed(b"002 --out x;$(touch x).png"),
    "two images of one name": _two_of_a_name,
    "an image that claims to be huge": _content(_claims_to_be_huge),
    "an empty image": _content(lambda _: b""),
    "text as an image": _content(lambda _: b"no picture"),
    "noise as an image": _content(lambda g: b"\x89PNG\r\n\x1a\n" + g.randbytes(500)),
    "an image or mask of another size": _content(_odd_size),
    "a mask of other values": _content(
        lambda g: encode_picture(".png", np.full((32, 40), g.randrange(3, 255), np.uint8))
    ),
    "classes of a deep list": _classes(_DEEP),
    "classes with a long number": _classes("ground: " + "9" * 5000 + "\nbox: 1\ndisc: 2\n"),
    "classes of nothing": _classes("\0\0\0"),
    "classes that are repeated": _classes("ground\nbox\nbox\n"),
    "classes with markup": _classes("[red]ground[/x]\nbox\ndisc\n"),
    "a recipe in a circle": _recipe("stages: &a\n  source: *a\n"),
    "a recipe without stages": _recipe("title: x\nstages: null\n"),
    "a deep recipe": _recipe("stages: " + _DEEP),
    "a recipe that is a list": _recipe("- 1\n- 2\n"),
    "a recipe with a tag": _recipe("!!python/object/apply:os.mkdir [canary]\n"),
    "a recipe like itself": _recipe("like: recipe.yaml\n"),
    "a stage named as a path": _stage_named("../../outside"),
    "a stage named as a place": _stage_named("/tmp/segadapt-outside"),
    "a stage named [/x]": _stage_named("[/x]"),
    "a title as a path": _setting("title", value="../../outside"),
    "a title with markup": _setting("title", value="faults/[/x][red]"),
    "steps of 10^30": _setting("stages", "source", "steps", value=10**30),
    "a batch of a list": _setting("stages", "source", "batch_size", value=[[1]]),
    "a learning rate that is no number": _setting(
        "stages", "source", "optimiser", value={"name": "adamw", "lr": float("nan")}
    ),
    "a learning rate without end": _setting("stages", "source", "optimiser", value={"name": "sgd", "lr": 1e30}),
    "a crop without end": _setting("stages", "source", "augmentation", value={"crop": [10**9, 10**9]}),
    "a network of terabytes": _setting(
        "model", value={"name": "timm:test_efficientnet", "weights": None, "arguments": {"width": 10**9}}
    ),
    "a seed of 300 digits": _setting("seed", value=10**300),
    "a model with an endless head": _model(lambda _: _safetensors(b"{}", 2**63)),
    "a model with a deep head": _model(lambda _: _safetensors(_DEEP.encode())),
    "a model of nothing": _model(lambda _: b""),
    "a model with a network of terabytes": _model(lambda _: _model_claiming(width=10**9)),
    "a model with unknown arguments": _model(
        lambda g: _model_claiming(**{g.choice(("depth", "base", "bands")): [[None]]})
    ),
    "a model that asks a hub": _model(lambda _: _model_claiming(weights="imagenet")),
    "weights with code": _weights_with_code,
    "a checkpoint with code": _checkpoint_with_code,
    "a checkpoint somewhere else": _outside_checkpoint,
    **{
        f"{name} is {how}": _in_the_way(name, how)
        for name, how in (
            ("config.json", "folder"),
            ("config.json", "circle"),
            ("config.json", "fifo"),
            ("config.json", "[]"),
            ("results.json", "folder"),
            ("results.json", '{"rows": 3}'),
            ("log.jsonl", "folder"),
            ("log.jsonl", "fifo"),
            ("data.json", "circle"),
            ("stages", "a file"),
            ("stages/source/done.json", "folder"),
            ("stages/source/done.json", "[]"),
            ("stages/source/checkpoints/checkpoints.json", '{"a": 1}'),
            ("stages/source/model.safetensors", "folder"),
            ("report.html", "folder"),
            ("pictures", "a file"),
            ("tensorboard", "a file"),
            ("cache", "a file"),
        )
    },
}
"""Tricks by name."""
