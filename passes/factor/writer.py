"""New nodes in whichever graph: the main one or the body of a loop."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.custom_ops.spec import Value
from graphrewrite.ir import Array, Model, Namer
from graphrewrite.ir.custom import custom_node
from graphrewrite.ir.edit import add_constant, detach


class Names:
    """Fresh names for the tensors and nodes of one model, whoever writes them."""

    def __init__(self, model: Model) -> None:
        self.tensors = Namer(model.graph)
        self.nodes = Namer(model.graph, nodes=True)


class Writer:
    """Collects nodes for one graph of a model; names start with `stem`.

    Constants are filed in that graph, also where it is a body: kernels want to see them when they are made, and
    onnxruntime shows them only those of the same graph.
    """

    def __init__(self, model: Model, graph: gs.Graph, stem: str, names: Names) -> None:
        self.model = model
        self.graph = graph
        self.names = names
        self.made: list[gs.Node] = []
        self._stem = stem
        self._constants: dict[tuple[bytes, str, tuple[int, ...]], gs.Constant] = {}

    def constant(self, values: Array, stem: str) -> gs.Constant:
        """File an initializer; equal ones of this writer are one."""
        key = (np.ascontiguousarray(values).tobytes(), values.dtype.str, values.shape)
        if key not in self._constants:
            name = self.names.tensors.fresh(f"{self._stem}.{stem}")
            self._constants[key] = add_constant(self.graph, name, values)
        return self._constants[key]

    def floats(self, values: Array, stem: str) -> gs.Constant:
        """File an initializer in single precision, always a new one.

        Two diagonals that start as ones are two things to learn.
        """
        name = self.names.tensors.fresh(f"{self._stem}.{stem}")
        return add_constant(self.graph, name, np.asarray(values, np.float32))

    def ints(self, values: Sequence[int], stem: str) -> gs.Constant:
        """File a vector of integers."""
        return self.constant(np.asarray(list(values), np.int64), stem)

    def op(self, op_type: str, *inputs: gs.Tensor, outputs: int = 1, **attrs: object) -> gs.Variable:
        """Add a node with one output, or return the first of several (`self.all` has them)."""
        return self.all(op_type, *inputs, outputs=outputs, **attrs)[0]

    def all(self, op_type: str, *inputs: gs.Tensor, outputs: int = 1, **attrs: object) -> list[gs.Variable]:
        """Add a node and return its outputs."""
        made = [self.variable(op_type.lower()) for _ in range(outputs)]
        self.made.append(
            gs.Node(
                op_type, self.names.nodes.fresh(f"{self._stem}.{op_type.lower()}"), attrs, list(inputs), made
            )
        )
        return made

    def named(self, name: str, op_type: str, *inputs: gs.Tensor) -> gs.Variable:
        """Add a node of this name, with one output."""
        made = self.op(op_type, *inputs)
        made.inputs[0].name = self.names.nodes.fresh(name)
        return made

    def custom(
        self, op: str, inputs: Sequence[gs.Tensor], attributes: Mapping[str, Value] | None = None
    ) -> gs.Variable:
        """Add a node of the domain `graphrewrite`, and its function body to the model."""
        made = self.variable(op.lower())
        name = self.names.nodes.fresh(f"{self._stem}.{op.lower()}")
        self.made.append(custom_node(self.model, op, inputs, [made], attributes, name))
        return made

    def variable(self, stem: str) -> gs.Variable:
        """Return a new tensor that no node writes yet."""
        return gs.Variable(self.names.tensors.fresh(f"{self._stem}.{stem}"))

    def put_before(self, node: gs.Node) -> None:
        """Put the nodes in front of one."""
        position = next(i for i, each in enumerate(self.graph.nodes) if each is node)
        self.graph.nodes[position:position] = self.made

    def take_place(self, node: gs.Node, *results: gs.Variable) -> None:
        """Put the nodes where `node` is, and let them write its outputs, under the names that everybody knows.

        The last node that writes one takes the name of the node, which goes.
        """
        outs, name = [out for out in node.outputs if not out.is_empty()], node.name
        position = next(i for i, each in enumerate(self.graph.nodes) if each is node)
        detach([node])
        for out, result in zip(outs, results, strict=True):
            # A reader of `result` among the new nodes would go on reading what nobody writes.
            assert not len(result.outputs), "results of a rewrite are read by nobody else"
            maker = result.inputs[0]
            maker.outputs[next(i for i, tensor in enumerate(maker.outputs) if tensor is result)] = out
            maker.name = name or maker.name
            name = ""
        self.graph.nodes[position : position + 1] = self.made
