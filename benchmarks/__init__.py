"""Measured results, and the script that renders them: for those who keep this house."""
