"""The same function with its last nodes inside a body: what may be cut must not depend on where a node stands.

`in_loop` lets the tail of a graph run twice as the body of a Loop, `in_list` the same with its results in lists,
`in_scan` once for each of two numbers, `in_if` puts it into one branch and a copy of it, under the same names, into the
other. The tail captures what it reads of the rest; a share of the constants that only it reads become the body's own.
"""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from graphrewrite.ir import Model, infer

ROUNDS = 2


class _Tail:
    """The tail of a model, taken out of a copy of it."""

    def __init__(self, model: Model, share: float, own: float, seed: int) -> None:
        rng = np.random.default_rng([seed, 9])
        self.info = infer(model)
        self.proto: ModelProto = model.to_proto()
        graph = self.graph = self.proto.graph
        nodes = list(graph.node)
        first = int(len(nodes) * share)
        del graph.node[first:]
        self.nodes: list[NodeProto] = nodes[first:]
        made = {name for node in self.nodes for name in node.output}
        self.outputs = [out for out in graph.output if out.name in made]
        read = {name for node in graph.node for name in node.input} | {out.name for out in graph.output}
        inputs = {tensor.name for tensor in graph.input}
        self.constants: list[TensorProto] = []
        for constant in list(graph.initializer):
            if constant.name not in read | inputs and rng.random() < own:
                self.constants.append(constant)
                graph.initializer.remove(constant)
        declared = [info for info in graph.value_info if info.name in made]
        for info in declared:
            graph.value_info.remove(info)
        self.declared: list[ValueInfoProto] = declared

    def body(
        self, inputs: Sequence[ValueInfoProto], lead: Sequence[NodeProto], first: str = ""
    ) -> GraphProto:
        """Return the tail as a body; `first` is a boolean it returns before its own outputs."""
        outputs = [helper.make_tensor_value_info(first, TensorProto.BOOL, [])] if first else []
        for out in self.outputs:
            dtype = helper.np_dtype_to_tensor_dtype(self.info.dtype(out.name) or np.dtype(np.float32))
            rank = len(self.info.shape(out.name) or ())
            outputs.append(helper.make_tensor_value_info(out.name, dtype, [None] * rank))
        body = helper.make_graph([*lead, *self.nodes], "body", list(inputs), outputs, self.constants)
        body.value_info.extend(self.declared)
        return body

    def close(self, nodes: Sequence[NodeProto], extra: int, rounds: int | None) -> Model:
        """Put nodes with the body at the end; their results have `extra` leading axes of length `rounds`."""
        for out, name in zip(self.outputs, self.names(), strict=True):
            out.name = name
            if not out.type.tensor_type.HasField("shape"):
                continue
            sizes = onnx.TensorShapeProto()
            sizes.CopyFrom(out.type.tensor_type.shape)
            out.type.tensor_type.shape.ClearField("dim")
            for _ in range(extra):
                dim = out.type.tensor_type.shape.dim.add()
                if rounds is not None:
                    dim.dim_value = rounds
            out.type.tensor_type.shape.dim.extend(sizes.dim)
        self.graph.node.extend(nodes)
        return Model.from_proto(self.proto)

    def names(self) -> list[str]:
        return [f"{out.name}.after" for out in self.outputs]

    def constant(self, name: str, values: np.ndarray) -> str:
        self.graph.initializer.append(numpy_helper.from_array(values, name))
        return name


def in_loop(model: Model, share: float, own: float, seed: int) -> Model:
    """Run the last `1 - share` of the nodes twice; the outputs are stacked."""
    tail = _Tail(model, share, own, seed)
    inputs = [
        helper.make_tensor_value_info("round", TensorProto.INT64, []),
        helper.make_tensor_value_info("going", TensorProto.BOOL, []),
    ]
    body = tail.body(inputs, [helper.make_node("Identity", ["going"], ["going.on"])], "going.on")
    limit = tail.constant("rounds", np.asarray(ROUNDS, dtype=np.int64))
    start = tail.constant("start", np.asarray(True))
    node = helper.make_node("Loop", [limit, start], tail.names(), "loop", body=body)
    return tail.close([node], 1, ROUNDS)


def in_list(model: Model, share: float, own: float, seed: int) -> Model:
    """Run the last `1 - share` of the nodes twice; each round appends the outputs to lists, which are stacked."""
    tail = _Tail(model, share, own, seed)
    inputs = [
        helper.make_tensor_value_info("round", TensorProto.INT64, []),
        helper.make_tensor_value_info("going", TensorProto.BOOL, []),
    ]
    results = list(tail.outputs)
    body = tail.body(inputs, [helper.make_node("Identity", ["going"], ["going.on"])], "going.on")
    types = [out.type for out in list(body.output)[1:]]
    del body.output[1:]
    empty, stacked = [], []
    for out, kind, name in zip(results, types, tail.names(), strict=True):
        before, after = f"{out.name}.so_far", f"{out.name}.longer"
        for place, named in ((body.input, before), (body.output, after)):
            info = place.add()
            info.name = named
            info.type.sequence_type.elem_type.CopyFrom(kind)
        body.node.append(
            helper.make_node("SequenceInsert", [before, out.name], [after], f"{out.name}.insert")
        )
        dtype = kind.tensor_type.elem_type
        empty.append(helper.make_node("SequenceEmpty", [], [f"{out.name}.none"], dtype=dtype))
        stacked.append(
            helper.make_node(
                "ConcatFromSequence", [f"{out.name}.all"], [name], f"{name}.stack", axis=0, new_axis=1
            )
        )
    limit = tail.constant("rounds", np.asarray(ROUNDS, dtype=np.int64))
    start = tail.constant("start", np.asarray(True))
    lists = [out.name for out in results]
    node = helper.make_node(
        "Loop", [limit, start, *(f"{name}.none" for name in lists)], [f"{name}.all" for name in lists], "loop",
        body=body,
    )  # fmt: skip
    return tail.close([*empty, node, *stacked], 1, ROUNDS)


def in_scan(model: Model, share: float, own: float, seed: int) -> Model:
    """Run the last `1 - share` of the nodes once for each of two numbers that nothing reads."""
    tail = _Tail(model, share, own, seed)
    inputs = [helper.make_tensor_value_info("number", TensorProto.FLOAT, [])]
    body = tail.body(inputs, [])
    numbers = tail.constant("numbers", np.zeros(ROUNDS, dtype=np.float32))
    node = helper.make_node("Scan", [numbers], tail.names(), "scan", body=body, num_scan_inputs=1)
    return tail.close([node], 1, ROUNDS)


def in_if(model: Model, share: float, own: float, seed: int) -> Model:
    """Leave the choice between the last `1 - share` of the nodes and their copy to a new input."""
    tail = _Tail(model, share, own, seed)
    tail.graph.input.append(helper.make_tensor_value_info("choice", TensorProto.BOOL, []))
    node = helper.make_node(
        "If", ["choice"], tail.names(), "if", then_branch=tail.body([], []), else_branch=tail.body([], [])
    )
    return tail.close([node], 0, None)
