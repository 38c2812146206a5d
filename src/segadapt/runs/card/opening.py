"""Sections of a model card on the model itself: what it is, how to use it, its network, input and classes.

What is not known is left out, or said to be unknown; nothing is guessed.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from segadapt.core.markdown import grid, plain
from segadapt.core.text import printable
from segadapt.models.licences import licence_in
from segadapt.runs.card.facts import CardFacts, RunFacts, without_folders
from segadapt.runs.card.words import listed, method_of, place_of, size_of, text_of

_HUB_LICENCES = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "gemma", "apple-ascl", "apple-amlr")
"""Licences that the head of a card may name; others are named beside ``other``."""
_TOLD = ("name", "classes", "preprocessing", "bands")
"""Parts of a network's description that have a row of their own."""


def head(facts: CardFacts) -> dict[str, Any]:
    """Return the head of the card: what a hub of models shows and searches."""
    licence = licence_in(text_of(facts.provenance.get("weights")))
    known = licence in _HUB_LICENCES
    named = {} if licence is None else {"license": licence} if known else {"license": "other", "license_name": licence}
    tags = ["segadapt", "semantic-segmentation"]
    if facts.run is not None and facts.run.row.get("role") == "adapted":
        tags.append("unsupervised-domain-adaptation")
    tags += [str(facts.run.row["method"])] if facts.run is not None and "method" in facts.run.row else []
    tags += [str(facts.network.get("name", "")), *(["onnx"] if facts.exported else [])]
    scores = None if facts.run is None else facts.run.row["scores"]
    return {
        **named,
        "library_name": "onnx" if facts.exported else "segadapt",
        "pipeline_tag": "image-segmentation",
        "tags": [printable(tag) for tag in tags if tag],
        **({"model-index": _index(facts, scores)} if scores is not None and scores.get("miou") is not None else {}),
    }


