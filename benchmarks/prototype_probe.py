"""Measure how MPCL's losses pull on a trained network, compared with its host's loss, on the training batches.

L_con (eq. 15) is a sum of two parts. *Between* tells a pixel from the prototypes of other classes; *within* tells it
from the other prototypes of its own class::

    log sum_all exp(s / tau) - s_a / tau  =  (log sum_all - log sum_own)  +  (log sum_own - s_a / tau)

For each part and for L_pce the probe prints three numbers: its value; the length of its gradient in the encoder, times
lambda, as a share of the gradient length of the host's loss on mixed images; and the cosine of the two gradients. The
network is the last checkpoint, without dropout::

    python -m benchmarks.prototype_probe RUN... [--batches 8]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segadapt.core.files import read_json
from segadapt.data.loader import Samples
from segadapt.engine.loop import Loop
from segadapt.engine.record import Record
from segadapt.engine.runtime import Runtime
from segadapt.errors import RequestError
from segadapt.labels import IGNORE
from segadapt.methods.daformer import DAFormer
from segadapt.methods.mean_teacher import recoloured
from segadapt.methods.registry import method_info
from segadapt.models.multires import MultiRes
from segadapt.models.store import PROTOTYPES, load_model, load_prototypes
from segadapt.pieces.multi_prototypes import own_class, prototype_contrast, prototype_cross_entropy
from segadapt.runs.config import build_config
from segadapt.runs.opening import open_data


def probe(folder: Path, batches: int) -> dict[str, dict[str, float]]:
    """Return means over batches for each loss: ``value``, ``share`` of the host's gradient, ``cosine`` with it."""
    with tempfile.TemporaryDirectory() as scratch:
        method, samples = trained(folder, Path(scratch), batches)
        found: dict[str, dict[str, list[float]]] = {}
        for number, batch in enumerate(samples):
            torch.manual_seed(int(np.random.default_rng([0, number]).integers(2**62)))
            for name, numbers in _one(method, batch).items():
                for key, value in numbers.items():
                    found.setdefault(name, {}).setdefault(key, []).append(value)
    return {name: {k: statistics.mean(v) for k, v in numbers.items()} for name, numbers in found.items()}


def trained(folder: Path, scratch: Path, batches: int) -> tuple[DAFormer, Iterator[dict[str, Samples]]]:
    """Load the last stage of a run with its final network and prototypes, and its first batches."""
    held = read_json(folder / "config.json")
    if held is None:
        raise RequestError(f"'{folder}' is not a run; name the folder that 'segadapt adapt' wrote (--out)")
    config = build_config(held["config"], str(folder))
    stage, home = config.stages[-1], folder / "stages" / config.stages[-1].name
    opened = open_data(config.data, held["roots"], scratch)
    data, space = opened.training, opened.space
    model = load_model(home / "model.safetensors").model
    method = method_info(stage.method).method(stage, model, space)
    if not isinstance(method, DAFormer) or method.mpcl is None or isinstance(model, MultiRes):
        raise RequestError(
            f"'{folder}' cannot be probed; take a run of MPCL on DACS, DAFormer or MIC with one resolution"
        )
    view = load_prototypes(home / PROTOTYPES, model)
    for name in ("means", "variances", "active"):
        if name != "variances" or method.mpcl.config.kind != "centroid":
            getattr(method.mpcl.memory, name).copy_(getattr(view, name))
    method.mpcl.projection.load_state_dict(view.projection.state_dict())
    runtime, record = Runtime("cpu", "32-true"), Record(scratch / "record", False, quiet=True)
    loop = Loop(method, data, runtime=runtime, record=record, folder=scratch, seed=config.seed)
    streams = method.streams(0, loop.environment(0))
    method.eval()
    feeders = [loop.feeder(stream).batches(0, batches) for stream in streams.values()]
    return method, (dict(zip(streams, drawn, strict=True)) for drawn in zip(*feeders, strict=True))


def _one(method: DAFormer, batch: Mapping[str, Samples]) -> dict[str, dict[str, float]]:
    """Measure value, share and cosine of each loss on one batch."""
    assert method.mpcl is not None
    c, mpcl = method.mpcl.config, method.mpcl
    pseudo = method.teacher.label(batch["target"], method.align_corners)
    images, mixed = method.mixed(batch["source"], batch["target"], pseudo)
    output = method.model(recoloured(images, method.config))
    host = cast(Tensor, sum(t.mean() for t in method.losses("mixed", output, mixed.labels, mixed.weights).values()))

    pixels = mpcl.taking_part(mixed, output.features.shape[-2:])
    weights = pixels.weights.flatten()
    _, similar, learnt, assigned = mpcl.compared(output, pixels.labels.flatten())
    valid = learnt != IGNORE
    own = own_class(similar / c.temperature, torch.where(valid, learnt, 0))
    surprise = own.logsumexp(1) - own.gather(1, assigned[:, None])[:, 0]
    within = torch.where(valid, weights * surprise, 0.0).sum() / valid.sum()
    contrast = prototype_contrast(similar, learnt, assigned, weights, c.temperature).mean()
    classes = prototype_cross_entropy(similar, learnt, weights, c.temperature).mean()

    head = {id(p) for part in method.model.head_modules() for p in part.parameters()}
    encoder = [p for p in method.model.parameters() if p.requires_grad and id(p) not in head]

    def gradient(loss: Tensor) -> Tensor:
        parts = torch.autograd.grad(loss, encoder, retain_graph=True, allow_unused=True)
        return torch.cat([g.flatten() for g in parts if g is not None])

    wanted = gradient(host)
    losses = {
        "L_con, between": (c.contrast, contrast - within),
        "L_con, within": (c.contrast, within),
        "L_con": (c.contrast, contrast),
        "L_pce": (c.cross_entropy, classes),
    }
    result = {"mixed": {"value": float(host.detach()), "share": 1.0, "cosine": 1.0}}
    for name, (scale, loss) in losses.items():
        g = gradient(scale * loss)
        share, cosine = g.norm() / wanted.norm(), F.cosine_similarity(g, wanted, dim=0)
        result[name] = {"value": float(loss.detach()), "share": float(share), "cosine": float(cosine)}
    return result


def main() -> None:
    """Print a table for each run, and the numbers as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--batches", type=int, default=8)
    arguments = parser.parse_args()
    for folder in arguments.runs:
        try:
            found = probe(folder, arguments.batches)
        except RequestError as problem:
            sys.exit(str(problem))
        print(folder)
        for name, numbers in found.items():
            print(f"  {name:16} {numbers['value']:6.3f}  {numbers['share']:6.2f}  {numbers['cosine']:6.2f}")
        print(json.dumps(found))


if __name__ == "__main__":
    main()
