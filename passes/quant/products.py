"""How far products of a tensor are from the exact ones when both sides are rounded as a step will round them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from graphrewrite.data.accumulators import Extremes
from graphrewrite.passes.quant.grid import GRIDS, Floats, stored_weight
from graphrewrite.passes.quant.insert_qdq import InsertQdq
from graphrewrite.passes.quant.trial import nearer
from graphrewrite.passes.quant.write import PACKED

Factors = Callable[[Extremes], Floats]
"""From the extremes of each channel to what it is divided by."""


class Products(NamedTuple):
    """Rows [places, channels] of a tensor, and the weights [groups, outputs, positions, inputs] that read it.

    A convolution counts as if each place of its window saw the rows by itself.
    """

    rows: Floats
    weights: Sequence[Floats]
    step: InsertQdq

    def gain(self, factors: Factors) -> float:
        """Return by how many dB the products come nearer once channels are divided by factors.

        Ranges are found on one half of the rows and errors on the other, then the other way round: channels that were
        evened out all reach the end of the grid, and rows that nobody saw are clipped more often than where one
        channel does. The smaller gain of the two counts.
        """
        middle = len(self.rows) // 2
        halves = self.rows[:middle], self.rows[middle:]
        if not middle:
            halves = self.rows, self.rows
        return min(self._gain(known, held, factors) for known, held in (halves, halves[::-1]))

    def _gain(self, known: Floats, held: Floats, factors: Factors) -> float:
        found = factors(Extremes(known.min(axis=0), known.max(axis=0)))
        return nearer(self.error(known, held, np.ones_like(found)), self.error(known, held, found))

    def error(self, known: Floats, held: Floats, factors: Floats) -> float:
        """Return the squared error of all products of `held` rows, with ranges that were found on `known` ones."""
        exact, grid = held.astype(np.float64), GRIDS[self.step.activations]
        accumulator = self.step.calibrator.accumulator()
        accumulator.update((known / factors).astype(np.float32))
        span = self.step.calibrator.span(accumulator.result(), grid)
        rounded = grid.round(exact / factors, grid.scale(span))
        total = 0.0
        for weight in self.weights:
            groups, outputs, positions, inputs = weight.shape
            moved = self._rounded(weight * factors.reshape(groups, 1, 1, inputs))
            shape = (groups, outputs * positions, inputs)
            for group in range(groups):
                part = slice(group * inputs, (group + 1) * inputs)
                away = (
                    rounded[:, part] @ moved.reshape(shape)[group].T
                    - exact[:, part] @ weight.reshape(shape)[group].T
                )
                total += float(np.square(away).sum())
        return total

    def _rounded(self, weight: Floats) -> Floats:
        bits = self.step.weight_bits
        rows = weight.reshape(weight.shape[0] * weight.shape[1], -1)
        apart = 2 if self.step.even_levels and bits <= PACKED else 1
        codes = stored_weight(rows, 0 if self.step.per_channel else None, bits, apart=apart)
        return codes.expand().astype(np.float64).reshape(weight.shape)
