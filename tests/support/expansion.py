"""Fused operators that onnxruntime has no CPU kernel for, written out in standard operators, so that they can run.

Slow and plain; the formulas are those of the operators' documentation. Tensor names stay.
"""

from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Model, Namer
from graphrewrite.ir.edit import add_constant, all_graphs, all_nodes
from tests.support.tolerances import Array

MICROSOFT = "com.microsoft"


def expanded(model: Model) -> Model:
    """Return the model with such operators written out, in bodies too; the model itself when it has none."""
    if not any(_is_fused(node) for node in all_nodes(model.graph)):
        return model
    copy = model.clone()
    namer = Namer(copy.graph)
    for graph in list(all_graphs(copy.graph)):
        nodes = list(graph.nodes)
        graph.nodes.clear()
        for node in nodes:
            if _is_fused(node):
                writing = _Writing(graph, namer, node, copy.opset)
                _WRITTEN[node.op](writing)
                node.inputs.clear()
                node.outputs.clear()
            else:
                graph.nodes.append(node)
    return copy


def _is_fused(node: gs.Node) -> bool:
    return node.domain == MICROSOFT and node.op in _WRITTEN


class _Writing:
    """One operator being written out."""

    def __init__(self, graph: gs.Graph, namer: Namer, node: gs.Node, opset: int) -> None:
        self.graph, self.namer, self.node, self.opset = graph, namer, node, opset
        self.inputs, self.outputs, self.attrs = list(node.inputs), list(node.outputs), dict(node.attrs)

    def has(self, slot: int) -> bool:
        return slot < len(self.inputs) and bool(self.inputs[slot].name)

    def const(self, values: Array) -> gs.Tensor:
        return add_constant(self.graph, self.namer.fresh("expanded"), values)

    def ints(self, *values: int) -> gs.Tensor:
        return self.const(np.array(values, dtype=np.int64))

    def op(self, name: str, *inputs: gs.Tensor, **attrs: object) -> gs.Tensor:
        return self.ops(name, 1, *inputs, **attrs)[0]

    def ops(self, name: str, count: int, *inputs: gs.Tensor, **attrs: object) -> list[gs.Tensor]:
        outputs = [gs.Variable(self.namer.fresh(f"expanded.{name}")) for _ in range(count)]
        self.graph.nodes.append(gs.Node(name, "", attrs, list(inputs), outputs))
        return list(outputs)

    def result(self, value: gs.Tensor, output: int = 0) -> None:
        if output < len(self.outputs) and self.outputs[output].name:
            self.graph.nodes.append(gs.Node("Identity", "", {}, [value], [self.outputs[output]]))

    def number(self, name: str, default: int) -> int:
        value = self.attrs.get(name, default)
        assert isinstance(value, int)
        return value


def _bias_add(w: _Writing) -> None:
    w.result(w.op("Add", w.op("Add", *w.inputs[:2]), w.inputs[2]))


def _bias_split_gelu(w: _Writing) -> None:
    total = w.op("Add", *w.inputs[:2])
    halves = {"num_outputs": 2} if w.opset >= 18 else {}
    first, second = w.ops("Split", 2, total, axis=-1, **halves)
    half, one, root = (w.const(np.array(v, np.float32)) for v in (0.5, 1.0, 2.0**-0.5))
    bell = w.op("Add", w.op("Erf", w.op("Mul", second, root)), one)
    w.result(w.op("Mul", first, w.op("Mul", w.op("Mul", second, half), bell)))


def _group_norm(w: _Writing) -> None:
    last, groups = bool(w.number("channels_last", 1)), w.number("groups", 1)
    x = w.op("Transpose", w.inputs[0], perm=[0, 3, 1, 2]) if last else w.inputs[0]
    if w.has(3):
        skip = w.inputs[3]
        if len(skip.shape or ()) == 2:
            skip = w.op("Unsqueeze", skip, w.ints(2, 3))
        elif last:
            skip = w.op("Transpose", skip, perm=[0, 3, 1, 2])
        x = w.op("Add", x, skip)
    if w.has(4):
        x = w.op("Add", x, w.op("Unsqueeze", w.inputs[4], w.ints(1, 2)))
    ones, zeros = (w.const(np.full(groups, value, np.float32)) for value in (1, 0))
    split = w.op("Reshape", x, w.ints(0, groups, -1))
    y = w.op("InstanceNormalization", split, ones, zeros, epsilon=w.attrs.get("epsilon", 1e-5))
    y = w.op("Reshape", y, w.op("Shape", x))
    y = w.op("Mul", y, w.op("Unsqueeze", w.inputs[1], w.ints(1, 2)))
    y = w.op("Add", y, w.op("Unsqueeze", w.inputs[2], w.ints(1, 2)))
    if w.number("activation", 0):
        y = w.op("Mul", y, w.op("Sigmoid", y))
    for output, value in enumerate((y, x)):
        w.result(w.op("Transpose", value, perm=[0, 2, 3, 1]) if last else value, output)


def _nhwc_conv(w: _Writing) -> None:
    x = w.op("Transpose", w.inputs[0], perm=[0, 3, 1, 2])
    rest = [tensor for tensor in w.inputs[1:3] if tensor.name]
    w.result(w.op("Transpose", w.op("Conv", x, *rest, **w.attrs), perm=[0, 2, 3, 1]))


def _relative_position_bias(w: _Writing) -> None:
    """Half of the buckets are near distances one by one, the other half far ones by their logarithm, both ways."""
    table = w.inputs[0].values
    queries, keys = (int(np.asarray(tensor.values).ravel()[0]) for tensor in w.inputs[1:3])
    count, furthest = len(table), w.number("max_distance", 128)
    away = np.arange(keys)[None, :] - np.arange(queries)[:, None]
    bucket = np.zeros_like(away)
    if w.number("is_bidirectional", 0):
        count //= 2
        bucket += count * (away > 0)
        away = np.abs(away)
    else:
        away = -np.minimum(away, 0)
    near = count // 2
    with np.errstate(divide="ignore"):
        far = near + (np.log(away / near) / np.log(furthest / near) * (count - near)).clip(0).astype(np.int64)
    bucket += np.where(away < near, away, np.minimum(far, count - 1))
    rows = w.op("Gather", w.inputs[0], w.const(bucket), axis=0)
    w.result(w.op("Unsqueeze", w.op("Transpose", rows, perm=[2, 0, 1]), w.ints(0)))


_WRITTEN: dict[str, Callable[[_Writing], None]] = {
    "BiasAdd": _bias_add,
    "BiasSplitGelu": _bias_split_gelu,
    "GroupNorm": _group_norm,
    "SkipGroupNorm": _group_norm,
    "NhwcConv": _nhwc_conv,
    "RelativePositionBias": _relative_position_bias,
}
