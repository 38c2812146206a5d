"""Foundation encoders with a head: ``foundation:NAME``, where NAME is a vision transformer or a ConvNeXt of timm.

    x'   = x resized to multiples of the encoder's patch                 [B, 3, H', W']
    F_i  = maps of the last layer, or behind each quarter of the layers  [B, D, H'/p, W'/p]
    logits, features = head(F)                                           [B, K, 4H'/p, 4W'/p]

Images are resized to the next multiples instead of padded, so that the logits cover the image and nothing else. Weights
come from timm, or from a file in the layout of any project that :mod:`segadapt.models.foundation_names` reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from segadapt.core.settings import checked
from segadapt.errors import RequestError
from segadapt.models.foundation_encoder import MAPS, Body, create_body, layers_of, maps_of
from segadapt.models.foundation_heads import ENLARGED, LightHead, PyramidHead, require_share
from segadapt.models.foundation_names import to_timm
from segadapt.models.fusion_head import HeadNorm
from segadapt.models.halves import TwoHalves
from segadapt.models.inference import resize_images
from segadapt.models.lora import LoRAConfig, add_low_rank, merged, plain_name, start_at_minor
from segadapt.models.segmenter import Preprocessing
from segadapt.models.timm_net import first_convolutions, stated_preprocessing

HeadName = Literal["light", "daformer"]


class FoundationNet(TwoHalves):
    """A pretrained vision transformer or ConvNeXt with a small head.

    Args:
        classes: number of classes K.
        encoder: a name of timm, also with the tag of its weights, e.g. ``vit_small_patch14_dinov2.lvd142m``.
        head: ``light``, two transposed convolutions as in VFM-UDA, or ``daformer``, on a pyramid of the maps.
        maps: 1 reads the last map, 4 reads a map behind each quarter of the layers; None takes 1 for the light head
            and 4 for DAFormer's. Of a ConvNeXt the light head reads the last stage, and DAFormer's all four.
        patch: side of a patch in pixels, of a vision transformer; None keeps the encoder's. 16 in place of DINOv2's 14
            (SoMA) makes the output a quarter of sides that are multiples of 16.
        enlarge: images are resized by this factor first, above 0 (VFM-UDA: crops of 1024 to 1120, 1.09375).
        width: channels of DAFormer's head; the light head has a quarter of the encoder's.
        norm: normalisation of DAFormer's head, ``group`` or ``batch``; the light head normalises channels.
        dropout: probability that a feature channel is zeroed before the classifier, in [0, 1).
        drop_path: probability that the last block is skipped in training, in [0, 1); earlier ones less.
        frozen: number of first blocks that keep their weights, and all in front of them too; ``all`` freezes the
            whole encoder.
        lora: settings of :class:`~segadapt.models.lora.LoRAConfig`, {} for its defaults: the encoder keeps its weights
            and learns a difference of low rank; None trains the weights.
        preprocessing: None takes timm's own statement for the encoder's weights.

    Attributes:
        encoder_name: the encoder, with its tag.
        encoder_channels: channels of the maps of :meth:`encode`.

    Raises:
        RequestError: timm does not have the encoder, or an argument is out of its range.
    """

    def __init__(
        self,
        classes: int,
        encoder: str,
        *,
        head: HeadName = "light",
        maps: Literal[1, 4] | None = None,
        patch: int | None = None,
        enlarge: float = 1.0,
        width: int = 256,
        norm: HeadNorm = "group",
        dropout: float = 0.0,
        drop_path: float = 0.0,
        frozen: int | Literal["all"] = 0,
        lora: Mapping[str, Any] | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> None:
        _check(head, maps, enlarge, width, dropout, drop_path)
        body = create_body(encoder, patch=patch, drop_path=drop_path)
        count = _maps(body, encoder, head, maps)
        config = None if lora is None else checked(LoRAConfig, dict(lora), f"model.arguments.lora of '{encoder}'")
        architecture = {
            "name": f"foundation:{encoder}",
            "head": head,
            "maps": count,
            "patch": patch,
            "enlarge": enlarge,
            "width": width,
            "norm": norm,
            "dropout": dropout,
            "drop_path": drop_path,
            "frozen": frozen,
            "lora": None if config is None else config.model_dump(mode="json"),
        }
        super().__init__(classes, preprocessing or stated_preprocessing(encoder), architecture)
        self.encoder_name, self._count, self._enlarge, self._lora = encoder, count, enlarge, config
        self.encoder = body.network
        self._tokens, self._multiple = body.tokens, body.multiple
        self._stems = first_convolutions(body.network)
        self.encoder_channels = body.channels * count if body.tokens else body.channels[-count:]
        if head == "light":
            self.head: LightHead | PyramidHead = LightHead(self.encoder_channels[0], count, classes, dropout)
        else:
            self.head = PyramidHead(self.encoder_channels, body.tokens, classes, width, norm, dropout)
        finest = body.strides[0] if body.tokens else body.strides[-count:][0]
        fused = head == "daformer" and not body.tokens
        self.stride = max(1, round(finest / enlarge / (1 if fused else ENLARGED)))
        self.feature_channels = self.head.width
        self._freeze(body, frozen)
        if config is not None:
            add_low_rank(body.network, body.blocks, config)

    def _freeze(self, body: Body, frozen: int | Literal["all"]) -> None:
        depth = len(body.blocks)
        if frozen == "all":
            body.network.requires_grad_(False)
        elif not isinstance(frozen, int) or not 0 <= frozen <= depth:
            raise RequestError(f"frozen is {frozen!r}; give a number of the {depth} blocks of the encoder, or 'all'")
        elif frozen:
            for parameter in [p for layer in layers_of(body)[: frozen + 1] for p in layer]:
                parameter.requires_grad_(False)

    # ---- images to logits ----

    @property
    def _body(self) -> Body:
        """The encoder as it is now; its modules may have been copied with the network."""
        net: Any = self.encoder
        blocks = list(net.blocks) if self._tokens else [block for stage in net.stages for block in stage.blocks]
        return Body(net, self._tokens, blocks, [self._multiple], self.encoder_channels)

    def encode(self, x: Tensor) -> list[Tensor]:
        """Compute the encoder's maps [B, C_i, h_i, w_i] of preprocessed images [B, 3, H, W]; see :func:`maps_of`."""
        return maps_of(self._body, resize_images(x, self._shown(x.shape[-2], x.shape[-1])), self._count)

    def _shown(self, height: int, width: int) -> tuple[int, int]:
        """Return the size in which the encoder sees an image: at least ``enlarge`` times its size."""
        if self._enlarge != 1:
            height, width = (math.ceil(side * self._enlarge - 1e-6) for side in (height, width))
        return -(-height // self._multiple) * self._multiple, -(-width // self._multiple) * self._multiple

    def decode(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Compute logits [B, K, h, w] and features [B, D, h, w] from the maps of :meth:`encode`."""
        logits, features = self.head(maps)
        return logits, features

    # ---- parts ----

    @property
    def stems(self) -> Sequence[str]:
        """The convolution of the encoder that reads the images."""
        return self._stems

    def head_modules(self) -> list[nn.Module]:
        return [self.head]

    def encoder_layers(self) -> list[list[nn.Parameter]]:
        return layers_of(self._body)

    # ---- weights ----

    def load_imagenet(self, state: Mapping[str, Tensor]) -> None:
        """Take pretrained weights of the encoder, in the layout of any project, see :data:`LAYOUTS`.

        A file of such a network of the library may have low-rank factors or not, whatever this one has: they are
        multiplied into its weights. Its head is taken where it has the same shapes.

        Raises:
            RequestError: the tensors are not those of the encoder.
        """
        plain, own = merged(state), self.encoder.state_dict()
        names = {plain_name(name): name for name in own}
        shapes = {key: own[name] for key, name in names.items() if key is not None}
        network = self._body.network
        positions = 0 if getattr(network, "no_embed_class", False) else getattr(network, "num_prefix_tokens", 0)
        found = to_timm(plain, shapes, self.encoder_name, positions)
        self.encoder.load_state_dict({names[name]: tensor for name, tensor in found.items()}, strict=False)
        head = self.head.state_dict()
        stored = {name: plain[f"head.{name}"] for name in head if f"head.{name}" in plain}
        if len(stored) == len(head) and all(stored[name].shape == head[name].shape for name in head):
            self.head.load_state_dict(stored)
        if self._lora is not None and self._lora.start == "minor":
            start_at_minor(self.encoder)

    def published_state(self) -> dict[str, Tensor]:
        """Return the encoder's published weights, which timm finds on this machine or downloads."""
        loaded = create_body(self.encoder_name, patch=self.architecture["patch"], pretrained=True)
        state: dict[str, Tensor] = loaded.network.state_dict()
        return state


def _maps(body: Body, encoder: str, head: HeadName, maps: int | None) -> int:
    """Return the number of maps that a head reads."""
    usual = 1 if head == "light" else MAPS
    if not body.tokens and maps not in (None, usual):
        raise RequestError(
            f"maps is {maps}; of a ConvNeXt as '{encoder}' the light head reads 1 map and DAFormer's 4: leave it out"
        )
    return usual if maps is None else maps


def _check(head: str, maps: object, enlarge: float, width: int, dropout: float, drop_path: float) -> None:
    """Raise RequestError for the first argument that is out of its range."""
    ranges = (
        ("head", head, head in ("light", "daformer"), "'light' or 'daformer'"),
        ("maps", maps, maps in (None, 1, MAPS), "1, 4 or null"),
        ("enlarge", enlarge, enlarge > 0, "a factor above 0"),
        ("width", width, width >= 1, "at least 1 channel"),
    )
    for name, value, good, wanted in ranges:
        if not good:
            raise RequestError(f"foundation: {name} is {value!r}; give {wanted}")
    require_share("foundation: dropout", dropout)
    require_share("foundation: drop_path", drop_path)
