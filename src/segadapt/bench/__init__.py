"""Measurements of the parts whose cost grows with the data set."""
