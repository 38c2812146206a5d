"""Render one toy street: layout, drawing from far to near, and look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import cv2
import numpy as np
import numpy.typing as npt

from segadapt.errors import RequestError, nearest
from segadapt.labels import IGNORE
from segadapt.toy import buildings, furniture, optics, people, plants, street, vehicles
from segadapt.toy import look as looks
from segadapt.toy.canvas import Canvas
from segadapt.toy.populate import populate
from segadapt.toy.scene import EURO, GAME, Placed, Scene, lay_out

Look = Literal["game", "camera", "night"]
LOOKS: tuple[Look, ...] = get_args(Look)


class Rendered(NamedTuple):
    """A street with its ground truth.

    Attributes:
        image: [H, W, 3] uint8, RGB.
        label: [H, W] uint8, Cityscapes train ids and IGNORE.
        instance: [H, W] uint16, number of the person, rider or vehicle, from 1; 0 elsewhere.
    """

    image: npt.NDArray[np.uint8]
    label: npt.NDArray[np.uint8]
    instance: npt.NDArray[np.uint16]


_DRAW: dict[str, Callable[[Canvas, Placed], None]] = {
    "person": people.draw_person,
    "bicycle rider": people.draw_rider,
    "motorcycle rider": people.draw_rider,
    "bicycle": people.draw_bicycle,
    "motorcycle": people.draw_motorcycle,
    "tree": plants.draw_tree,
    "conifer": plants.draw_conifer,
    "palm": plants.draw_palm,
    "hills": plants.draw_hills,
    "lamp": furniture.draw_lamp,
    "traffic light": furniture.draw_traffic_light,
    "sign": furniture.draw_sign,
    "bollard": furniture.draw_bollard,
}
_SHADE = {"game": looks.game, "camera": looks.camera, "night": looks.night}


def layout(seed: int, style: Look, height: int = 256, width: int = 512) -> Scene:
    """Return the scene that :func:`render` draws; ``camera`` and ``night`` share the layout of a seed."""
    town = GAME if style == "game" else EURO
    rng = np.random.default_rng([seed, 0 if style == "game" else 1])
    scene = lay_out(rng, town, height, width)
    populate(scene, rng)
    return scene


def render(seed: int, look: Look, height: int = 256, width: int = 512) -> Rendered:
    """Render the street of a seed.

    The same arguments always give the same picture. ``camera`` and ``night`` show the same street,
    ``game`` a street of another town.

    Args:
        seed: at least 0.
        look: ``game`` (flat, saturated, wide streets), ``camera`` (textured, hazy, noisy, narrow
            European streets, with the car's bonnet and borders labelled IGNORE) or ``night``.
        height: rows, at least 32.
        width: columns, at least 32; the scenes are designed for twice the height.

    Raises:
        RequestError: the look is unknown, the seed negative or the size too small.

    Example:
        >>> image, label, instance = render(seed=0, look="camera")
        >>> image.shape, label.shape
        ((256, 512, 3), (256, 512))
    """
    if look not in LOOKS:
        raise RequestError(f"toy: no look '{look}'{nearest(str(look), LOOKS)}; there are: {', '.join(LOOKS)}")
    if seed < 0 or min(height, width) < 32:
        raise RequestError(
            f"toy: seed {seed}, size {height}x{width}; use a seed of 0 or more and at least 32x32 pixels"
        )
    scene = layout(seed, look, height, width)
    canvas = draw(scene, seed, height, width)
    ids = optics.image_ids(canvas)
    shading = np.random.default_rng([seed, 2 + LOOKS.index(look)])
    image = np.clip(_SHADE[look](canvas, scene, ids, shading), 0, 255).astype(np.uint8)
    label = np.asarray([p.label for p in canvas.parts], np.uint8)[ids]
    instance = np.asarray([p.instance for p in canvas.parts], np.uint16)[ids]
    if look != "game":
        _car_and_borders(image, label, instance, np.random.default_rng([seed, 9]), dark=look == "night")
    return Rendered(image, label, instance)


def draw(scene: Scene, seed: int, height: int, width: int) -> Canvas:
    """Draw the ground, then everything that stands on it, far things first."""
    canvas = Canvas(scene.camera, scene.sun, height, width)
    street.draw_ground(canvas, scene, np.random.default_rng([seed, 8]))
    work: list[tuple[float, Callable[[Canvas], None]]] = []
    for stretch in scene.frontage:
        work.extend(buildings.pieces(stretch))
    work.extend((placed.key, _drawer(placed)) for placed in scene.placed)
    for _, paint in sorted(work, key=lambda item: -item[0]):
        paint(canvas)
    return canvas


def _drawer(placed: Placed) -> Callable[[Canvas], None]:
    paint = _DRAW.get(placed.kind, vehicles.draw_vehicle)
    return lambda canvas: paint(canvas, placed)


def _car_and_borders(
    image: npt.NDArray[np.uint8],
    label: npt.NDArray[np.uint8],
    instance: npt.NDArray[np.uint16],
    rng: np.random.Generator,
    dark: bool,
) -> None:
    """Add the bonnet of the camera's own car and the black rim of rectified images, all IGNORE."""
    height, width = label.shape
    mask = np.zeros(label.shape, np.uint8)
    rise = float(rng.uniform(0.05, 0.1)) * height
    centre = (int(width * 0.5), int(height + rise * 1.4))
    cv2.ellipse(mask, centre, (int(width * 0.56), int(rise * 2.4)), 0, 0, 360, 255, -1, cv2.LINE_AA)
    cover = cv2.GaussianBlur(mask, (0, 0), 0.7).astype(np.float32)[..., None] / 255
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    paint = np.asarray((44, 46, 50), np.float32) * (0.3 if dark else 1.0) + (12 if dark else 70) * (1 - rows) * 4
    image[:] = (image + cover * (paint - image)).astype(np.uint8)
    void = mask > 127
    rim = max(1, round(height / 128))
    for edge in (np.s_[:rim], np.s_[:, :rim], np.s_[:, -rim:]):
        image[edge] = 0
        void[edge] = True
    label[void] = IGNORE
    instance[void] = 0
