"""Lowering a drawn net, and comparing it with itself."""

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.ir import Builder, Model
from graphrewrite.passes.binary import LowerBinaryConv
from graphrewrite.pipeline import Context, Pipeline
from graphrewrite.runtime import run


def lowered(model: Model, step: LowerBinaryConv | None = None) -> Model:
    """Lower a model; the pipeline has run both and compared them."""
    return Pipeline([step or LowerBinaryConv()]).run(model, Context()).model


def ops(model: Model) -> list[str]:
    return [node.op for node in model.graph.nodes]


def ours(model: Model) -> list[str]:
    return [node.op for node in model.graph.nodes if node.domain == "graphrewrite"]


def fed(model: Model, seed: int = 0, batch: int = 2) -> dict[str, npt.NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    return {
        tensor.name: rng.standard_normal([batch if isinstance(d, str) else d for d in tensor.shape]).astype(
            np.float32
        )
        for tensor in model.inputs
    }


def assert_equal(before: Model, after: Model) -> None:
    """Compare two models to the bit."""
    for seed in range(3):
        one, two = (run(model, fed(before, seed)) for model in (before, after))
        for name, values in one.items():
            np.testing.assert_array_equal(two[name], values)


def picture(b: Builder, channels: int, size: int = 6) -> gs.Variable:
    return b.input(["N", channels, size, size], "x")
