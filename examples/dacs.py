"""DACS (Tranheden et al., WACV 2021) in plain PyTorch: a training loop of one's own on the pieces of segadapt.

    python examples/dacs.py A/images A/masks B/images --out dacs.safetensors

What comes from segadapt: reading folders, the network, and pieces, each a function that is usable alone. What is
plain PyTorch: the data loader, the optimiser and the loop.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from segadapt.data import Dataset as Folder
from segadapt.data import open_folder
from segadapt.data.photometric import color_jitter
from segadapt.models import build_segmenter, save_model
from segadapt.pieces import (
    classes_present,
    cross_entropy,
    follow,
    frozen_copy,
    growing_momentum,
    half_of,
    where_chosen,
)
from segadapt.pieces.confidence import confident_share, labels_and_confidence


class Crops(Dataset[tuple[Tensor, Tensor]]):
    """Random crops of a folder: an image [3, side, side] in [0, 1], and train ids, 255 where there is no label."""

    def __init__(self, folder: Folder, side: int, length: int):
        self.folder, self.side, self.length = folder, side, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        place = int(torch.randint(len(self.folder), ()))
        image = torch.from_numpy(self.folder.image(place).copy()).permute(2, 0, 1) / 255
        label = torch.full(image.shape[1:], 255)
        if self.folder.labelled:
            label = torch.from_numpy(self.folder.label(place).copy()).long()
        top = int(torch.randint(max(1, image.shape[1] - self.side + 1), ()))
        left = int(torch.randint(max(1, image.shape[2] - self.side + 1), ()))
        rows, columns = slice(top, top + self.side), slice(left, left + self.side)
        return image[:, rows, columns], label[rows, columns]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source_images", type=Path)
    parser.add_argument("source_masks", type=Path)
    parser.add_argument("target_images", type=Path)
    parser.add_argument("--out", type=Path, default=Path("dacs.safetensors"))
    parser.add_argument("--network", default="lite")
    parser.add_argument("--weights", default="imagenet", help="imagenet, none, or a file")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--crop", type=int, default=256)
    options = parser.parse_args()

    torch.manual_seed(0)
    source = open_folder(options.source_images, options.source_masks)
    target = open_folder(options.target_images)
    classes = len(source.space)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    weights = None if options.weights == "none" else options.weights
    student = build_segmenter(options.network, classes, weights=weights).to(device).train()
    teacher = frozen_copy(student)
    optimiser = torch.optim.AdamW(student.parameters(), lr=1e-4, weight_decay=0.01)
    samples = options.steps * options.batch
    loaders = [DataLoader(Crops(folder, options.crop, samples), options.batch) for folder in (source, target)]

    for step, ((x_s, y_s), (x_t, _)) in enumerate(zip(*loaders, strict=True)):
        x_s, y_s, x_t = x_s.to(device), y_s.to(device), x_t.to(device)

        # Pseudo labels of the teacher; q is the share of pixels that it is sure of.
        with torch.no_grad():
            y_t, confidence = labels_and_confidence(teacher(x_t).logits, x_t.shape[-2:])
            q = confident_share(confidence, torch.ones_like(y_t, dtype=torch.bool), 0.968, "image")

        # ClassMix: half of the classes of a source crop are pasted onto a target crop, then colours change.
        present = classes_present(y_s, classes)
        present[:, -1] = False  # ignored pixels are not a class
        pasted = where_chosen(y_s, half_of(present, torch.rand(present.shape).to(device)))
        x_m = torch.where(pasted[:, None], x_s, x_t)
        x_m = color_jitter(x_m, torch.full((len(x_m),), 0.25), torch.rand(len(x_m), 4))
        y_m = torch.where(pasted, y_s, y_t)
        w_m = torch.where(pasted, 1.0, q)

        supervised = cross_entropy(student(x_s).logits, y_s, y_s.shape[-2:]).mean()
        mixed = cross_entropy(student(x_m).logits, y_m, y_m.shape[-2:], weights=w_m).mean()
        optimiser.zero_grad()
        torch.autograd.backward(supervised + mixed)
        optimiser.step()
        follow(teacher, student, growing_momentum(step + 1, 0.99))
        if step % 20 == 0 or step + 1 == options.steps:
            print(f"step {step + 1}: supervised {supervised:.3f}, mixed {mixed:.3f}, q {q.mean():.2f}")

    save_model(options.out, student.eval(), source.space, {"made by": "examples/dacs.py"})
    print(f"model {options.out}; try: segadapt predict {options.out} IMAGES")


if __name__ == "__main__":
    main()
