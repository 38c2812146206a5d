"""Types that every part of the library uses."""

from __future__ import annotations

Size = tuple[int, int]
"""(height, width) in pixels."""
