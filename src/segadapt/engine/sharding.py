"""Networks of which each process holds a share: weights, gradients and moments of the optimiser (FSDP2).

Block by block the weights are gathered for a pass and let go behind it, and gradients are summed into shares while the
backward pass runs, by torch's ``fully_shard``. The other networks of a method, heads and discriminators, are small and
stay whole in every process. So does everything that is not learnt by gradients: prototypes, banks, priors. What is kept
on the disk is whole too: a run goes on with another number of processes, or with whole copies.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from segadapt.engine.runtime import Runtime
from segadapt.errors import RequestError
from segadapt.methods.method import Method
from segadapt.models.blocks import blocks_of, outermost_networks
from segadapt.models.segmenter import Segmenter

_BYTES_PER_WEIGHT = 20
"""Weight, gradient, two moments of AdamW and the weight of a teacher, in float32."""


def wants_shares(method: Method, runtime: Runtime) -> bool:
    """Return whether the networks of a method are held in shares.

    ``auto`` wants it where weights, gradients, moments and a teacher would fill half of a GPU, and batches are whole.
    """
    if runtime.processes == 1 or runtime.strategy == "ddp":
        return False
    if runtime.strategy == "fsdp":
        return True
    if runtime.device.type != "cuda" or method.config.accumulate > 1:
        return False
    weights = sum(p.numel() for p in method.model.parameters() if p.requires_grad)
    return _BYTES_PER_WEIGHT * weights > torch.cuda.get_device_properties(runtime.device).total_memory / 2


class Shares:
    """The networks of a method, whole or in shares; with whole ones, all of this does nothing.

    Args:
        method: its networks are changed in place, before an optimiser knows their parameters.
        runtime: of this process.
    """

    def __init__(self, method: Method, runtime: Runtime) -> None:
        self._method, self._runtime = method, runtime
        self._networks = outermost_networks(method) if wants_shares(method, runtime) else []
        self._plain = {network: _without_weights(network) for network in self._networks}
        for network in self._networks:
            _share(network, runtime)

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Return a context in which every process has the whole networks, and uses them as often as it likes."""
        modules = self._sharing()
        for module in modules:
            module.set_reshard_after_forward(False, recurse=False)
            module.unshard()
        try:
            yield
        finally:
            for module in modules:
                module.set_reshard_after_forward(True, recurse=False)
                module.reshard()

    def whole(self, state: Any) -> Any:
        """Return a state with whole tensors, in the main process on the CPU; every process must call this."""
        if not self._networks:
            return state
        if isinstance(state, Mapping):
            return {key: self.whole(value) for key, value in state.items()}
        if isinstance(state, (list, tuple)):
            return type(state)(self.whole(value) for value in state)
        if not is_share(state):
            return state
        full = whole_tensor(state)
        return full.cpu() if self._runtime.main else None

    def load_method(self, state: Mapping[str, Tensor]) -> None:
        """Load the whole state of the method."""
        own = self._method.state_dict() if self._networks else {}
        self._method.load_state_dict({name: _like(value, own.get(name)) for name, value in state.items()})

    def load_optimiser(self, optimiser: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
        """Load the whole state of an optimiser."""
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        moments = {
            place: {name: _like(value, parameters[place]) for name, value in of_one.items()}
            for place, of_one in state["state"].items()
        }
        kernels = [group["fused"] for group in optimiser.param_groups]
        optimiser.load_state_dict({**state, "state": moments})
        for group, fused in zip(optimiser.param_groups, kernels, strict=True):
            group["fused"] = fused  # of this process, not of the one that saved

    def end(self) -> None:
        """Put whole networks in the place of the shares, with the weights that these have now."""
        for network, plain in self._plain.items():
            weights = {name: whole_tensor(value) for name, value in network.state_dict().items()}
            plain.load_state_dict(weights, assign=True)
            for (_, of_plain), (_, now) in zip(plain.named_parameters(), network.named_parameters(), strict=True):
                of_plain.requires_grad_(now.requires_grad)
            plain.train(network.training)
            _replace(self._method, network, plain)
        self._networks, self._plain = [], {}

    def _sharing(self) -> list[Any]:
        if not self._networks:
            return []
        from torch.distributed.fsdp import FSDPModule

        return [m for network in self._networks for m in network.modules() if isinstance(m, FSDPModule)]


def is_share(tensor: Any) -> bool:
    """Return whether a tensor is the share of a larger one."""
    return isinstance(tensor, Tensor) and hasattr(tensor, "full_tensor")


def whole_tensor(tensor: Tensor) -> Tensor:
    """Return the whole of a tensor; every process must call this."""
    if not is_share(tensor):
        return tensor
    whole: Tensor = tensor.full_tensor()  # type: ignore[attr-defined]
    return whole


def _like(value: Any, other: Any) -> Any:
    """Return a whole tensor as another one of its size is held: this process's share of it, or laid out alike.

    Kernels of optimisers read weights and moments in one order of memory.
    """
    if not (isinstance(value, Tensor) and isinstance(other, Tensor)) or value.shape != other.shape:
        return value
    if not is_share(other):
        return torch.empty_like(other, dtype=value.dtype, device=value.device).copy_(value)
    from torch.distributed.tensor import distribute_tensor

    share: Any = other
    return distribute_tensor(value.to(share.device), share.device_mesh, share.placements, src_data_rank=None)


def _share(network: Segmenter, runtime: Runtime) -> None:
    """Hold a network in shares, block by block."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    if not hasattr(FSDPModule, "set_force_sum_reduction_for_comms"):
        raise RequestError(f"strategy=fsdp needs torch 2.9 or newer, this is {torch.__version__}; set strategy=ddp")
    network.to(memory_format=torch.contiguous_format)  # shares are of the first dimension
    mesh = init_device_mesh(runtime.device.type, (runtime.processes,))
    for module in (*blocks_of(network), network):
        fully_shard(module, mesh=mesh, reshard_after_forward=True)
        assert isinstance(module, FSDPModule)
        module.set_force_sum_reduction_for_comms(True)  # gloo cannot scale
        module.set_gradient_divide_factor(1.0)  # losses are means over the batch of all processes
    register_fsdp_forward_method(network, "deep_features")


def _without_weights(network: Segmenter) -> Segmenter:
    """Return a copy of a network that takes no memory for its weights."""
    weights = {id(p): nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad) for p in network.parameters()}
    return copy.deepcopy(network, weights)


def _replace(module: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put a module in the place of another one, wherever a module holds it."""
    for holder in list(module.modules()):
        for name, child in list(holder.named_children()):
            if child is old:
                setattr(holder, name, new)
