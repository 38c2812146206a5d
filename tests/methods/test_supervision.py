"""Learning from labels, with and without a detail crop: against the public code, and restated."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segadapt.labels import IGNORE
from segadapt.methods.supervision import segmentation_terms
from segadapt.models.multires import MultiRes
from segadapt.models.segmenter import Detail, Output
from segadapt.pieces.fusion import fuse_scales, in_cells, kept_within, placed
from segadapt.runs.config import build_config
from segadapt.runs.run import Run
from tests.golden_vectors import golden_op
from tests.methods.small import Pointwise, make, samples
from tests.tiny import raw_config


def output(logits: Tensor, detail: Detail | None = None) -> Output:
    return Output(logits, logits, detail=detail)


# ---- golden ----


def test_golden_loss_over_all_pixels() -> None:
    golden = golden_op("daformer_segmentation_loss")
    logits = golden.tensor("logits").requires_grad_()
    labels, weights = golden.tensor("labels"), golden.tensor("weight")
    (loss,) = segmentation_terms(output(logits), labels, weights=weights, over="all").values()
    golden.assert_close("loss_weighted", loss.mean())
    loss.mean().backward()
    golden.assert_close("grad_weighted", logits.grad)
    (loss,) = segmentation_terms(output(logits), labels, over="all").values()
    golden.assert_close("loss_unweighted", loss.mean())


def test_golden_loss_of_context_and_detail() -> None:
    golden = golden_op("hrda_losses")
    top, bottom, left, right = golden.params["box_y1y2x1x2"]
    box, size = (top, left, bottom, right), (64, 80)
    context, detail = golden.tensor("lr_logits"), golden.tensor("hr_logits")
    labels, weights = golden.tensor("labels"), golden.tensor("weight")
    attention = kept_within(golden.tensor("attention_logits").sigmoid(), in_cells(box, size, (8, 10)))
    fused = fuse_scales(context, placed(detail, in_cells(box, size, (16, 20)), (16, 20)), attention)
    out = output(fused, Detail(detail, detail, box, golden.params["hr_loss_weight"]))
    terms = segmentation_terms(out, labels, weights=weights, over="all", prefix="source")
    assert list(terms) == ["source", "source/detail"]
    golden.assert_close("fused_part", terms["source"].mean())
    golden.assert_close("hr_part", terms["source/detail"].mean())
    golden.assert_close("total", terms["source"].mean() + terms["source/detail"].mean())


# ---- restatements ----


@pytest.mark.parametrize("over", ["valid", "all"])
@pytest.mark.parametrize("weighted", [False, True])
def test_both_shares_restated(over: str, weighted: bool) -> None:
    torch.manual_seed(0)
    logits, small = torch.randn(2, 4, 8, 12), torch.randn(2, 4, 4, 6)
    labels = torch.randint(0, 4, (2, 16, 24))
    labels[:, 3:7, ::2] = IGNORE
    weights = torch.rand(2, 16, 24) if weighted else None
    terms = segmentation_terms(
        output(logits, Detail(small, small, (4, 6, 12, 18), 0.25)),
        labels,
        weights=weights,
        over=over,  # type: ignore[arg-type]
    )

    def mean(z: Tensor, y: Tensor, w: Tensor) -> float:
        losses = F.cross_entropy(
            F.interpolate(z, y.shape[-2:], mode="bilinear"), y, ignore_index=IGNORE, reduction="none"
        )
        return float((losses * w).sum() / (y.numel() if over == "all" else (y != IGNORE).sum()))

    w = torch.ones(2, 16, 24) if weights is None else weights
    part = (slice(None), slice(4, 12), slice(6, 18))
    assert float(terms["segmentation"].mean()) == pytest.approx(0.75 * mean(logits, labels, w), rel=1e-5)
    assert float(terms["detail"].mean()) == pytest.approx(0.25 * mean(small, labels[part], w[part]), rel=1e-5)


def test_without_a_detail_there_is_one_term_of_weight_one() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(1, 3, 4, 4), torch.full((1, 8, 8), IGNORE)
    (term,) = segmentation_terms(output(logits.requires_grad_()), labels).values()
    assert term.weight == 1
    assert float(term.count) == 0
    assert float(term.mean().detach()) == 0
    term.mean().backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))


# ---- in methods ----


def test_source_training_takes_both_shares() -> None:
    method = make("source_only", MultiRes(Pointwise(), detail_weight=0.2), steps=1)
    method.train()
    ((terms),) = list(method.step({"labelled": samples(0, 2, 16, 24, 0, True)}))
    assert {name: round(term.weight, 6) for name, term in terms.items()} == {"labelled": 0.8, "labelled/detail": 0.2}
    sum(term.mean() for term in terms.values()).backward()
    used = {name for name, p in method.model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert used >= {"base.encoder.weight", "base.classifier.bias", "attention.conv_seg.bias"}


@pytest.mark.parametrize("method", ["proda", "cpsl"])
def test_teachers_and_prototypes_on_two_resolutions(tmp_path: Path, method: str) -> None:
    """Features are coarser than logits, whole images are no multiples of anything, the teacher is in training mode."""
    raw = raw_config(tmp_path, method, size=(37, 53), steps=1)
    raw["stages"]["source"]["steps"] = 1
    raw["model"] = {"name": "hrda:timm:resnet10t", "weights": None, "arguments": {"base": {"width": 16}}}
    results = Run.open(build_config(raw, "tiny"), tmp_path / "run", quiet=True).execute()
    assert all(0 <= row["scores"]["miou"] <= 100 for row in results["rows"])


@pytest.mark.parametrize("align_corners", [False, True])
def test_supervised_training_enlarges_as_inference_does(align_corners: bool) -> None:
    made = make("source_only", Pointwise(), inference={"align_corners": align_corners})
    x = samples(0, 2, 8, 12, 0, labelled=True)
    (terms,) = list(made.step({"labelled": x}))
    logits = F.interpolate(made.model(x.images).logits, (8, 12), mode="bilinear", align_corners=align_corners)
    expected = F.cross_entropy(logits, x.labels, ignore_index=IGNORE)
    torch.testing.assert_close(terms["labelled"].mean(), expected)
