"""DeepLabV2: agreement with the public implementations, loading, sizes, gradients."""

from __future__ import annotations

import pytest
import torch
import torchvision

from segadapt.errors import RequestError
from segadapt.models.deeplabv2 import DeepLabV2, DeepLabV2VGG, from_official
from segadapt.models.norm import set_norm_mode
from segadapt.models.segmenter import CAFFE
from tests.models.golden import golden_model


@pytest.fixture(scope="module")
def small() -> DeepLabV2:
    return DeepLabV2(7, 50, auxiliary=True)


@pytest.mark.parametrize(
    ("name", "branches", "auxiliary", "main"),
    [
        ("adaptsegnet_deeplab_single", 2, False, "logits_main"),
        ("adaptsegnet_deeplabmulti", 2, True, "logits_main"),
        ("crst_deeplab", 4, False, "logits"),
    ],
)
@torch.no_grad()
def test_agrees_with_the_public_implementation(name: str, branches: int, auxiliary: bool, main: str) -> None:
    golden = golden_model(name)
    model = DeepLabV2(19, branches=branches, auxiliary=auxiliary).eval()
    assert list(model.state_dict()) == list(golden.state), "names and order of the public file"
    # The oldest files: a leading module name, no counters.
    old = {f"module.{key}": value for key, value in golden.state.items() if "num_batches" not in key}
    model.load_state_dict(from_official(old))
    output = model.network(golden.input)
    golden.assert_close(main, output.logits)
    if auxiliary:
        assert output.aux is not None
        golden.assert_close("logits_aux", output.aux)
    else:
        assert output.aux is None
    assert output.features.shape == (1, model.feature_channels, *output.logits.shape[-2:])
    # The number of summed branches matters: the other choice gives other numbers.
    other = DeepLabV2(19, branches=6 - branches, auxiliary=auxiliary).eval()
    head = "layer6" if auxiliary else "layer5"
    wrong = getattr(other, head)
    wrong.load_state_dict(getattr(model, head).state_dict())
    with pytest.raises(AssertionError, match="are off"):
        golden.assert_close(main, wrong(output.features))


def test_sizes_of_a_large_network_without_building_it() -> None:
    with torch.device("meta"):
        model = DeepLabV2(19, auxiliary=True)
        output = model(torch.empty(1, 3, 720, 1280))
    assert output.logits.shape == (1, 19, 91, 161)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(44.60e6, rel=1e-3)


