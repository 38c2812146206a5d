"""A network outside segadapt: a plain torch module, named by an entry point."""

from __future__ import annotations

from torch import Tensor, nn


class Stack(nn.Module):
    """Three convolutions at stride 2."""

    def __init__(self, classes: int, width: int = 8) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, 1, 1), nn.ReLU()
        )
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [B, K, H / 2, W / 2] of images [B, 3, H, W]."""
        logits: Tensor = self.classifier(self.body(images))
        return logits
