"""Arithmetic on the unsigned types that torch stores but cannot compute with.

Sums, differences and products of uint64 wrap as they should when computed as int64. What compares needs keys that sort
as the numbers do: for uint64 these are the bits with the highest one turned round.
"""

from collections.abc import Callable
from functools import wraps

import torch

_WIDE = frozenset({torch.uint16, torch.uint32, torch.uint64})
_HIGHEST = torch.iinfo(torch.int64).min
_LARGEST = torch.iinfo(torch.int64).max


def is_wide(x: object) -> bool:
    """Whether torch stores this tensor but cannot compute with it."""
    return isinstance(x, torch.Tensor) and x.dtype in _WIDE


def widened(compute: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Let a form compute unsigned integers as int64, and hand its result back in their type.

    Results of other types than the widened ones (bools) stay. For what compares or divides see `ordered`, `quotient`.
    """
    return _through(compute, _as_int64, lambda result, dtype: result.to(dtype))


def ordered(compute: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Let a form that only compares and chooses do so by `sortable` keys, and hand back the numbers chosen."""
    return _through(compute, sortable, unsortable)


def sortable(x: torch.Tensor) -> torch.Tensor:
    """Return numbers in the same order that torch can compare: the tensor itself where it can."""
    if x.dtype == torch.uint64:
        return x.view(torch.int64) ^ _HIGHEST
    return _as_int64(x)


def unsortable(keys: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the numbers of an unsigned type whose `sortable` keys these are."""
    return (keys ^ _HIGHEST).view(dtype) if dtype == torch.uint64 else keys.to(dtype)


def quotient(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return a / b cut to whole numbers, of uint64 held as int64 bits.

    Half the dividend is divided, which is never negative; the quotient of the whole is twice that or one more. A
    divisor from 2**63 on fits at most once.
    """
    half = torch.div(_logical_right(a, 1), b, rounding_mode="trunc") << 1
    fits = ((a - half * b) ^ _HIGHEST) >= (b ^ _HIGHEST)
    return torch.where(b < 0, (a ^ _HIGHEST) >= (b ^ _HIGHEST), half + fits.to(torch.int64))


def shifted_right(x: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """Shift uint64 held as int64 bits by 0 to 63, filling with zeros."""
    return torch.where(count == 0, x, _logical_right(x, 1) >> (count - 1).clamp(min=0))


def _logical_right(x: torch.Tensor, count: int) -> torch.Tensor:
    return (x >> count) & (_LARGEST >> (count - 1))


def _as_int64(x: torch.Tensor) -> torch.Tensor:
    return x.to(torch.int64) if is_wide(x) else x


def _through(
    compute: Callable[..., torch.Tensor],
    enter: Callable[[torch.Tensor], torch.Tensor],
    leave: Callable[[torch.Tensor, torch.dtype], torch.Tensor],
) -> Callable[..., torch.Tensor]:
    @wraps(compute)
    def run(*inputs: torch.Tensor, **settings: object) -> torch.Tensor:
        first = inputs[0]
        if not is_wide(first):
            return compute(*inputs, **settings)
        entered = [enter(value) if isinstance(value, torch.Tensor) else value for value in inputs]
        result = compute(*entered, **settings)
        return leave(result, first.dtype) if result.dtype == torch.int64 else result

    return run
