"""Benchmarks: methods side by side, the cost of a training step, and the cost of class thresholds."""
