"""Networks in two halves: an encoder that gives maps, and a decoder that reads them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from segadapt.models.segmenter import Output, Segmenter


class TwoHalves(Segmenter):
    """A network whose subclasses give the encoder's maps (``encode``) and read them (``decode``).

    Attributes:
        encoder_channels: channels C_i of the maps of :meth:`encode`.
    """

    encoder_channels: list[int]

    def encode(self, x: Tensor) -> list[Tensor]:
        """Compute the maps [B, C_i, h_i, w_i] that the decoder reads of preprocessed images, finest first."""
        raise NotImplementedError(f"{type(self).__name__} does not implement encode")

    def decode(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Compute logits [B, K, h_1, w_1] and features [B, D, h_1, w_1] from the maps of :meth:`encode`."""
        raise NotImplementedError(f"{type(self).__name__} does not implement decode")

    def network(self, x: Tensor) -> Output:
        """Compute logits and features, and the maps of the encoder, of which the last is the deepest."""
        maps = self.encode(x)
        logits, features = self.decode(maps)
        return Output(logits, features, deep=maps[-1], maps=maps)

    @property
    def map_channels(self) -> list[int]:
        """Channels of the maps that the decoder reads."""
        return self.encoder_channels

    def deep_features(self, images: Tensor) -> Tensor:
        return self.encode(self.preprocess(images))[-1]
