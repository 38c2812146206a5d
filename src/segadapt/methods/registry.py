"""The methods of the house by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from segadapt.errors import RequestError, nearest
from segadapt.methods import papers
from segadapt.methods.adaptseg import AdaptSeg
from segadapt.methods.bcl import BCL
from segadapt.methods.cbst import CBST
from segadapt.methods.cpsl import CPSL
from segadapt.methods.crst import CRST
from segadapt.methods.daformer import DAFormer
from segadapt.methods.distill import Distill
from segadapt.methods.method import Method
from segadapt.methods.mic import MIC, AdaptSegMIC
from segadapt.methods.papers import Paper
from segadapt.methods.proda import ProDA
from segadapt.methods.source_only import SourceOnly
from segadapt.methods.stage_config import StageConfig


@dataclass(frozen=True)
class MethodInfo:
    """A method under the name that recipes use.

    Attributes:
        method: the class.
        paper: where it was published and where ours is proved.
        title: for tables.
        summary: one line.
        presets: settings that make this name what it is; a recipe may override them.
        recipe: the recipe of a task that it is run with, where that has another name.
        overrides: settings that turn that recipe into this method, e.g. ``stage1.method=NAME``.
        network: a small network that it runs on.
    """

    method: type[Method]
    paper: Paper
    title: str
    summary: str
    presets: Mapping[str, Any] = field(default_factory=dict)
    recipe: str = ""
    overrides: tuple[str, ...] = ()
    network: str = "lite"


METHODS: dict[str, MethodInfo] = {
    "source_only": MethodInfo(
        SourceOnly, papers.BOUNDS, "Source only", "supervised training on the source; the lower bound"
    ),
    "oracle": MethodInfo(
        SourceOnly,
        papers.BOUNDS,
        "Oracle",
        "supervised training on labelled target images; the upper bound",
        {"data": "oracle", "role": "oracle", "initial": "scratch"},
    ),
    "st": MethodInfo(
        CBST, papers.CBST, "ST", "self-training in rounds, one threshold for all classes", {"policy": "global"}
    ),
    "st_sp": MethodInfo(
        CBST, papers.CBST, "ST-SP", "self-training with spatial priors", {"policy": "global", "spatial_prior": True}
    ),
    "cbst": MethodInfo(CBST, papers.CBST, "CBST", "class-balanced self-training: one threshold a class"),
    "cbst_sp": MethodInfo(
        CBST, papers.CBST, "CBST-SP", "class-balanced self-training with spatial priors", {"spatial_prior": True}
    ),
    "crst_mrkld": MethodInfo(
        CRST, papers.CRST, "CRST-MRKLD", "CBST with a KL regulariser on the model", {"regulariser": "mrkld"}
    ),
    "crst_lrent": MethodInfo(
        CRST, papers.CRST, "CRST-LRENT", "CBST with entropy-regularised soft labels", {"regulariser": "lrent"}
    ),
    "adaptseg": MethodInfo(AdaptSeg, papers.ADAPTSEG, "AdaptSeg", "adversarial adaptation of the output space"),
    "adaptseg_ls": MethodInfo(
        AdaptSeg,
        papers.ADAPTSEG,
        "AdaptSeg-LS",
        "the same with a least-squares GAN",
        {"gan": "ls", "adversarial": 1e-2, "adversarial_aux": 2e-3},
    ),
    "proda": MethodInfo(
        ProDA, papers.PRODA, "ProDA", "soft labels denoised online by prototypes; target structure learning"
    ),
    "cpsl": MethodInfo(
        CPSL, papers.CPSL, "CPSL", "soft labels rectified by class-balanced self-labelling (optimal transport)"
    ),
    "cpsl_official": MethodInfo(
        CPSL,
        papers.CPSL,
        "CPSL (official)",
        "the same with the terms of the published code",
        {
            "alpha": 0.1,
            "beta": 1.0,
            "samples": 256,
            "sampling": "uniform",
            "partition": "fixed",
            "consistency_of": "assignment",
            "output_term": True,
        },
        recipe="cpsl",
        overrides=("stage1.method=cpsl_official",),
    ),
    "bcl": MethodInfo(
        BCL, papers.BCL, "BCL", "contrast of pixels and prototypes across domains; dynamic, calibrated labels"
    ),
    "dacs": MethodInfo(
        DAFormer,
        papers.DACS,
        "DACS",
        "online self-training on mixed images",
        {"feature_distance": 0.0, "rare_temperature": None, "teacher_momentum": 0.99},
    ),
    "daformer": MethodInfo(
        DAFormer, papers.DAFORMER, "DAFormer", "DACS with rare classes sampled and ImageNet features kept"
    ),
    "hrda": MethodInfo(
        DAFormer,
        papers.HRDA,
        "HRDA",
        "DAFormer on two resolutions, with a network 'hrda:NAME'",
        {"two_resolutions": True},
        network="hrda:lite",
    ),
    "mic": MethodInfo(MIC, papers.MIC, "MIC", "DAFormer or HRDA, and masked images labelled as whole ones"),
    "mpcl": MethodInfo(
        DAFormer,
        papers.MPCL,
        "MPCL",
        "several prototypes per class on DAFormer; 'mpcl: {}' joins dacs, hrda and mic too",
        {"mpcl": {}},
    ),
    "adaptseg_mic": MethodInfo(
        AdaptSegMIC,
        papers.MIC,
        "AdaptSeg + MIC",
        "AdaptSeg, and masked images labelled as whole ones",
        recipe="adaptseg",
        overrides=("adapt.method=adaptseg_mic",),
    ),
    "distill": MethodInfo(
        Distill, papers.PRODA, "Distillation", "a fresh student learns from the stage before", recipe="proda"
    ),
}


def method_info(name: str) -> MethodInfo:
    """A method by name; RequestError with the nearest name otherwise."""
    if name not in METHODS:
        raise RequestError(f"no method '{name}'{nearest(name, METHODS)}; there are: {', '.join(METHODS)}")
    return METHODS[name]


def stage_settings(name: str, settings: Mapping[str, Any]) -> tuple[type[StageConfig], dict[str, Any]]:
    """The settings class of a stage and its settings with the method's presets beneath."""
    if "method" not in settings:
        raise RequestError(f"stage '{name}' names no method; add e.g. 'method: cbst'")
    info = method_info(str(settings["method"]))
    return info.method.Config, {"title": info.title, **info.presets, **settings, "name": name}
