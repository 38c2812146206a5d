"""Batch normalisation by the statistics of the batch of all processes, forward and backward (SyncBN)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segadapt.engine.runtime import Runtime

_BatchNorm = nn.modules.batchnorm._BatchNorm


def sharing_layers(module: nn.Module) -> list[_BatchNorm]:
    """Return the layers of batch normalisation in a module whose forward pass is known: those of torch and of timm."""
    layers = [m for m in module.modules() if isinstance(m, _BatchNorm) and not isinstance(m, nn.SyncBatchNorm)]
    return [m for m in layers if type(m).forward is _BatchNorm.forward or type(m).__module__.startswith("timm.")]


@contextmanager
def synchronised(layers: Iterable[_BatchNorm], runtime: Runtime) -> Iterator[None]:
    """Return a context in which layers that take batch statistics take those of all processes.

    Every process must call the same layers in the same order, as it does in a step. Running statistics then are the
    same in all of them.
    """
    sharing = [layer for layer in layers if layer.training or not layer.track_running_stats]
    for layer in sharing:
        layer.__dict__["forward"] = _shared(layer, runtime)
    try:
        yield
    finally:
        for layer in sharing:
            del layer.__dict__["forward"]


def _shared(layer: _BatchNorm, runtime: Runtime) -> Callable[[Tensor], Tensor]:
    """Return the forward pass of a layer; what timm's layers do behind the normalisation stays."""
    behind = [part for part in (getattr(layer, name, None) for name in ("drop", "act")) if isinstance(part, nn.Module)]

    def forward(x: Tensor) -> Tensor:
        y, mean, variance, count = _Shared.apply(x, layer.weight, layer.bias, layer.eps, runtime)
        if layer.training and layer.track_running_stats:
            _follow(layer, mean, variance * (count / (count - 1)))
        for part in behind:
            y = part(y)
        return y

    return forward


@torch.no_grad()
def _follow(layer: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Move the running statistics, as torch's layers do."""
    assert layer.running_mean is not None
    assert layer.running_var is not None
    if layer.num_batches_tracked is not None:  # it is None where statistics do not change
        layer.num_batches_tracked += 1
    weight = 1 / layer.num_batches_tracked if layer.momentum is None else layer.momentum
    layer.running_mean.lerp_(mean, weight)
    layer.running_var.lerp_(variance, weight)


class _Shared(torch.autograd.Function):
    """y = (x - m) / sqrt(v + eps) w + b with mean m and variance v of each channel over the batch of all processes."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, runtime: Runtime
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Take x [B, C, ...]; return y, m [C], v [C] and the number of values per channel."""
        axes, channels = [0, *range(2, x.ndim)], x.shape[1]
        own_variance, own_mean = torch.var_mean(x.float(), axes, correction=0)
        rows = own_mean.new_zeros(runtime.processes, 2 * channels + 1)
        rows[runtime.rank] = torch.cat([own_mean, own_variance, own_mean.new_tensor([x.numel() / channels])])
        runtime.sum([rows])
        means, variances, counts = rows.split([channels, channels, 1], 1)
        count = counts.sum()
        mean = (means * counts).sum(0) / count
        variance = ((variances + (means - mean).square()) * counts).sum(0) / count  # Chan, Golub, LeVeque (1983)
        ctx.save_for_backward(x, weight, mean, (variance + eps).rsqrt(), count)
        ctx.runtime = runtime
        ctx.mark_non_differentiable(mean, variance, count)
        return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps), mean, variance, count

    @staticmethod
    def backward(ctx: Any, dy: Tensor, *_: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None, None]:
        """Return the gradients of x, and of w and b as far as this process's part of the batch goes."""
        x, weight, mean, scale, count = ctx.saved_tensors
        axes, shape = [0, *range(2, x.ndim)], [1, -1] + [1] * (x.ndim - 2)
        normal, dy32 = (x.float() - mean.view(shape)) * scale.view(shape), dy.float()
        of_bias, of_weight = dy32.sum(axes), (dy32 * normal).sum(axes)
        sums = torch.stack([of_bias, of_weight])
        ctx.runtime.sum([sums])
        sums /= count
        factor = scale if weight is None else scale * weight
        dx = factor.view(shape) * (dy32 - sums[0].view(shape) - normal * sums[1].view(shape))
        wanted = ctx.needs_input_grad
        return dx.to(x.dtype), of_weight if wanted[1] else None, of_bias if wanted[2] else None, None, None
