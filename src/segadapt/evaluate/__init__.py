"""Scores, and predictions on files."""
