"""The DASS network: agreement with the public implementation on both stems, loading."""

from __future__ import annotations

import torch
import torch.nn.functional as F
import torchvision

from segadapt.models.build import build_segmenter
from segadapt.models.dass_net import DASSNet
from tests.models.golden import golden_model


@torch.no_grad()
def test_agrees_with_the_public_implementation() -> None:
    golden = golden_model("dass_deeplabv2")
    model = DASSNet(19).eval()
    published = {k: v for k, v in golden.state.items() if not k.startswith("layer6.")}
    assert set(model.state_dict()) == set(published)
    model.load_state_dict(published)
    for domain, output in (("target", model.network(golden.input)), ("source", model.source_network(golden.input))):
        golden.assert_close(f"feature_{domain}", output.features)
        full = F.interpolate(output.logits, golden.input.shape[-2:], mode="bilinear", align_corners=True)
        golden.assert_close(f"out_{domain}", full[:, :, ::3, ::3])
        assert output.features.shape[1] == model.feature_channels == 76


def test_both_stems_start_from_the_same_encoder_and_train_apart() -> None:
    model = build_segmenter("dass_deeplabv2", 3, depth=50)
    assert isinstance(model, DASSNet)
    backbone = torchvision.models.resnet50().state_dict()
    model.load_imagenet(backbone)
    own = model.state_dict()
    for key in ("conv1.weight", "bn1.running_var", "layer1.2.conv3.weight"):
        assert torch.equal(own[key], backbone[key]), key
        assert torch.equal(own[f"target_{key}"], backbone[key]), key
    images = torch.rand(2, 3, 33, 41)
    with torch.no_grad():
        model.eval()
        target, source = model(images), model.source_network(model.preprocess(images))
        for part in ("logits", "features", "deep"):
            torch.testing.assert_close(getattr(target, part), getattr(source, part))
        model.target_conv1.weight.mul_(2)
        assert torch.equal(model(images).deep, model.deep_features(images)), "of the target stem"
    model.train()
    model(images).logits.square().mean().backward()
    silent = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is None}
    assert silent == {"conv1", "bn1", "layer1"}, "the source stem takes no part in the target path"
    assert build_segmenter(**model.description()).description() == model.description()
