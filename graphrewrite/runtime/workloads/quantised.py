"""int8 layers as onnxruntime runs them, and with a share of their blocks of 16 outputs x 4 inputs left."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from graphrewrite import custom_ops
from graphrewrite.custom_ops.quads import pack
from graphrewrite.custom_ops.quads.sample import sparse_weight
from graphrewrite.ir import Builder, Model
from graphrewrite.runtime.workloads import Work, declared, workloads
from graphrewrite.runtime.workloads.dense import maps, matrices

_DENSITIES = (1.0, 0.5, 0.25, 0.1)


@workloads.register("QLinearConv")
@dataclass(frozen=True)
class QuantisedConv:
    """A convolution of bytes of stride 1 that keeps the size of its map."""

    def sizes(self) -> Iterator[Work]:
        """Return 1x1 and 3x3 convolutions."""
        return maps()

    def chain(self, work: Work, layers: int, seed: int) -> Model:
        """Draw the convolutions."""
        return _convolutions(work, layers, seed, is_sparse=False)


@workloads.register("QBlockSparseConv")
@dataclass(frozen=True)
class SparseQuantisedConv:
    """The same with a random share of its blocks left."""

    def sizes(self) -> Iterator[Work]:
        """Return the dense sizes at several densities."""
        return maps(_DENSITIES)

    def chain(self, work: Work, layers: int, seed: int) -> Model:
        """Draw the convolutions."""
        return _convolutions(work, layers, seed, is_sparse=True)


@workloads.register("MatMulInteger")
@dataclass(frozen=True)
class QuantisedMatMul:
    """A product with int8 weights whose inputs are quantised on the way."""

    def sizes(self) -> Iterator[Work]:
        """Return square ones."""
        return matrices()

    def chain(self, work: Work, layers: int, seed: int) -> Model:
        """Draw the products, in the form that onnxruntime's own quantiser writes and its sessions fuse."""
        b = Builder(seed=seed)
        x = b.input([work.positions, work.inputs], "x")
        step = b.constant(_steps(work))
        for _ in range(layers):
            weight = sparse_weight(b.rng, (work.outputs, work.inputs), 0.0).T
            rounded, scale, zero = b.op_all("DynamicQuantizeLinear", x, outputs=3)
            sums = b.op("MatMulInteger", rounded, b.constant(np.ascontiguousarray(weight)), zero)
            x = b.op("Mul", b.op("Cast", sums, to=1), b.op("Mul", scale, step))
        return b.model(x)


@workloads.register("QBlockSparseMatMul")
@dataclass(frozen=True)
class SparseQuantisedMatMul:
    """The same with a random share of its blocks left."""

    def sizes(self) -> Iterator[Work]:
        """Return the dense sizes at several densities."""
        return matrices(_DENSITIES)

    def chain(self, work: Work, layers: int, seed: int) -> Model:
        """Draw the products."""
        b = Builder(seed=seed)
        x = b.input([work.positions, work.inputs], "x")
        step, bias = b.constant(_steps(work)), b.constant(np.zeros(work.outputs, np.float32))
        sizes = {"in_features": work.inputs, "out_features": work.outputs}
        attributes = custom_ops.find("QBlockSparseMatMul").filled(sizes)
        for _ in range(layers):
            quads = pack(sparse_weight(b.rng, (work.outputs, work.inputs), 1 - work.density))
            packed = (b.constant(quads.blocks), b.constant(quads.positions))
            x = b.op("QBlockSparseMatMul", x, *packed, step, bias, domain=custom_ops.DOMAIN)
            x.inputs[0].attrs.update(attributes)
        return declared(b.model(x), "QBlockSparseMatMul")


def _steps(work: Work) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    """Return scales of the weights with which outputs are about as large as inputs."""
    return np.full(work.outputs, 1 / (74 * (work.inputs * work.taps * work.density) ** 0.5), np.float32)


def _convolutions(work: Work, layers: int, seed: int, is_sparse: bool) -> Model:
    b = Builder(seed=seed)
    side, kernel = int(work.positions**0.5), int(work.taps**0.5)
    x = b.input([1, work.inputs, side, side], "x", np.uint8)
    scale, zero = b.constant(np.array(0.05, np.float32)), b.constant(np.array(128, np.uint8))
    steps, no_zero = b.constant(_steps(work)), b.constant(np.array(0, np.int8))
    bias = b.constant(np.zeros(work.outputs, np.int32))
    window = {"kernel_shape": [kernel, kernel], "pads": [kernel // 2] * 4}
    sizes = {"in_channels": work.inputs, "out_channels": work.outputs}
    attributes = custom_ops.find("QBlockSparseConv").filled({**sizes, **window})
    for _ in range(layers):
        weight = sparse_weight(b.rng, (work.outputs, work.inputs, kernel, kernel), 1 - work.density)
        if is_sparse:
            quads = pack(weight)
            packed = (b.constant(quads.blocks), b.constant(quads.positions))
            sources = (x, scale, zero, *packed, steps, scale, zero, bias)
            x = b.op("QBlockSparseConv", *sources, domain=custom_ops.DOMAIN)
            x.inputs[0].attrs.update(attributes)
        else:
            sources = (x, scale, zero, b.constant(weight), steps, no_zero, scale, zero, bias)
            x = b.op("QLinearConv", *sources)
            x.inputs[0].attrs.update(window)
    model = b.model(x, dtypes=[np.uint8])
    return declared(model, "QBlockSparseConv") if is_sparse else model
