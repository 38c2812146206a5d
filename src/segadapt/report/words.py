"""Format numbers for the report. A dash stands for an unknown number."""

from __future__ import annotations

DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def score(value: float | None) -> str:
    """Format a score in percent: ``31.2``."""
    return DASH if value is None else f"{value:.1f}".replace("-", MINUS)


def gain(value: float | None) -> str:
    """Format a difference of scores in points: ``+6.4``."""
    if value is None:
        return DASH
    return "0.0" if abs(value) < 0.05 else f"{value:+.1f}".replace("-", MINUS)


def share(value: float | None) -> str:
    """Format a share in [0, 1] as percent: ``21.0%``; small shares keep two significant digits."""
    if value is None:
        return DASH
    percent = 100 * value
    return f"{percent:.2g}%" if 0 < percent < 0.095 else f"{percent:.1f}%"


def threshold(value: float | None) -> str:
    """Format a confidence threshold: ``0.982``."""
    return DASH if value is None else f"{value:.3f}".replace("-", MINUS)


def duration(seconds: float | None) -> str:
    """Format seconds as ``45 s``, ``3 min 30 s`` or ``2 h 05 min``."""
    if seconds is None:
        return DASH
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def memory(megabytes: float | None) -> str:
    """Format megabytes as ``900 MB`` or ``1.2 GB``."""
    if megabytes is None:
        return DASH
    return f"{megabytes:.0f} MB" if megabytes < 1000 else f"{megabytes / 1024:.1f} GB"


def count(value: float | None) -> str:
    """Format a whole number with thin spaces between thousands."""
    return DASH if value is None else f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def difference(value: float | None, base: float | None) -> float | None:
    """Return ``value - base``, or None if one of them is unknown."""
    return None if value is None or base is None else value - base


def separation(value: float | None) -> str:
    """Format a ratio of scatters: ``0.42``, ``1.10``, ``27.6``."""
    if value is None:
        return DASH
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}"
