"""The smallest network and batches, for restatements of methods."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from segadapt.data.augment import Window
from segadapt.data.loader import Samples
from segadapt.labels import IGNORE, LabelSpace
from segadapt.methods.method import Method, Terms
from segadapt.methods.registry import METHODS, stage_settings
from segadapt.models.segmenter import Output, Segmenter

K, D, STRIDE = 5, 6, 2
SPACE = LabelSpace("five", tuple("abcde"), tuple((i, i, i) for i in range(K)))


class Pointwise(Segmenter):
    """Two 1x1 convolutions at stride 2: features of six channels, then logits; an auxiliary head if asked."""

    stride = STRIDE
    feature_channels = D

    def __init__(self, auxiliary: bool = False, seed: int = 0) -> None:
        super().__init__(K)
        torch.manual_seed(seed)
        self.auxiliary = auxiliary
        self.encoder = nn.Conv2d(3, D, 1)
        self.classifier = nn.Conv2d(D, K, 1)
        self.extra = nn.Conv2d(D, K, 1)

    def network(self, x: Tensor) -> Output:
        features = self.encoder(x[..., ::STRIDE, ::STRIDE]).tanh()
        return Output(self.classifier(features), features, self.extra(features) if self.auxiliary else None, features)

    def deep_features(self, images: Tensor) -> Tensor:
        return self.encoder(self.preprocess(images)[..., ::STRIDE, ::STRIDE]).tanh()

    def head_modules(self) -> list[nn.Module]:
        return [self.classifier, self.extra]


def make(name: str, network: Segmenter, *others: Segmenter, **settings: Any) -> Method:
    """Make a method by its name on a network."""
    cls, values = stage_settings("adapt", {"method": name, **settings})
    return METHODS[name].method(cls(**values), network, SPACE, *others)


def samples(seed: int, batch: int, height: int, width: int, domain: int, labelled: bool, **more: Any) -> Samples:
    """Noise whose crops are the whole images."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.rand(batch, 3, height, width, generator=rng)
    labels = torch.randint(0, K, (batch, height, width), generator=rng)
    labels[:, :2] = IGNORE
    if not labelled:
        labels.fill_(IGNORE)
    return Samples(
        images,
        labels,
        torch.full((batch,), domain),
        [Window(0, 0, height, width)] * batch,
        [(height, width)] * batch,
        more.pop("scores", None),
        [f"{domain}/{i}" for i in range(batch)],
        more.pop("strong", None),
        images if more.pop("whole", False) else None,
    )


def backward(steps: Iterable[Terms]) -> dict[str, float]:
    """Run one backward pass per yield, as the engine does; return the values of the terms."""
    values = {}
    for terms in steps:
        means = {name: term.mean() for name, term in terms.items()}
        torch.stack(list(means.values())).sum().backward()
        values.update({name: mean.item() for name, mean in means.items()})
    return values


def gradients(module: nn.Module) -> list[Tensor]:
    """Return the gradients that a module has collected."""
    return [p.grad for p in module.parameters() if p.grad is not None]
