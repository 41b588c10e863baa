"""The largest and smallest numbers along an axis, and where they are."""

from collections.abc import Callable

import torch

from graphrewrite.bridge.forms import op
from graphrewrite.bridge.unsigned import sortable


@op("ArgMax", gradient=False)
def arg_max(x: torch.Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> torch.Tensor:
    """Return where the largest number is, the first or the last of several."""
    return _place(torch.argmax, sortable(x), axis, bool(keepdims), bool(select_last_index))


@op("ArgMin", gradient=False)
def arg_min(x: torch.Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> torch.Tensor:
    """Return where the smallest number is, the first or the last of several."""
    return _place(torch.argmin, sortable(x), axis, bool(keepdims), bool(select_last_index))


def _place(
    find: Callable[..., torch.Tensor], keys: torch.Tensor, axis: int, keep: bool, last: bool
) -> torch.Tensor:
    if not last:
        return find(keys, axis, keep)
    return keys.shape[axis] - 1 - find(keys.flip(axis), axis, keep)


@op("TopK", since=10, host=("k",), ignores=("sorted",))
def top_k(
    x: torch.Tensor, k: tuple[int, ...] | int, *, axis: int = -1, largest: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the k largest or smallest numbers in order, and where they are; of equal ones, the first come first.

    torch's own call leaves open which of several equal numbers it takes; a stable sort does not.
    """
    count = k[0] if isinstance(k, tuple) else k
    values, places = torch.sort(x, dim=axis, descending=bool(largest), stable=True)
    return values.narrow(axis, 0, count), places.narrow(axis, 0, count)


@op("TopK")
def top_k_by_attribute(x: torch.Tensor, *, k: int, axis: int = -1) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the k largest numbers in order, and where they are."""
    return top_k(x, k, axis=axis)
