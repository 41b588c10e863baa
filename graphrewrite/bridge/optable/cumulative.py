"""Running sums and products."""

from collections.abc import Callable

import torch

from graphrewrite.bridge.forms import op
from graphrewrite.bridge.unsigned import widened


@op("CumSum", host=("axis",))
@widened
def cum_sum(
    x: torch.Tensor, axis: int | tuple[int, ...], *, exclusive: int = 0, reverse: int = 0
) -> torch.Tensor:
    """Return sums of all numbers up to each, or before it."""
    return _running(torch.cumsum, 0, x, axis, bool(exclusive), bool(reverse))


@op("CumProd", host=("axis",))
@widened
def cum_prod(
    x: torch.Tensor, axis: int | tuple[int, ...], *, exclusive: int = 0, reverse: int = 0
) -> torch.Tensor:
    """Return products of all numbers up to each, or before it."""
    return _running(torch.cumprod, 1, x, axis, bool(exclusive), bool(reverse))


def _running(
    compute: Callable[..., torch.Tensor],
    first: int,
    x: torch.Tensor,
    axis: int | tuple[int, ...],
    exclusive: bool,
    reverse: bool,
) -> torch.Tensor:
    along = axis[0] if isinstance(axis, tuple) else axis
    x = x.flip(along) if reverse else x
    if exclusive:
        start = torch.full_like(x.narrow(along, 0, min(1, x.shape[along])), first)
        x = torch.cat([start, x], along).narrow(along, 0, x.shape[along])
    result = compute(x, along, dtype=x.dtype)
    return result.flip(along) if reverse else result
