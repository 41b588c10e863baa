"""A layer as diagonals around a learned wavelet transform, a permutation and the transform back."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.passes.factor.chain import (
    as_before,
    as_rows,
    beside,
    constant,
    integers,
    maker,
    sliced,
    take,
)
from graphrewrite.passes.factor.factors import Floats
from graphrewrite.passes.factor.wavelets import analyse, coefficients, halves, synthesise
from graphrewrite.passes.factor.writer import Writer


@dataclass(frozen=True, eq=False)
class WaveletProduct:
    """y = after . synthesis . middle . permutation . analysis . before . x, for rows of `size` numbers.

    Narrower inputs are filled up with zeros, wider outputs than `after` are cut. `analysis` and `synthesis` are
    [2, taps]: low, high.
    """

    size: int
    levels: int
    before: Floats
    analysis: Floats
    permutation: npt.NDArray[np.int64]
    middle: Floats
    synthesis: Floats
    after: Floats

    @property
    def parameters(self) -> int:
        """How many numbers the diagonals and filters hold: 2 size + coefficients + 4 taps for a square layer."""
        held = (self.before, self.analysis, self.middle, self.synthesis, self.after)
        return sum(int(values.size) for values in held)

    @property
    def taps(self) -> int:
        """The length of the filters."""
        return int(self.analysis.shape[1])

    def expand(self) -> Floats:
        """Return the weight [in, out] it stands for: what becomes of every unit vector."""
        inputs = np.zeros((len(self.before), self.size))
        np.fill_diagonal(inputs, self.before)
        mixed = analyse(inputs, self.analysis, self.levels)[:, self.permutation] * self.middle
        return synthesise(mixed, self.synthesis, self.levels, self.size)[:, : len(self.after)] * self.after

    def write(self, writer: Writer, x: gs.Tensor, bias: Floats | None) -> gs.Variable:
        """Write a convolution of stride 2 for each level, and a transposed one for each level back."""
        taps, narrow = self.taps, len(self.before)
        # Convolutions of ONNX are correlations: the filters of the analysis go in backwards.
        split = writer.floats(self.analysis[:, None, ::-1], "analysis")
        join = writer.floats(self.synthesis[:, None], "synthesis")
        low = as_rows(writer, writer.op("Mul", x, writer.floats(self.before, "before")), 1, narrow)
        if narrow < self.size:
            low = writer.op("Pad", low, writer.ints([0, 0, 0, 0, 0, self.size - narrow], "pads"))
        highs = []
        for _ in range(self.levels):
            both = writer.op("Conv", low, split, kernel_shape=[taps], strides=[2], pads=[taps - 2, taps - 1])
            low, high = take(writer, both, 1, 0, 1), take(writer, both, 1, 1, 2)
            highs.append(high)
        coefficient = writer.op("Concat", *highs, low, axis=2)
        chosen = writer.op("Gather", coefficient, writer.constant(self.permutation, "permutation"), axis=2)
        mixed = writer.op("Mul", chosen, writer.floats(self.middle, "middle"))
        lengths = [self.size, *halves(self.size, taps, self.levels)]
        stop = len(self.middle) - lengths[-1]
        low = take(writer, mixed, 2, stop, len(self.middle))
        for length, half in zip(reversed(lengths[:-1]), reversed(lengths[1:]), strict=True):
            both = writer.op("Concat", low, take(writer, mixed, 2, stop - half, stop), axis=1)
            pads = [taps - 2, 2 * half - length]
            low = writer.op("ConvTranspose", both, join, kernel_shape=[taps], strides=[2], pads=pads)
            stop -= half
        if len(self.after) < self.size:
            low = take(writer, low, 2, 0, len(self.after))
        result = as_before(writer, low, x, len(self.after))
        result = writer.op("Mul", result, writer.floats(self.after, "after"))
        return result if bias is None else writer.op("Add", result, writer.floats(bias, "bias"))

    def lowered(self, writer: Writer, x: gs.Tensor, bias: Floats | None) -> gs.Variable:
        """Write one node of our own, with its function body."""
        constants = [
            writer.floats(self.before, "before"),
            writer.floats(self.analysis, "analysis"),
            writer.constant(self.permutation, "permutation"),
            writer.floats(self.middle, "middle"),
            writer.floats(self.synthesis, "synthesis"),
            writer.floats(self.after, "after"),
            writer.floats(np.zeros(len(self.after)) if bias is None else bias, "bias"),
        ]
        return writer.custom("WaveletLinear", [x, *constants], {"size": self.size, "levels": self.levels})


def read_wavelet(last: gs.Node) -> tuple[WaveletProduct, gs.Tensor] | None:
    """Return the product that ends in the Mul `last`, and its input; None where it is not as `write` writes it."""
    end = beside(last)
    if end is None:
        return None
    tensor, after = end
    shaped = maker(tensor, "Reshape")
    if shaped is None:
        return None
    low = shaped.inputs[0]
    cut = sliced(low, 2)
    if cut is not None and maker(cut[0], "ConvTranspose") is not None:
        if cut[1:] != (0, len(after)):
            return None
        low = cut[0]
    joined = _read_joins(low)
    if joined is None:
        return None
    mixed, synthesis, lengths = joined
    product = maker(mixed, "Mul")
    inner = beside(product) if product is not None else None
    chosen = maker(inner[0], "Gather") if inner is not None else None
    if inner is None or chosen is None or int(chosen.attrs.get("axis", 0)) != 2:
        return None
    permutation = integers(chosen, 1)
    split = _read_splits(chosen.inputs[0], len(lengths))
    if split is None or permutation is None:
        return None
    signal, analysis = split
    size, taps, count = lengths[0], analysis.shape[1], len(inner[1])
    padded, wide = maker(signal, "Pad"), size
    if padded is not None:
        pads = integers(padded, 1)
        if (
            pads is None
            or pads[:5] != [0] * 5
            or len(pads) != 6
            or str(padded.attrs.get("mode", "constant")) != "constant"
        ):
            return None
        if len(padded.inputs) > 2 and not padded.inputs[2].is_empty() and constant(padded, 2) != 0:
            return None
        signal, wide = padded.inputs[0], size - pads[5]
    rows = maker(signal, "Reshape")
    scaled = maker(rows.inputs[0], "Mul") if rows is not None and integers(rows, 1) == [-1, 1, wide] else None
    start = beside(scaled) if scaled is not None else None
    if start is None or len(start[1]) != wide or synthesis.shape != analysis.shape:
        return None
    expected = [size, *halves(size, taps, len(lengths))[:-1]]
    if lengths != expected or not count == len(permutation) == coefficients(size, taps, len(lengths)):
        return None
    doubles = [np.asarray(values, np.float64) for values in (start[1], analysis, inner[1], synthesis, after)]
    before, analysis, middle, synthesis, after_ = doubles
    indices = np.asarray(permutation, np.int64)
    if not (np.sort(indices) == np.arange(count)).all():
        return None
    return WaveletProduct(size, len(lengths), before, analysis, indices, middle, synthesis, after_), start[0]


def _read_joins(low: gs.Tensor) -> tuple[gs.Tensor, Floats, list[int]] | None:
    """Return what the synthesis reads, its filters, and the lengths it makes from fine to coarse."""
    lengths: list[int] = []
    filters: Floats | None = None
    mixed: gs.Tensor | None = None
    stop = 0
    while (node := maker(low, "ConvTranspose")) is not None:
        values, both = constant(node, 1), maker(node.inputs[0], "Concat")
        if values is None or both is None or len(both.inputs) != 2 or int(both.attrs.get("axis", 0)) != 1:
            return None
        if (
            values.shape[:2] != (2, 1)
            or values.ndim != 3
            or not _is_plain(node, "output_padding", "output_shape")
        ):
            return None
        if filters is not None and not np.array_equal(values[:, 0], filters):
            return None
        filters = values[:, 0].astype(np.float64)
        high = sliced(both.inputs[1], 2)
        pads = node.attrs.get("pads")
        if high is None or (mixed is not None and high[0] is not mixed) or high[1] != stop or pads is None:
            return None
        mixed, stop = high[0], high[2]
        half = high[2] - high[1]
        if pads[0] != values.shape[2] - 2:
            return None
        lengths.append(2 * half - int(pads[1]))
        low = both.inputs[0]
    coarsest = sliced(low, 2)
    if (
        filters is None
        or mixed is None
        or coarsest is None
        or coarsest[0] is not mixed
        or coarsest[1] != stop
    ):
        return None
    return mixed, filters, lengths


def _read_splits(tensor: gs.Tensor, levels: int) -> tuple[gs.Tensor, Floats] | None:
    """Return what the analysis reads and its filters."""
    bands = maker(tensor, "Concat")
    if bands is None or len(bands.inputs) != levels + 1 or int(bands.attrs.get("axis", 0)) != 2:
        return None
    *highs, low = bands.inputs
    filters: Floats | None = None
    for high in reversed(highs):
        lower, upper = sliced(low, 1), sliced(high, 1)
        if (
            lower is None
            or upper is None
            or lower[0] is not upper[0]
            or (lower[1:], upper[1:]) != ((0, 1), (1, 2))
        ):
            return None
        node = maker(lower[0], "Conv")
        values = constant(node, 1) if node is not None else None
        if (
            node is None
            or values is None
            or values.ndim != 3
            or values.shape[:2] != (2, 1)
            or not _is_plain(node)
        ):
            return None
        taps = values.shape[2]
        if [int(n) for n in node.attrs.get("pads", [])] != [taps - 2, taps - 1]:
            return None
        if filters is not None and not np.array_equal(values[:, 0, ::-1], filters):
            return None
        filters = values[:, 0, ::-1].astype(np.float64)
        low = node.inputs[0]
    return None if filters is None else (low, filters)


def _is_plain(node: gs.Node, *absent: str) -> bool:
    """Tell whether a convolution of stride 2 has no bias and nothing but what `write` gives it."""
    attrs = node.attrs
    return (
        [int(n) for n in attrs.get("strides", [])] == [2]
        and [int(n) for n in attrs.get("dilations", [1])] == [1]
        and int(attrs.get("group", 1)) == 1
        and attrs.get("auto_pad", "NOTSET") == "NOTSET"
        and not any(name in attrs for name in absent)
        and (len(node.inputs) < 3 or node.inputs[2].is_empty())
    )
