"""Drawing a graph by hand, node by node, in the style of one exporter or another."""

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.corpus.index import Array, Feed
from tests.corpus.spec import Built, Family, Spec

Attribute: TypeAlias = (
    int | float | str | Sequence[int] | Sequence[float] | onnx.GraphProto | onnx.TensorProto
)
TYPES = {
    "float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "float64": TensorProto.DOUBLE,
    "int64": TensorProto.INT64, "int32": TensorProto.INT32, "bool": TensorProto.BOOL,
}  # fmt: skip


class Sketch:
    """A graph under construction; every method returns the name of the tensor it made.

    `home` says where weights live: "initializer", "input" (also listed as graph input, as before IR version 4) or
    "node" (a Constant node each). `style` turns an operator and a number into a node name.
    """

    def __init__(self, seed: str, home: str = "initializer", style: str = "{op}_{n}") -> None:
        self.rng = np.random.default_rng(zlib.crc32(seed.encode()))
        self.home, self.style = home, style
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def node(self, op: str, *inputs: str, **attributes: Attribute) -> str:
        """Append a node with one output."""
        return self.nodes_with(op, inputs, 1, "", attributes)[0]

    def nodes_with(
        self, op: str, inputs: Sequence[str], outputs: int, domain: str, attributes: Mapping[str, Attribute]
    ) -> list[str]:
        """Append a node with several outputs or of another operator set; their names are returned."""
        name = self.style.format(op=op, n=len(self.nodes))
        names = [name, *(f"{name}:{i}" for i in range(1, outputs))]
        node = helper.make_node(op, list(inputs), names, name=f"{name}_node", domain=domain)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        self.nodes.append(node)
        return names

    def tensor(self, values: Array | Sequence[int] | Sequence[float] | float, dtype: str = "") -> str:
        """A constant: integers become int64, floats float32, unless `dtype` says otherwise."""
        array = np.asarray(values)
        kind = dtype or ("int64" if np.issubdtype(array.dtype, np.integer) else "float32")
        name = self.style.format(op="const", n=f"{len(self.nodes)}_{len(self.weights)}")
        proto = numpy_helper.from_array(array.astype(kind, order="C"), name)
        if self.home == "node":
            self.nodes.append(helper.make_node("Constant", [], [name], value=proto))
        else:
            self.weights.append(proto)
        return name

    def weight(self, *shape: int, fan_in: int | None = None) -> str:
        """Random values that keep the variance of what they multiply; fan-in of a convolution kernel by default."""
        fan = fan_in or math.prod(shape[1:])
        return self.tensor(self.rng.standard_normal(shape) * math.sqrt(1.5 / fan))

    def vector(self, size: int, low: float = -0.3, high: float = 0.3) -> str:
        """A bias, gain or statistic, uniform in [low, high]."""
        return self.tensor(self.rng.uniform(low, high, size))

    def conv(
        self, x: str, into: int, out: int, kernel: int = 3, bias: bool = True, **attributes: Attribute
    ) -> str:
        """A square 2-D convolution that keeps the size at stride 1; `group` as in ONNX."""
        group = attributes.get("group", 1)
        assert isinstance(group, int)
        values = [x, self.weight(out, into // group, kernel, kernel), *([self.vector(out)] if bias else [])]
        if "auto_pad" not in attributes:
            attributes.setdefault("pads", [kernel // 2] * 4)
        return self.node("Conv", *values, kernel_shape=[kernel, kernel], **attributes)

    def norm(self, x: str, channels: int, **attributes: Attribute) -> str:
        """Batch normalisation with random gains and statistics."""
        gain, offset = self.vector(channels, 0.7, 1.3), self.vector(channels)
        mean, variance = self.vector(channels), self.vector(channels, 0.6, 1.6)
        return self.node("BatchNormalization", x, gain, offset, mean, variance, epsilon=1e-3, **attributes)

    def dense(self, x: str, into: int, out: int) -> str:
        """MatMul and Add, weights [into, out]."""
        return self.node("Add", self.node("MatMul", x, self.weight(into, out, fan_in=into)), self.vector(out))

    def finish(
        self,
        feeds: tuple[Feed, ...],
        outputs: Sequence[tuple[str, int]],
        opset: int,
        ir: int = 8,
        **extra: object,
    ) -> Built:
        """Close the graph; `outputs` are (name, rank). `extra` goes to the model: functions, opset imports."""
        listed = [
            helper.make_tensor_value_info(f.name, TYPES[f.dtype], ["N" if s is None else s for s in f.shape])
            for f in feeds
        ]
        if self.home == "input":
            listed += [helper.make_tensor_value_info(w.name, w.data_type, list(w.dims)) for w in self.weights]
        results = [
            helper.make_tensor_value_info(name, self._type(feeds), [None] * rank) for name, rank in outputs
        ]
        graph = helper.make_graph(self.nodes, "graph", listed, results, self.weights)
        imports = [helper.make_opsetid("", opset), *extra.pop("imports", [])]  # type: ignore[misc]
        return Built(helper.make_model(graph, opset_imports=imports, ir_version=ir, **extra), feeds)

    def _type(self, feeds: tuple[Feed, ...]) -> int:
        return TYPES["float64"] if any(f.dtype == "float64" for f in feeds) else TensorProto.FLOAT


@dataclass(frozen=True)
class Hand:
    """A hand-drawn model: what it is called, what family it belongs to, and the function that draws it."""

    name: str
    family: Family
    draw: Callable[[], Built]
    core: bool = False


def hand_specs(source: str, rows: Sequence[Hand], exporter: str = "hand") -> list[Spec]:
    """Specs of hand-drawn models."""
    return [
        Spec(f"{row.name}.{exporter}", row.family, source, exporter, partial(row.draw), row.core)
        for row in rows
    ]