def _index(facts: CardFacts, scores: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the scores as the index of a hub wants them."""
    assert facts.run is not None
    kinds = {"mean_iou": ("mIoU", "miou"), "accuracy": ("pixel accuracy", "pixel_accuracy")}
    metrics = [
        {"type": kind, "name": name, "value": round(scores[key], 2)}
        for kind, (name, key) in kinds.items()
        if scores.get(key) is not None
    ]
    spec = facts.run.config["data"].get("test") or {}
    dataset = {"name": printable(place_of(spec)), "type": printable(str(spec.get("reader", "folder")))}
    task = {"type": "image-segmentation", "name": "semantic segmentation"}
    return [{"name": printable(facts.title), "results": [{"task": task, "dataset": dataset, "metrics": metrics}]}]


# ---- what it is, and how to use it ----


def summary(facts: CardFacts) -> str:
    """Write what the model is, in a paragraph."""
    network = (
        f"A network for semantic segmentation, {plain(facts.network.get('name', ''))}, of {len(facts.space)} classes"
    )
    imported = facts.provenance.get("imported")
    if isinstance(imported, Mapping):
        file = plain(without_folders(text_of(imported.get("file"))))
        return f"{network}: a published checkpoint of {plain(text_of(imported.get('layout')))}, imported from {file}."
    if facts.run is None:
        return f"{network}. The folder of its run was not at hand when this card was written."
    role, method = facts.run.row.get("role"), method_of(facts.run.row)
    if role == "source":
        return f"{network}, before any adaptation: {method}. It is there to compare adapted models with."
    if role == "oracle":
        return f"{network}, trained on labels of the target: an upper bound to compare with, no adaptation."
    without = "" if facts.run.config["data"].get("source") else ", from a given model and without source images"
    labelled = facts.run.results.get("target", {}).get("labelled", 0)
    labels = f"{labelled} labels of which were learnt" if labelled else "no label of which was opened in training"
    return f"{network}, adapted by {method} to images of a target domain, {labels}{without}."


def use(facts: CardFacts) -> str:
    """Write how to load the model, in Python and on the command line."""
    if facts.exported:
        return _use_onnx(facts)
    version = text_of(facts.provenance.get("segadapt"))
    script = (
        "import segadapt\n\n"
        f"model = segadapt.load({printable(json.dumps(facts.file, ensure_ascii=False))})\n"
        'labels, confidence = segadapt.predict(model, "image.png")  # [H, W] train ids, [H, W] in (0, 1]\n'
        "print(sorted({model.space.names[i] for i in labels.flat}))\n"
    )
    command = f"segadapt predict {shlex.quote(printable(facts.file))} image.png --out predictions\n"
    other = " Images have the bands of the table below." if facts.network.get("bands", 3) != 3 else ""
    needs = f"With segadapt{f' {plain(version)} or later' if version else ''}, in the folder of the file.{other}"
    return f"{needs}\n\n```python\n{script}```\n\n```\n{command}```"


def _use_onnx(facts: CardFacts) -> str:
    _, bands, high, wide = facts.exported["shape"]
    pixels = "pixels = (np.asarray(image, np.float32) / 255).transpose(2, 0, 1)[None]\n"
    picture = f'image = Image.open("image.png").convert("RGB").resize(({wide}, {high}))\n{pixels}'
    images = picture if bands == 3 else f"pixels = np.zeros((1, {bands}, {high}, {wide}), np.float32)  # your image\n"
    script = (
        f"import json\n\nimport numpy as np\nimport onnxruntime\n{'from PIL import Image' * (bands == 3)}\n"
        f"session = onnxruntime.InferenceSession({printable(json.dumps(facts.file, ensure_ascii=False))})\n"
        'classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])\n'
        f'{images}logits, labels = session.run(["logits", "labels"], {{"images": pixels}})\n'
        "print(sorted({classes[i] for i in labels.flat}))\n"
    )
    error, other = facts.exported["error"], facts.exported["disagreement"]
    made = f" of {plain(facts.exported['of'])}" if facts.exported["of"] else ""
    return (
        f"An ONNX file{made}. It takes {plain(facts.exported['input'])}. It agrees with torch on random images: logits "
        f"differ by at most {error:.0e} of the largest, {100 * other:.2g} % of the pixels get another class. It holds "
        f"one pass over the image: several scales, mirrored views and windows are left to the caller.\n\n"
        f"```python\n{script}```"
    )


def model(facts: CardFacts) -> str:
    """Write a table of the network, its weights, its input and its classes."""
    network, provenance = facts.network, facts.provenance
    shown = network.get("preprocessing") or {}
    size = provenance.get("size")
    rows = {
        "network": plain(text_of(network.get("name"))),
        "arguments": ", ".join(f"{plain(k)} {plain(v)}" for k, v in sorted(network.items()) if k not in _TOLD),
        "weights before training": _weights(facts),
        "input": _input(network, provenance.get("input")),
        "normalisation": f"{'BGR' if shown.get('bgr') else 'as read'}, times {plain(shown.get('scale', 1))}, mean "
        f"{plain(listed(shown.get('mean')))}, std {plain(listed(shown.get('std')))}; inside the network"
        if shown
        else "inside the network",
        "working size": plain(size_of(size)) if size is not None else "the size of the image",
        "prediction": _inference(provenance.get("inference")),
        "file": f"{plain(facts.file)}, {facts.bytes / 2**20:.1f} MB, SHA-256 {facts.digest}",
        "beside it": ", ".join(map(plain, facts.beside)),
    }
    table = grid(["", ""], [[key, value] for key, value in rows.items() if value])
    ids = facts.space.ids or (None,) * len(facts.space)
    classes = grid(
        ["train id", "class", "in the masks", "colour"],
        [
            [str(i), plain(name), "-" if own is None else str(own), plain(", ".join(map(str, color)))]
            for i, (name, own, color) in enumerate(zip(facts.space.names, ids, facts.space.colors, strict=True))
        ],
    )
    return f"{table}\n\n{classes}"


def _weights(facts: CardFacts) -> str:
    """Return origin and licence of the weights that training began with."""
    words = text_of(without_folders(text_of(facts.provenance.get("weights"))))
    if words:
        return plain(words)
    return "not known" if facts.run is None else plain(_begun_with(facts.run))


def _begun_with(run: RunFacts) -> str:
    """Return the weights at the start of the chain of stages that leads to the model's, in words."""
    stages = run.stages
    while stages[-1].get("initial", "previous") != "scratch" and len(stages) > 1:
        names, initial = [stage["name"] for stage in stages[:-1]], stages[-1].get("initial", "previous")
        if initial != "previous" and initial not in names:
            break
        stages = stages[: -1 if initial == "previous" else names.index(initial) + 1]
    initial = stages[-1].get("initial", "previous")
    if initial not in ("scratch", "previous"):
        return f"those of the model file {without_folders(text_of(initial))}"
    weights = (stages[-1].get("network") or run.config.get("model") or {}).get("weights")
    return "none: random numbers" if weights is None else f"{without_folders(text_of(weights))}; licence not stated"


def _input(network: Mapping[str, Any], reading: Any) -> str:
    bands = network.get("bands", 3)
    images = "RGB images" if bands == 3 else f"images of {plain(bands)} bands"
    if not isinstance(reading, Mapping):
        return f"{images} in [0, 1]"
    bands, low, high = (plain(listed(reading.get(key))) for key in ("bands", "low", "high"))
    kind = plain(text_of(reading.get("dtype")))
    return f"{images} in [0, 1], made of the bands {bands} of {kind} files: {low} becomes 0, {high} becomes 1"


def _inference(inference: Any) -> str:
    if not isinstance(inference, Mapping):
        return ""
    scales = listed(inference.get("scales", [1.0]))
    window = inference.get("window")
    parts = [f"scales {scales}", *(["with mirrored views"] if inference.get("flip") else [])]
    return plain(", ".join([*parts, f"windows of {size_of(window)}" if window else "whole images"]))
