"""Least squares: removed channels are predicted from the kept ones, and the prediction moves into the weights."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from graphrewrite.data import Accumulator
from graphrewrite.data.accumulators import Gram, Products
from graphrewrite.errors import InvalidConfig
from graphrewrite.passes.channels.reconstruct import Floats, Mask, reconstructions


@reconstructions.register("least_squares")
@dataclass(frozen=True)
class LeastSquares:
    """Regression with an intercept, from the channels' covariance over samples and positions.

    For a consumer that mixes channels only (1x1 convolution, matrix product) the result minimises the squared error of
    its output, as in the reconstruction step of channel pruning (He, Zhang and Sun, 2017, equation 3); for a wider
    kernel the prediction is the same at every kernel position. `ridge` is relative to the mean variance of the kept
    channels and keeps the system solvable when channels repeat each other or data is scarce.
    """

    ridge: float = 1e-3

    def __post_init__(self) -> None:
        if not self.ridge > 0:
            raise InvalidConfig(
                f"LeastSquares.ridge is {self.ridge}; expected a positive number such as 1e-3"
            )

    def statistic(self, axis: int) -> Callable[[], Accumulator]:
        """Ask for the sums of products of channels."""
        return partial(Gram, axis)

    def estimate(self, statistic: object, alive: Mask) -> tuple[Floats | None, Floats]:
        """Return the regression and its intercept."""
        assert isinstance(statistic, Products)
        mean = statistic.x_sum / statistic.rows
        covariance = statistic.gram / statistic.rows - np.outer(mean, mean)
        kept = covariance[np.ix_(alive, alive)]
        strength = self.ridge * max(float(np.trace(kept)) / max(len(kept), 1), 1e-12)
        solved = np.linalg.solve(kept + strength * np.eye(len(kept)), covariance[np.ix_(alive, ~alive)]).T
        transfer = np.asarray(solved, dtype=np.float64)
        return transfer, mean[~alive] - transfer @ mean[alive]
