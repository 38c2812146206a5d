"""The library's own methods: name, implementation, paper, and words for tables and lists.

Nothing here imports torch before a method is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from segadapt.core.registry import resolve
from segadapt.methods import papers
from segadapt.methods.papers import Paper

if TYPE_CHECKING:
    from segadapt.methods.method import Method


@dataclass(frozen=True)
class MethodInfo:
    """A method under the name that recipes use.

    Attributes:
        implementation: the class, or its place as ``module:name``.
        paper: the publication and the proofs of the implementation; None without.
        title: title in tables.
        summary: line for lists.
        presets: settings that this name stands for; a recipe may override them.
        recipe: name of the recipe that runs it, where that is not the name of the method.
        overrides: settings that turn that recipe into this method, e.g. ``stage1.method=NAME``.
        network: a small network that it runs on.
    """

    implementation: type[Method] | str
    paper: Paper | None = None
    title: str = ""
    summary: str = ""
    presets: Mapping[str, Any] = field(default_factory=dict)
    recipe: str = ""
    overrides: tuple[str, ...] = ()
    network: str = "lite"

    @property
    def method(self) -> type[Method]:
        """The class; imported when it is first asked for."""
        place = self.implementation
        implementation: type[Method] = resolve(place) if isinstance(place, str) else place
        return implementation


OWN: dict[str, MethodInfo] = {
    "source_only": MethodInfo(
        "segadapt.methods.source_only:SourceOnly",
        papers.BOUNDS,
        "Source only",
        "supervised training on the source; the lower bound",
    ),
    "oracle": MethodInfo(
        "segadapt.methods.source_only:SourceOnly",
        papers.BOUNDS,
        "Oracle",
        "supervised training on labelled target images; the upper bound",
        presets={"data": "oracle", "role": "oracle", "initial": "scratch"},
    ),
    "given": MethodInfo(
        "segadapt.methods.given:Given",
        papers.BOUNDS,
        "Given model",
        "a model file as it is, from which a run starts (--model)",
        recipe="cbst",
        overrides=("source.method=given", "source.initial=FILE"),
    ),
    "st": MethodInfo(
        "segadapt.methods.cbst:CBST",
        papers.CBST,
        "ST",
        "self-training in rounds, one threshold for all classes",
        presets={"policy": "global"},
    ),
    "st_sp": MethodInfo(
        "segadapt.methods.cbst:CBST",
        papers.CBST,
        "ST-SP",
        "self-training with spatial priors",
        presets={"policy": "global", "spatial_prior": True},
    ),
    "cbst": MethodInfo(
        "segadapt.methods.cbst:CBST", papers.CBST, "CBST", "class-balanced self-training: one threshold per class"
    ),
    "cbst_sp": MethodInfo(
        "segadapt.methods.cbst:CBST",
        papers.CBST,
        "CBST-SP",
        "class-balanced self-training with spatial priors",
        presets={"spatial_prior": True},
    ),
    "crst_mrkld": MethodInfo(
        "segadapt.methods.crst:CRST",
        papers.CRST,
        "CRST-MRKLD",
        "CBST with a KL regulariser on the model",
        presets={"regulariser": "mrkld"},
    ),
    "crst_lrent": MethodInfo(
        "segadapt.methods.crst:CRST",
        papers.CRST,
        "CRST-LRENT",
        "CBST with entropy-regularised soft labels",
        presets={"regulariser": "lrent"},
    ),
    "adaptseg": MethodInfo(
        "segadapt.methods.adaptseg:AdaptSeg", papers.ADAPTSEG, "AdaptSeg", "adversarial adaptation of the output space"
    ),
    "adaptseg_ls": MethodInfo(
        "segadapt.methods.adaptseg:AdaptSeg",
        papers.ADAPTSEG,
        "AdaptSeg-LS",
        "the same with a least-squares GAN",
        presets={"gan": "ls", "adversarial": 1e-2, "adversarial_aux": 2e-3},
    ),
    "proda": MethodInfo(
        "segadapt.methods.proda:ProDA",
        papers.PRODA,
        "ProDA",
        "soft labels denoised online by prototypes; target structure learning",
    ),
    "cpsl": MethodInfo(
        "segadapt.methods.cpsl:CPSL",
        papers.CPSL,
        "CPSL",
        "soft labels rectified by class-balanced self-labelling (optimal transport)",
    ),
    "cpsl_official": MethodInfo(
        "segadapt.methods.cpsl:CPSL",
        papers.CPSL,
        "CPSL (official)",
        "the same with the terms of the published code",
        presets={
            "alpha": 0.1,
            "beta": 1.0,
            "samples": 256,
            "sampling": "uniform",
            "partition": "fixed",
            "consistency_of": "assignment",
            "output_term": True,
            "optimiser": {"lr": 1e-4, "head_factor": 5.0, "weight_decay": 2e-4},
        },
        recipe="cpsl",
        overrides=("stage1.method=cpsl_official",),
    ),
    "bcl": MethodInfo(
        "segadapt.methods.bcl:BCL",
        papers.BCL,
        "BCL",
        "contrast of pixels and prototypes across domains; dynamic, calibrated labels",
    ),
    "dacs": MethodInfo(
        "segadapt.methods.daformer:DAFormer",
        papers.DACS,
        "DACS",
        "online self-training on mixed images",
        presets={"feature_distance": 0.0, "rare_temperature": None, "teacher_momentum": 0.99},
    ),
    "daformer": MethodInfo(
        "segadapt.methods.daformer:DAFormer",
        papers.DAFORMER,
        "DAFormer",
        "DACS with rare classes sampled and ImageNet features kept",
    ),
    "hrda": MethodInfo(
        "segadapt.methods.daformer:DAFormer",
        papers.HRDA,
        "HRDA",
        "DAFormer on two resolutions, with a network 'hrda:NAME'",
        presets={"two_resolutions": True},
        network="hrda:lite",
    ),
    "mic": MethodInfo(
        "segadapt.methods.mic:MIC", papers.MIC, "MIC", "DAFormer or HRDA, and masked images labelled as whole ones"
    ),
    "best": MethodInfo(
        "segadapt.methods.best:Best",
        papers.BEST,
        "Best",
        "the library's own: MPCL on MIC, strong and transferred colours, a choice of pixels per class, and an average",
    ),
    "mpcl": MethodInfo(
        "segadapt.methods.daformer:DAFormer",
        papers.MPCL,
        "MPCL",
        "several prototypes per class on DAFormer; 'mpcl: {}' joins dacs, hrda and mic too",
        presets={"mpcl": {}},
    ),
    "adaptseg_mic": MethodInfo(
        "segadapt.methods.mic:AdaptSegMIC",
        papers.MIC,
        "AdaptSeg + MIC",
        "AdaptSeg, and masked images labelled as whole ones",
        recipe="adaptseg",
        overrides=("adapt.method=adaptseg_mic",),
    ),
    "distill": MethodInfo(
        "segadapt.methods.distill:Distill",
        papers.PRODA,
        "Distillation",
        "a fresh student learns from the stage before",
        recipe="proda",
    ),
}
