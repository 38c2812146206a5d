"""Parts of the looks of the toy renderer: surfaces, textures, shadows, sky, lens and sensor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from segadapt.toy.canvas import SUPERSAMPLE, Canvas, Material, fixed_point

Array = npt.NDArray[np.float32]

_TILE = 256
# Texture strength of each material in the camera look, as a share of its brightness.
_ROUGHNESS = {
    Material.SKY: 0.0, Material.PAINT: 0.03, Material.ASPHALT: 0.17, Material.PAVING: 0.16, Material.GRASS: 0.34,
    Material.LEAF: 0.55, Material.PLASTER: 0.13, Material.BRICK: 0.3, Material.GLASS: 0.12, Material.CLOTH: 0.14,
}  # fmt: skip


@dataclass(frozen=True)
class Layers:
    """A drawn street at image size, ready for shading; ``depth``, ``x`` and ``y`` are street coordinates in metres."""

    albedo: Array
    glow: Array
    material: npt.NDArray[np.uint8]
    ground: npt.NDArray[np.bool_]
    depth: Array
    x: Array
    y: Array


def layers(canvas: Canvas, ids: npt.NDArray[np.uint16], sun_gain: float, sky_gain: float) -> Layers:
    """Look up the part of every pixel; ``ids`` are the part numbers at image size.

    A surface's brightness is ``sky_gain + sun_gain * cosine to the sun``.
    """
    parts = canvas.parts
    shade = np.asarray([p.shade for p in parts], np.float32)
    color = np.asarray([p.color for p in parts], np.float32)
    glow = np.asarray([p.glow for p in parts], np.float32)
    lit = np.clip(color * (sky_gain + sun_gain * shade)[:, None], 0, 255).astype(np.uint8)
    size = (canvas.width, canvas.height)
    albedo = cv2.resize(lit[canvas.ids], size, interpolation=cv2.INTER_AREA).astype(np.float32)
    # Lit rooms are warm, whatever the colour of their panes; a lamp shines in its own colour.
    room = np.asarray([p.material == Material.GLASS for p in parts])[:, None]
    shining = np.where(room, rgb(255, 206, 138), np.clip(color * 1.1 + 30, 0, 255))
    bright = (shining * glow[:, None]).astype(np.uint8)
    shine = cv2.resize(bright[canvas.ids], size, interpolation=cv2.INTER_AREA).astype(np.float32)
    ground = np.asarray([p.ground for p in parts])[ids]
    camera = canvas.camera
    rows = np.arange(canvas.height, dtype=np.float32)[:, None] + 0.5
    columns = np.arange(canvas.width, dtype=np.float32)[None, :] + 0.5
    flat = camera.focal * camera.height / np.maximum(rows - camera.horizon, 0.05)
    depth = np.asarray([p.depth for p in parts], np.float32)[ids]
    depth = np.where(ground, np.minimum(flat, 2000.0), depth).astype(np.float32)
    x = (columns - camera.centre) * depth / camera.focal
    y = np.where(ground, 0.0, camera.height - (rows - camera.horizon) * depth / camera.focal).astype(np.float32)
    material = np.asarray([int(p.material) for p in parts], np.uint8)[ids]
    return Layers(albedo, shine, material, ground, depth, x.astype(np.float32), y)


@lru_cache(maxsize=1)
def noise_tiles() -> tuple[Array, Array]:
    """Return two seamless noise tiles in -1..1, grain and soft blotches, the same for every picture."""
    rng = np.random.default_rng(7)
    tiles = []
    for blur in (0.6, 5.0):
        raw = np.tile(rng.standard_normal((_TILE, _TILE)).astype(np.float32), (3, 3))
        soft = cv2.GaussianBlur(raw, (0, 0), blur)[_TILE : 2 * _TILE, _TILE : 2 * _TILE]
        tiles.append(np.clip(soft / (2 * soft.std()), -1, 1).astype(np.float32))
    return tiles[0], tiles[1]


def texture(view: Layers, rng: np.random.Generator) -> Array:
    """Compute relative brightness changes fixed to the surfaces, hence finer with distance."""
    grain, blotch = noise_tiles()
    across = view.x + np.float32(rng.uniform(0, 50))
    along = np.where(view.ground, view.depth, view.y + np.float32(0.37) * view.depth).astype(np.float32)
    fine = cv2.remap(grain, (across * 22) % _TILE, (along * 22) % _TILE, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    soft = cv2.remap(blotch, (across * 9) % _TILE, (along * 9) % _TILE, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    strength = np.asarray([_ROUGHNESS[m] for m in Material], np.float32)[view.material]
    # Detail smaller than a pixel averages out.
    fade = np.clip(18.0 / np.maximum(view.depth, 1.0), 0.25, 1.0)
    # Courses of brick, 0.3 m high, up to the distance at which they are visible.
    courses = 0.14 * ((view.material == Material.BRICK) & (view.depth < 25) & ((view.y * 3.3) % 1.0 < 0.22))
    return np.asarray(strength * (fine * fade + 0.9 * soft) + courses, np.float32)


def shadow_mask(canvas: Canvas, soft: float, sun: bool) -> Array:
    """Compute the share of light on the ground, 0..1, under contact shadows and, with ``sun``, cast shadows."""
    mask = np.ones((canvas.height, canvas.width), np.float32)
    for outline, strength, cast in canvas.shadows:
        if cast and not sun:
            continue
        points = np.asarray(outline)
        low, high = np.floor(points.min(0)).astype(int) - 1, np.ceil(points.max(0)).astype(int) + 2
        x0, y0 = max(0, low[0]), max(0, low[1])
        x1, y1 = min(canvas.width, high[0]), min(canvas.height, high[1])
        if x1 <= x0 or y1 <= y0:
            continue
        patch = np.zeros((y1 - y0, x1 - x0), np.uint8)
        cv2.fillPoly(patch, [fixed_point([(u - x0, v - y0) for u, v in outline], 1.0)], 255, cv2.LINE_AA, 4)
        np.minimum(mask[y0:y1, x0:x1], 1 - patch.astype(np.float32) * (strength / 255), out=mask[y0:y1, x0:x1])
    return blurred(mask, soft) if soft else mask


def blurred(image: Array, sigma: float) -> Array:
    """Blur by a Gaussian of ``sigma`` pixels."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)


