"""Pure tensor functions and small modules: no files, no devices, usable alone in plain PyTorch."""
