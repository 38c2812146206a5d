"""Classifiers by class name: after a change of order a network gives the same scores, class by class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from segadapt.errors import RequestError
from segadapt.labels import CAMVID, LabelSpace, distinct_colors
from segadapt.models.build import MODELS, build_segmenter
from segadapt.models.class_rows import _class_dimensions, in_order_of, name_rows
from segadapt.models.plain import give_network
from segadapt.models.store import LoadedModel, load_model, save_model, stored_space

ABC = LabelSpace("abc", ("a", "b", "c"), distinct_colors(3), ids=(7, 0, 300))
CAB = ABC.reordered(("c", "a", "b"))
NETWORKS = (
    ("timm:resnet10t", {"width": 8}),
    ("hrda:timm:resnet10t", {"base": {"width": 8}}),
    ("prototypes:timm:resnet10t", {"base": {"width": 8}, "channels": 4}),
)


def scores(model: nn.Module) -> torch.Tensor:
    torch.manual_seed(3)
    with torch.no_grad():
        return model.eval()(torch.rand(1, 3, 64, 64)).logits


@pytest.mark.parametrize(("name", "arguments"), NETWORKS)
def test_a_model_of_another_order_gives_the_same_scores(name: str, arguments: dict[str, object]) -> None:
    torch.manual_seed(0)
    model = build_segmenter(name, 3, weights=None, **arguments)
    for tensor in model.buffers():
        if tensor.dtype.is_floating_point and tensor.shape[:1] == (3,):
            tensor.normal_()
    before = scores(model)
    ordered = in_order_of(LoadedModel(model, ABC, {}), CAB, Path("m"))
    assert ordered.space.names == ("c", "a", "b")
    assert ordered.space.ids == (300, 7, 0)
    assert torch.allclose(scores(ordered.model), before[:, [2, 0, 1]], atol=1e-5)


@pytest.mark.parametrize(
    "name", [n for n in MODELS if not n.endswith("NAME") and n[-2:] not in ("50", "52", "b1", "b2", "b3", "b4")]
)
def test_every_network_tells_where_its_classes_are(name: str) -> None:
    with torch.device("meta"):
        model = build_segmenter(name, 5)
    assert _class_dimensions(model, Path("m"))


def test_other_classes_are_named_and_refused() -> None:
    model = build_segmenter("timm:resnet10t", 3, weights=None, width=8)
    other = replace(ABC, names=("A", "b", "d"))
    with pytest.raises(RequestError, match=r"lacks 'A', 'd' \(its 'a'\?\) and has 'a', 'c' besides"):
        in_order_of(LoadedModel(model, ABC, {}), other, Path("m"))
    fewer = LabelSpace("ab", ("a", "b"), distinct_colors(2))
    with pytest.raises(RequestError, match="it has 'c' besides the classes of this run"):
        in_order_of(LoadedModel(model, ABC, {}), fewer, Path("m"))


def test_a_network_that_does_not_tell_is_refused() -> None:
    module = nn.Conv2d(3, 3, 3, padding=1)
    name, arguments = give_network(module)
    given = build_segmenter(name, 3, **arguments)
    with pytest.raises(RequestError, match="does not tell which parameters belong to which class"):
        in_order_of(LoadedModel(given, ABC, {}), CAB, Path("m"))


def test_initial_weights_are_taken_by_name(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained = build_segmenter("timm:resnet10t", 3, weights=None, width=8)
    path = tmp_path / "m.safetensors"
    save_model(path, trained, ABC, {})
    assert stored_space(path) == ABC
    wanted = LabelSpace("run", ("c", "new", "a"), distinct_colors(3))
    model = build_segmenter("timm:resnet10t", 3, weights=str(path), width=8)
    fresh = build_segmenter("timm:resnet10t", 3, weights=None, width=8)
    new = scores_of_head(fresh)[1]
    assert name_rows(model, fresh, path, wanted)
    rows, old = scores_of_head(model), scores_of_head(trained)
    assert torch.equal(rows[0], old[2])
    assert torch.equal(rows[2], old[0])
    assert torch.equal(rows[1], new)
    assert not name_rows(model, fresh, path, ABC)
    assert not name_rows(model, fresh, path, CAMVID)
    assert not name_rows(model, fresh, tmp_path / "none.pth", wanted)


def scores_of_head(model: nn.Module) -> torch.Tensor:
    return next(v for k, v in reversed(list(model.state_dict().items())) if v.dim() == 4 and v.shape[0] == 3)


def test_ids_are_kept_in_the_file_and_older_files_open(tmp_path: Path) -> None:
    space = replace(ABC, ids=(7, None, 300), ignore_id=9, ignore_color=(1, 2, 3))
    path = tmp_path / "m.safetensors"
    save_model(path, build_segmenter("timm:resnet10t", 3, weights=None, width=8), space, {})
    assert load_model(path).space == space
    old = '{"name": "x", "names": ["a", "b"], "colors": [[0, 0, 0], [1, 1, 1]], "subsets": {}}'
    assert LabelSpace.from_json(old).ids == ()
