"""The version of the package, for records and model files; docs/versions.md says what its numbers promise."""

__version__ = "0.9.0"
