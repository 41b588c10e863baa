"""Batch normalization: by running statistics, or by the batch while training.

Running statistics are buffers of the module. A graph exported for inference trains as torch's own norm does: it divides
by the batch's variance and moves the running one by the unbiased estimate, in place, at the node's momentum. A graph
exported for training (training_mode) follows ONNX also in evaluation, with the population's variance throughout.
Statistics that the graph computes cannot be moved: such a norm keeps to them in both modes. What a file stores once
with something else each norm gets for itself (`statistics.py`).
"""

import torch
from torch import fx, nn
from torch.nn import functional

from graphrewrite.bridge.forms import lowers
from graphrewrite.bridge.site import Site

_HALVES = ("float16", "bfloat16")


class RunningNorm(nn.Module):
    """A norm of a graph exported for inference; `momentum` is the share of the running statistic that stays."""

    def __init__(self, *, epsilon: float, momentum: float) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.pace = 1.0 - momentum

    def forward(
        self, x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor, mean: torch.Tensor, var: torch.Tensor
    ) -> torch.Tensor:
        """Normalize [batch, channels, ...]."""
        return functional.batch_norm(x, mean, var, scale, bias, self.training, self.pace, self.epsilon)


class Measuring(nn.Module):
    """What norms of graphs exported for training share: they measure their batch in evaluation too.

    With `moves` the buffers they are given are moved while the module trains.
    """

    def __init__(self, *, epsilon: float, momentum: float, moves: bool) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.momentum = momentum
        self.moves = moves


class TrainingNorm(Measuring):
    """Such a norm with all its outputs: it returns the statistics it moved, and those of the batch."""

    def forward(
        self, x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor, mean: torch.Tensor, var: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the norm of the batch, the statistics moved by it, and those of the batch itself."""
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        axes = [axis for axis in range(x.dim()) if axis != 1]
        batch_var, batch_mean = torch.var_mean(wide, axes, correction=0)
        if x.dtype == scale.dtype == bias.dtype:
            fast = torch.backends.cudnn.enabled
            y = torch.batch_norm(x, scale, bias, None, None, True, 0.0, self.epsilon, fast)
        else:
            y = fixed_norm(x, scale, bias, batch_mean, batch_var, self.epsilon)
        moved_mean = (mean * self.momentum + batch_mean * (1.0 - self.momentum)).to(mean.dtype)
        moved_var = (var * self.momentum + batch_var * (1.0 - self.momentum)).to(var.dtype)
        if self.training and self.moves:
            with torch.no_grad():
                mean.copy_(moved_mean)
                var.copy_(moved_var)
        return y, moved_mean, moved_var, batch_mean.to(mean.dtype), batch_var.to(var.dtype)


class MeasuringNorm(Measuring):
    """Such a norm whose statistics nothing reads: one pass over the batch."""

    def forward(
        self, x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor, mean: torch.Tensor, var: torch.Tensor
    ) -> torch.Tensor:
        """Normalize [batch, channels, ...] by its own statistics."""
        fast, pace = torch.backends.cudnn.enabled, 1.0 - self.momentum
        if not (self.training and self.moves):
            return torch.batch_norm(x, scale, bias, None, None, True, pace, self.epsilon, fast)
        moved_mean, moved_var = mean.clone(), var.clone()
        y = torch.batch_norm(x, scale, bias, moved_mean, moved_var, True, pace, self.epsilon, fast)
        mean.copy_(moved_mean)
        # torch moved by the unbiased estimate; take the population's share of it.
        count = x.numel() // x.shape[1]
        var.mul_(self.momentum / count)
        if count > 1:
            var.add_(moved_var, alpha=(count - 1) / count)
        return y


@lowers("BatchNormalization", since=7)
def batch_normalization(site: Site) -> object:
    """Put the module in that does what the node says; before version 14 more outputs say that it trains."""
    x, *others = (site.tensor(slot) for slot in range(5))
    shape = x
    if not site.integer("spatial", 1):
        x, *others = (site.call(torch.flatten, x, 1), *(site.call(torch.flatten, other) for other in others))
    moves = site.is_statistic(3) and site.is_statistic(4)
    epsilon, momentum = site.number("epsilon", 1e-5), site.number("momentum", 0.9)
    types = [str(site.dtype(slot)) for slot in range(5)]
    alike = len(set(types)) == 1 or (types[0] in _HALVES and set(types[1:]) == {"float32"})
    if site.integer("training_mode", 0) or (site.version < 14 and site.outputs > 1):
        if alike and not any(site.is_read(output) for output in range(1, site.outputs)):
            measuring = MeasuringNorm(epsilon=epsilon, momentum=momentum, moves=moves)
            return _back(site, site.module(measuring, x, *others), shape)
        made = TrainingNorm(epsilon=epsilon, momentum=momentum, moves=moves)
        call = site.module(made, x, *others)
        y, *rest = (site.item(call, i) for i in range(site.outputs))
        return [_back(site, y, shape), *rest]
    if moves and not alike:
        scale, bias, mean, var = others
        made_of = [site.call(torch.Tensor.type_as, value, mean) for value in (x, scale, bias)]
        norm = site.module(RunningNorm(epsilon=epsilon, momentum=momentum), *made_of, mean, var)
        return _back(site, site.call(torch.Tensor.type_as, norm, x), shape)
    if moves:
        return _back(site, site.module(RunningNorm(epsilon=epsilon, momentum=momentum), x, *others), shape)
    return _back(site, site.call(fixed_norm, x, *others, epsilon), shape)


def fixed_norm(
    x: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
    mean: torch.Tensor,
    var: torch.Tensor,
    epsilon: float,
) -> torch.Tensor:
    """Normalize [batch, channels, ...] by given statistics, with gradients to all of them."""
    sizes = (-1, *(1,) * (x.dim() - 2))
    factor = scale * torch.rsqrt(var + epsilon)
    return ((x - mean.reshape(sizes)) * factor.reshape(sizes) + bias.reshape(sizes)).to(x.dtype)


def _back(site: Site, y: fx.Node, x: fx.Node | None) -> fx.Node:
    """Give a norm over single numbers the shape of its input again."""
    return y if site.integer("spatial", 1) else site.call(torch.Tensor.view_as, y, x)
