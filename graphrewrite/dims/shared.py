"""Tables and fillers that several layers read, each reader with labels of its own.

Rotary tables, zero states, masks spread over channels and spread blur kernels are made once, from vectors and sizes
alone, and read by many layers. Were they plain operands, they would tie all their readers to each other for nothing. So
each reader gets its own labels, and once the sweep is over `settle` decides: where all readers keep the same positions
anyway the table is one of them and is cut itself; otherwise it stays whole and each reader takes from it what it keeps.
"""

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.dims.axes import pin_axis, tie_axes
from graphrewrite.dims.record import Analysis, Reading, Restate, is_constant

# What only moves, spreads or maps numbers; a weight enters through none of them but as a vector.
_MAKERS = frozenset(
    {
        "Abs", "Add", "Cast", "Ceil", "Concat", "ConstantOfShape", "Cos", "Div", "Einsum", "Equal", "Exp", "Expand",
        "Floor", "Gather", "Greater", "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Log", "MatMul", "Max",
        "Min", "Mul", "Neg", "Not", "Pad", "Pow", "Reciprocal", "Reshape", "Sin", "Slice", "Split", "Sqrt", "Squeeze",
        "Sub", "Tile", "Transpose", "Unsqueeze", "Where",
    }
)  # fmt: skip
# What reads a table position by position, as a kernel of its own, or as a state to begin with.
_READERS = frozenset(
    {
        "Add", "And", "Conv", "Div", "Equal", "GRU", "Gemm", "LSTM", "Loop", "MatMul", "Max", "Mean", "Min", "Mul",
        "Or", "PRelu", "Pow", "RNN", "Scan", "Sub", "Sum", "Where",
    }
)  # fmt: skip
# To these a matrix is a weight, but what no weight made is a blur kernel, or a state to begin with.
_LAYERS = frozenset({"Conv", "Gemm", "Loop", "MatMul", "Scan"})
# Behind these a constant matrix is a weight: an embedding, a projection.
_LOOK_UPS = frozenset({"Einsum", "Gather", "MatMul"})
# Who asks for sizes is told those of the table.
_ASKERS = frozenset({"Shape", "Size"})


def note_bare(analysis: Analysis, node: gs.Node) -> None:
    """File the outputs of a swept node as bare when no layer has a part in them (2) or not even a table (1)."""
    if node.op not in _MAKERS or node.domain:
        return
    outputs = [t for t in node.outputs if any(not a.is_rigid for a in analysis.env.get(t.name) or ())]
    if not outputs:
        return
    levels = [_level(analysis, node, tensor) for tensor in node.inputs if tensor.name]
    if all(levels):
        analysis.bare.update(dict.fromkeys((tensor.name for tensor in outputs), max(levels, default=1)))


def _level(analysis: Analysis, node: gs.Node, tensor: gs.Tensor) -> int:
    """Return 1 for what vectors and sizes make, 2 where a constant matrix has a part in it, 0 for anything else."""
    known = analysis.bare.get(tensor.name)
    if known is not None:
        return known
    if is_constant(tensor):
        return 1 if not _is_matrix(analysis, tensor) else 0 if node.op in _LOOK_UPS else 2
    axes = analysis.env.get(tensor.name)
    return int(axes is not None and all(axis.is_rigid for axis in axes))


def _is_matrix(analysis: Analysis, tensor: gs.Tensor) -> bool:
    sizes = analysis.info.sizes(tensor.name)
    return sizes is None or sum(size != 1 for size in sizes) > 1


def is_table(analysis: Analysis, tensor: gs.Tensor) -> bool:
    """Tell whether several nodes read a tensor that no layer makes."""
    readers = [node for node in tensor.outputs if node.op not in _ASKERS]
    if len(readers) < 2 or any(node.op not in _READERS or node.domain for node in readers):
        return False
    level = 2 if is_constant(tensor) else analysis.bare.get(tensor.name, 0)
    if any(node.op in _LAYERS for node in readers):
        return level == 1
    return level == 1 or (level == 2 and (not is_constant(tensor) or _is_matrix(analysis, tensor)))


def settle(analysis: Analysis) -> None:
    """Decide for every table whether it is cut like its readers or read in part by each of them."""
    for name, readings in analysis.shared.items():
        whole = readings[0].original
        for number, axis in enumerate(whole):
            if axis.is_rigid or not axis.is_static:
                continue
            if len(readings) == _slots(readings[0].tensor) and not _agree(analysis, readings, number):
                pin_axis(analysis.labels, axis, f"{name} is read by several layers; each takes what it keeps")
                for reading in readings:
                    analysis.restates.append(_taking(reading, number))
                continue
            for reading in readings:
                tie_axes(analysis.labels, axis, reading.axes[number], f"the table {name}")


def _slots(tensor: gs.Tensor) -> int:
    readers = {id(node): node for node in tensor.outputs if node.op not in _ASKERS}.values()
    return sum(each is tensor for node in readers for each in node.inputs)


def _agree(analysis: Analysis, readings: list[Reading], number: int) -> bool:
    first = analysis.rows(readings[0].axes[number])
    return all(np.array_equal(first, analysis.rows(reading.axes[number])) for reading in readings[1:])


def _taking(reading: Reading, number: int) -> Restate:
    axis = reading.axes[number]
    return Restate(reading.node, [axis], lambda cut: cut.take(reading.node, reading.slot, number, axis))
