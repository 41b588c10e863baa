"""Layers of signs with floats on both sides, the slowest form of a binary layer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite import custom_ops
from graphrewrite.custom_ops.binary.pack import Words, pack, pack_kernel
from graphrewrite.custom_ops.spec import Value
from graphrewrite.ir import Builder, Model
from graphrewrite.runtime.workloads import Work, declared, workloads
from graphrewrite.runtime.workloads.dense import maps, matrices


@workloads.register("BinaryConv")
@dataclass(frozen=True)
class BinaryConv:
    """A convolution of stride 1 that keeps the size of its map."""

    def sizes(self) -> Iterator[Work]:
        """Return 1x1 and 3x3 convolutions."""
        return maps()

    def chain(self, work: Work, layers: int, seed: int) -> Model:
        """Draw the convolutions."""
        side, kernel = int(work.positions**0.5), int(work.taps**0.5)
        b = Builder(seed=seed)
        x = b.input([1, work.inputs, side, side], "x")
        for _ in range(layers):
            words = pack_kernel(b.rng.random((work.outputs, work.inputs, kernel, kernel)) < 0.5)
            x = _layer(b, "BinaryConv", x, words, work, {"pads": [kernel // 2] * 4})
        return declared(b.model(x), "BinaryConv")


@workloads.register("BinaryMatMul")
@dataclass(frozen=True)
class BinaryMatMul:
    """A matrix product."""

    def sizes(self) -> Iterator[Work]:
        """Return square ones."""
        return matrices()

    def chain(self, work: Work, layers: int, seed: int) -> Model:
        """Draw the products."""
        b = Builder(seed=seed)
        x = b.input([work.positions, work.inputs], "x")
        for _ in range(layers):
            words = pack(b.rng.random((work.outputs, work.inputs)) < 0.5)
            x = _layer(b, "BinaryMatMul", x, words, work, {})
        return declared(b.model(x), "BinaryMatMul")


def _layer(
    b: Builder, op: str, x: gs.Variable, words: Words, work: Work, attributes: Mapping[str, Value]
) -> gs.Variable:
    zeros = np.zeros(work.inputs, np.float32)
    scale = np.full(work.outputs, 1 / np.sqrt(work.inputs * work.taps), np.float32)
    y = b.op(op, x, *map(b.constant, (zeros, words, scale, zeros)), domain=custom_ops.DOMAIN)
    y.inputs[0].attrs.update(custom_ops.find(op).filled({"channels": work.inputs, **attributes}))
    return y
