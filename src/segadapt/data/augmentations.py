"""Augmentations of colours that are added from outside, by name.

An augmentation changes the colours of training crops. It is a pure function of the crops and of uniform random
numbers, a fixed count of them per sample. The numbers belong to the sample and not to its batch, so a resumed run and a
run of several processes see the same images.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor

from segadapt.core.registry import Registry
from segadapt.errors import RequestError, nearest, one_line

F = TypeVar("F", bound=Callable[..., Tensor])


@dataclass(frozen=True)
class RegisteredAugmentation:
    """An augmentation that recipes can name.

    Attributes:
        name: in recipes.
        apply: ``apply(images [B, C, h, w] float32 in [0, 1], draws [B, n] uniform in [0, 1), **settings)``, which
            returns images of the same shape. It must treat each image by itself.
        draws: n, the random numbers that one sample needs.
    """

    name: str
    apply: Callable[..., Tensor]
    draws: int

    def check(self, settings: Mapping[str, Any]) -> None:
        """Raise RequestError where the function has no such setting, or needs one that is missing."""
        known = list(inspect.signature(self.apply).parameters.values())[2:]
        names = [p.name for p in known if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        if not any(p.kind is p.VAR_KEYWORD for p in known):
            for name in settings:
                if name not in names:
                    listed = f"it has: {', '.join(names)}" if names else "it has none"
                    raise RequestError(
                        f"augmentation '{self.name}' has no setting '{name}'{nearest(name, names)}; {listed}"
                    )
        for parameter in known:
            if parameter.name in names and parameter.default is parameter.empty and parameter.name not in settings:
                raise RequestError(f"augmentation '{self.name}' needs the setting '{parameter.name}'")

    def __call__(self, images: Tensor, draws: Tensor, settings: Mapping[str, Any]) -> Tensor:
        """Return the changed images [B, C, h, w], clamped to [0, 1].

        Raises:
            RequestError: the function failed, or did not return images of the same shape.
        """
        try:
            changed = self.apply(images, draws, **settings)
        except Exception as problem:
            raise RequestError(f"augmentation '{self.name}' failed: {one_line(problem)}") from problem
        if not isinstance(changed, Tensor):
            raise RequestError(f"augmentation '{self.name}' returned a {type(changed).__name__} instead of images")
        if changed.shape != images.shape:
            raise RequestError(
                f"augmentation '{self.name}' turned images of shape {list(images.shape)} into {list(changed.shape)}; "
                "it may change colours only"
            )
        return changed.clamp(0, 1)


def _of_entry_point(name: str, found: Any) -> RegisteredAugmentation:
    raise RequestError(
        f"augmentation '{name}': {found!r} did not register itself; decorate the function with "
        f"segadapt.data.register_augmentation('{name}')"
    )


AUGMENTATIONS: Registry[RegisteredAugmentation] = Registry(
    "augmentation", {}, "segadapt.augmentations", _of_entry_point
)
"""Registered augmentations by name."""


def register_augmentation(name: str, draws: int = 1) -> Callable[[F], F]:
    """Register a function as an augmentation; one of the same name and module is replaced.

    Args:
        name: by which ``augmentation.extra`` of a recipe asks for it.
        draws: random numbers per sample, at least 0.

    Example:
        >>> @register_augmentation("fog", draws=1)
        ... def fog(images, draws, density=0.5):
        ...     share = density * draws[:, :, None, None]
        ...     return (1 - share) * images + share
        >>> options = Augmentation(extra={"fog": {"density": 0.3}})
    """

    def registered(function: F) -> F:
        AUGMENTATIONS.register(name, RegisteredAugmentation(name, function, draws), function.__module__)
        return function

    return registered


def augmentation(name: str) -> RegisteredAugmentation:
    """Return a registered augmentation; RequestError with the nearest name where there is none."""
    return AUGMENTATIONS.find(name, "; one of a package needs 'plugins: [PACKAGE]' in the recipe")
