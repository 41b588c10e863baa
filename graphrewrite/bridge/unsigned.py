"""Arithmetic on the unsigned types that torch stores but cannot compute with."""

from collections.abc import Callable
from functools import wraps

import torch

_WIDE = frozenset({torch.uint16, torch.uint32, torch.uint64})


def widened(compute: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Let a form compute unsigned integers as int64, and hand its result back in their type.

    Sums, differences and products of uint64 wrap as they should; a quotient or comparison of numbers from 2**63 on does
    not, and needs a form of its own. Results of other types than the widened ones (bools) stay.
    """

    @wraps(compute)
    def run(*inputs: torch.Tensor, **settings: object) -> torch.Tensor:
        first = inputs[0]
        if not isinstance(first, torch.Tensor) or first.dtype not in _WIDE:
            return compute(*inputs, **settings)
        wide = [
            value.to(torch.int64) if isinstance(value, torch.Tensor) and value.dtype in _WIDE else value
            for value in inputs
        ]
        result = compute(*wide, **settings)
        return result.to(first.dtype) if result.dtype == torch.int64 else result

    return run
