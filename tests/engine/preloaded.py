"""What the processes of :mod:`tests.engine.ranks` would otherwise import one by one."""

import lightning_fabric.strategies  # noqa: F401
import torch.utils.tensorboard  # noqa: F401

import tests.engine.ranks  # noqa: F401
from segadapt.methods.registry import METHODS

IMPORTED = [METHODS[name].method for name in METHODS.names()]
