"""Float layers of whose weights whole blocks are zero, for every width of block that pays."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from graphrewrite import custom_ops
from graphrewrite.custom_ops.blocks.pack import pack
from graphrewrite.custom_ops.spec import Value
from graphrewrite.ir import Builder, Model
from graphrewrite.runtime.workloads import Work, declared, workloads
from graphrewrite.runtime.workloads.dense import maps, matrices

_DENSITIES = (0.5, 0.25, 0.1)


@dataclass(frozen=True)
class SparseConv:
    """A convolution with a random share of its blocks left."""

    width: int

    def sizes(self) -> Iterator[Work]:
        """Return the dense sizes at several densities."""
        return maps(_DENSITIES)

    def chain(self, work: Work, layers: int, seed: int) -> Model:
        """Draw the convolutions."""
        side, kernel = int(work.positions**0.5), int(work.taps**0.5)
        shape = (work.outputs, work.inputs, kernel, kernel)
        attributes: dict[str, Value] = {
            "in_channels": work.inputs,
            "out_channels": work.outputs,
            "kernel_shape": [kernel, kernel],
            "pads": [kernel // 2] * 4,
        }
        return _chain(
            "BlockSparseConv", [1, work.inputs, side, side], shape, work, self.width, layers, seed, attributes
        )


@dataclass(frozen=True)
class SparseMatMul:
    """A matrix product with a random share of its blocks left."""

    width: int

    def sizes(self) -> Iterator[Work]:
        """Return the dense sizes at several densities."""
        return matrices(_DENSITIES)

    def chain(self, work: Work, layers: int, seed: int) -> Model:
        """Draw the products."""
        shape = (work.outputs, work.inputs)
        attributes: dict[str, Value] = {"in_features": work.inputs, "out_features": work.outputs}
        return _chain(
            "BlockSparseMatMul",
            [work.positions, work.inputs],
            shape,
            work,
            self.width,
            layers,
            seed,
            attributes,
        )


def _chain(
    op: str,
    shape: list[int],
    weight: tuple[int, ...],
    work: Work,
    width: int,
    layers: int,
    seed: int,
    attributes: Mapping[str, Value],
) -> Model:
    b = Builder(seed=seed)
    x = b.input(shape, "x")
    bias = b.constant(np.zeros(work.outputs, np.float32))
    for _ in range(layers):
        blocks = pack(_sparse(b.rng, weight, width, work.density), width)
        drawn = custom_ops.find(op).filled(attributes)
        sources = (x, b.constant(blocks.blocks), b.constant(blocks.positions), bias)
        x = b.op(op, *sources, domain=custom_ops.DOMAIN)
        x.inputs[0].attrs.update(drawn)
    return declared(b.model(x), op)


def _sparse(
    rng: np.random.Generator, shape: tuple[int, ...], width: int, density: float
) -> npt.NDArray[np.float32]:
    """Return a weight of which a random share of the blocks of `width` outputs is not zero."""
    values = rng.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(np.prod(shape[1:]) * density))
    kept = rng.random((-(-shape[0] // width), *shape[1:])) < density
    return values * np.repeat(kept, width, axis=0)[: shape[0]]


for _width in (4, 8, 16, 32):
    workloads.register(f"BlockSparseConv/{_width}")(partial(SparseConv, _width))
    workloads.register(f"BlockSparseMatMul/{_width}")(partial(SparseMatMul, _width))
