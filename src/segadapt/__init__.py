"""segadapt: adapt a semantic segmentation model to a domain that has images but no labels."""

__version__ = "0.1.0"