@pytest.mark.parametrize("size", [(97, 131), (33, 40)])
@torch.no_grad()
def test_odd_sizes_and_batches(small: DeepLabV2, size: tuple[int, int]) -> None:
    output = small.eval()(torch.rand(2, 3, *size))
    assert output.aux is not None
    assert output.logits.shape[:2] == output.aux.shape[:2] == (2, 7)
    for got, pixels in zip(output.logits.shape[-2:], size, strict=True):
        assert got in (-(-pixels // 8), -(-pixels // 8) + 1)
    assert output.aux.shape == output.logits.shape


def test_two_classes_train_with_two_branches() -> None:
    model = DeepLabV2(2, 50, branches=2)
    output = model(torch.rand(2, 3, 49, 65))
    torch.nn.functional.cross_entropy(output.logits, torch.zeros_like(output.logits[:, 0], dtype=torch.long)).backward()
    for name, parameter in model.named_parameters():
        acts = not name.startswith(("layer5.conv2d_list.2", "layer5.conv2d_list.3"))
        assert parameter.requires_grad == acts, name
        assert (parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)) == acts, name


def test_gradients_flow_through_both_heads(small: DeepLabV2) -> None:
    small.train().zero_grad()
    output = small(torch.rand(2, 3, 48, 64))
    assert output.aux is not None
    (output.logits.square().mean() + output.aux.square().mean()).backward()
    silent = [n for n, p in small.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_heads_are_apart_from_the_encoder(small: DeepLabV2) -> None:
    heads = {id(p) for module in small.head_modules() for p in module.parameters()}
    names = {name for name, p in small.named_parameters() if id(p) in heads}
    assert names == {n for n, _ in small.named_parameters() if n.startswith(("layer5.", "layer6."))}


def test_frozen_normalisation_keeps_still() -> None:
    model = DeepLabV2(2, 50)
    set_norm_mode(model, "frozen")
    model.train()
    before = {key: value.clone() for key, value in model.state_dict().items() if "bn" in key or "downsample.1" in key}
    model(torch.rand(2, 3, 33, 33)).logits.sum().backward()
    assert all(torch.equal(model.state_dict()[key], value) for key, value in before.items())
    assert model.bn1.weight.grad is None
    assert model.conv1.weight.grad is not None


@torch.no_grad()
def test_torchvision_weights_give_torchvision_features() -> None:
    reference = torchvision.models.resnet50(replace_stride_with_dilation=[False, True, True]).eval()
    for name, tensor in reference.state_dict().items():
        if name.endswith("running_mean"):
            tensor.normal_(std=0.1)
    model = DeepLabV2(2, 50, stride_in="3x3").eval()
    model.load_imagenet(reference.state_dict())
    # Same weights, level by level. Torchvision gives the first block of a dilated level the dilation of the level
    # before, so layers 3 and 4 are compared block by block from the second one on.
    early = torch.relu(torch.randn(1, 64, 17, 21))
    torch.testing.assert_close(model.layer2(model.layer1(early)), reference.layer2(reference.layer1(early)))
    start = torch.relu(torch.randn(1, 1024, 9, 9))
    torch.testing.assert_close(model.layer3[1:](start), reference.layer3[1:](start))
    caffe = DeepLabV2(2, 50, stride_in="1x1").eval()
    caffe.load_imagenet(reference.state_dict())
    narrow = torch.relu(torch.randn(1, 256, 9, 9))
    assert not torch.allclose(caffe.layer2(narrow), model.layer2(narrow)), "the stride lies elsewhere"


def test_the_caffe_file_loads_and_wrong_files_are_named(small: DeepLabV2) -> None:
    source = {f"Scale.{k}": v + 1 for k, v in small.state_dict().items() if not k.startswith(("layer5", "layer6"))}
    source["Scale.layer5.conv2d_list.0.weight"] = torch.zeros(21, 2048, 3, 3)
    target = DeepLabV2(2, 50)
    target.load_imagenet(from_official(source))
    assert torch.equal(target.layer4[2].conv3.weight, small.layer4[2].conv3.weight + 1)
    del source["Scale.layer3.1.conv2.weight"]
    with pytest.raises(RequestError, match=r"ResNet-50: 1 entries .*layer3.1.conv2.weight"):
        target.load_imagenet(from_official(source))


@pytest.mark.parametrize("wrong", [{"depth": 34}, {"branches": 3}, {"stride_in": "7x7"}])
def test_unknown_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(RequestError, match=f"{next(iter(wrong))} is .* choose one of"):
        DeepLabV2(2, **wrong)  # type: ignore[arg-type]


def test_description_builds_the_network_again() -> None:
    with torch.device("meta"):
        model = DeepLabV2(7, 50, branches=2, auxiliary=True, stride_in="3x3", preprocessing=CAFFE)
        description = model.description()
        assert description.pop("name") == "deeplabv2_resnet50"
        del description["preprocessing"]
        again = DeepLabV2(**description, preprocessing=CAFFE)
    assert again.description() == model.description()
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}


@torch.no_grad()
def test_vgg_is_torchvisions_without_two_poolings() -> None:
    """Restated from torchvision's modules: poolings 4 and 5 out, the last level dilated, two convolutions on top."""
    reference = torchvision.models.vgg16()
    for parameter in reference.features.parameters():
        if parameter.dim() == 1:
            parameter.normal_(std=0.1)
    model = DeepLabV2VGG(5, branches=2).eval()
    model.load_imagenet(reference.state_dict())
    layers = [layer for i, layer in enumerate(reference.features) if i not in (23, 30)]
    for layer in layers[23:]:
        if isinstance(layer, torch.nn.Conv2d):
            layer.dilation = layer.padding = (2, 2)
    x = torch.randn(1, 3, 40, 56)
    deep = torch.nn.Sequential(*layers)(x)
    for name in ("29", "31"):
        conv = model.features.get_submodule(name)
        deep = torch.relu(torch.nn.functional.conv2d(deep, conv.weight, conv.bias, padding=4, dilation=4))
    output = model.network(x)
    torch.testing.assert_close(output.features, deep)
    head = model.classifier.conv2d_list
    torch.testing.assert_close(output.logits, head[0](deep) + head[1](deep))
    assert output.logits.shape == (1, 5, 5, 7)
    convolutions = {name.split(".")[1] for name in model.state_dict() if name.startswith("features.")}
    assert convolutions == {str(n) for n in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29, 31)}
    with pytest.raises(RequestError, match="torchvision's vgg16"):
        model.load_imagenet(torchvision.models.vgg11().state_dict())
    with pytest.raises(RequestError, match="branches is 3"):
        DeepLabV2VGG(2, branches=3)
