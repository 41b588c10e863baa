"""ThresholdQuantize, one threshold after the other."""

import numpy as np
import numpy.typing as npt


def reference(x: npt.NDArray[np.float32], thresholds: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return the counts of `thresholds` [m] or [C, m] that numbers of `x` [N, C, ...] exceed, [same shape]."""
    codes = np.zeros(x.shape, np.uint8)
    if thresholds.ndim == 1:
        for threshold in thresholds:
            codes += x > threshold
        return codes
    for channel, own in enumerate(thresholds):
        for threshold in own:
            codes[:, channel] += x[:, channel] > threshold
    return codes
