"""Random weights that keep a signal alive through a deep network.

Fresh networks hide mistakes: zero biases, unit norms, zero-initialised last gains and layer scales of 1e-6
let a wrong cut go unseen. Everything is made random here, and the running statistics of batch norms are
first measured on random data (then disturbed), so that activations keep a sensible size at any depth.
"""

import contextlib
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

BatchNorms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
Convolutions = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def randomise(module: nn.Module, forward: Callable[[], object], seed: int) -> None:
    """Make every parameter and running statistic of `module` random, in place, and leave it in eval mode.

    `forward` runs the module once on random inputs; called to measure batch statistics, when there are any.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for owner in module.modules():
            for name, parameter in owner.named_parameters(recurse=False):
                if parameter.is_floating_point():
                    _fill(owner, name, parameter, generator)
        module.eval()
        _measure_batch_norms(module, forward, generator)


def _fill(owner: nn.Module, name: str, p: Tensor, generator: torch.Generator) -> None:
    def normal(std: float) -> Tensor:
        return torch.randn(p.shape, generator=generator) * std

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(p.shape, generator=generator) * (high - low) + low

    is_norm = "norm" in type(owner).__name__.lower() or "bn" in type(owner).__name__.lower()
    if isinstance(owner, Convolutions) and name == "weight":
        p.copy_(normal(math.sqrt(1.6 / p[0].numel())))
    elif isinstance(owner, nn.Linear) and name == "weight":
        p.copy_(normal(math.sqrt(1.2 / p.shape[1])))
    elif isinstance(owner, nn.Embedding):
        p.copy_(normal(0.5))
    elif "bias" in name and p.ndim == 1:
        p.copy_(normal(0.1))
    elif is_norm and p.ndim == 1:
        p.copy_(uniform(0.7, 1.3))
    elif p.numel() and p.min() == p.max():
        # Layer scales, class tokens, position tables: whatever starts as one constant.
        value = float(p.flatten()[0])
        p.copy_(normal(0.2) if value == 0 else uniform(0.5, 1.5) * (value if abs(value) > 0.1 else 0.3))
    elif p.ndim >= 2 and float(p.std()) < 0.5 / math.sqrt(p[0].numel()):
        # Tables and raw weight tensors drawn with a tiny deviation.
        p.copy_(normal(1 / math.sqrt(p[0].numel())))
    else:
        p.mul_(uniform(0.9, 1.1))


def _measure_batch_norms(
    module: nn.Module, forward: Callable[[], object], generator: torch.Generator
) -> None:
    norms = [m for m in module.modules() if isinstance(m, BatchNorms) and m.running_var is not None]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average: the statistics of this one run
        norm.train()
    # One value per channel cannot be normalised; the fresh statistics are then disturbed all the same.
    with contextlib.suppress(ValueError):
        forward()
    module.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        mean, variance = norm.running_mean, norm.running_var
        assert isinstance(mean, Tensor) and isinstance(variance, Tensor)
        size = variance.shape
        mean.add_(0.2 * torch.randn(size, generator=generator) * variance.sqrt())
        variance.mul_(torch.rand(size, generator=generator) * 0.5 + 0.75).add_(0.01)
