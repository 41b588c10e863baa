"""How signs move while they are trained: what tells a steady training of a binary net from a restless one."""

import numpy as np

from graphrewrite.errors import ShapeError
from graphrewrite.ir import Array


def ff_ratio(before: Array, after: Array) -> float:
    """Return the share of weights whose sign one step has changed, "flip-flops" (Liu et al. 2021); 0 counts as +.

    Raises:
        ShapeError: the two are not of one shape.
    """
    if np.shape(before) != np.shape(after):
        raise ShapeError(
            f"signs were to be compared of weights of shape {list(np.shape(before))} and {list(np.shape(after))}; "
            "expected the same weight at two times; pick the right one"
        )
    if np.size(before) == 0:
        return 0.0
    one, other = (np.asarray(weight, np.float64) >= 0 for weight in (before, after))
    return float(np.mean(one != other))


def c2i_ratio(first: Array, last: Array) -> float:
    """Return the share of weights that end with the sign they began with (Liu et al. 2021).

    1 where none has left its first sign, about 0.5 where the last signs know nothing of the first.

    Raises:
        ShapeError: the two are not of one shape.
    """
    return 1 - ff_ratio(first, last)
