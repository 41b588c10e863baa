"""Layers of a plan as products of rows with groups of weights, which is what learning about them works on."""

from dataclasses import dataclass
from math import inf

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Array, Model
from graphrewrite.match.view import View, is_default_domain
from graphrewrite.passes.quant.grid import Singles, Stored, along
from graphrewrite.passes.quant.rows import Reader, Sliding
from graphrewrite.passes.quant.write import Plan
from graphrewrite.passes.tidy.reading import integer, source, text


@dataclass(frozen=True)
class Site:
    """A Conv, Gemm or MatMul of a plan; arrays of weights are [groups, outputs of a group, inputs].

    Attributes:
        number: of the node in the graph.
        op, read, output: its operator, and the names of what it reads and writes.
        weight: in floats, as the node holds it.
        stored: its codes.
        groups: independent products side by side.
        axis: of the weight, that counts outputs.
        bias: in floats, [groups, outputs of a group]; zeros where there is none.
        bounds: what the next operator cuts the output to; infinite where there is none.
        sliding: how the window of a convolution moves; None for products.
    """

    number: int
    op: str
    read: str
    output: str
    weight: Array
    stored: Stored
    groups: int
    axis: int
    bias: Singles
    bounds: tuple[float, float]
    sliding: Sliding | None

    @property
    def axis_of_outputs(self) -> int:
        """Axis of what the node writes, that counts outputs."""
        return -1 if self.sliding is None else 1

    @property
    def top(self) -> int:
        """The highest code."""
        bits = self.stored.bits
        return (1 << bits - 1) - 1 if self.stored.apart == 1 else (1 << bits) - 1

    @property
    def steps(self) -> Singles:
        """What a step is worth, [groups, outputs of a group]."""
        outputs = self.weight.shape[self.axis]
        return np.broadcast_to(self.stored.steps, outputs).reshape(self.groups, -1).astype(np.float32)

    @property
    def in_steps(self) -> Singles:
        """The float weight in steps."""
        return self._grouped(
            self.weight.astype(np.float32) / along(self.stored.steps, self.stored.axis, self.weight.ndim)
        )

    @property
    def reader(self) -> Reader:
        """How it reads its input, by the name that this has in the model of floats."""
        return Reader(self.read, self.sliding)

    def read_in(self, rounded: Model) -> str:
        """Return the name of what the node reads where its model was rounded; outputs keep their names there."""
        makers = {out.name: node for node in rounded.graph.nodes for out in node.outputs}
        node = makers[self.output]
        while node.op != self.op:  # what rounds the output stands behind it
            node = makers[node.inputs[0].name]
        return str(node.inputs[0].name)

    def replaced(self, plan: Plan, codes: Array, more: Singles) -> Plan:
        """Return the plan with other codes for the weight, and a bias of `more` [groups, outputs of a group]."""
        operands = []
        for each in plan.operands:
            stored = each.stored
            if (each.node, each.slot) == (self.number, 1):
                stored = stored._replace(codes=self._as_held(codes).astype(stored.codes.dtype))
            elif (each.node, each.slot) == (self.number, 2):
                bias = (self.bias.astype(np.float64) + more).reshape(stored.codes.shape)
                stored = stored._replace(codes=np.rint(bias / stored.steps).astype(stored.codes.dtype))
            operands.append(each._replace(stored=stored))
        return plan._replace(operands=operands)

    def _grouped(self, values: Array) -> Singles:
        first = np.moveaxis(values, self.axis, 0)
        return first.reshape(self.groups, len(first) // self.groups, -1).astype(np.float32)

    def _as_held(self, values: Array) -> Array:
        first = np.moveaxis(self.weight, self.axis, 0)
        return np.moveaxis(values.reshape(first.shape), 0, self.axis)


def sites_of(view: View, plan: Plan) -> list[Site]:
    """Return the layers of a plan in the order of the graph, `view` being the model it was made for."""
    nodes = view.graph.nodes
    found = [
        _site(view, each.node, nodes[each.node], each.stored) for each in plan.operands if each.slot == 1
    ]
    return sorted((site for site in found if site is not None), key=lambda site: site.number)


def _site(view: View, number: int, node: gs.Node, stored: Stored) -> Site | None:
    weight = view.constant(node.inputs[1])
    if weight is None or node.op not in ("Conv", "Gemm", "MatMul") or not is_default_domain(node):
        return None
    if node.op == "Conv":
        groups, axis = integer(node, "group", 1), 0
    else:
        if weight.ndim != 2:
            return None
        groups, axis = 1, 0 if integer(node, "transB", 0) else 1
    bias = None if source(node, 2) is None else view.constant(node.inputs[2])
    flat = np.zeros(weight.shape[axis], np.float32) if bias is None else bias.astype(np.float32)
    return Site(
        number,
        node.op,
        node.inputs[0].name,
        node.outputs[0].name,
        weight,
        stored,
        groups,
        axis,
        flat.reshape(groups, -1),
        _bounds(view, node.outputs[0]),
        sliding_of(node, weight.shape[2:]),
    )


def sliding_of(node: gs.Node, kernel: tuple[int, ...]) -> Sliding | None:
    """Return how a convolution's window goes over its input, None where the node is a product."""
    if node.op != "Conv":
        return None
    rank = len(kernel)
    strides, dilations, pads = (
        tuple(int(each) for each in node.attrs.get(name, default))
        for name, default in (("strides", [1] * rank), ("dilations", [1] * rank), ("pads", [0] * 2 * rank))
    )
    return Sliding(kernel, strides, dilations, pads, text(node, "auto_pad", "NOTSET"))


def _bounds(view: View, tensor: gs.Tensor) -> tuple[float, float]:
    user = view.sole_user(tensor)
    if user is None or not is_default_domain(user):
        return -inf, inf
    if user.op == "Relu":
        return 0.0, inf
    if user.op != "Clip":
        return -inf, inf
    ends = [-inf, inf]
    for slot in (1, 2):
        given = source(user, slot)
        value = None if given is None else view.constant(given)
        if given is not None and value is None:
            return -inf, inf
        if value is not None:
            ends[slot - 1] = float(value.reshape(-1)[0])
    return ends[0], ends[1]
