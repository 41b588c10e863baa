"""What is looked up in a float model before it is quantised: ranges of tensors, and the means of what layers read."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from graphrewrite.data import DataSource, collect
from graphrewrite.data.accumulators import Accumulator, Floats, Moments
from graphrewrite.errors import InvalidData
from graphrewrite.ir import Model
from graphrewrite.passes.quant.cache import CalibrationCache, key_of
from graphrewrite.passes.quant.calibrators import Calibrator
from graphrewrite.passes.quant.grid import GRIDS, Singles, Span
from graphrewrite.passes.quant.noise import ROWS
from graphrewrite.passes.quant.rows import Draw, Reader, batches_of
from graphrewrite.pipeline import Context
from graphrewrite.serial import to_json


class Wanted(NamedTuple):
    """A tensor whose span is asked for, and the name of the grid that is to hold it."""

    tensor: str
    grid: str


class Measured(NamedTuple):
    """Spans of what was wanted, means [channels] by the names of tensors, and rows [places, ...] by their readers."""

    spans: Mapping[Wanted, Span]
    means: Mapping[str, Floats]
    rows: Mapping[Reader, Singles]


@dataclass(frozen=True)
class Sweep:
    """One look at all samples.

    `wanted` are the spans looked for, `axes` the channel axes of tensors with means, `readers` those whose rows are
    drawn.
    """

    wanted: tuple[Wanted, ...]
    axes: Mapping[str, int]
    readers: tuple[Reader, ...]
    calibrator: Calibrator
    batch: int

    def run(self, model: Model, data: DataSource, context: Context, cache: str) -> Measured:
        """Return what was measured, from the file `cache` if it is there; else it is measured and kept there.

        Rows are not kept: where they are asked for, the data is read again.
        """
        if not cache:
            return self._measured(model, data, context)
        kept = CalibrationCache(cache)
        key = key_of(model, to_json(self.calibrator, Calibrator), len(data))
        there, means = kept.spans(key), kept.means(key)
        spans = {wanted: there[_key(wanted)] for wanted in self.wanted if _key(wanted) in there}
        if len(spans) == len(self.wanted) and means.keys() >= self.axes.keys():
            rest = replace(self, wanted=(), axes={})
            rows = rest._measured(model, data, context).rows if self.readers else {}
            return Measured(spans, means, rows)
        found = self._measured(model, data, context)
        kept.keep(key, {_key(wanted): span for wanted, span in found.spans.items()}, found.means)
        return found

    def _measured(self, model: Model, data: DataSource, context: Context) -> Measured:
        tensors = dict.fromkeys(wanted.tensor for wanted in self.wanted)
        ranges: dict[str, Accumulator] = {name: self.calibrator.accumulator() for name in tensors}
        moments = {name: Moments(axis) for name, axis in self.axes.items()}
        draw = Draw(ROWS, batches_of(model, data, self.batch), context.seed)
        rows = {reader: reader.rows(draw) for reader in self.readers}
        looked: dict[str, list[Accumulator]] = {name: [each] for name, each in ranges.items()}
        for name, moment in moments.items():
            looked.setdefault(name, []).append(moment)
        for reader, taken in rows.items():
            looked.setdefault(reader.tensor, []).append(taken)
        collect(model, data, looked, self.batch, context.seed, context.progress, context.threads)
        spans = {each: self._span(each, ranges[each.tensor]) for each in self.wanted}
        means = {name: each.result().mean for name, each in moments.items()}
        return Measured(spans, means, {reader: each.result() for reader, each in rows.items()})

    def _span(self, wanted: Wanted, seen: Accumulator) -> Span:
        try:
            return self.calibrator.span(seen.result(), GRIDS[wanted.grid])
        except InvalidData as error:
            raise InvalidData(
                f"the tensor {wanted.tensor!r} cannot be given a range: {error}; leaving out the layers that read it "
                "helps too"
            ) from error


def _key(wanted: Wanted) -> str:
    return f"{wanted.grid} {wanted.tensor}"
