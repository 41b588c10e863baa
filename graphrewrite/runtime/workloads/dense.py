"""Dense float layers as onnxruntime runs them: what every other form has to beat."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from graphrewrite.ir import Builder, Model
from graphrewrite.runtime.workloads import Work, workloads

# (channels, side of the map): the stages of usual networks, and steps between them.
MAPS = ((32, 56), (64, 56), (64, 28), (128, 28), (128, 14), (256, 14), (256, 7), (512, 7), (512, 14))
# (features, rows): one sample, and a short sequence.
MATRICES = ((256, 1), (1024, 1), (2048, 1), (4096, 1), (256, 32), (1024, 32), (2048, 32))


def maps(densities: Sequence[float] = (1.0,)) -> Iterator[Work]:
    """Yield 1x1 and 3x3 convolutions of all maps at each density."""
    for density in densities:
        for taps in (1, 9):
            for channels, side in MAPS:
                yield Work(channels, channels, side * side, taps, density)


def matrices(densities: Sequence[float] = (1.0,)) -> Iterator[Work]:
    """Yield square products of all sizes at each density."""
    for density in densities:
        for features, rows in MATRICES:
            yield Work(features, features, rows, 1, density)


@workloads.register("Conv")
@dataclass(frozen=True)
class DenseConv:
    """A float convolution of stride 1 that keeps the size of its map."""

    def sizes(self) -> Iterator[Work]:
        """Return 1x1 and 3x3 convolutions."""
        return maps()

    def chain(self, work: Work, layers: int, seed: int) -> Model:
        """Draw the convolutions."""
        b = Builder(seed=seed)
        side, kernel = int(work.positions**0.5), int(work.taps**0.5)
        x = b.input([1, work.inputs, side, side], "x")
        for _ in range(layers):
            pads = [kernel // 2] * 4
            weight = b.weight(work.outputs, work.inputs, kernel, kernel)
            x = b.op("Conv", x, weight, b.constant(np.zeros(work.outputs, np.float32)), pads=pads)
        return b.model(x)


@workloads.register("MatMul")
@dataclass(frozen=True)
class DenseMatMul:
    """A float matrix product with constant weights."""

    def sizes(self) -> Iterator[Work]:
        """Return square ones."""
        return matrices()

    def chain(self, work: Work, layers: int, seed: int) -> Model:
        """Draw the products."""
        b = Builder(seed=seed)
        x = b.input([work.positions, work.inputs], "x")
        for _ in range(layers):
            x = b.op("MatMul", x, b.weight(work.inputs, work.outputs))
        return b.model(x)
