"""Settings that bound what files may cost."""

from __future__ import annotations

from pydantic import Field

from segadapt.core.settings import Settings


class Limited(Settings):
    """Settings of data with a bound on the size of images.

    Attributes:
        max_pixels: most pixels of an image that is decoded as a whole, which takes about ten bytes each; larger files
            are refused by their header. null is 268 million (16384 x 16384), or what SEGADAPT_MAX_PIXELS says.
    """

    max_pixels: int | None = Field(default=None, ge=1)
