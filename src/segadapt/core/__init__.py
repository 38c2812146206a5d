"""Basis of all other packages: settings, files, registries, random numbers, types."""
