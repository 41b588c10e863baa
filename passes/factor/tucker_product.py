"""A convolution's weight as a small convolution between two that only mix channels."""

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.passes.factor.factors import Floats, places
from graphrewrite.passes.factor.writer import Writer


@dataclass(frozen=True, eq=False)
class Tucker2:
    """`left` [in, rank in], `core` [rank in, taps, rank out] and `right` [rank out, out] of one convolution."""

    left: Floats
    core: Floats
    right: Floats

    @property
    def parameters(self) -> int:
        """How many numbers the three hold."""
        return int(self.left.size + self.core.size + self.right.size)

    @property
    def rank(self) -> int:
        """The larger of the two inner widths."""
        return int(max(self.left.shape[1], self.right.shape[0]))

    def expand(self) -> Floats:
        """Return the product [in x taps, out]."""
        whole: Floats = np.einsum("ir,rts,so->ito", self.left, self.core, self.right, optimize=True)
        return whole.reshape(-1, self.right.shape[1])

    def write_convolution(
        self, writer: Writer, x: gs.Tensor, bias: Floats | None, kernel: tuple[int, ...], like: gs.Node
    ) -> gs.Variable:
        """Write three convolutions; the one in the middle has the kernel, strides and padding of `like`."""
        ones = [1] * len(kernel)
        first = self.left.T.reshape(*self.left.T.shape, *ones)
        middle = self.core.transpose(2, 0, 1).reshape(self.core.shape[2], self.core.shape[0], *kernel)
        last = self.right.T.reshape(*self.right.T.shape, *ones)
        inner = writer.op("Conv", x, writer.floats(first, "left"), kernel_shape=ones)
        inner = writer.op(
            "Conv", inner, writer.floats(middle, "core"), kernel_shape=list(kernel), **places(like)
        )
        constants = [writer.floats(last, "right")]
        if bias is not None:
            constants.append(writer.floats(bias, "bias"))
        return writer.op("Conv", inner, *constants, kernel_shape=ones)
