"""Names of Mix Transformers in other projects: both directions, joint matrices, initial weights from files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from segadapt.errors import RequestError
from segadapt.models.build import build_segmenter
from segadapt.models.daformer_net import DAFormerNet
from segadapt.models.mit import MixTransformer, ReducedAttention
from segadapt.models.mit_names import MIT_LAYOUTS, OURS, from_mit, recognised, to_mit

State = dict[str, Tensor]
OTHERS = [name for name in MIT_LAYOUTS if name != OURS]


@pytest.fixture(scope="module")
def state() -> State:
    """Return a state dict of B0 with different numbers in every tensor."""
    torch.manual_seed(0)
    return {key: torch.randn(value.shape) for key, value in MixTransformer("mit_b0").state_dict().items()}


def same(one: State, other: State) -> bool:
    return set(one) == set(other) and all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.mark.parametrize("layout", list(MIT_LAYOUTS))
@pytest.mark.parametrize("prefix", [None, "", "a.b."])
def test_there_and_back(state: State, layout: str, prefix: str | None) -> None:
    theirs = from_mit(state, layout, prefix)
    before = MIT_LAYOUTS[layout].prefix if prefix is None else prefix
    assert all(key.startswith(before) for key in theirs)
    assert recognised(theirs) == (layout, before)
    assert same(to_mit(theirs), state)
    pointers = [value.untyped_storage().data_ptr() for value in theirs.values()]
    assert len(set(pointers)) == len(pointers), "tensors that share memory could not be saved as safetensors"


# Names and shapes as listed by the projects' own classes (transformers 5.23 in memory and in its files; mmseg's
# converter), of one block with a reduced grid and one without. In between d = 32, hidden 128, r = 8.
HUGGING_FACE = """
patch_embeddings.0.proj.weight 32,3,7,7
patch_embeddings.0.layer_norm.bias 32
block.0.1.layer_norm_1.weight 32
block.0.1.attention.self.query.weight 32,32
block.0.1.attention.self.key.bias 32
block.0.1.attention.self.value.weight 32,32
block.0.1.attention.self.sr.weight 32,32,8,8
block.0.1.attention.self.layer_norm.weight 32
block.0.1.attention.output.dense.weight 32,32
block.0.1.layer_norm_2.bias 32
block.0.1.mlp.dense1.weight 128,32
block.0.1.mlp.dwconv.dwconv.weight 128,1,3,3
block.0.1.mlp.dense2.bias 32
layer_norm.3.weight 256
"""
TRANSFORMERS_5 = """
stages.0.patch_embeddings.proj.weight 32,3,7,7
stages.0.patch_embeddings.layer_norm.bias 32
stages.0.blocks.1.layernorm_before.weight 32
stages.0.blocks.1.attention.q_proj.weight 32,32
stages.0.blocks.1.attention.k_proj.bias 32
stages.0.blocks.1.attention.v_proj.weight 32,32
stages.0.blocks.1.attention.sequence_reduction.sequence_reduction.weight 32,32,8,8
stages.0.blocks.1.attention.sequence_reduction.layer_norm.weight 32
stages.0.blocks.1.attention.o_proj.weight 32,32
stages.0.blocks.1.layernorm_after.bias 32
stages.0.blocks.1.mlp.fc1.weight 128,32
stages.0.blocks.1.mlp.dwconv.dwconv.weight 128,1,3,3
stages.0.blocks.1.mlp.fc2.bias 32
stages.3.layer_norm.weight 256
"""
MMSEG = """
layers.0.0.projection.weight 32,3,7,7
layers.0.0.norm.bias 32
layers.0.1.1.norm1.weight 32
layers.0.1.1.attn.attn.in_proj_weight 96,32
layers.0.1.1.attn.attn.in_proj_bias 96
layers.0.1.1.attn.attn.out_proj.weight 32,32
layers.0.1.1.attn.sr.weight 32,32,8,8
layers.0.1.1.attn.norm.weight 32
layers.0.1.1.norm2.bias 32
layers.0.1.1.ffn.layers.0.weight 128,32,1,1
layers.0.1.1.ffn.layers.1.weight 128,1,3,3
layers.0.1.1.ffn.layers.4.weight 32,128,1,1
layers.0.1.1.ffn.layers.4.bias 32
layers.3.2.weight 256
"""


@pytest.mark.parametrize(
    ("layout", "listed", "tensors"),
    [("huggingface", HUGGING_FACE, 192), ("transformers5", TRANSFORMERS_5, 192), ("mmseg", MMSEG, 160)],
)
def test_names_and_shapes_as_listed_by_the_projects(state: State, layout: str, listed: str, tensors: int) -> None:
    theirs = from_mit(state, layout, "")
    for line in listed.split("\n")[1:-1]:
        name, shape = line.split()
        assert list(theirs[name].shape) == [int(side) for side in shape.split(",")], name
    assert len(theirs) == tensors
    assert len(state) == 176


def test_query_key_and_value_are_what_they_say(state: State) -> None:
    """The joint matrix of the mmseg layout gives torch's own attention the outputs of ours."""
    own = {k.removeprefix("block4.0.attn."): v for k, v in state.items() if k.startswith("block4.0.attn.")}
    ours = ReducedAttention(256, 8, 1)
    ours.load_state_dict(own)
    before = "layers.3.1.0.attn.attn."
    theirs = nn.MultiheadAttention(256, 8, batch_first=True)
    renamed = {k.removeprefix(before): v for k, v in from_mit(state, "mmseg", "").items() if k.startswith(before)}
    theirs.load_state_dict(renamed)
    x = torch.randn(1, 3, 2, 256) * 0.01
    with torch.no_grad():
        tokens = x.flatten(1, 2)
        torch.testing.assert_close(ours(x).flatten(1, 2), theirs(tokens, tokens, tokens)[0], atol=1e-3, rtol=1e-3)
    apart = from_mit(state, "huggingface", "")
    for part, rows in (("key", slice(0, 256)), ("value", slice(256, 512))):
        assert torch.equal(apart[f"block.3.0.attention.self.{part}.weight"], own["kv.weight"][rows])


