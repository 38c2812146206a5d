"""Settings of a run that say how it is computed: device, number format, processes."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from segadapt.engine.runtime import Strategy
from segadapt.engine.speed import SpeedConfig
from segadapt.errors import RequestError
from segadapt.methods.stage_config import StageConfig


class Computing(SpeedConfig):
    """Where and how a run is computed.

    Attributes:
        accelerator: where to compute: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        strategy: how several processes share the trained networks: each has all of it and their gradients are summed
            while the backward pass runs (``ddp``); each has a share of the weights, gradients and moments (``fsdp``);
            ``auto`` takes shares where whole copies would fill half of a GPU. A run may go on with the other one.
        process_timeout: seconds, above 0, after which a process that waits for another one ends the run.
    """

    accelerator: str = "auto"
    strategy: Strategy = "auto"
    process_timeout: float = Field(default=600.0, gt=0)

    def require_whole_batches(self, stages: Sequence[StageConfig], where: str) -> None:
        """Refuse parts of batches where processes hold shares: torch cannot lead one call through a network twice then.

        Raises:
            RequestError: names the stage.
        """
        parts = [stage.name for stage in stages if stage.accumulate > 1]
        if self.strategy == "fsdp" and parts:
            raise RequestError(
                f"{where}: networks in shares compute whole batches; set {parts[0]}.accumulate=1, with "
                f"{parts[0]}.checkpoint_activations=true for less memory, or strategy=ddp"
            )
