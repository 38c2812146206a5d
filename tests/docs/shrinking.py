"""Runs of any recipe in a second: what a page asks for is resolved and checked as it is, then made small."""

from __future__ import annotations

import gc
import os
import webbrowser
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import shellingham

from segadapt import toy
from segadapt.models import build
from segadapt.models.build import MODELS, NETWORKS
from segadapt.report import features
from segadapt.runs import config as settings
from segadapt.runs.config import RunConfig, build_config
from segadapt.serve.server import Server
from tests.docs.network import NAME, Tiny

SIZE, SIDE, STEPS = (32, 48), 32, 2
PROTOTYPES = {"channels": 8, "bank": 200, "start": 20, "warmup": 0}
FEWER: dict[tuple[str, ...], tuple[str, ...]] = {
    ("bench", "step"): ("--size=48x64", "--crop=32x32", "--batch=2", "--repeats=3", "--minutes=0.01"),
    ("bench", "table"): ("--seeds=0",),
    ("bench", "fuzz"): ("--inputs=12",),
    ("data", "toy"): ("--source=1", "--target=1", "--test=1", "--height=64", "--width=128"),
}
"""Options behind those that a page gives, of which the last counts: fewer and smaller."""


def fewer(words: Sequence[str]) -> list[str]:
    """Return the options that make a command, its words behind ``segadapt``, a small one."""
    network = [f"--network={NAME}"] if words[:2] == ["bench", "step"] and "--task" not in words else []
    folds = ["--folds=2"] if "--folds" in words else []
    port = ["--port=0"] if words[0] == "serve" else []
    return [*FEWER.get(tuple(words[:2]), ()), *network, *folds, *port]


def shrunk(config: RunConfig) -> RunConfig:
    """Return a configuration with tiny images, crops and networks, and two steps in one round of each stage."""
    raw = config.model_dump(mode="json")
    raw["model"] = small_network(raw["model"])
    raw["accelerator"] = "cpu"
    raw["precision"], raw["compile"] = "32-true", False
    raw["data"]["workers"] = 0
    if raw["data"]["labelled"] and raw["data"]["labelled"].get("images"):
        raw["data"]["labelled"]["images"] = 1
    for part in ("source", "target", "oracle", "test"):
        if raw["data"][part]:
            raw["data"][part] |= {"size": SIZE, "limit": 2}
    raw["evaluation"] |= small_inference(raw["evaluation"])
    raw["stages"] = {stage["name"]: small_stage(stage) for stage in raw["stages"]}
    return build_config(raw, config.title)


def small_network(model: dict[str, Any]) -> dict[str, Any]:
    """Return settings of a tiny network in the place of one of the library's; one of a package stays."""
    name, (family, colon, _) = model["name"], model["name"].partition(":")
    if name in NETWORKS.installed():
        return model
    known = f"{family}:NAME" in MODELS if colon else name in (*MODELS, NAME)
    assert known, f"there is no network '{name}'"
    return {"name": f"hrda:{NAME}" if family == "hrda" else NAME, "weights": None}


def small_inference(inference: dict[str, Any]) -> dict[str, Any]:
    return {"size": None, "window": inference["window"] and (SIDE, SIDE), "scales": inference["scales"][:1]}


def small_stage(stage: dict[str, Any]) -> dict[str, Any]:
    """Return settings of a stage that keep its method and take a moment."""
    small = {key: value for key, value in stage.items() if key not in ("name", "length", "short")}
    small |= {"steps": STEPS, "epochs": None, "accumulate": 1, "batch_size": 2}
    small["augmentation"] = {**stage["augmentation"], "crop": (SIDE, SIDE), "long_side": None, "scales": (1.0, 1.0)}
    small["augmentation"]["max_class_share"] = None
    small["schedule"] = {**stage["schedule"], "warmup": 0, "horizon": None}
    small["inference"] = {**stage["inference"], **small_inference(stage["inference"])}
    if stage["network"]:
        small["network"] = small_network(stage["network"])
    if "rounds" in stage:
        small["rounds"] = 1
    if "source_portion" in stage:
        small |= {"source_portion": 0.5, "source_portion_max": 0.5}
    if "feature_classes" in stage:
        small["feature_classes"] = "all"
    if stage.get("mpcl"):
        small["mpcl"] = {**stage["mpcl"], **PROTOTYPES}
    return small


def make_small(patch: pytest.MonkeyPatch) -> None:
    """Let every request of a run be resolved as it is, and then run small."""
    resolved: Callable[..., settings.Resolved] = settings._resolved

    def small(*request: Any, **more: Any) -> settings.Resolved:
        made = resolved(*request, **more)
        return made._replace(config=shrunk(made.config))

    patch.setattr(settings, "_resolved", small)
    patch.setitem(build._BUILDERS, NAME, Tiny)
    patch.setattr(features, "_layout", lambda found, cache: found[:, :2].astype(float))  # t-SNE takes a second
    patch.setattr(toy, "write_world", lambda folder, **_: None)  # every page finds a small one in demo/toy
    patch.setattr(Server, "serve_forever", lambda server: None)  # it ends when a person says so
    patch.setattr(webbrowser, "open", lambda address: True)
    patch.setattr(shellingham, "detect_shell", lambda: ("bash", "/bin/bash"))  # the tests may be run by any program
    patch.setattr(gc, "collect", lambda *_: 0)  # before memory is measured, which nobody looks at here
    patch.setattr(os, "fsync", lambda file: None)  # as does waiting for a disk