def test_heads_are_passed_over_and_the_student_comes_first(state: State) -> None:
    flat = {**state, "head.weight": torch.zeros(1000, 256), "head.bias": torch.zeros(1000)}
    assert same(to_mit(flat), state)
    hugging = {**from_mit(state, "huggingface"), "decode_head.classifier.weight": torch.zeros(5, 256, 1, 1)}
    assert same(to_mit(hugging), state)
    three = {f"{p}backbone.{k}": v + i for i, p in enumerate(("model.", "ema_model.", "imnet_model."))
             for k, v in state.items()}  # fmt: skip
    assert recognised(three) == (OURS, "model.backbone.")
    assert same(to_mit(three), state)


@pytest.mark.parametrize("layout", list(MIT_LAYOUTS))
def test_initial_weights_from_files_of_every_layout(state: State, layout: str, tmp_path: Path) -> None:
    file = tmp_path / "mit.pth"
    torch.save({**from_mit(state, layout), "head.bias": torch.zeros(1000)}, file)
    for name in ("daformer_mit_b0", "hrda:daformer_mit_b0"):
        model = build_segmenter(name, 3, weights=str(file))
        net = getattr(model, "base", model)
        assert isinstance(net, DAFormerNet)
        assert same(dict(net.encoder.state_dict()), state)
    save_file(from_mit(state, layout), str(tmp_path / "mit.safetensors"))
    model = build_segmenter("daformer_mit_b0", 3, weights=str(tmp_path / "mit.safetensors"))
    assert same(dict(model.get_submodule("encoder").state_dict()), state)


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        (lambda s: s.pop("block2.0.attn.kv.weight"), r"1 tensors .* first is 'block2.0.attn.kv.weight'"),
        (lambda s: s.update({"block2.0.attn.kv.weight": torch.zeros(64, 64)}), "'block2.0.attn.kv.weight'"),
        (lambda s: s.update({"block2.0.attn.kv.weight": torch.zeros(())}), "'block2.0.attn.kv.weight'"),
        (lambda s: s.update({"block1.0.attn.x.weight": torch.zeros(1)}), "'block1.0.attn.x.weight'"),
        (lambda s: s.pop("patch_embed1.proj.weight"), "not the weights of a Mix Transformer as named by NVlabs"),
        (lambda s: s.clear(), "it is empty"),
    ],
)
def test_files_that_do_not_fit(state: State, change: object, answer: str, tmp_path: Path) -> None:
    broken = dict(state)
    change(broken)  # type: ignore[operator]
    torch.save(broken, tmp_path / "mit.pth")
    with pytest.raises(RequestError, match=answer) as refusal:
        build_segmenter("daformer_mit_b0", 3, weights=str(tmp_path / "mit.pth"))
    assert str(refusal.value).startswith(f"'{tmp_path / 'mit.pth'}': ")
    assert "\n" not in str(refusal.value)


def test_another_size_is_named(state: State, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "mit.pth")
    with pytest.raises(RequestError, match=r"not the weights of mit_b1 but of mit_b0: .* choose the network"):
        build_segmenter("daformer_mit_b1", 3, weights=str(tmp_path / "mit.pth"))
    with pytest.raises(RequestError, match=r"no layout 'hugingface' \(did you mean 'huggingface'"):
        from_mit(state, "hugingface")
    with pytest.raises(RequestError, match=r"'head.bias' is not a tensor of a Mix Transformer"):
        from_mit({**state, "head.bias": torch.zeros(3)}, "mmseg")


def test_imagenet_weights_of_a_mix_transformer_are_a_file() -> None:
    with pytest.raises(RequestError, match=r"set model.weights to their file \(mit_b0.pth .* nvidia/mit-b0"):
        build_segmenter("daformer_mit_b0", 3, weights="imagenet")
    with pytest.raises(RequestError, match=r"of 'daformer_mit_b0'; set model.weights"):
        build_segmenter("hrda:daformer_mit_b0", 3, weights="imagenet")
