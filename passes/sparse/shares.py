"""How many zeros each layer gets of those that are asked of all together."""

from collections.abc import Mapping
from typing import Literal, TypeAlias

import numpy as np

from graphrewrite.passes.sparse.masks import Floats, largest

Scope: TypeAlias = Literal["uniform", "global"]


def shares(weights: Mapping[str, Floats], sparsity: float, scope: Scope) -> dict[str, float]:
    """Return the share of zeros of each layer, by its name: all alike, or from one threshold of |w| over all layers.

    A layer that the threshold would empty keeps one weight: what a layer of zeros hands on depends on no input.
    """
    if scope == "uniform" or not weights:
        return dict.fromkeys(weights, sparsity)
    kept = largest(np.concatenate([np.abs(weight).reshape(-1) for weight in weights.values()]), sparsity)
    ends = np.cumsum([weight.size for weight in weights.values()])[:-1]
    found = {}
    for name, mine in zip(weights, np.split(kept, ends), strict=True):
        gone = min(int(np.count_nonzero(~mine)), mine.size - 1)
        found[name] = gone / mine.size
    return found
