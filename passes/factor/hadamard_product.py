"""A layer as diagonals around a Walsh-Hadamard transform, a permutation and the transform once more."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs
from scipy.linalg import hadamard

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
from graphrewrite.passes.factor.writer import Writer


@dataclass(frozen=True, eq=False)
class HadamardProduct:
    """y = after . H . middle . permutation . H . before . x, for rows of a power of two numbers; H keeps lengths.

    Narrower inputs are filled up with zeros, wider outputs than `after` are cut. Known as the fastfood form of a layer
    (Le, Sarlos and Smola, 2013).
    """

    before: Floats
    permutation: npt.NDArray[np.int64]
    middle: Floats
    after: Floats

    @property
    def size(self) -> int:
        """The length that is transformed."""
        return len(self.middle)

    @property
    def parameters(self) -> int:
        """How many numbers the three diagonals hold."""
        return len(self.before) + len(self.middle) + len(self.after)

    def expand(self) -> Floats:
        """Return the weight [in, out] it stands for."""
        matrix = transform(self.size)
        inputs = self.before[:, None] * matrix[: len(self.before)]
        return (inputs[:, self.permutation] * self.middle) @ matrix[:, : len(self.after)] * self.after

    def write(self, writer: Writer, x: gs.Tensor, bias: Floats | None) -> gs.Variable:
        """Write each transform as two products with the transforms of the digits of the position."""
        low = as_rows(writer, writer.op("Mul", x, writer.floats(self.before, "before")), len(self.before))
        if len(self.before) < self.size:
            low = writer.op("Pad", low, writer.ints([0, 0, 0, self.size - len(self.before)], "pads"))
        coefficient = self._write_transform(writer, low)
        chosen = writer.op("Gather", coefficient, writer.constant(self.permutation, "permutation"), axis=1)
        mixed = writer.op("Mul", chosen, writer.floats(self.middle, "middle"))
        low = self._write_transform(writer, mixed)
        if len(self.after) < self.size:
            low = take(writer, low, 1, 0, len(self.after))
        result = as_before(writer, low, x, len(self.after))
        result = writer.op("Mul", result, writer.floats(self.after, "after"))
        return result if bias is None else writer.op("Add", result, writer.floats(bias, "bias"))

    def _write_transform(self, writer: Writer, rows: gs.Tensor) -> gs.Variable:
        slow, fast = _digits(self.size)
        grid = as_rows(writer, rows, slow, fast)
        grid = writer.op("MatMul", grid, _matrix(writer, fast))
        grid = writer.op("MatMul", _matrix(writer, slow), grid)
        return as_rows(writer, grid, self.size)

    def lowered(self, writer: Writer, x: gs.Tensor, bias: Floats | None) -> gs.Variable:
        """Write one node of our own, with its function body."""
        constants = [
            writer.floats(self.before, "before"),
            writer.constant(self.permutation, "permutation"),
            writer.floats(self.middle, "middle"),
            writer.floats(self.after, "after"),
            writer.floats(np.zeros(len(self.after)) if bias is None else bias, "bias"),
        ]
        return writer.custom("HadamardLinear", [x, *constants])


def transform(size: int) -> Floats:
    """Return the Walsh-Hadamard matrix of a power of two, scaled to keep lengths."""
    matrix: Floats = np.asarray(hadamard(size), np.float64) / np.sqrt(size)
    return matrix


def _matrix(writer: Writer, size: int) -> gs.Constant:
    return writer.constant(transform(size).astype(np.float32), "transform")


def _digits(size: int) -> tuple[int, int]:
    """Return two powers of two with this product, the first at most twice the second."""
    fast = 1 << (size.bit_length() - 1) // 2
    return size // fast, fast


def read_hadamard(last: gs.Node) -> tuple[HadamardProduct, gs.Tensor] | None:
    """Return the product that ends in the Mul `last`, and its input; None where it is not as `write` writes it."""
    end = beside(last)
    shaped = maker(end[0], "Reshape") if end is not None else None
    if end is None or shaped is None:
        return None
    rows, after = shaped.inputs[0], end[1]
    cut = sliced(rows, 1)
    if cut is not None:
        if cut[1:] != (0, len(after)):
            return None
        rows = cut[0]
    mixed = _read_transform(rows)
    product = maker(mixed[0], "Mul") if mixed is not None else None
    inner = beside(product) if product is not None else None
    chosen = maker(inner[0], "Gather") if inner is not None else None
    if mixed is None or inner is None or chosen is None or int(chosen.attrs.get("axis", 0)) != 1:
        return None
    size, permutation, first = mixed[1], integers(chosen, 1), _read_transform(chosen.inputs[0])
    if permutation is None or first is None or first[1] != size or sorted(permutation) != list(range(size)):
        return None
    signal, wide = first[0], size
    padded = maker(signal, "Pad")
    if padded is not None:
        pads = integers(padded, 1)
        if (
            pads is None
            or pads[:3] != [0] * 3
            or len(pads) != 4
            or len(padded.inputs) > 2
            or padded.attrs.get("mode")
        ):
            return None
        signal, wide = padded.inputs[0], size - pads[3]
    narrow = maker(signal, "Reshape")
    scaled = (
        maker(narrow.inputs[0], "Mul") if narrow is not None and integers(narrow, 1) == [-1, wide] else None
    )
    start = beside(scaled) if scaled is not None else None
    if start is None or len(start[1]) != wide or len(inner[1]) != size:
        return None
    before, middle, after_ = (np.asarray(values, np.float64) for values in (start[1], inner[1], after))
    return HadamardProduct(before, np.asarray(permutation, np.int64), middle, after_), start[0]


def _read_transform(rows: gs.Tensor) -> tuple[gs.Tensor, int] | None:
    """Return what a transform reads, and its size."""
    flat = maker(rows, "Reshape")
    left = maker(flat.inputs[0], "MatMul") if flat is not None else None
    right = maker(left.inputs[1], "MatMul") if left is not None else None
    if flat is None or left is None or right is None:
        return None
    grid = maker(right.inputs[0], "Reshape")
    slow, fast = constant(left, 0), constant(right, 1)
    if grid is None or slow is None or fast is None:
        return None
    size = len(slow) * len(fast)
    for values in (slow, fast):
        count = len(values)
        if (
            count & (count - 1)
            or values.shape != (count, count)
            or not np.allclose(values, transform(count), atol=1e-6)
        ):
            return None
    if integers(grid, 1) != [-1, len(slow), len(fast)] or integers(flat, 1) != [-1, size]:
        return None
    return grid.inputs[0], size
