"""Any torch module is a network: wrapped, trained, saved, loaded again, or refused with one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segadapt.errors import RequestError
from segadapt.labels import LabelSpace
from segadapt.models import plain
from segadapt.models.build import build_segmenter, require_rebuildable
from segadapt.models.plain import PlainNetwork, give_network
from segadapt.models.segmenter import Output, Segmenter
from segadapt.models.store import load_model, save_model

K = 4
SPACE = LabelSpace("four", tuple("abcd"), ((0, 0, 0),) * K)


class Tiny(nn.Module):
    """Two convolutions at stride 4; what it returns is chosen."""

    def __init__(self, kind: str = "tensor", classes: int = K) -> None:
        super().__init__()
        self.kind = kind
        self.body = nn.Conv2d(3, 6, 3, stride=4, padding=1)
        self.classifier = nn.Sequential(nn.ReLU(), nn.Conv2d(6, classes, 1))

    def forward(self, x: Tensor) -> Any:
        logits = self.classifier(self.body(x))
        return {"tensor": logits, "mapping": {"out": logits, "aux": x}, "tuple": (logits, x), "text": "no"}[self.kind]


@pytest.fixture(autouse=True)
def _nothing_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "_given", {})


@pytest.mark.parametrize("kind", ["tensor", "mapping", "tuple"])
def test_logits_are_taken_from_what_a_module_returns(kind: str) -> None:
    module = Tiny(kind)
    network = PlainNetwork(module, K).eval()
    assert (network.stride, network.feature_channels) == (4, K)
    images = torch.rand(2, 3, 20, 28)
    expected = module.classifier(module.body(network.preprocess(images)))
    output = network(images)
    assert torch.equal(output.logits, expected)
    assert torch.equal(output.features, expected)
    assert network.head_modules() == []


def test_a_named_head_gives_features_and_its_own_rate() -> None:
    module = Tiny()
    network = PlainNetwork(module, K, head="classifier")
    assert network.feature_channels == 6
    assert network.head_modules() == [module.classifier]
    images = torch.rand(1, 3, 20, 28)
    assert torch.equal(network(images).features, module.body(network.preprocess(images)))
    assert not module.classifier._forward_pre_hooks


def test_training_modes_survive_the_probe() -> None:
    module = nn.Sequential(nn.Conv2d(3, K, 1), nn.BatchNorm2d(K))
    module[1].eval()
    PlainNetwork(module, K)
    assert module.training
    assert not module[1].training
    assert torch.equal(module[1].running_mean, torch.zeros(K))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("module", "head", "words"),
    [
        (Tiny("text"), None, "holds no tensor of class scores"),
        (Tiny(classes=3), None, r"scores of shape \(1, 3, 32, 32\); \[1, 4, h, w\] is needed"),
        (nn.Linear(7, 2), None, "does not run on images"),
        (Tiny(), "decoder", "no submodule 'decoder'"),
    ],
)
def test_modules_that_do_not_fit_are_refused(module: nn.Module, head: str | None, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        PlainNetwork(module, K, head=head)


def test_a_given_module_starts_from_its_weights_and_is_loaded_again(tmp_path: Path) -> None:
    module = Tiny()
    name, arguments = give_network(module, head="classifier")
    first, second = (build_segmenter(name, K, **arguments) for _ in range(2))
    for key, value in module.state_dict().items():
        assert torch.equal(first.state_dict()[f"module.{key}"], value)
    with torch.no_grad():
        next(first.parameters()).add_(1)
    assert not torch.equal(next(first.parameters()), next(second.parameters()))
    save_model(tmp_path / "m.safetensors", first, SPACE, {})
    loaded = load_model(tmp_path / "m.safetensors").model
    images = torch.rand(1, 3, 16, 16)
    assert torch.equal(loaded(images).logits, first.eval()(images).logits)
    wrapped = build_segmenter(f"prototypes:{name}", K, base=arguments, channels=3)
    save_model(tmp_path / "p.safetensors", wrapped, SPACE, {})
    assert load_model(tmp_path / "p.safetensors").model.feature_channels == 6


def test_other_numbers_of_classes_are_refused() -> None:
    name, arguments = give_network(Tiny(classes=7))
    with pytest.raises(RequestError, match="'python:Tiny' gives scores of 7 classes; the data have 4"):
        build_segmenter(name, K, **arguments)


def test_other_weights_are_other_networks() -> None:
    torch.manual_seed(0)
    module = Tiny()
    one = give_network(module)[1]
    assert give_network(module)[1] == one
    with torch.no_grad():
        module.body.bias[0] += 1  # type: ignore[index]
    assert give_network(module)[1] != one


def test_a_given_module_is_unknown_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, arguments = give_network(Tiny())
    save_model(tmp_path / "m.safetensors", build_segmenter(name, K, **arguments), SPACE, {})
    monkeypatch.setattr(plain, "_given", {})
    with pytest.raises(RequestError, match=r"'python:Tiny' was given from a script; .*network=.*entry point"):
        load_model(tmp_path / "m.safetensors")


class Unnamed(Segmenter):
    """A network that nothing can build again."""

    stride, feature_channels = 1, K

    def __init__(self, name: str = "") -> None:
        super().__init__(K, architecture={"name": name} if name else None)
        self.layer = nn.Conv2d(3, K, 1)

    def network(self, x: Tensor) -> Output:
        logits = self.layer(x)
        return Output(logits, logits)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (Unnamed(), "Unnamed cannot be loaded again, so it is not saved: its architecture has no name"),
        (Unnamed("mine"), "Unnamed 'mine' cannot be loaded again.*no network 'mine'.*entry point"),
        (PlainNetwork(Tiny(), K), "PlainNetwork cannot be loaded again"),
    ],
)
def test_what_cannot_be_loaded_again_is_not_saved(tmp_path: Path, network: Segmenter, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        save_model(tmp_path / "m.safetensors", network, SPACE, {})
    assert list(tmp_path.iterdir()) == []


def test_a_description_that_builds_another_network_is_refused() -> None:
    name, arguments = give_network(Tiny())
    network = build_segmenter(name, K, **arguments)
    network.add_module("more", nn.Linear(1, 1))
    with pytest.raises(RequestError, match="built from its description it has other parameters"):
        require_rebuildable(network)