def enlarged(image: Array, canvas: Canvas, how: int = cv2.INTER_LINEAR) -> Array:
    """Resize a picture to the size of the canvas."""
    return np.asarray(cv2.resize(image, (canvas.width, canvas.height), interpolation=how), np.float32)


def rgb(*channels: float) -> Array:
    """Return a colour as an array that broadcasts over pictures."""
    return np.asarray(channels, np.float32)


def sky(canvas: Canvas, top: Array, low: Array, clouds: float, rng: np.random.Generator) -> Array:
    """Draw a gradient from the horizon up with soft clouds, [H, W, 3]; ``clouds`` from -1 (none) to 1 (overcast)."""
    rows = np.arange(canvas.height, dtype=np.float32)
    up = np.clip((canvas.camera.horizon - rows) / max(canvas.camera.horizon, 1.0), 0, 1)[:, None, None].astype(
        np.float32
    )
    base = np.repeat(low + up * (top - low), canvas.width, axis=1).astype(np.float32)
    field = np.zeros((canvas.height, canvas.width), np.float32)
    for octave in (3, 6, 12):
        coarse = rng.standard_normal((octave + 2, octave + 2)).astype(np.float32)
        field += enlarged(coarse, canvas, cv2.INTER_CUBIC) / np.float32(octave**0.5)
    cover = np.clip(field * 0.6 + clouds, 0, 1)[..., None].astype(np.float32)
    return np.asarray(base + cover * (rgb(246, 246, 246) - base) * np.float32(0.75), np.float32)


def behind(view: Layers, image: Array, backdrop: Array) -> Array:
    """Put the backdrop at the pixels of the sky."""
    return np.where((view.material == Material.SKY)[..., None], backdrop, image).astype(np.float32)


def glaze(view: Layers, image: Array, reflected: Array) -> Array:
    """Let windows reflect a colour, higher windows more."""
    share = (0.12 + 0.3 * np.clip(view.y / 8.0, 0, 1)) * (view.material == Material.GLASS)
    return np.asarray(image + share[..., None].astype(np.float32) * (reflected - image), np.float32)


def hazy(view: Layers, image: Array, reach: float, air: Array) -> Array:
    """Blend surfaces into the colour of the air; at ``reach`` metres 63 % of their own colour is gone."""
    share = np.where(view.material == Material.SKY, 0.0, 1 - np.exp(-view.depth / np.float32(reach)))
    return np.asarray(image + share[..., None].astype(np.float32) * (air - image), np.float32)


def saturated(image: Array, factor: float) -> Array:
    """Multiply the distance of every colour from its grey by a factor."""
    grey = image.mean(2, keepdims=True)
    return np.asarray(grey + (image - grey) * np.float32(factor), np.float32)


def lens(canvas: Canvas, image: Array, rng: np.random.Generator, noise: float, blur: float, quality: int) -> Array:
    """Apply vignette, blur (pixels at 256 rows), sensor noise (grey levels) and JPEG of a quality."""
    v = np.linspace(-1, 1, canvas.height, dtype=np.float32)[:, None]
    u = np.linspace(-1, 1, canvas.width, dtype=np.float32)[None, :]
    vignette = np.asarray(1 - 0.13 * (u * u + v * v), np.float32)
    image = blurred(image * vignette[..., None], blur * canvas.height / 256)
    grain = rng.standard_normal((canvas.height, canvas.width), dtype=np.float32)
    tinted = rng.standard_normal((canvas.height // 2 + 1, canvas.width // 2 + 1, 3), dtype=np.float32)
    image += np.float32(0.8 * noise) * grain[..., None]
    image += np.float32(0.5 * noise) * enlarged(tinted, canvas)
    pixels = np.clip(image, 0, 255).astype(np.uint8)
    packed: npt.NDArray[np.uint8] = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.float32)


def image_ids(canvas: Canvas) -> npt.NDArray[np.uint16]:
    """Return part numbers [H, W]: one sample per supersampled cell."""
    return np.ascontiguousarray(canvas.ids[SUPERSAMPLE // 2 :: SUPERSAMPLE, SUPERSAMPLE // 2 :: SUPERSAMPLE])
