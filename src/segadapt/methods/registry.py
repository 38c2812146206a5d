"""Methods by name, of the library and of other packages.

A package of one's own adds a method with :func:`register_method`, or with an entry point of the group
``segadapt.methods``. A class is enough; title, summary, paper and presets are for tables and lists. Nothing here
imports torch before a method is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from segadapt.core.registry import Registry, resolve
from segadapt.errors import RequestError
from segadapt.methods import papers
from segadapt.methods.papers import Paper

if TYPE_CHECKING:
    from segadapt.methods.method import Method
    from segadapt.methods.stage_config import StageConfig

M = TypeVar("M", bound="type[Method]")


@dataclass(frozen=True)
class MethodInfo:
    """A method under the name that recipes use.

    Attributes:
        implementation: the class, or its place as ``module:name``.
        paper: the publication and the proofs of the implementation; None without.
        title: for tables.
        summary: one line.
        presets: settings that make this name what it is; a recipe may override them.
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
        found: type[Method] = (
            resolve(self.implementation) if isinstance(self.implementation, str) else self.implementation
        )
        return found


_OWN: dict[str, MethodInfo] = {
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
        {"data": "oracle", "role": "oracle", "initial": "scratch"},
    ),
    "st": MethodInfo(
        "segadapt.methods.cbst:CBST",
        papers.CBST,
        "ST",
        "self-training in rounds, one threshold for all classes",
        {"policy": "global"},
    ),
    "st_sp": MethodInfo(
        "segadapt.methods.cbst:CBST",
        papers.CBST,
        "ST-SP",
        "self-training with spatial priors",
        {"policy": "global", "spatial_prior": True},
    ),
    "cbst": MethodInfo(
        "segadapt.methods.cbst:CBST", papers.CBST, "CBST", "class-balanced self-training: one threshold per class"
    ),
    "cbst_sp": MethodInfo(
        "segadapt.methods.cbst:CBST",
        papers.CBST,
        "CBST-SP",
        "class-balanced self-training with spatial priors",
        {"spatial_prior": True},
    ),
    "crst_mrkld": MethodInfo(
        "segadapt.methods.crst:CRST",
        papers.CRST,
        "CRST-MRKLD",
        "CBST with a KL regulariser on the model",
        {"regulariser": "mrkld"},
    ),
    "crst_lrent": MethodInfo(
        "segadapt.methods.crst:CRST",
        papers.CRST,
        "CRST-LRENT",
        "CBST with entropy-regularised soft labels",
        {"regulariser": "lrent"},
    ),
    "adaptseg": MethodInfo(
        "segadapt.methods.adaptseg:AdaptSeg", papers.ADAPTSEG, "AdaptSeg", "adversarial adaptation of the output space"
    ),
    "adaptseg_ls": MethodInfo(
        "segadapt.methods.adaptseg:AdaptSeg",
        papers.ADAPTSEG,
        "AdaptSeg-LS",
        "the same with a least-squares GAN",
        {"gan": "ls", "adversarial": 1e-2, "adversarial_aux": 2e-3},
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
        {"feature_distance": 0.0, "rare_temperature": None, "teacher_momentum": 0.99},
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
        {"two_resolutions": True},
        network="hrda:lite",
    ),
    "mic": MethodInfo(
        "segadapt.methods.mic:MIC", papers.MIC, "MIC", "DAFormer or HRDA, and masked images labelled as whole ones"
    ),
    "mpcl": MethodInfo(
        "segadapt.methods.daformer:DAFormer",
        papers.MPCL,
        "MPCL",
        "several prototypes per class on DAFormer; 'mpcl: {}' joins dacs, hrda and mic too",
        {"mpcl": {}},
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


def _of_entry_point(name: str, found: Any) -> MethodInfo:
    """Make the entry of a class that an entry point of an installed package names."""
    _require_method(name, found)
    return MethodInfo(found, title=name)


METHODS: Registry[MethodInfo] = Registry("method", _OWN, "segadapt.methods", _of_entry_point)
"""All methods by name."""


def register_method(
    name: str,
    *,
    title: str = "",
    summary: str = "",
    paper: str = "",
    presets: Mapping[str, Any] | None = None,
    network: str = "lite",
) -> Callable[[M], M]:
    """Register a class as a method; recipes, overrides and commands then know it by ``name``.

    Args:
        name: as recipes use it; one class may have several, with other presets.
        title: for tables; the name if empty.
        summary: one line for lists.
        paper: citation.
        presets: settings that make this name what it is; a recipe may override them.
        network: a small network that it runs on, for ``segadapt bench step``.

    Raises:
        RequestError: the name is one of the library's own, or the class is not a Method.

    >>> from segadapt.methods import Method, register_method
    >>> @register_method("mymethod")
    ... class MyMethod(Method):
    ...     ...
    >>> METHODS["mymethod"].method is MyMethod
    True
    """

    def decorate(cls: M) -> M:
        _require_method(name, cls)
        cited = Paper(paper) if paper else None
        METHODS.register(name, MethodInfo(cls, cited, title or name, summary, dict(presets or {}), network=network))
        return cls

    return decorate


def method_info(name: str) -> MethodInfo:
    """Return a method by name.

    Raises:
        RequestError: there is none of that name; the message suggests the nearest name.
    """
    hint = "; a method of another package needs 'plugins: [PACKAGE]' in the recipe, or its entry point installed"
    return METHODS.find(name, hint)


def stage_settings(name: str, settings: Mapping[str, Any]) -> tuple[type[StageConfig], dict[str, Any]]:
    """Return the settings class of a stage, and its settings with the method's presets beneath.

    Args:
        name: of the stage.
        settings: of the stage, as in a recipe.

    Raises:
        RequestError: no method is named, or it is unknown.
    """
    if "method" not in settings:
        raise RequestError(f"stage '{name}' names no method; add e.g. 'method: cbst'")
    info = method_info(str(settings["method"]))
    return info.method.Config, {"title": info.title, **info.presets, **settings, "name": name}


def _require_method(name: str, found: Any) -> None:
    from segadapt.methods.method import Method

    if not (isinstance(found, type) and issubclass(found, Method)):
        raise RequestError(f"method '{name}': {found!r} is not a class that derives from segadapt.methods.Method")
