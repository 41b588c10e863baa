"""What tests of quantisation share: a net with all that has integer kernels, and what onnxruntime makes of it."""

import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from graphrewrite.data import ArraySource
from graphrewrite.ir import Array, Builder, Model
from graphrewrite.passes.quant import InsertQdq
from graphrewrite.pipeline import Context, Pipeline, PipelineResult


def context(shape: tuple[int, ...] = (8, 3, 12, 12), seed: int = 0) -> Context:
    """Samples for an input x."""
    rng = np.random.default_rng(seed)
    return Context(data=ArraySource({"x": rng.standard_normal(shape).astype(np.float32)}))


def net() -> Model:
    """A residual net with everything that has integer kernels, and a head of two products."""
    b = Builder(opset=17, seed=3)
    x = b.input(["N", 3, 12, 12], "x")
    stem = b.relu(b.conv(x, 8, 3, name="stem"))
    pooled = b.op("MaxPool", stem, kernel_shape=[2, 2], strides=[2, 2])
    inner = b.conv(b.relu(b.conv(pooled, 8, 8, group=8, name="deep")), 8, 8, kernel=1, name="point")
    joined = b.relu(b.add(pooled, inner))
    six = b.op("Clip", b.conv(joined, 8, 8, name="six"), b.constant(np.float32(0)), b.constant(np.float32(6)))
    gate = b.op("Mul", joined, b.op("Sigmoid", b.conv(joined, 8, 8, name="gate")))
    wide = b.concat(six, gate, b.op("LeakyRelu", b.op("Mul", joined, b.constant(np.float32(1.5)))))
    scales = b.constant(np.array([1, 1, 2, 2], np.float32))
    large = b.op("Resize", wide, None, scales, mode="nearest")
    last = b.op("AveragePool", b.conv(large, 4, 24, name="last"), kernel_shape=[2, 2], strides=[2, 2])
    flat = b.op("Flatten", b.op("GlobalAveragePool", last))
    hidden = b.relu(b.linear(flat, 16, 4, name="hidden"))
    return b.model(b.op("MatMul", hidden, b.weight(16, 5), name="head"))


def quantised(model: Model, step: InsertQdq | None = None, around: Context | None = None) -> PipelineResult:
    return Pipeline((step or InsertQdq(),)).run(model, around or context())


def served(model: Model) -> Counter[str]:
    """Count the operators that onnxruntime runs a model with."""
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(Path(folder) / "served.onnx")
        options.log_severity_level = 4
        ort.InferenceSession(model.to_proto().SerializeToString(), options)
        graph = onnx.load(options.optimized_model_filepath).graph
        return Counter(node.op_type for node in graph.node)


def only(outputs: Mapping[str, Array]) -> npt.NDArray[np.float64]:
    """Return the one output there is."""
    (values,) = outputs.values()
    return values.astype(np.float64)


def left(result: PipelineResult) -> Mapping[str, str]:
    return {note.subject: note.text for note in result.notes if note.kind == "skipped"}
