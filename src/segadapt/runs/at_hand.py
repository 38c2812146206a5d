"""Networks whose weights are at hand, of which a default run may choose. Nothing is downloaded unasked."""

from __future__ import annotations

from collections.abc import Sequence

from segadapt.models.build import MODELS
from segadapt.models.online import timm_weights_here

FOUNDATION = "foundation:"
"""Opens the names of foundation encoders with a light head."""
ENCODERS = (
    "vit_large_patch16_dinov3.lvd1689m",
    "vit_large_patch14_dinov2.lvd142m",
    "vit_base_patch16_dinov3.lvd1689m",
    "vit_base_patch14_dinov2.lvd142m",
    "vit_small_patch16_dinov3.lvd1689m",
    "vit_small_patch14_dinov2.lvd142m",
)
"""Foundation encoders, the strongest first: size counts most (Rein, from GTA5 to Cityscapes, DINOv2: small 55.3, base
64.3, large 66.7 mIoU)."""
RATE = 1 / 6
"""Their rate beside that of other encoders: VFM-UDA++ trains with 1e-5 where DAFormer does with 6e-5."""


def networks_at_hand(own: str, device: str) -> Sequence[str]:
    """Return the names of the networks to choose from, the strongest first.

    Args:
        own: network of the recipe, whose weights are a package; it is the last, as it is the fastest.
        device: ``cpu``, ``cuda`` or ``mps``; without a GPU a foundation encoder has no time for enough steps.
    """
    if device != "cuda" or f"{FOUNDATION}NAME" not in MODELS:
        return [own]
    return [*(f"{FOUNDATION}{name}" for name in ENCODERS if timm_weights_here(name)), own]
