"""Origin and licence of published weights, for users to see: many foundation models may not be used for everything."""

from __future__ import annotations

import re

from segadapt.models.build import ModelConfig

_SAID = re.compile(r"weights \S+ of timm: licence (?!not stated)(\S+)")
_OF_TIMM = ("foundation", "timm", "daformer")


def weights_in_words(model: ModelConfig) -> str:
    """Return a line about the pretrained weights of a network whose encoder is timm's; "" about others or none.

    Args:
        model: the network; ``weights`` may be a file, of which no licence is known.

    Example:
        >>> weights_in_words(ModelConfig(name="foundation:vit_small_patch14_dinov2.lvd142m"))
        'weights vit_small_patch14_dinov2.lvd142m of timm: licence apache-2.0'
    """
    import timm

    family, _, encoder = model.name.removeprefix("hrda:").partition(":")
    if model.weights is None or family not in _OF_TIMM or not encoder:
        return ""
    stated = timm.get_pretrained_cfg(encoder)
    licence = stated.license if stated is not None and stated.license else "not stated"
    tag = f".{stated.tag}" if stated is not None and stated.tag and "." not in encoder else ""
    if model.weights == "imagenet":
        return f"weights {encoder}{tag} of timm: licence {licence}"
    return f"weights of the file '{model.weights}'; those of {encoder}{tag} of timm have the licence {licence}"


def licence_in(words: str) -> str | None:
    """Return the licence of a line of :func:`weights_in_words`; None where it is not known, as of a file.

    >>> licence_in("weights vit_small_patch14_dinov2.lvd142m of timm: licence apache-2.0")
    'apache-2.0'
    """
    found = _SAID.fullmatch(words)
    return found.group(1) if found else None
