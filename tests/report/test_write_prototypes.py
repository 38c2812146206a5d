"""Maps of prototypes: shares of pixels, the drawn maps, and all of it in a run with MPCL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from segadapt.errors import RequestError
from segadapt.labels import IGNORE
from segadapt.models.inference import InferenceConfig
from segadapt.models.prototype_net import Kind, PrototypeNet
from segadapt.models.store import load_model, load_prototypes, save_prototypes
from segadapt.report import write_report
from segadapt.report.features import read_places
from segadapt.report.write_features import features_at, separation
from segadapt.report.write_prototypes import divide, own_shares, worth_showing
from segadapt.runs.config import RunConfig, build_config
from segadapt.runs.run import Run
from tests.methods.small import K, Pointwise
from tests.tiny import raw_config

PARTS, CHANNELS = 3, 4


def view(kind: Kind = "gaussian", seed: int = 0) -> PrototypeNet:
    """A small network with prototypes of all classes except the third."""
    torch.manual_seed(seed)
    made = PrototypeNet(Pointwise(), kind, PARTS, CHANNELS)
    made.means.normal_()
    variances = torch.rand(K, PARTS, CHANNELS) + 0.1
    made.variances.copy_(torch.diag_embed(variances) if kind == "full" else variances)
    made.active.copy_(torch.tensor([True, True, False, True, True]))
    return made.eval()


@pytest.mark.parametrize("kind", ["centroid", "gaussian", "full"])
@torch.no_grad()
def test_responsibilities_restated(kind: Kind) -> None:
    """Pixel by pixel; the network predicts by the best prototype of the predicted class."""
    made, images = view(kind), torch.rand(2, 3, 4, 6)
    got = made.responsibilities(images)
    assert got.shape == (2, K, PARTS, 2, 3)
    torch.testing.assert_close(got.sum(2), torch.ones(2, K, 2, 3))
    z = torch.nn.functional.normalize(made.projection(made.base(images).features), dim=1)
    for c in range(K):
        if c == 2:
            torch.testing.assert_close(got[:, c], torch.full((2, PARTS, 2, 3), 1 / PARTS))
            continue
        for pixel in np.ndindex(2, 2, 3):
            row, scores = z[pixel[0], :, pixel[1], pixel[2]], []
            for k in range(PARTS):
                mean, var = made.means[c, k], made.variances[c, k]
                if kind == "centroid":
                    scores.append(-(row - mean).square().sum())
                else:
                    sd = ((var.diagonal() if kind == "full" else var) + 0.25 / CHANNELS).sqrt()
                    scores.append(torch.distributions.Normal(mean, sd).log_prob(row).sum() / CHANNELS)
            wanted = (torch.stack(scores) / 0.1).softmax(0)
            torch.testing.assert_close(got[pixel[0], c, :, pixel[1], pixel[2]], wanted, rtol=1e-3, atol=1e-5)


def test_shares_sum_to_one_where_the_class_is() -> None:
    maps = torch.randn(4, PARTS, 5, 7).softmax(1)
    label = torch.randint(0, 4, (20, 28), dtype=torch.uint8)
    label[:3] = IGNORE
    shares = own_shares(maps, label, torch.tensor([True, False, True, True]))
    counted = (label != IGNORE) & (label != 1)
    torch.testing.assert_close(shares.sum(0), counted.float())
    large = torch.nn.functional.interpolate(maps, (20, 28), mode="bilinear")
    for y, x in ((4, 0), (10, 13), (19, 27)):
        if counted[y, x]:
            torch.testing.assert_close(shares[:, y, x], large[label[y, x].long(), :, y, x])


def test_pixels_are_counted_once() -> None:
    made = view()
    for layer in (made.base.classifier, made.base.encoder, made.projection):  # colours decide, not biases
        assert isinstance(layer, torch.nn.Conv2d)
        assert layer.bias is not None
        torch.nn.init.zeros_(layer.bias)
    patches = np.random.default_rng(0).integers(0, 255, (4, 6, 3)).astype(np.uint8)
    image = patches.repeat(4, 0).repeat(4, 1)  # large enough that shrinking does not mix them to grey
    found = divide(made.base, made, image, (12, 18), InferenceConfig(size=(8, 12)))
    assert found.label.shape == (12, 18)
    assert found.shares.shape == (PARTS, 12, 18)
    for c in range(K):
        mine = found.label == c
        assert found.counts[c].sum() == (mine.sum() if c != 2 else 0)
        if c != 2:
            wanted = np.bincount(found.shares.argmax(0)[mine], minlength=PARTS)
            assert found.counts[c].tolist() == wanted.tolist()
    assert (found.counts.sum(1) > 0).sum() > 1
    assert (found.counts > 0).any(0).sum() > 1


def test_classes_that_were_not_shown_come_first() -> None:
    pixels = np.array([500, 3, 200, 0, 90, 60, 70])
    assert worth_showing(pixels, 1000, set()) == [0, 2, 4, 6]
    assert worth_showing(pixels, 1000, {0, 2, 4, 6}) == [5, 0, 2, 4]  # the second and fourth are too small


def test_files_of_prototypes(tmp_path: Path) -> None:
    made, path = view("full"), tmp_path / "prototypes.safetensors"
    save_prototypes(path, made)
    again = load_prototypes(path, made.base)
    images = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(again.responsibilities(images), made.responsibilities(images))
        torch.testing.assert_close(again(images).logits, made(images).logits)
    other = Pointwise()
    other.feature_channels = 7
    with pytest.raises(RequestError, match="made for a network with other features"):
        load_prototypes(path, other)
    with pytest.raises(RequestError, match="not a segadapt model"):
        load_model(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RequestError, match="not a readable model file"):
        load_prototypes(path, made.base)


def pictured(run: Path) -> list[dict[str, Any]]:
    index = json.loads((run / "pictures/index.json").read_text())
    return list(index.get("prototypes", []))


def without_source(folder: Path, method: str, **adapt: Any) -> RunConfig:
    raw = raw_config(folder, method, **adapt)
    raw["stages"]["source"] = None
    return build_config(raw, "tiny")


def section(run: Path) -> bool:
    return '<section id="prototypes"' in write_report(run).read_text(encoding="utf-8")


@pytest.mark.parametrize("predict", ["classifier", "prototypes"])
def test_a_run_shows_its_prototypes(tmp_path: Path, predict: str) -> None:
    pytest.importorskip("jinja2")
    settings = {"channels": 8, "bank": 200, "start": 20, "warmup": 0, "prototypes": PARTS, "predict": predict}
    made = without_source(tmp_path, "mpcl", mpcl=settings)
    run = Run.open(made, tmp_path / "run", quiet=True)
    run.execute()
    (entry,) = pictured(tmp_path / "run")
    assert entry["stage"] == "adapt"
    assert entry["pictured"] == 3
    assert len(entry["colors"]) == PARTS
    assert 1 <= len(entry["classes"]) <= 3
    assert len(entry["images"]) == 2
    maps = 0
    for image in entry["images"]:
        pictures = [image["image"], image["which"], *(m for c in image["classes"] for m in c["maps"])]
        for name in pictures:
            assert cv2.imread(str(tmp_path / "run/pictures" / name)).shape == (40, 56, 3)
        assert all(len(c["maps"]) == len(c["counts"]) == PARTS for c in image["classes"])
        assert sum(sum(c["counts"]) for c in image["classes"]) <= image["pixels"] == 40 * 56
        maps += len(pictures) - 2
    assert maps >= PARTS
    assert section(tmp_path / "run")
    kept = tmp_path / "run/stages/adapt/prototypes.safetensors"
    assert kept.exists() == (predict == "classifier")

    # The picture of features shows the network that is kept.
    model = load_model(tmp_path / "run/stages/adapt/model.safetensors").model
    places = read_places(tmp_path / "run/pictures/features/places.npz")
    assert places is not None
    assert run.opened.test is not None
    features = features_at(model, places, run.opened.test, made.evaluation, made.data.test_size)
    with np.load(tmp_path / "run/pictures/features/stages/adapt.npz") as stored:
        assert float(stored["separation"]) == pytest.approx(separation(features, places.label))

    # Another run reuses the stage and shows it; shown again, it still has one entry.
    Run.open(made, tmp_path / "other", quiet=True, reuse=(tmp_path / "run",)).execute()
    assert pictured(tmp_path / "other") == pictured(tmp_path / "run")
    (tmp_path / "run/stages/adapt/shown").unlink()
    Run.open(made, tmp_path / "run", quiet=True).execute()
    assert pictured(tmp_path / "run") == [entry]
    if kept.exists():
        kept.write_bytes(b"damaged")
        with pytest.raises(RequestError, match=r"prototypes\.safetensors' is not what the stage left"):
            Run.open(made, tmp_path / "run", quiet=True).execute()


def test_nothing_without_prototypes(tmp_path: Path) -> None:
    """No maps of a method without prototypes, nor of one in which no class has any yet."""
    pytest.importorskip("jinja2")
    settings = {"channels": 8, "bank": 200, "start": 20, "warmup": 100}
    for method, more in (("dacs", {}), ("mpcl", {"mpcl": settings})):
        Run.open(without_source(tmp_path, method, **more), tmp_path / method, quiet=True).execute()
        assert pictured(tmp_path / method) == []
        assert not section(tmp_path / method)
    assert not (tmp_path / "dacs/stages/adapt/prototypes.safetensors").exists()
