"""The methods of the house by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from segadapt.errors import RequestError, nearest
from segadapt.methods.adaptseg import AdaptSeg
from segadapt.methods.bcl import BCL
from segadapt.methods.cbst import CBST
from segadapt.methods.cpsl import CPSL
from segadapt.methods.crst import CRST
from segadapt.methods.daformer import HRDA, DAFormer
from segadapt.methods.distill import Distill
from segadapt.methods.method import Method, StageConfig
from segadapt.methods.mic import MIC, AdaptSegMIC
from segadapt.methods.proda import ProDA
from segadapt.methods.source_only import SourceOnly


@dataclass(frozen=True)
class MethodInfo:
    """A method under the name that recipes use.

    Attributes:
        method: the class.
        title: for tables.
        summary: one line.
        presets: settings that make this name what it is; a recipe may override them.
    """

    method: type[Method]
    title: str
    summary: str
    presets: Mapping[str, Any] = field(default_factory=dict)


METHODS: dict[str, MethodInfo] = {
    "source_only": MethodInfo(SourceOnly, "Source only", "supervised training on the source; the lower bound"),
    "oracle": MethodInfo(
        SourceOnly,
        "Oracle",
        "supervised training on labelled target images; the upper bound",
        {"data": "oracle", "role": "oracle", "initial": "scratch"},
    ),
    "st": MethodInfo(CBST, "ST", "self-training in rounds, one threshold for all classes", {"policy": "global"}),
    "st_sp": MethodInfo(
        CBST, "ST-SP", "self-training with spatial priors", {"policy": "global", "spatial_prior": True}
    ),
    "cbst": MethodInfo(CBST, "CBST", "class-balanced self-training: one threshold a class"),
    "cbst_sp": MethodInfo(CBST, "CBST-SP", "class-balanced self-training with spatial priors", {"spatial_prior": True}),
    "crst_mrkld": MethodInfo(CRST, "CRST-MRKLD", "CBST with a KL regulariser on the model", {"regulariser": "mrkld"}),
    "crst_lrent": MethodInfo(CRST, "CRST-LRENT", "CBST with entropy-regularised soft labels", {"regulariser": "lrent"}),
    "adaptseg": MethodInfo(AdaptSeg, "AdaptSeg", "adversarial adaptation of the output space"),
    "adaptseg_ls": MethodInfo(
        AdaptSeg,
        "AdaptSeg-LS",
        "the same with a least-squares GAN",
        {"gan": "ls", "adversarial": 1e-2, "adversarial_aux": 2e-3},
    ),
    "proda": MethodInfo(ProDA, "ProDA", "soft labels denoised online by prototypes; target structure learning"),
    "cpsl": MethodInfo(CPSL, "CPSL", "soft labels rectified by class-balanced self-labelling (optimal transport)"),
    "cpsl_official": MethodInfo(
        CPSL,
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
    ),
    "bcl": MethodInfo(BCL, "BCL", "contrast of pixels and prototypes across domains; dynamic, calibrated labels"),
    "dacs": MethodInfo(
        DAFormer,
        "DACS",
        "online self-training on mixed images",
        {"feature_distance": 0.0, "rare_temperature": None, "teacher_momentum": 0.99},
    ),
    "daformer": MethodInfo(DAFormer, "DAFormer", "DACS with rare classes sampled and ImageNet features kept"),
    "hrda": MethodInfo(HRDA, "HRDA", "DAFormer on two resolutions, with a network 'hrda:NAME'"),
    "mic": MethodInfo(MIC, "MIC", "DAFormer or HRDA, and masked images labelled as whole ones"),
    "mpcl": MethodInfo(
        DAFormer, "MPCL", "several prototypes a class; joins daformer, hrda and mic by 'mpcl: {}' as well", {"mpcl": {}}
    ),
    "adaptseg_mic": MethodInfo(AdaptSegMIC, "AdaptSeg + MIC", "AdaptSeg, and masked images labelled as whole ones"),
    "distill": MethodInfo(Distill, "Distillation", "a fresh student learns from the stage before"),
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
