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


class Wanted(NamedTuple):
    """A tensor whose span is asked for, and the name of the grid that is to hold it."""

    tensor: str
    grid: str


class Measured(NamedTuple):
    """Spans of what was wanted, and means [channels] by the names of the tensors that were asked for."""

    spans: Mapping[Wanted, Span]
    means: Mapping[str, Floats]


@dataclass(frozen=True)
class Sweep:
    """One look at all samples: `wanted` are the spans looked for, `axes` the channel axes of tensors with means."""

    wanted: tuple[Wanted, ...]
    axes: Mapping[str, int]
    calibrator: Calibrator
    batch: int

    def run(self, model: Model, data: DataSource, context: Context, cache: str) -> Measured:
        """Return what was measured, from the file `cache` if it is all there; else it is measured and kept there."""
        if not cache:
            return self._measured(model, data, context)
        kept = CalibrationCache(cache)
        key = key_of(model, to_json(self.calibrator, Calibrator), len(data))
        there, means = kept.spans(key), kept.means(key)
        spans = {wanted: there[_key(wanted)] for wanted in self.wanted if _key(wanted) in there}
        if len(spans) == len(self.wanted) and means.keys() >= self.axes.keys():
            return Measured(spans, means)
        found = self._measured(model, data, context)
        kept.keep(key, {_key(wanted): span for wanted, span in found.spans.items()}, found.means)
        return found

    def _measured(self, model: Model, data: DataSource, context: Context) -> Measured:
        tensors = dict.fromkeys(wanted.tensor for wanted in self.wanted)
        ranges: dict[str, Accumulator] = {name: self.calibrator.accumulator() for name in tensors}
        moments = {name: Moments(axis) for name, axis in self.axes.items()}
        looked = {
            name: [each[name] for each in (ranges, moments) if name in each]
            for name in dict.fromkeys((*ranges, *moments))
        }
        collect(model, data, looked, self.batch, context.seed, context.progress, context.threads)
        seen = {name: each.result() for name, each in ranges.items()}
        spans = {each: self.calibrator.span(seen[each.tensor], GRIDS[each.grid]) for each in self.wanted}
        return Measured(spans, {name: each.result().mean for name, each in moments.items()})


def _key(wanted: Wanted) -> str:
    return f"{wanted.grid} {wanted.tensor}"
