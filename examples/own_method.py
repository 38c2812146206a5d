"""A method of one's own in a package of one's own: trained, killed, and resumed to the same numbers.

    python examples/own_method.py A/images A/masks B/images --out runs/entropy

This file is the whole package: a recipe names it with ``plugins: [own_method]``, and Python finds it because its
folder is on PYTHONPATH. The method is entropy minimisation (Vu et al., ADVENT, CVPR 2019, without the adversary): the
network learns the source from its labels, and is asked to be sure of the target.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from pydantic import Field

from segadapt.data import Samples, Stream
from segadapt.methods import Method, register_method
from segadapt.methods.environment import Environment
from segadapt.methods.method import Terms, labelled_part, paired_streams
from segadapt.methods.stage_config import StageConfig
from segadapt.methods.supervision import segmentation_terms
from segadapt.pieces import Term


class EntropyConfig(StageConfig):
    """Settings of entropy minimisation.

    Attributes:
        entropy: weight of the entropy on the target, 0 or more.
    """

    entropy: float = Field(default=0.005, ge=0)


@register_method("entropy", title="Entropy minimisation", paper="Vu et al., ADVENT, CVPR 2019")
class Entropy(Method):
    """Cross entropy on the source, entropy on the target."""

    Config = EntropyConfig
    config: EntropyConfig

    def streams(self, round_index: int, environment: Environment) -> dict[str, Stream]:
        """Return as many source crops as target crops per step."""
        source = labelled_part(environment.source, 0, environment.source_size, self.config)
        target = labelled_part(environment.target, 1, environment.target_size, self.config)
        return paired_streams(source, target, self.config, round_index)

    def step(self, batch: Mapping[str, Samples]) -> Iterator[Terms]:
        """Yield loss terms; the engine runs one backward pass per yield, and steps the optimiser at the end."""
        s, t = batch["source"], batch["target"]
        yield segmentation_terms(self.model(s.images), s.labels, prefix="source")
        log_p = self.model(t.images).logits.log_softmax(1)
        entropy = -(log_p.exp() * log_p).sum(1)  # [B, h, w], in nats
        count = torch.tensor(float(entropy.numel()), device=entropy.device)
        yield {"entropy": self.config.entropy * Term(entropy.sum(), count)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source_images")
    parser.add_argument("source_masks")
    parser.add_argument("target_images")
    parser.add_argument("--out", type=Path, default=Path("runs/entropy"))
    parser.add_argument("overrides", nargs="*", help="settings to change, e.g. adapt.steps=200")
    options = parser.parse_intermixed_args()

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, "-m", "segadapt"]
    adapt = [*command, "adapt", "--method", "entropy", "--plugin", "own_method", "--quiet"]
    adapt += ["--source-images", options.source_images, "--source-labels", options.source_masks]
    adapt += ["--target-images", options.target_images, *options.overrides]

    # Train, and kill the process in the middle of the method's stage.
    killed = options.out / "killed"
    process = subprocess.Popen([*adapt, "--out", str(killed)], env=environment)
    log = killed / "log.jsonl"
    while process.poll() is None and not (log.exists() and '"stage": "adapt"' in log.read_text()):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    print(f"killed: exit status {process.wait()}")

    # Resume: config.json holds the plugin, so nothing else is said again. Then the same run without a crash.
    subprocess.run([*command, "resume", str(killed)], env=environment, check=True)
    whole = options.out / "whole"
    subprocess.run([*adapt, "--out", str(whole)], env=environment, check=True)
    models = [(run / "stages/adapt/model.safetensors") for run in (killed, whole)]
    from segadapt import load

    states = [load(model).model.state_dict() for model in models]
    same = all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    print(f"the resumed run equals the uninterrupted one: {same}")
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
