"""Settings of a run that say how it is computed: device, number format, processes."""

from __future__ import annotations

from pydantic import Field

from segadapt.core.settings import Settings
from segadapt.engine.runtime import Precision, Strategy


class Computing(Settings):
    """How a run is computed.

    Attributes:
        accelerator: where to compute: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: number format of the network: float32 (``32-true``), or bfloat16 where that is safe (``bf16-mixed``).
        strategy: how several processes share the trained networks: each has all of it and their gradients are summed
            while the backward pass runs (``ddp``); each has a share of the weights, gradients and moments (``fsdp``);
            ``auto`` takes shares where whole copies would fill half of a GPU. A run may go on with the other one.
        process_timeout: seconds, above 0, after which a process that waits for another one ends the run.
    """

    accelerator: str = "auto"
    precision: Precision = "32-true"
    strategy: Strategy = "auto"
    process_timeout: float = Field(default=600.0, gt=0)
