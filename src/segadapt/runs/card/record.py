"""Sections of a model card on its making: data, training, scores, selection, limits."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from segadapt.core.markdown import grid, plain
from segadapt.runs.card.facts import CardFacts, RunFacts
from segadapt.runs.card.words import listed_names, method_of, number, place_of, size_of, text_of
from segadapt.runs.ledger import line_of

_RARE = 0.005
"""Share of the source's labelled pixels below which a class is called rare."""
_SETTINGS_SHOWN = 40
_MACHINE = ("segadapt", "torch", "python", "system", "cpu", "device")


def data(run: RunFacts) -> str:
    """Write a table of the data sets, by names of folders alone, and what was dubious about them."""
    read = run.data.get("parts", {})
    rows = []
    for part, spec in run.config["data"].items():
        if part not in ("source", "target", "test") or not isinstance(spec, Mapping):
            continue
        known = read.get(part, {})
        labels = {"source": "images and labels", "test": "for scores alone"}.get(part) or _target_labels(run)
        rows.append(
            [
                part,
                plain(place_of(spec)),
                _count(run, part, known),
                _sizes(known),
                plain(size_of(spec.get("size"))),
                labels,
            ]
        )
    table = grid(["part", "data", "images", "height x width", "working size", "used"], rows)
    found = [finding for finding in run.data.get("findings", []) if isinstance(finding, Mapping)]
    kinds = sorted({f"{finding['kind']} ({finding['part']})" for finding in found})
    dubious = f"\n\nFound dubious before training: {', '.join(map(plain, kinds))}." if kinds else ""
    return f"{table}{dubious}\n\nThe terms of use of the data bind the model too; segadapt does not know them."


def _target_labels(run: RunFacts) -> str:
    labelled = run.results.get("target", {}).get("labelled", 0)
    if run.row.get("role") == "oracle":
        return "images and labels"
    measured = "; labels to measure pseudo labels alone" if run.config["data"].get("measure_labels") else ""
    return f"images{f' and {labelled} labels' if labelled else ' alone'}{measured}"


def _count(run: RunFacts, part: str, known: Mapping[str, Any]) -> str:
    number = known.get("images", run.results.get(part, {}).get("images"))
    return "not known" if number is None else str(number)


def _sizes(known: Mapping[str, Any]) -> str:
    sizes = [(one["height"], one["width"]) for one in known.get("sizes", [])]
    if not sizes:
        return "not known"
    more = f" and {len(sizes) - 1} other{'s' * (len(sizes) > 2)}" if len(sizes) > 1 else ""
    return f"{sizes[0][0]} x {sizes[0][1]}{more}"


def training(facts: CardFacts) -> str:
    """Write the stages, the method with its paper, the settings that differ from the recipe, and the machine."""
    run, lines = facts.run, []
    if run is not None:
        steps = {row["stage"]: row.get("steps") for row in run.results["rows"]}
        rows = [
            [
                str(n),
                plain(s["name"]),
                method_of(s),
                plain(text_of(steps.get(s["name"]))),
                plain(text_of(s.get("batch_size"))),
            ]
            for n, s in enumerate(run.stages, start=1)
        ]
        lines.append(grid(["", "stage", "method", "steps", "batch"], rows))
        lines.append(f"Recipe {plain(run.config.get('title', ''))}, seed {plain(run.config.get('seed', 0))}.")
        lines.append(_changes(run.changed))
    told = [f"{key} {plain(facts.provenance[key])}" for key in _MACHINE if facts.provenance.get(key)]
    lines.append(f"Made with {', '.join(told)}." if told else "")
    return "\n\n".join(line for line in lines if line)


def _changes(changed: Sequence[tuple[str, Any, Any]] | None) -> str:
    if changed is None:
        return "No recipe of this name ships with segadapt; the settings are in the head of the model file."
    if not changed:
        return "All settings are those of the recipe."
    rows = [[plain(name), _value(before), _value(now)] for name, before, now in changed[:_SETTINGS_SHOWN]]
    more = len(changed) - len(rows)
    table = grid(["setting", "recipe", "this run"], rows)
    return f"Settings that differ from the recipe:\n\n{table}" + (f"\n\n... and {more} more." if more else "")


def _value(value: Any) -> str:
    return "-" if value is None else plain(value if isinstance(value, str) else json.dumps(value))


