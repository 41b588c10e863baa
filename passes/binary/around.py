"""What binarizers put around a layer of signs, in standard operators: shifts, sizes, a rectifier that is learned."""

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.ir import Array
from graphrewrite.match import Draft
from graphrewrite.passes.binary.choice import label

_SLOPE = 0.25


def less_mean(draft: Draft, x: gs.Tensor) -> gs.Tensor:
    """Take from each sample of [samples, channels, height, width] its own mean."""
    shape = draft.shape(x)
    lean = None if shape is None else (shape[0], 1, 1, 1)
    if draft.model.opset < 18:
        mean = draft.op("ReduceMean", x, like=x, shape=lean, axes=[1, 2, 3], keepdims=1)
    else:
        axes = draft.add_constant(np.array([1, 2, 3], np.int64), "axes")
        mean = draft.op("ReduceMean", x, axes, like=x, shape=lean, keepdims=1)
    return draft.op("Sub", x, mean, like=x)


def shifted(draft: Draft, x: gs.Tensor, channels: int) -> gs.Tensor:
    """Add a number to each channel, 0 at first."""
    return draft.op("Add", x, planes(draft, np.zeros(channels, np.float32), "shift"), like=x)


def sized(draft: Draft, sums: gs.Tensor, sizes: npt.NDArray[np.float32]) -> gs.Tensor:
    """Multiply each channel by a number."""
    return draft.op("Mul", sums, planes(draft, sizes, "size"), like=sums)


def bent(draft: Draft, x: gs.Tensor, channels: int) -> gs.Tensor:
    """Shift, rectify with a slope and shift again, each channel by numbers of its own (Liu et al. 2020)."""
    slope = planes(draft, np.full(channels, _SLOPE, np.float32), "slope")
    return shifted(draft, draft.op("PRelu", shifted(draft, x, channels), slope, like=x), channels)


def planes(draft: Draft, numbers: npt.NDArray[np.float32], what: str) -> gs.Constant:
    """File one number per channel, named after the layer they stand at."""
    assert draft.anchor is not None
    return draft.add_constant(numbers.reshape(-1, 1, 1), f"{label(draft.anchor)}_{what}")


def mean_sizes(filters: Array) -> npt.NDArray[np.float32]:
    """Return the mean |w| of each filter, [filters]."""
    wide = np.abs(np.asarray(filters, np.float64)).reshape(len(filters), -1)
    return np.asarray(wide.mean(axis=1), np.float32)
