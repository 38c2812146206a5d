"""A model file as it is: the start of a run that trains no source model of its own.

    Input: a model file
    nothing is trained; its scores are those before adapting

Stages that follow start from it and are compared with it, as with a source-only model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from segadapt.data.loader import Samples, Stream
from segadapt.methods.environment import Environment
from segadapt.methods.method import Method, Terms
from segadapt.methods.stage_config import StageConfig, Without


class GivenConfig(StageConfig):
    """Settings of a given model; of those that all stages have, only ``initial``, the model file, has a say.

    Attributes:
        role: how reports treat the stage; the given model is the ``source`` of every table.
        steps: of each of its rounds, of which it has none.
    """

    method: str = "given"
    role: Literal["source", "adapted", "oracle"] = "source"
    steps: int | None = 1
    WITHOUT_SOURCE: ClassVar[Without] = {}

    @property
    def rounds(self) -> int:
        """No round: nothing is trained."""
        return 0


class Given(Method):
    """The network of a model file, unchanged."""

    Config = GivenConfig
    config: GivenConfig

    @property
    def rounds(self) -> int:
        """No round: nothing is trained."""
        return self.config.rounds

    def streams(self, round_index: int, environment: Environment) -> dict[str, Stream]:
        """Return no stream, as there is no round."""
        return {}

    def step(self, batch: Mapping[str, Samples]) -> Iterator[Terms]:
        """Yield no term, as there is no step."""
        return iter(())
