"""What the rounding of a weight costs the results of its layer, by what the layer was seen to read."""

import numpy as np

from graphrewrite.passes.quant.grid import Floats, Loss, Singles

ROWS = 256  # places that are drawn to look at a layer
_APART = 0.2  # weight of the noise as if inputs had nothing to do with each other


def noise_of(rows: Singles, axis: int, is_mean_made_up: bool) -> Loss:
    """Return what tells the noise in each output for a weight that is off by so much, its outputs counted by `axis`.

    `rows` [places, groups * inputs] were read. The noise is the mean square of what results are off by; of that their
    mean is no part where the bias makes up for it. Errors of weights add up where inputs go together: clipping makes
    all large weights too small at once, which squares of the weights' own errors do not show. A fifth is counted as if
    inputs were independent, because there are few rows, and the ones to come have the noise of earlier layers in them.
    """
    seen = rows - rows.mean(axis=0) if is_mean_made_up else rows
    energy = np.square(seen, dtype=np.float64).mean(axis=0)

    def noise(lost: Floats) -> Floats:
        first = np.moveaxis(lost, axis, 0)
        inputs = int(np.prod(first.shape[1:]))
        off = first.reshape(rows.shape[1] // inputs, -1, inputs)  # [groups, outputs, inputs]
        results = off.astype(np.float32) @ seen.reshape(len(seen), -1, inputs).transpose(1, 2, 0)
        together = np.square(results).mean(axis=2)
        apart = (np.square(off) @ energy.reshape(-1, inputs, 1))[..., 0]
        return np.asarray(((1 - _APART) * together + _APART * apart).reshape(-1), np.float64)

    return noise
