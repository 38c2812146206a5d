"""The backward passes of a step: one per set of terms that a method yields, means over the batch of all processes."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, ExitStack
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from segadapt.data.loader import Samples
from segadapt.engine.gradients import Gradients, gradients_of
from segadapt.engine.optim import trained_parameters
from segadapt.engine.parts import in_parts, outermost_networks
from segadapt.engine.recompute import recomputed
from segadapt.engine.runtime import Runtime
from segadapt.engine.stopping import Wish
from segadapt.engine.sync_norm import sharing_layers, synchronised
from segadapt.errors import RequestError
from segadapt.methods.few_labels import labelled_steps
from segadapt.methods.method import Method, Terms
from segadapt.models.blocks import blocks_of


class Backward:
    """Fills the gradients of a method's networks, step by step.

    Args:
        method: the method with its networks.
        runtime: of this process.
        wishes: wishes that processes tell each other in every step.
    """

    def __init__(self, method: Method, runtime: Runtime, wishes: Iterable[Wish]) -> None:
        self._method, self._runtime, self._wishes = method, runtime, list(wishes)
        self._gradients = Gradients([])
        self._networks = outermost_networks(method)
        self._shared = sharing_layers(method) if runtime.processes > 1 and method.config.sync_norm else []
        self._blocks = [b for n in self._networks for b in blocks_of(n)] if method.config.checkpoint_activations else []
        if method.config.checkpoint_activations and not self._blocks:
            name = method.model.architecture.get("name", type(method.model).__name__)
            raise RequestError(
                f"stage '{method.config.name}': the encoder of '{name}' has no blocks that could be computed again; "
                "set checkpoint_activations=false, or compute a batch in parts with accumulate"
            )

    def learn(self, optimisers: Iterable[torch.optim.Optimizer]) -> None:
        """Fill the gradients of what these optimisers step from now on."""
        self._gradients.close()
        self._gradients = gradients_of(trained_parameters(optimisers), self._runtime)

    def step(self, batch: dict[str, Samples]) -> list[tuple[str, Tensor]]:
        """Fill the gradients for a batch; return this process's shares of the weighted means of all terms."""
        self._gradients.start()
        found: list[tuple[str, Tensor]] = []
        generator = chain(self._method.step(batch), labelled_steps(self._method, batch))
        with self._computing():
            while True:
                with self._runtime.autocast():
                    terms = next(generator, None)
                if terms is None:
                    break
                means = self._global_means(terms)
                with self._gradients.one_pass():
                    self._runtime.fabric.backward(sum(means.values(), torch.zeros((), device=self._runtime.device)))
                found += [(name, mean.detach().float()) for name, mean in means.items()]
        self._gradients.finish()
        return found

    def _computing(self) -> AbstractContextManager[Any]:
        """Return a context in which the networks compute as the settings of the stage say."""
        stack = ExitStack()
        stack.enter_context(synchronised(self._shared, self._runtime))
        stack.enter_context(recomputed(self._blocks))
        stack.enter_context(in_parts(self._networks, self._method.config.accumulate, self._gradients))
        return stack

    def _global_means(self, terms: Terms) -> dict[str, Tensor]:
        """Return this process's share of each weighted mean over the batch of all processes.

        The counts are added over the processes in one message, which also carries wishes to stop and to save.
        """
        device = self._runtime.device
        counts = [t.count.detach().to(device, torch.float32) for t in terms.values()]
        message = torch.stack([*counts, *(wish.wish(device) for wish in self._wishes)])
        self._runtime.sum([message])
        for wish, heard in zip(self._wishes, message[len(counts) :], strict=True):
            wish.heard(heard)
        message = message.clamp(min=torch.finfo(torch.float32).tiny)
        return {name: t.weight * t.total / message[i] for i, (name, t) in enumerate(terms.items())}