def scores(run: RunFacts) -> str:
    """Write the scores of the stage, and how far it is from the published row that it follows."""
    found, test = run.row["scores"], run.results.get("test", {})
    if found is None:
        return "Not scored: the run has no labelled test images."
    means = {"mIoU": "miou", "mean accuracy": "mpa", "pixel accuracy": "pixel_accuracy"}
    words = [f"{title} {found[key]:.1f}" for title, key in means.items() if found.get(key) is not None]
    about = f"In percent, on {plain(test.get('images', '?'))} labelled test images that nothing was trained on"
    pixels = found.get("pixels", {})
    rows = [
        [plain(name), number(iou), number(found.get("accuracy", {}).get(name)), plain(pixels.get(name, "-"))]
        for name, iou in found.get("iou", {}).items()
    ]
    lines = [f"{about}: {', '.join(words)}.", grid(["class", "IoU", "accuracy", "test pixels"], rows)]
    lines += [f"mIoU of {plain(name)}: {number(value)}." for name, value in (found.get("subsets") or {}).items()]
    for entry in run.results.get("published", []):
        if entry.get("stage") == run.row["stage"]:
            lines.append(f"Beside it, {plain(line_of(entry))}.")
    return "\n\n".join(lines)


def selection(run: RunFacts) -> str:
    """Write how the weights were chosen, and what the guard says of them."""
    stage, guard = run.row["stage"], run.results.get("guard")
    chosen = run.row.get("selection", run.results.get("selection", "not known"))
    lines = [f"Selection: {plain(chosen)}. The run chose nothing by labels of the target."]
    if guard is not None and stage in (guard["source"], guard["adapted"]):
        this = (
            "this model"
            if guard["recommended"] == stage
            else f"that of stage {plain(guard['recommended'])}, not this one"
        )
        images = f" on {plain(guard['images'])} target images without labels" if "images" in guard else ""
        lines.append(
            f"Judged{images}: {plain(guard['line'])}. The run recommends {this}. How often such verdicts are wrong was "
            "measured: docs/knowing\\_without\\_labels.md of segadapt."
        )
    elif guard is not None:
        lines.append("The guard did not compare this model.")
    elif not run.config.get("guard", True):
        lines.append("Whether adapting helped was not judged: the guard was off.")
    return "\n\n".join(lines)


def limits(facts: CardFacts) -> str:
    """Write what is known to be weak, and what nobody has tested."""
    run = facts.run
    points = [*(_weak(run) if run is not None else ["Its scores are not in this card."])]
    points += [
        "Images unlike those that it was trained and tested on, of another place, camera, season or light, are a "
        "further change of domain: expect less there, and test it.",
        "The confidence is the probability that the network gives; it was not calibrated.",
        *(
            ["One seed: how much the score varies with the seed was not measured by this run."]
            if run is not None
            else []
        ),
        "The licence of the model is for its owner to state. The code of segadapt is under Apache-2.0.",
    ]
    return "\n".join(f"- {point}" for point in points)


def _weak(run: RunFacts) -> Iterable[str]:
    found = run.row["scores"]
    if found is None:
        yield "No score: the run had no labelled test images, so how good it is on the target is unknown."
    else:
        iou, pixels = found.get("iou", {}), found.get("pixels", {})
        if missed := [name for name, value in iou.items() if value is not None and value == 0]:
            yield f"No pixel of these classes was found in the test images: {listed_names(missed)}."
        if absent := [name for name in iou if not pixels.get(name, 1)]:
            yield f"Not tested, as the test images do not show them: {listed_names(absent)}."
    shares = {c["name"]: c["share"] for c in run.data.get("parts", {}).get("source", {}).get("classes", [])}
    if none := [name for name, share in shares.items() if share == 0]:
        yield f"Without a pixel in the source images that were read, so never learnt from them: {listed_names(none)}."
    if rare := [name for name, share in shares.items() if 0 < share < _RARE]:
        yield f"Rare in the source, below {100 * _RARE:g} % of its pixels: {listed_names(rare)}."
    if never := _never_predicted(run):
        images = run.results["change"].get("images", "some")
        yield f"Never predicted on {plain(images)} target images that were looked at: {listed_names(never)}."


def _never_predicted(run: RunFacts) -> list[str]:
    """Return the classes that the model predicted nowhere on the sample of target images of ``change``."""
    change, stage = run.results.get("change"), run.row["stage"]
    if not isinstance(change, Mapping) or stage not in (change.get("source"), change.get("result")):
        return []
    shares = change["after" if stage == change.get("result") else "before"]
    return [name for name, share in zip(change["names"], shares, strict=True) if share == 0]
