"""A weight as the product of two thin ones."""

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.passes.factor.factors import Floats, places
from graphrewrite.passes.factor.writer import Writer


@dataclass(frozen=True, eq=False)
class LowRank:
    """`left` [in, rank] times `right` [rank, out]."""

    left: Floats
    right: Floats

    @property
    def parameters(self) -> int:
        """How many numbers both hold."""
        return int(self.left.size + self.right.size)

    @property
    def rank(self) -> int:
        """The width between the two."""
        return int(self.left.shape[1])

    def expand(self) -> Floats:
        """Return the product [in, out]."""
        return self.left @ self.right

    def write(self, writer: Writer, x: gs.Tensor, bias: Floats | None) -> gs.Variable:
        """Write two products and the sum with the bias."""
        inner = writer.op("MatMul", x, writer.floats(self.left, "left"))
        outer = writer.op("MatMul", inner, writer.floats(self.right, "right"))
        return outer if bias is None else writer.op("Add", outer, writer.floats(bias, "bias"))

    def write_convolution(
        self, writer: Writer, x: gs.Tensor, bias: Floats | None, kernel: tuple[int, ...], like: gs.Node
    ) -> gs.Variable:
        """Write a convolution to `rank` channels and one of size 1 behind it.

        The weight is that of a convolution without groups, [channels in x kernel, channels out].
        """
        narrow = self.left.T.reshape(self.rank, -1, *kernel)
        wide = self.right.T.reshape(self.right.shape[1], self.rank, *(1 for _ in kernel))
        inner = writer.op("Conv", x, writer.floats(narrow, "left"), kernel_shape=list(kernel), **places(like))
        constants = [writer.floats(wide, "right")]
        if bias is not None:
            constants.append(writer.floats(bias, "bias"))
        return writer.op("Conv", inner, *constants, kernel_shape=[1] * len(kernel))


def truncated(weight: Floats, rank: int) -> LowRank:
    """Return the closest product of this rank, both sides of equal size in the norm."""
    u, s, v = np.linalg.svd(weight, full_matrices=False)
    root = np.sqrt(s[:rank])
    return LowRank(u[:, :rank] * root, root[:, None] * v[:rank])
