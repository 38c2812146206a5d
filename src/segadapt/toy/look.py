"""The three looks: turn a drawn street into a picture [H, W, 3] in 0..255.

``game`` is flat, saturated and sunny; ``camera`` has texture, soft light, haze, a colour cast and
the defects of a lens and a sensor; ``night`` is the camera after dark, lit by lamps and windows.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from segadapt.toy import optics
from segadapt.toy.canvas import Canvas
from segadapt.toy.optics import Array, Layers, rgb
from segadapt.toy.scene import Scene

Ids = npt.NDArray[np.uint16]


def game(canvas: Canvas, scene: Scene, ids: Ids, rng: np.random.Generator) -> Array:
    """Shade a street with flat colours, hard sun and a clean sky."""
    view = optics.layers(canvas, ids, sun_gain=0.45, sky_gain=0.62)
    shadow = optics.shadow_mask(canvas, 0.0, sun=True)
    image = view.albedo * np.where(view.ground, shadow, 1.0)[..., None].astype(np.float32)
    image = optics.glaze(view, image, rgb(80, 130, 170))
    skies = (
        (0.6, rgb(62, 132, 222), rgb(178, 214, 240)),
        (0.8, rgb(92, 120, 200), rgb(250, 206, 160)),
        (1.0, rgb(150, 172, 200), rgb(222, 228, 234)),
    )
    draw = rng.random()
    top, low = next((top, low) for limit, top, low in skies if draw < limit)
    image = optics.behind(view, image, optics.sky(canvas, top, low, float(rng.uniform(-0.6, 0.3)), rng))
    image = optics.hazy(view, image, 900.0, rgb(190, 214, 236))
    gain = np.float32(rng.uniform(0.82, 1.08))
    return np.asarray(optics.saturated(image, float(rng.uniform(0.95, 1.25))) * gain, np.float32)


def camera(canvas: Canvas, scene: Scene, ids: Ids, rng: np.random.Generator) -> Array:
    """Shade a street as a car camera sees it by day, under clouds or a pale sun."""
    sunny = rng.random() < 0.55
    view = optics.layers(canvas, ids, sun_gain=0.4 if sunny else 0.14, sky_gain=0.55 if sunny else 0.68)
    image = view.albedo * (1 + 0.8 * optics.texture(view, rng))[..., None]
    shadow = optics.shadow_mask(canvas, 0.8 if sunny else 1.6, sun=sunny)
    image *= np.where(view.ground, shadow, _occlusion(view))[..., None].astype(np.float32)
    image = optics.glaze(view, image, rgb(176, 182, 186))
    air = rgb(*(float(rng.uniform(210, 240)),) * 3)
    top = rgb(120, 164, 214) if sunny else rgb(172, 184, 198)
    image = optics.behind(view, image, optics.sky(canvas, top, air, -0.1 if sunny else 0.25, rng))
    image = optics.hazy(view, image, float(rng.uniform(200, 500)), air * np.float32(0.9))
    cast = rgb(rng.uniform(0.88, 1.0), 1.0, rng.uniform(0.86, 1.02))
    image = optics.saturated(image, float(rng.uniform(0.65, 0.95))) * cast
    # Automatic exposure: scale the picture's mean towards a target, within limits.
    gain = np.clip(rng.uniform(92, 124) / image.mean(), 0.8, 1.35)
    noise, blur = float(rng.uniform(1.5, 4.5)), float(rng.uniform(0.4, 0.75))
    return optics.lens(canvas, image * np.float32(gain), rng, noise, blur, quality=78)


def _occlusion(view: Layers) -> Array:
    """Return a brightness factor that darkens upright surfaces close to the ground."""
    return np.asarray(0.72 + 0.28 * np.clip(view.y / 1.2, 0, 1), np.float32)


def night(canvas: Canvas, scene: Scene, ids: Ids, rng: np.random.Generator) -> Array:
    """Shade a street as the camera sees it after dark: lamps, lit windows, headlights, halos, strong noise."""
    view = optics.layers(canvas, ids, sun_gain=0.1, sky_gain=0.8)
    image = view.albedo * (1 + 0.8 * optics.texture(view, rng))[..., None]
    shadow = optics.shadow_mask(canvas, 2.0, sun=False)
    image *= np.where(view.ground, shadow, 1.0)[..., None].astype(np.float32)
    sky = optics.sky(canvas, rgb(16, 20, 36), rgb(58, 50, 50), -3.0, rng)
    image = optics.behind(view, image * _lamp_light(canvas, scene, view), sky)
    image += view.glow * np.float32(0.9) + _halos(canvas, view)
    image = image * rgb(1.06, 0.96, 0.8) * np.float32(rng.uniform(0.8, 1.15))
    noise, blur = float(rng.uniform(5, 10)), float(rng.uniform(0.5, 0.9))
    return optics.lens(canvas, image, rng, noise, blur, quality=60)


def _halos(canvas: Canvas, view: Layers) -> Array:
    """Scatter light around lamps and windows, at three sizes."""
    out = np.zeros_like(view.glow)
    for rows, strength in ((3, 0.5), (9, 0.45), (24, 0.5)):
        size = max(rows * canvas.height / 256, 1.0)
        small = cv2.resize(view.glow, None, fx=1 / size, fy=1 / size, interpolation=cv2.INTER_AREA)
        out += optics.enlarged(optics.blurred(np.asarray(small, np.float32), 1.6), canvas) * np.float32(strength)
    return out


def _lamp_light(canvas: Canvas, scene: Scene, view: Layers) -> Array:
    """Compute the light [H, W, 3] of the town, the street lamps and the car's own headlights."""
    x = view.x - np.float32(canvas.camera.bend) * view.depth**2
    light = np.full(x.shape, 0.15, np.float32)
    near_ground = np.exp(-np.maximum(view.y, 0) / 6).astype(np.float32)
    for lamp in scene.placed:
        if lamp.kind == "lamp" and lamp.z < 90:
            away = (x - np.float32(lamp.x * 0.8)) ** 2 + (view.depth - np.float32(lamp.z)) ** 2
            light += np.float32(0.55) * near_ground / (1 + away / 24)
    cone = np.exp(-((x / (2 + np.float32(0.22) * view.depth)) ** 2) - np.maximum(view.y - np.float32(0.6), 0) * 1.3)
    light += (0.75 * cone / (1 + (view.depth / 17) ** 2)).astype(np.float32)
    return np.minimum(light, 1.1)[..., None].astype(np.float32) * rgb(1.0, 0.9, 0.74)
