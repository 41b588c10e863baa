"""PackSigns, one bit at a time."""

import numpy as np
import numpy.typing as npt


def reference(x: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    """Return the signs of `x` [N, C, ...] as words [N, ..., ceil(C / 32)]."""
    channels_last = np.moveaxis(x, 1, -1)
    words = np.zeros((*channels_last.shape[:-1], -(-x.shape[1] // 32)), np.uint32)
    for channel in range(x.shape[1]):
        is_set = (channels_last[..., channel] >= 0).astype(np.uint32)
        words[..., channel // 32] |= is_set << np.uint32(channel % 32)
    return words
