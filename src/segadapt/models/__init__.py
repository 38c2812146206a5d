"""Segmentation networks behind one interface, inference, and model files."""
