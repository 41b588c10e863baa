"""What is looked up in a float model before it is quantised: ranges of tensors, and the means of what layers read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from graphrewrite.data import DataSource, collect
from graphrewrite.data.accumulators import Accumulator, Floats, Moments
from graphrewrite.ir import Model
from graphrewrite.passes.quant.cache import CalibrationCache, key_of
from graphrewrite.passes.quant.calibrators import Calibrator
from graphrewrite.passes.quant.grid import GRIDS, Span
from graphrewrite.pipeline import Context
from graphrewrite.serial import to_json


class Measured(NamedTuple):
    """Spans by the names of tensors, and means [channels] of those that were asked for."""

    spans: Mapping[str, Span]
    means: Mapping[str, Floats]


@dataclass(frozen=True)
class Sweep:
    """One look at all samples: `names` are the tensors that get a span, `axes` the channel axes of those with means."""

    names: tuple[str, ...]
    axes: Mapping[str, int]
    calibrator: Calibrator
    grid: str
    batch: int

    def run(self, model: Model, data: DataSource, context: Context, cache: str) -> Measured:
        """Return what was measured, from the file `cache` if it is all there; else it is measured and kept there."""
        if not cache:
            return self._measured(model, data, context)
        kept = CalibrationCache(cache)
        method = to_json((self.calibrator, self.grid), tuple[Calibrator, str])
        key = key_of(model, method, len(data))
        spans, means = kept.spans(key), kept.means(key)
        if spans.keys() >= set(self.names) and means.keys() >= self.axes.keys():
            return Measured(spans, means)
        found = self._measured(model, data, context)
        kept.keep(key, found.spans, found.means)
        return found

    def _measured(self, model: Model, data: DataSource, context: Context) -> Measured:
        ranges: dict[str, Accumulator] = {name: self.calibrator.accumulator() for name in self.names}
        moments = {name: Moments(axis) for name, axis in self.axes.items()}
        wanted = {
            name: [each[name] for each in (ranges, moments) if name in each]
            for name in dict.fromkeys((*ranges, *moments))
        }
        collect(model, data, wanted, self.batch, context.seed, context.progress, context.threads)
        grid = GRIDS[self.grid]
        spans = {name: self.calibrator.span(each.result(), grid) for name, each in ranges.items()}
        return Measured(spans, {name: each.result().mean for name, each in moments.items()})
