"""WaveletLinear, one coefficient at a time."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


def reference(
    x: Floats,
    before: Floats,
    analysis: Floats,
    permutation: npt.NDArray[np.int64],
    middle: Floats,
    synthesis: Floats,
    after: Floats,
    bias: Floats,
    *,
    size: int,
    levels: int,
) -> Floats:
    """Return the layer's output [..., out], computed in float64."""
    rows = x.astype(np.float64).reshape(-1, x.shape[-1]) * before
    out = np.zeros((len(rows), len(after)))
    for row, values in enumerate(rows):
        padded = np.zeros(size)
        padded[: len(values)] = values
        coefficients = _analyse(padded, analysis.astype(np.float64), levels)
        mixed = coefficients[permutation] * middle
        out[row] = _synthesise(mixed, synthesis.astype(np.float64), levels, size)[: len(after)] * after + bias
    return out.reshape(*x.shape[:-1], len(after)).astype(np.float32)


def _analyse(x: Doubles, filters: Doubles, levels: int) -> Doubles:
    """Return the high halves from fine to coarse, then the last low half: every second value of a full convolution."""
    low, parts = x, []
    for _ in range(levels):
        parts.append(np.convolve(low, filters[1])[1::2])
        low = np.convolve(low, filters[0])[1::2]
    return np.concatenate([*parts, low])


def _synthesise(coefficients: Doubles, filters: Doubles, levels: int, size: int) -> Doubles:
    """Return the signal of `size` that coefficients stand for, level by level from the coarsest."""
    taps = filters.shape[1]
    lengths = [size]
    for _ in range(levels):
        lengths.append((lengths[-1] + taps - 1) // 2)
    stop = len(coefficients) - lengths[-1]
    low = coefficients[stop:]
    for length, half in zip(reversed(lengths[:-1]), reversed(lengths[1:]), strict=True):
        high = coefficients[stop - half : stop]
        stop -= half
        whole = np.convolve(_spread(low), filters[0]) + np.convolve(_spread(high), filters[1])
        low = whole[taps - 2 : taps - 2 + length]
    return low


def _spread(values: Doubles) -> Doubles:
    """Return the values with a zero between each two."""
    spread = np.zeros(2 * len(values) - 1)
    spread[::2] = values
    return spread
