"""Constant absorption: a removed channel is replaced by its mean on the calibration data."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from graphrewrite.data import Accumulator
from graphrewrite.data.accumulators import Moments, Spread
from graphrewrite.passes.channels.reconstruct import Floats, Mask, reconstructions


@reconstructions.register("mean")
@dataclass(frozen=True)
class Mean:
    """Exact for a channel that never changes, inside the border of a padded convolution."""

    def statistic(self, axis: int) -> Callable[[], Accumulator]:
        """Ask for the moments per channel."""
        return partial(Moments, axis)

    def estimate(self, statistic: object, alive: Mask) -> tuple[Floats | None, Floats]:
        """Return no transfer and the means."""
        assert isinstance(statistic, Spread)
        return None, statistic.mean[~alive]
