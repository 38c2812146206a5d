"""One's own network and one's own torch Dataset, adapted from a script.

    python examples/own_network_and_data.py --out runs/own

The network is any module that maps images [B, 3, H, W] to class scores [B, K, h, w]. The data are any torch Datasets
of (image, label) pairs, for the target of images alone; here they are made in memory: discs and boxes on the ground,
in the colours of one camera and of another.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import segadapt
from segadapt.models.segmenter import Preprocessing

CLASSES = ("ground", "box", "disc")
SIZE = 64
SHIFT = 1.0


class Shapes(Dataset[Any]):
    """Pictures of a box and a disc; ``shift`` in [0, 1] changes the colours as another camera would."""

    def __init__(self, count: int, shift: float, seed: int, labelled: bool = True):
        self.count, self.shift, self.seed, self.labelled = count, shift, seed, labelled

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        if index >= self.count:
            raise IndexError(index)
        rng = np.random.default_rng([self.seed, index])
        label = np.zeros((SIZE, SIZE), np.uint8)
        top, left = rng.integers(4, SIZE // 2, 2)
        label[top : top + 20, left : left + 24] = 1
        y, x = rng.integers(16, SIZE - 16, 2)
        rows, columns = np.ogrid[:SIZE, :SIZE]
        label[(rows - y) ** 2 + (columns - x) ** 2 < 120] = 2
        colours = np.array([[90, 90, 90], [200, 60, 50], [60, 170, 70]], np.float32)
        image = colours[label] * (1 - self.shift * np.array([0.35, 0.25, 0.1]))  # dimmer and colder
        image = (image + rng.normal(0, 8 + 10 * self.shift, image.shape)).clip(0, 255).astype(np.uint8)
        return (image, label) if self.labelled else image


class Small(nn.Module):
    """Four convolutions at stride 4, and a classifier."""

    def __init__(self, classes: int, width: int = 24):
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, stride in ((3, 2), (width, 1), (width, 2), (width, 1)):
            layers += [nn.Conv2d(inputs, width, 3, stride, 1), nn.BatchNorm2d(width), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.body(images))
        return logits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/own"))
    parser.add_argument("--steps", type=int, default=300, help="of the source stage, and of each round of adaptation")
    options = parser.parse_args()

    torch.manual_seed(0)
    network = Small(len(CLASSES))
    test = Shapes(16, shift=SHIFT, seed=2)
    preprocessing = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))  # as this network wants its images
    crop = {"crop": [SIZE, SIZE], "scales": [0.8, 1.2]}
    result = segadapt.adapt(
        method="cbst",
        source=Shapes(48, shift=0.0, seed=0),
        target=Shapes(32, shift=SHIFT, seed=1, labelled=False),
        test=test,
        classes=CLASSES,
        network=network,
        head="classifier",  # its input becomes the features, and it trains with the rate of a head
        preprocessing=preprocessing,
        overrides=[
            f"source={{steps: {options.steps}, augmentation: {crop}, norm: train}}",
            f"adapt={{steps: {options.steps}, epochs: null, rounds: 2, augmentation: {crop}}}",
            "source.optimiser={name: adamw, lr: 0.002, head_factor: 1}",
            "adapt.optimiser={name: adamw, lr: 0.001, head_factor: 1}",
        ],
        out=options.out,
    )
    for stage in result.stages:
        print(f"{stage.title:<12} mIoU {stage.miou:.1f}")
    print(f"report {result.report}")

    # In a later script: the model file holds the weights, the module is given again.
    model = segadapt.load(result.model, network=Small(len(CLASSES)), head="classifier", preprocessing=preprocessing)
    label_map, confidence = segadapt.predict(model, test[0][0])
    scores = segadapt.evaluate(model, test)
    right = (label_map == test[0][1]).mean()
    print(f"again mIoU {scores.miou:.1f}; first image {right:.1%} right, mean confidence {confidence.mean():.2f}")


if __name__ == "__main__":
    main()
