"""HRDA around small networks: restated step by step, exact shortcuts, any size, model files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from segadapt.errors import RequestError
from segadapt.labels import CAMVID
from segadapt.models.build import build_segmenter
from segadapt.models.geometry import Geometry
from segadapt.models.inference import InferenceConfig, scores
from segadapt.models.multires import MultiRes, see_whole
from segadapt.models.norm import set_norm_mode
from segadapt.models.segmenter import Output, Preprocessing, Segmenter
from segadapt.models.store import load_model, save_model
from tests.evaluation.tiny import GreyLevels, TinySegmenter
from tests.golden_vectors import golden_op, mismatch

K = 4


def network(**arguments: Any) -> MultiRes:
    """Build HRDA around a small residual network, with attention and statistics far from their initial values."""
    torch.manual_seed(0)
    model = build_segmenter("hrda:timm:resnet10t", K, base={"width": 16}, **arguments)
    assert isinstance(model, MultiRes)
    with torch.no_grad():
        if model.attention is not None:
            model.attention.conv_seg.weight.normal_(std=0.3)
        for parameter in model.base.parameters():  # timm's residual blocks start at zero
            if not parameter.any():
                parameter.fill_(0.3)
        model.base.train()
        model.base(torch.rand(4, 3, 64, 64))
    return model.eval()


def training(model: MultiRes) -> MultiRes:
    """Set training mode without dropout and batch statistics; only the details are random."""
    model.eval()
    model.training = True
    return model


def images(batch: int, height: int, width: int) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def half(x: Tensor) -> Tensor:
    """At exactly 0.5 bilinear reading is the mean of 2 x 2 pixels."""
    return F.avg_pool2d(x, 2)


def twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear")


def attention_of(model: MultiRes, x: Tensor) -> Tensor:
    """A(E(x)) written out."""
    base, head = model.base, model.attention
    maps = base.encode(base.preprocess(x))
    size = maps[0].shape[-2:]
    projected = [
        F.interpolate(layer.proj(m.movedim(1, 3)).movedim(3, 1), size, mode="bilinear")
        for layer, m in zip(head.embed_layers, maps, strict=True)
    ]
    merged = head.fuse_layer.bn(head.fuse_layer.conv(torch.cat(projected, 1))).clamp(min=0)
    return head.conv_seg(merged).sigmoid()


# ---- the two ways of looking ----


@torch.no_grad()
def test_training_restated() -> None:
    model, x = training(network(detail_weight=0.3)), images(2, 64, 96)
    torch.manual_seed(5)
    out = model(x)
    assert out.detail is not None
    top, left, bottom, right = out.detail.box
    assert (bottom - top, right - left) == (32, 48)
    assert top % 8 == left % 8 == 0
    assert out.detail.weight == 0.3
    detail = model.base(x[..., top:bottom, left:right]).logits
    torch.testing.assert_close(out.detail.logits, detail)
    context = model.base(half(x))
    inside = torch.zeros(8, 12)
    inside[top // 8 : bottom // 8, left // 8 : right // 8] = 1
    a = attention_of(model, half(x)) * inside
    expected = twice((1 - a) * context.logits)
    expected[..., top // 4 : bottom // 4, left // 4 : right // 4] += (
        twice(a)[..., top // 4 : bottom // 4, left // 4 : right // 4] * detail
    )
    torch.testing.assert_close(out.logits, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(out.features, context.features, atol=1e-5, rtol=1e-4)
    assert context.deep is not None
    torch.testing.assert_close(out.deep, context.deep, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model.deep_features(x), context.deep, atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("overlap", [0.5, 0.0])
def test_whole_images_restated(overlap: float) -> None:
    model, x = network(overlap=overlap), images(2, 64, 96)
    out = model(x)
    assert out.detail is None
    total, count = torch.zeros(2, K, 16, 24), torch.zeros(16, 24)
    for top in range(0, 33, 16 if overlap else 32):
        for left in range(0, 49, 24 if overlap else 48):
            rows, columns = slice(top // 4, top // 4 + 8), slice(left // 4, left // 4 + 12)
            total[..., rows, columns] += model.base(x[..., top : top + 32, left : left + 48]).logits
            count[rows, columns] += 1
    a = attention_of(model, half(x))
    expected = twice((1 - a) * model.base(half(x)).logits) + twice(a) * total / count
    torch.testing.assert_close(out.logits, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_fixed_attention_is_one_resolution_alone() -> None:
    context, detail = network(attention=0), network(attention=1, detail=1.0)
    assert not any(key.startswith("attention") for key in context.state_dict())
    x = images(1, 32, 64)
    torch.testing.assert_close(context(x).logits, twice(context.base(half(x)).logits), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(detail(x).logits, detail.base(x).logits, atol=1e-5, rtol=1e-4)
    both = network(attention=0.5, detail=1.0)
    mean = (both.base(x).logits + twice(both.base(half(x)).logits)) / 2
    torch.testing.assert_close(both(x).logits, mean, atol=1e-5, rtol=1e-4)


def test_all_parts_learn_and_the_attention_only_within_the_box() -> None:
    model, x = training(network()), images(2, 64, 96)
    torch.manual_seed(0)
    out = model(x)
    assert out.detail is not None
    top, left, bottom, right = (edge // 4 for edge in out.detail.box)
    rim = torch.zeros(16, 24, dtype=torch.bool)
    rim[max(0, top - 1) : bottom + 1, max(0, left - 1) : right + 1] = True
    bias = model.attention.conv_seg.bias
    outside = torch.autograd.grad((out.logits * ~rim).sum(), bias, retain_graph=True)[0]
    assert torch.equal(outside, torch.zeros_like(bias))
    (out.logits.square().mean() + out.detail.logits.square().mean()).backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []
    heads = {id(p) for module in model.head_modules() for p in module.parameters()}
    assert heads == {id(p) for p in model.parameters()} - {id(p) for p in model.base.encoder.parameters()}


def test_the_box_follows_the_seed() -> None:
    model, x = training(network()), images(1, 64, 64)

    def box(seed: int) -> tuple[int, int, int, int]:
        torch.manual_seed(seed)
        with torch.no_grad():
            detail = model(x).detail
        assert detail is not None
        return detail.box

    boxes = [box(seed) for seed in range(6)]
    assert len(set(boxes)) > 1
    assert boxes == [box(seed) for seed in range(6)]


@torch.no_grad()
def test_a_teacher_sees_the_whole_with_layers_in_training_mode() -> None:
    model, x = network(), images(2, 64, 64)
    model.train()
    see_whole(model)
    before = model.base.encoder.bn1.running_mean.clone()
    assert model(x).detail is None
    assert not torch.equal(model.base.encoder.bn1.running_mean, before)


# ---- sizes ----


@torch.no_grad()
@pytest.mark.parametrize("size", [(37, 53), (64, 50), (9, 3), (8, 100)])
def test_any_size_is_predicted(size: tuple[int, int]) -> None:
    model = network()
    out = model(images(1, *size))
    assert out.logits.shape == (1, K, -(-size[0] // 4), -(-size[1] // 4))
    assert out.logits.isfinite().all()


@torch.no_grad()
def test_what_is_added_to_an_image_does_not_move_it() -> None:
    """A network of 4x4 blocks on a ramp: brightness is read at the right places also where cells are narrower."""
    model = MultiRes(GreyLevels(2, sharpness=1.0)).eval()
    base = model.base
    assert isinstance(base, GreyLevels)
    ramp = torch.linspace(0, 1, 61).expand(1, 3, 61, 61)
    logits = model(ramp).logits
    assert logits.shape[-2:] == (16, 16)
    brightness = ((torch.arange(16) + 0.5) * 61 / 16 - 0.5) / 60
    expected = -((brightness - base.centres[:, None]) ** 2)
    # The context is half as fine, so the ends, whose outer neighbours are missing, are blurred.
    torch.testing.assert_close(logits[0, :, 8, 1:-1], expected[:, 1:-1], atol=0.006, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(("scale", "divisor"), [(0.25, 16), (0.5, 8), (0.75, 16), (1.0, 4)])
def test_other_scales(scale: float, divisor: int) -> None:
    model = training(network(scale=scale))
    assert model.geometry.divisor == divisor
    out = model(images(1, 64, 96))
    assert out.logits.shape == (1, K, 16, 24)
    assert out.features.shape[-2:] == (16 * scale, 24 * scale)


@torch.no_grad()
def test_networks_whose_grid_is_no_fraction_of_the_image() -> None:
    """DeepLabV2 rounds up, so its logits are brought to the grid; the attention reads its features."""
    torch.manual_seed(0)
    model = training(MultiRes(build_segmenter("deeplabv2_resnet50", 3)))
    assert [tuple(layer.proj.weight.shape) for layer in model.attention.embed_layers] == [(256, 2048)]
    out = model(images(1, 64, 96))
    assert out.detail is not None
    assert out.logits.shape == (1, 3, 8, 12)
    assert out.detail.logits.shape == (1, 3, 4, 6)


@pytest.mark.parametrize(
    ("size", "arguments", "message"),
    [
        ((64, 60), {}, "64 x 60 pixels; set augmentation.crop to multiples of 8"),
        ((64, 60), {"scale": 0.25}, "multiples of 16"),
        ((64, 64), {"detail": 64}, "larger multiples of 8"),
        ((32, 128), {"detail": [64, 64]}, "detail crops 64 x 64; .*make the network's argument 'detail' smaller"),
        ((8, 8), {}, "larger multiples of 8"),
    ],
)
def test_training_images_without_room(size: tuple[int, int], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        training(network(**arguments))(images(1, *size))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"scale": 0.0},
        {"scale": 1.5},
        {"detail": 0.0},
        {"detail": 1.5},
        {"detail": 12},
        {"detail": [16, 20]},
        {"detail": [16]},
        {"divisor": 12},
        {"detail_weight": 1.0},
        {"overlap": 1.0},
        {"attention": "fixed"},
        {"attention": 1.5},
        {"norm": "layer"},
        {"box": "all"},
        {"windows_at_once": 0},
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=rf"hrda: {next(iter(arguments))} is .*give"):
        MultiRes(TinySegmenter(3), **arguments)


# ---- windows ----


class Counted(TinySegmenter):
    """Counts the images it sees, by size."""

    def __init__(self) -> None:
        super().__init__(3)
        self.seen: dict[tuple[int, int], int] = {}

    def network(self, x: Tensor) -> Output:
        size = (x.shape[-2], x.shape[-1])
        self.seen[size] = self.seen.get(size, 0) + len(x)
        return super().network(x)


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_details_of_overlapping_windows_are_computed_once(average: str) -> None:
    """The published geometry at a sixteenth: 2048 x 1024 in windows of 1024, details of 512 (here 128 x 64)."""
    torch.manual_seed(0)
    model, x = MultiRes(Counted()), images(2, 64, 128)
    config = InferenceConfig(window=(64, 64), overlap=0.5, average=average)  # type: ignore[arg-type]
    shared = scores(model, x, config)
    assert model.base.seen == {(32, 32): 2 * (21 + 3)}
    places = [(0, 0), (0, 32), (0, 64)]
    model.eval()
    with torch.no_grad():
        alone = list(Segmenter.window_logits(model, x, (64, 64), places))
        for got, expected in zip(model.window_logits(x, (64, 64), places), alone, strict=True):
            torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    middle = alone[1] if average == "logits" else alone[1].softmax(1).log()
    others = [z if average == "logits" else z.softmax(1) for z in alone]
    total = torch.cat([others[0][..., :8], others[0][..., 8:] + others[1][..., :8]], 3)
    total = torch.cat([total, others[1][..., 8:] + others[2][..., :8], others[2][..., 8:]], 3)
    mean = total / torch.tensor([1.0, 2.0, 2.0, 1.0]).repeat_interleave(8)
    expected = (mean if average == "logits" else mean.log()).log_softmax(1)
    assert middle.isfinite().all()
    torch.testing.assert_close(shared, expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_windows_are_not_shared_where_batches_matter() -> None:
    model, x = MultiRes(Counted()).eval(), images(1, 64, 128)
    model.base.norm.train()
    list(model.window_logits(x, (64, 64), [(0, 0), (0, 32)]))
    assert model.base.seen == {(32, 32): 2 * (9 + 1)}
    model.base.norm.eval()
    model.base.seen = {}
    shapes = [z.shape[-2:] for z in model.window_logits(x, (30, 62), [(0, 0), (0, 32)])]
    assert shapes == [(8, 16), (8, 16)]


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 96), (52, 80)])
def test_few_windows_at_once_give_the_same(size: tuple[int, int]) -> None:
    x = images(2, *size)
    torch.testing.assert_close(network(windows_at_once=2)(x).logits, network()(x).logits, atol=1e-5, rtol=1e-4)


def test_published_windows() -> None:
    geometry = Geometry(4, 0.5, 0.5, None, 0.5)
    inner = geometry.windows((1024, 1024))
    assert len(inner) == 9
    assert {box[0] for box in inner} == {0, 256, 512}
    outer = {(t, left + x, b, r + x) for t, left, b, r in inner for x in (0, 512, 1024)}
    assert len(outer) == 21


class Stub(Segmenter):
    """The function that stands for a network in the golden operation; positions of windows are multiples of 2."""

    stride = 2
    feature_channels = 3

    def __init__(self) -> None:
        super().__init__(3, Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))

    def network(self, x: Tensor) -> Output:
        return Output(0.1 * x.cumsum(3) + x.mean((1, 2, 3), keepdim=True), x)


@pytest.mark.parametrize("at", ["grid", "pixels"])
def test_golden_sliding_windows(at: Literal["grid", "pixels"]) -> None:
    golden = golden_op("hrda_slide_inference")
    window = tuple(golden.params["crop_size"])
    config = InferenceConfig(window=window, overlap=0.375, average="logits", windows_at=at)
    got = scores(Stub(), golden.tensor("image"), config)
    exact = torch.from_numpy(golden.arrays["merged"]).log_softmax(1)
    assert mismatch(got.numpy(), exact.numpy(), golden.tolerance) is None
    full = F.interpolate(got, tuple(golden.params["ori_shape"]), mode="bilinear").softmax(1)
    exact = torch.from_numpy(golden.arrays["rescaled"]).softmax(1)
    assert mismatch(full.numpy(), exact.numpy(), golden.tolerance) is None


# ---- building, files ----


@pytest.mark.parametrize("kind", ["batch", "group"])
def test_names_of_tensors(kind: str) -> None:
    model = network(norm=kind)
    own = {key for key in model.state_dict() if not key.startswith("base.")}
    expected = {f"attention.embed_layers.{i}.proj.{leaf}" for i in range(4) for leaf in ("weight", "bias")}
    expected |= {f"attention.conv_seg.{leaf}" for leaf in ("weight", "bias")} | {"attention.fuse_layer.conv.weight"}
    norm = ["weight", "bias", *(["running_mean", "running_var", "num_batches_tracked"] if kind == "batch" else [])]
    assert own == expected | {f"attention.fuse_layer.bn.{leaf}" for leaf in norm}


def test_size_of_the_published_attention() -> None:
    from segadapt.models.scale_attention import ScaleAttention

    head = ScaleAttention((64, 128, 320, 512), 19)
    assert round(sum(p.numel() for p in head.parameters()) / 1e6, 2) == 0.53


@torch.no_grad()
def test_a_model_file_brings_it_back(tmp_path: Path) -> None:
    arguments = {"detail": [16, 32], "attention": "learned", "classwise": False, "overlap": 0.0, "scale": 0.25}
    model = build_segmenter("hrda:timm:resnet10t", len(CAMVID), base={"width": 16}, **arguments).eval()
    save_model(tmp_path / "model.safetensors", model, CAMVID, {})
    loaded = load_model(tmp_path / "model.safetensors").model
    assert loaded.description()["base"]["width"] == 16
    assert loaded.head_modules()[-1].conv_seg.out_channels == 1
    x = images(1, 40, 56)
    assert torch.equal(loaded(x).logits, model(x).logits)


def test_weights_of_the_wrapped_network_fit(tmp_path: Path) -> None:
    torch.manual_seed(3)
    plain = build_segmenter("timm:resnet10t", K, width=16)
    save_file(plain.state_dict(), str(tmp_path / "plain.safetensors"))
    model = build_segmenter("hrda:timm:resnet10t", K, base={"width": 16}, weights=str(tmp_path / "plain.safetensors"))
    assert all(torch.equal(model.state_dict()[f"base.{key}"], value) for key, value in plain.state_dict().items())
    save_file(model.state_dict(), str(tmp_path / "whole.safetensors"))
    again = build_segmenter("hrda:timm:resnet10t", K, base={"width": 16}, weights=str(tmp_path / "whole.safetensors"))
    assert all(torch.equal(again.state_dict()[key], value) for key, value in model.state_dict().items())


def test_it_wraps_once_and_knows_its_networks() -> None:
    with pytest.raises(RequestError, match="write 'hrda:' once"):
        build_segmenter("hrda:hrda:lite", 3)
    with pytest.raises(RequestError, match="did you mean 'lite'"):
        build_segmenter("hrda:lit", 3)
    with pytest.raises(RequestError, match="does not take these arguments"):
        build_segmenter("hrda:lite", 3, width=8)


def test_half_precision_is_close() -> None:
    model, x = network(), images(1, 64, 64)
    set_norm_mode(model, "affine")
    with torch.inference_mode():
        full = model(x).logits
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(x).logits
    assert rough.dtype == torch.float32
    assert float((rough - full).abs().max()) < 0.1 * float(full.std()) + 0.05
