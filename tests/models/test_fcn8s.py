"""FCN-8s: agreement with torchvision's VGG-16, the sum of scores, sizes, gradients."""

from __future__ import annotations

from math import ceil

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from segadapt.errors import RequestError
from segadapt.models.fcn8s import FCN8s


@pytest.fixture(scope="module")
def model() -> FCN8s:
    return FCN8s(7)


@torch.no_grad()
def test_torchvision_weights_give_torchvision_features(model: FCN8s) -> None:
    """On the size of the original classifier, the middle cell of fc7 sees exactly what the matrices see."""
    reference = torchvision.models.vgg16(weights=None, init_weights=False).eval()
    model.eval().load_imagenet(reference.state_dict())
    x = torch.randn(1, 3, 224, 224)
    maps = reference.features(x)
    torch.testing.assert_close(model.features(x), maps)
    expected = reference.classifier[:5](maps.flatten(1))
    got = torch.relu(model.fc7(torch.relu(model.fc6(maps))))[:, :, 3, 3]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_wrong_files_are_named() -> None:
    with torch.device("meta"):
        network, other = FCN8s(2), torchvision.models.vgg16_bn()
    with pytest.raises(RequestError, match=r"not the weights of torchvision's vgg16: .*first is 'features\.\d+"):
        network.load_imagenet(other.state_dict())
    with torch.device("meta"):
        lacking = torchvision.models.vgg16().state_dict()
    del lacking["classifier.3.bias"]
    with pytest.raises(RequestError, match=r"1 entries .*first is 'fc7\.bias'"):
        network.load_imagenet(lacking)


@pytest.mark.parametrize("size", [(97, 131), (64, 96), (5, 33)])
@torch.no_grad()
def test_sizes_and_the_sum_of_scores(model: FCN8s, size: tuple[int, int]) -> None:
    for head in (model.score_pool3, model.score_pool4):
        nn.init.normal_(head.weight, std=0.05)
    x = torch.rand(1, 3, *size)
    output = model.eval()(x)
    assert output.logits.shape == (1, 7, *(ceil(n / 8) for n in size))
    assert output.features.shape == (1, model.feature_channels, *(ceil(n / 32) for n in size))
    assert output.aux is None
    # The pooled maps by name of the layer in torchvision's numbering: 16 is pool3, 23 is pool4.
    kept = {}
    y = model.preprocess(x)
    for index, layer in enumerate(model.features):
        y = layer(y)
        kept[index] = y.clone()
    middle = F.interpolate(model.score_fc7(output.features), kept[23].shape[-2:], mode="bilinear")
    middle = middle + model.score_pool4(kept[23])
    expected = F.interpolate(middle, kept[16].shape[-2:], mode="bilinear") + model.score_pool3(kept[16])
    torch.testing.assert_close(output.logits, expected)


def test_two_classes_train_from_the_start() -> None:
    """The scores of the pooled maps start at zero and move; everything below gets a gradient through fc7."""
    network = FCN8s(2)
    assert not network.score_pool3.weight.any()
    assert not network.score_pool4.weight.any()
    output = network(torch.rand(2, 3, 40, 33))
    F.cross_entropy(output.logits, torch.zeros(2, 5, 5).long()).backward()
    assert [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@torch.no_grad()
def test_dropout_acts_in_training_only(model: FCN8s) -> None:
    x = torch.rand(1, 3, 32, 32)
    assert not torch.equal(model.train()(x).features, model(x).features)
    assert torch.equal(model.eval()(x).features, model(x).features)


def test_heads_description_and_wrong_options() -> None:
    with torch.device("meta"):
        network = FCN8s(2, dropout=0.25)
        description = network.description()
        assert description.pop("name") == "fcn8s_vgg16"
        del description["preprocessing"]
        assert FCN8s(**description).description() == network.description()
    heads = {id(p) for module in network.head_modules() for p in module.parameters()}
    names = {n for n, p in network.named_parameters() if id(p) in heads}
    assert names == {n for n, _ in network.named_parameters() if n.startswith("score_")}
    with pytest.raises(RequestError, match=r"dropout is 1\.0"):
        FCN8s(2, dropout=1.0)
