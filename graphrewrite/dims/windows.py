"""Which readers of a constant cut it together: all of a matrix, each on its own of a vector, unless in turns.

Exporters merge equal small vectors of unrelated layers, so a vector that many nodes read ties none of them. But they
also keep the biases of all gates of a recurrent layer in one vector and slice it: slices that do not overlap read one
weight in turns, and it is cut once.
"""

from math import prod

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.dims.axes import Pair
from graphrewrite.dims.labels import Ints
from graphrewrite.dims.record import Analysis

# Who asks for sizes reads no numbers.
_ASKERS = frozenset({"Shape", "Size"})


def use_key(
    analysis: Analysis, tensor: gs.Tensor, sizes: list[Pair], site: tuple[int, int]
) -> tuple[str, int, int]:
    """Return what the use of a constant by one reader (node index, input slot) is filed under."""
    is_vector = sum(pair[0] > 1 for pair in sizes) <= 1
    if is_vector and not _is_read_in_turns(analysis, tensor, sizes):
        return tensor.name, *site
    return tensor.name, -1, -1


def _is_read_in_turns(analysis: Analysis, tensor: gs.Tensor, sizes: list[Pair]) -> bool:
    """Tell whether several slices read a constant, no position of it twice, and nobody else."""
    count = prod(pair[0] for pair in sizes)
    readers: list[gs.Node] = []
    for node in tensor.outputs:
        if node.op in _ASKERS:
            continue
        readers.append(node)
        # More slices than positions must overlap; a vector of a thousand readers is left alone at once.
        if node.op != "Slice" or node.domain or node.inputs[0] is not tensor or len(readers) > count:
            return False
    if len(readers) < 2:
        return False
    places = np.arange(count).reshape([pair[0] for pair in sizes])
    read = [_window(analysis, node, places) for node in readers]
    if any(window is None for window in read):
        return False
    together = np.concatenate([window for window in read if window is not None])
    return len(np.unique(together)) == len(together)


def _window(analysis: Analysis, node: gs.Node, places: Ints) -> Ints | None:
    """Return the positions a Slice takes, None where its bounds are not known."""
    bounds: list[list[int] | None] = []
    for slot, name in ((1, "starts"), (2, "ends"), (3, "axes"), (4, "steps")):
        given = node.attrs.get(name)
        if given is None and slot < len(node.inputs) and node.inputs[slot].name:
            numbers = analysis.info.numbers(node.inputs[slot].name)
            if numbers is None:
                return None
            given = numbers.reshape(-1).tolist()
        bounds.append(given)
    starts, ends, axes, steps = bounds
    if starts is None or ends is None:
        return None
    cut = [slice(None)] * places.ndim
    numbers_of_axes = axes if axes is not None else range(len(starts))
    for axis, start, end, step in zip(numbers_of_axes, starts, ends, steps or [1] * len(starts), strict=True):
        # A bound below every position, with a step backwards, means "to the front".
        last = None if step < 0 and end < -places.shape[axis] else end
        cut[axis] = slice(start, last, step)
    return places[tuple(cut)].reshape(-1)
