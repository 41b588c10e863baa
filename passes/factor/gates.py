"""GRU and LSTM written out: a Scan over time with one product per gate, input products for all steps in front of it.

What a recurrent operator computes is one large product per step; written out, the gates are layers like others, which
can be factored one by one. The input's products do not depend on the state, so they are done for all steps at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from graphrewrite.custom_ops.spec import OLDEST_OPSET
from graphrewrite.ir import Array, Model, constant_value
from graphrewrite.ir.domains import domain_name
from graphrewrite.ir.edit import all_graphs, drop_unused
from graphrewrite.passes.factor.writer import Names, Writer
from graphrewrite.passes.patterns import as_tuples, why_left
from graphrewrite.pipeline import Claim, Context, Note, Outcome, Same, passes

_GATES = {"GRU": "zrh", "LSTM": "iofc"}
_ACTIVATIONS = {"GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
_DIRECTIONS = {"forward": (0,), "reverse": (1,), "bidirectional": (0, 1)}
_STATES = {"GRU": ("h",), "LSTM": ("h", "c")}


class _Cell(NamedTuple):
    """One direction of a node. `weights` and `recurrent` are by gate, [in, hidden] and [hidden, hidden].

    `biases` are added in front of a gate's activation; `inner` is added to the state's product of the last gate of a
    GRU that resets behind it.
    """

    hidden: int
    weights: dict[str, Array]
    recurrent: dict[str, Array]
    biases: dict[str, Array]
    inner: Array | None


@passes.register("write_out_gates")
@dataclass(frozen=True)
class WriteOutGates:
    """Write GRU and LSTM as Scan with a matrix product per gate.

    Args:
        smallest: layers with a narrower state stay as they are.
        skip: patterns (`*` is any text) of layers to leave alone.

    Nodes are named after the layer: `NAME.input.z`, `NAME.state.z` and so on (`z`, `r`, `h` of a GRU; `i`, `o`, `f`,
    `c` of an LSTM; a `1` behind for the second direction). This alone makes nothing faster.
    """

    smallest: int = 1
    skip: tuple[str, ...] = ()

    claim: ClassVar[Claim] = Same()

    def __post_init__(self) -> None:
        as_tuples(self, "skip")

    def run(self, model: Model, context: Context) -> Outcome:
        """Write out what can be."""
        if model.opset < OLDEST_OPSET:
            old = f"operator set {model.opset} is older than {OLDEST_OPSET}, in which cells are written out"
            return Outcome(model, False, (Note("skipped", "the whole model", old),))
        names, notes = Names(model), []
        for graph in list(all_graphs(model.graph)):
            for node in [node for node in graph.nodes if node.op in _GATES and not domain_name(node.domain)]:
                label = str(node.name or node.outputs[0].name)
                why = why_left(label, (), self.skip, "write out") or self._why_not(node)
                if why:
                    notes.append(Note("skipped", label, f"{node.op}: {why}"))
                    continue
                write_out(model, graph, node, names)
                notes.append(Note("done", label, "written out as Scan"))
        changed = any(note.kind == "done" for note in notes)
        if changed:
            drop_unused(model.graph)
        return Outcome(model, changed, tuple(notes))

    def _why_not(self, node: gs.Node) -> str | None:
        why = why_kept(node)
        recurrent = constant_value(node.inputs[2])
        if why is None and recurrent is not None and recurrent.shape[2] < self.smallest:
            return f"its state has {recurrent.shape[2]} units, fewer than {self.smallest}"
        return why


def why_kept(node: gs.Node) -> str | None:
    """Return why a GRU or LSTM cannot be written out, None where it can."""
    weight, recurrent = (constant_value(node.inputs[index]) for index in (1, 2))
    if weight is None or recurrent is None:
        return "its weights are computed"
    if weight.dtype != np.float32:
        return f"its weights are {weight.dtype}"
    if _given(node, 3) is not None and constant_value(node.inputs[3]) is None:
        return "its biases are computed"
    if _given(node, 4) is not None:
        return "its sequences have lengths of their own"
    if _given(node, 7) is not None:
        return "it has peepholes"
    attrs = node.attrs
    if int(attrs.get("layout", 0)) or float(attrs.get("clip", 0.0)) or int(attrs.get("input_forget", 0)):
        return "it has a layout, clipping or coupling of gates of its own"
    usual = _ACTIVATIONS[node.op] * len(_DIRECTIONS[attrs.get("direction", "forward")])
    if list(attrs.get("activations") or usual) != usual:
        return "it has other activations than sigmoid and tanh"
    return None


def _given(node: gs.Node, index: int) -> gs.Tensor | None:
    if index >= len(node.inputs) or node.inputs[index].is_empty():
        return None
    tensor: gs.Tensor = node.inputs[index]
    return tensor


def write_out(model: Model, graph: gs.Graph, node: gs.Node, names: Names) -> None:
    """Put a Scan with a product per gate in the place of a GRU or LSTM."""
    label, x = str(node.name or node.outputs[0].name), node.inputs[0]
    writer = Writer(model, graph, label, names)
    wanted = [not out.is_empty() for out in node.outputs]
    kinds = ["y", *_STATES[node.op]][: len(wanted)]
    parts: dict[str, list[gs.Variable]] = {kind: [] for kind in ("y", "h", "c")}
    backwards = _DIRECTIONS[node.attrs.get("direction", "forward")]
    for number, is_backwards in enumerate(backwards):
        suffix = str(number) if number else ""
        cell = _cell(node, number)
        inputs = [
            writer.op(
                "Add",
                writer.named(
                    f"{label}.input.{gate}{suffix}",
                    "MatMul",
                    x,
                    writer.floats(cell.weights[gate], f"w_{gate}"),
                ),
                writer.floats(cell.biases[gate], f"b_{gate}"),
            )
            for gate in _GATES[node.op]
        ]
        states = [_start(writer, node, 5 + i, number, cell.hidden) for i in range(len(_STATES[node.op]))]
        body = _body(writer, node, cell, f"{label}.state", suffix)
        more = (
            {"scan_input_directions": [1] * len(inputs), "scan_output_directions": [1]}
            if is_backwards
            else {}
        )
        ends = writer.all(
            "Scan", *states, *inputs, outputs=len(states) + 1, body=body, num_scan_inputs=len(inputs), **more
        )
        for kind, end in zip(_STATES[node.op], ends, strict=False):
            parts[kind].append(end)
        parts["y"].append(ends[-1])
    results = []
    for kind, is_wanted in zip(kinds, wanted, strict=True):
        if is_wanted:
            results.append(_stacked(writer, parts[kind], 1 if kind == "y" else 0))
    writer.take_place(node, *results)


def _stacked(writer: Writer, parts: Sequence[gs.Variable], axis: int) -> gs.Variable:
    """Return the directions along a new axis."""
    apart = [writer.op("Unsqueeze", part, writer.ints([axis], "axis")) for part in parts]
    return apart[0] if len(apart) == 1 else writer.op("Concat", *apart, axis=axis)


def _cell(node: gs.Node, direction: int) -> _Cell:
    gates = _GATES[node.op]
    values = [constant_value(node.inputs[index]) for index in (1, 2)]
    weight, recurrent = (value[direction] for value in values if value is not None)
    hidden = recurrent.shape[1]
    stored = constant_value(node.inputs[3]) if _given(node, 3) is not None else None
    bias = np.zeros(2 * len(weight), np.float32) if stored is None else stored[direction]
    of_input, of_state = bias[: len(weight)], bias[len(weight) :]
    rows = {gate: slice(i * hidden, (i + 1) * hidden) for i, gate in enumerate(gates)}
    behind = node.op == "GRU" and bool(int(node.attrs.get("linear_before_reset", 0)))
    biases = {gate: of_input[rows[gate]] + of_state[rows[gate]] for gate in gates}
    if behind:
        biases["h"] = of_input[rows["h"]]
    return _Cell(
        hidden,
        {gate: weight[rows[gate]].T for gate in gates},
        {gate: recurrent[rows[gate]].T for gate in gates},
        biases,
        of_state[rows["h"]] if behind else None,
    )


def _start(writer: Writer, node: gs.Node, index: int, direction: int, hidden: int) -> gs.Variable:
    """Return the state [batch, hidden] that a direction starts from: zeros where none is given."""
    given = _given(node, index)
    if given is not None:
        return writer.op("Gather", given, writer.constant(np.array(direction, np.int64), "direction"), axis=0)
    shape = writer.op("Shape", node.inputs[0])
    batch = writer.op("Gather", shape, writer.ints([1], "batch"), axis=0)
    return writer.op("ConstantOfShape", writer.op("Concat", batch, writer.ints([hidden], "hidden"), axis=0))


def _body(outer: Writer, node: gs.Node, cell: _Cell, label: str, suffix: str) -> gs.Graph:
    """Return the graph of one step: states, then one input per gate; new states, then the output of the step."""
    graph = gs.Graph(nodes=[], inputs=[], outputs=[], name=f"{label}{suffix}", opset=outer.graph.opset)
    graph.initializers = {}
    graph.shell = onnx.GraphProto()
    writer = Writer(outer.model, graph, f"{label}{suffix}", outer.names)

    def variable(stem: str) -> gs.Variable:
        tensor = writer.variable(stem)
        tensor.dtype, tensor.shape = np.dtype(np.float32), [None, cell.hidden]
        return tensor

    def product(gate: str, state: gs.Tensor) -> gs.Variable:
        weight = writer.floats(cell.recurrent[gate], f"r_{gate}")
        return writer.named(f"{label}.{gate}{suffix}", "MatMul", state, weight)

    states = [variable(name) for name in _STATES[node.op]]
    inputs = {gate: variable(f"in_{gate}") for gate in _GATES[node.op]}
    step: Callable[..., list[gs.Variable]] = _gru_step if node.op == "GRU" else _lstm_step
    ends = step(writer, cell, states, inputs, product)
    ends.append(writer.op("Identity", ends[0]))  # a body may not return one tensor twice
    for end in ends:
        end.dtype, end.shape = np.dtype(np.float32), [None, cell.hidden]
    graph.inputs = [*states, *inputs.values()]
    graph.outputs = ends
    graph.nodes = writer.made
    return graph


def _gru_step(
    writer: Writer,
    cell: _Cell,
    states: Sequence[gs.Variable],
    inputs: dict[str, gs.Variable],
    product: Callable[[str, gs.Tensor], gs.Variable],
) -> list[gs.Variable]:
    (state,) = states
    update, reset = (
        writer.op("Sigmoid", writer.op("Add", inputs[gate], product(gate, state))) for gate in ("z", "r")
    )
    if cell.inner is None:
        inner = product("h", writer.op("Mul", reset, state))
    else:
        inner = writer.op(
            "Mul", reset, writer.op("Add", product("h", state), writer.floats(cell.inner, "inner"))
        )
    new = writer.op("Tanh", writer.op("Add", inputs["h"], inner))
    # z h + (1 - z) n, with one product less.
    return [writer.op("Add", new, writer.op("Mul", update, writer.op("Sub", state, new)))]


def _lstm_step(
    writer: Writer,
    cell: _Cell,
    states: Sequence[gs.Variable],
    inputs: dict[str, gs.Variable],
    product: Callable[[str, gs.Tensor], gs.Variable],
) -> list[gs.Variable]:
    state, memory = states
    enter, leave, forget = (
        writer.op("Sigmoid", writer.op("Add", inputs[gate], product(gate, state))) for gate in ("i", "o", "f")
    )
    new = writer.op("Tanh", writer.op("Add", inputs["c"], product("c", state)))
    kept = writer.op("Add", writer.op("Mul", forget, memory), writer.op("Mul", enter, new))
    return [writer.op("Mul", leave, writer.op("Tanh", kept)), kept]


__all__ = ["WriteOutGates"]
