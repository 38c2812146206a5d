"""Measured results and the scripts that render them, for maintainers of the library."""
