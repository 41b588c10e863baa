"""HadamardLinear, one binary digit of the position at a time."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


def reference(
    x: Floats,
    before: Floats,
    permutation: npt.NDArray[np.int64],
    middle: Floats,
    after: Floats,
    bias: Floats,
) -> Floats:
    """Return the layer's output [..., out], computed in float64."""
    padded = np.zeros((*x.shape[:-1], len(middle)))
    padded[..., : len(before)] = x.astype(np.float64) * before
    mixed = _transform(padded)[..., permutation] * middle
    return (_transform(mixed)[..., : len(after)] * after + bias).astype(np.float32)


def _transform(x: Doubles) -> Doubles:
    """Return sums and differences over every digit of the last axis, scaled to keep lengths."""
    size, distance = x.shape[-1], 1
    while distance < size:
        pairs = x.reshape(*x.shape[:-1], size // (2 * distance), 2, distance)
        first, second = pairs[..., 0, :], pairs[..., 1, :]
        x = np.stack([first + second, first - second], axis=-2).reshape(x.shape)
        distance *= 2
    return np.asarray(x / np.sqrt(size))
