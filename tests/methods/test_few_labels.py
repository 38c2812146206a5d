"""The term of labelled target images: one for all methods, with the stage's strong views."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from segadapt.data.memory import in_memory
from segadapt.methods.few_labels import LABELLED, labelled_steps, labelled_streams
from segadapt.methods.mean_teacher import recoloured
from segadapt.methods.registry import METHODS
from segadapt.methods.stage_config import StageConfig
from segadapt.pieces.resizing import upsample
from tests.methods.small import SPACE, Pointwise, make, samples


@pytest.mark.parametrize("name", ["dacs", "cbst"])
def test_the_term_is_the_weighted_cross_entropy_of_a_strong_view(name: str) -> None:
    method = make(name, Pointwise(), labelled_weight=0.5)
    x = samples(3, 2, 8, 8, domain=1, labelled=True)
    torch.manual_seed(7)
    (terms,) = labelled_steps(method, {LABELLED: x})
    torch.manual_seed(7)
    images = recoloured(x.images, method.config) if name == "dacs" else x.images  # type: ignore[arg-type]
    assert torch.equal(images, x.images) == (name == "cbst")
    logits = upsample(method.model(images).logits, (8, 8), method.align_corners)
    expected = F.cross_entropy(logits, x.labels, ignore_index=255)
    assert list(terms) == [LABELLED]
    torch.testing.assert_close(terms[LABELLED].mean(), 0.5 * expected)


def test_without_labelled_images_a_step_has_no_more_terms() -> None:
    assert list(labelled_steps(make("dacs", Pointwise()), {})) == []


@pytest.mark.parametrize("name", list(METHODS))
def test_stages_that_adapt_have_a_stream_of_them(name: str) -> None:
    pairs = [(torch.zeros(8, 8, 3, dtype=torch.uint8), torch.zeros(8, 8, dtype=torch.uint8))]
    labelled = in_memory("labelled", pairs, SPACE)
    config = make_config(name)
    streams = labelled_streams(config, 1, labelled, None)
    assert bool(streams) == (config.role == "adapted")
    assert labelled_streams(config, 1, None, None) == {}
    assert labelled_streams(config.model_copy(update={"labelled_weight": 0.0}), 1, labelled, None) == {}
    for stream in streams.values():
        assert (stream.batch_size, len(stream)) == (config.batch_size, 1)


def make_config(name: str) -> StageConfig:
    from segadapt.methods.registry import stage_settings

    cls, values = stage_settings("adapt", {"method": name})
    return cls(**values)
