"""Making up for removed channels in the layers that read them, before the cut.

A removed channel is rarely zero. What a consumer would have read of it is estimated from what it keeps reading:
`dead = T kept + t0`. Folding that estimate into the consumer changes its weight by `W[:, dead] T` and its bias by
`W[:, dead] t0`. With T = 0 and t0 the channel's mean this is constant absorption (exact for a channel that is constant,
apart from a border where the consumer pads); with T from least squares it is reconstruction, which for a 1x1
convolution or a matrix product is the least-squares optimum of the consumer's weight itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.dims.axes import Axis
from graphrewrite.dims.labels import Ints
from graphrewrite.dims.record import is_constant
from graphrewrite.dims.sweep import Analysis, Mix
from graphrewrite.ir import Array, Model, Namer, constant_value
from graphrewrite.ir.edit import add_constant, remove_nodes, set_input

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Consumer:
    """A contraction whose weight is a constant of its own: what reads the channels of tensor `tensor`, axis `axis`.

    `weight` is the weight's name, `into` the axis of it that is summed over, `out` the axis that makes the outputs.
    """

    node: int
    tensor: str
    axis: int
    weight: str
    into: int
    out: int
    labels: Axis
    out_labels: Axis


@dataclass
class Patch:
    """What changes in a consumer: its weight (whole index space) and what is added to its bias, [outputs]."""

    consumer: Consumer
    weight: Array | None
    bias: Floats


@dataclass
class Adjusted:
    """The patches, and the consumers that were left alone with the reason."""

    patches: list[Patch] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


# Other places that sum over channels, and what they are.
_NOT_ADJUSTED = {"rnn": "a recurrent layer", "quantized": "a quantized product"}


def consumers(analysis: Analysis, dead: Mask) -> tuple[list[Consumer], dict[str, str]]:
    """Return the contractions that lose inputs and can be adjusted, and why others cannot."""
    found, skipped = [], {}
    for mix in analysis.mixes:
        if mix.kind not in ("zero", *_NOT_ADJUSTED):
            continue
        lost = [n for n, axis in mix.axes.items() if n >= 0 and dead[analysis.rows(axis)].any()]
        if not lost:
            continue
        node = analysis.nodes[mix.node]
        consumer = _NOT_ADJUSTED.get(mix.kind) or _consumer(analysis, node, mix, lost)
        if analysis.is_inside(mix.node):
            consumer = "it is inside a body, where nothing can be measured"
        if isinstance(consumer, str):
            skipped[node.name or node.outputs[0].name] = consumer
        else:
            found.append(consumer)
    return found, skipped


def _consumer(analysis: Analysis, node: gs.Node, mix: Mix, lost: list[int]) -> Consumer | str:
    places = {"Conv": (1, 0), "Gemm": (0, 1), "MatMul": (0, 1)}
    if node.op not in places or mix.slot != 0 or len(lost) != 1:
        return f"{node.op} sums over the channels, but its inputs are not a feature and a weight"
    weight = node.inputs[1]
    if not is_constant(weight):
        return "its weight is computed"
    if len(weight.outputs) != 1:
        return "its weight is shared with another node"
    if node.op == "Conv" and node.attrs.get("group", 1) != 1:
        return "a grouped convolution"
    if node.op == "MatMul" and len(analysis.info.shape(weight.name) or ()) != 2:
        return "a batched product"
    into, out = places[node.op]
    if node.op == "Gemm":
        if node.attrs.get("transA", 0):
            return "its feature is transposed"
        if node.attrs.get("transB", 0):
            into, out = 1, 0
        if node.attrs.get("alpha", 1.0) != 1.0 or node.attrs.get("beta", 1.0) != 1.0:
            return "a Gemm with factors"
    use = analysis.uses.get((mix.node, 1))
    dtype = analysis.info.dtype(weight.name)
    if use is None or dtype is None or np.dtype(dtype).kind not in "fV":
        return "its weight is not a floating one of its own"
    return Consumer(
        mix.node, node.inputs[0].name, lost[0], weight.name, into, out, mix.axes[lost[0]], use.axes[out]
    )


Estimate = Callable[[Consumer, Mask], tuple[Floats | None, Floats]]


def adjust(analysis: Analysis, dead: Mask, estimate: Estimate) -> Adjusted:
    """Work out the patches for a cut; `estimate(consumer, alive)` returns (T [dead, kept] or None, t0 [dead])."""
    chosen, skipped = consumers(analysis, dead)
    result = Adjusted(skipped=skipped)
    for consumer in chosen:
        alive = np.asarray(~dead[analysis.rows(consumer.labels)].any(axis=1))
        transfer, constant = estimate(consumer, alive)
        if transfer is None and not constant.any():
            continue
        weight = _weight_of(analysis.nodes[consumer.node])
        turned = np.moveaxis(weight, (consumer.out, consumer.into), (0, 1))
        table: Floats = turned.astype(np.float64)  # [out, in, kernel...]
        lost = table[:, ~alive]
        bias = np.tensordot(lost.reshape(*lost.shape[:2], -1).sum(axis=2), constant, axes=(1, 0))
        changed = None
        if transfer is not None:
            table[:, alive] += np.moveaxis(np.tensordot(lost, transfer, axes=(1, 0)), -1, 1)
            changed = np.moveaxis(table, (0, 1), (consumer.out, consumer.into)).astype(weight.dtype)
        result.patches.append(Patch(consumer, changed, bias))
    return result


def with_weights(analysis: Analysis, patches: list[Patch]) -> Analysis:
    """Return the analysis over a clone of its model with the patched weights (nothing is cut yet)."""
    if not any(patch.weight is not None for patch in patches):
        return analysis
    model = analysis.model.clone()
    for patch in patches:
        if patch.weight is not None:
            _store(model, model.graph.nodes[patch.consumer.node].inputs[1], patch.weight)
    return replace(analysis, model=model)


def add_biases(
    model: Model, nodes: Mapping[int, gs.Node], patches: list[Patch], kept: Callable[[Axis], Ints | None]
) -> dict[str, str]:
    """Add each patch's constant to its consumer's output; `kept` gives the kept outputs (None = all).

    A bias of the consumer's own keeps its name; of one that others read too a copy is made. Returns copy -> original.
    """
    copies: dict[str, str] = {}
    if not patches:
        return copies
    tensors, names = Namer(model.graph), Namer(model.graph, nodes=True)
    replaced: list[gs.Tensor] = []
    later: dict[int, gs.Node] = {}
    for patch in patches:
        node = nodes[patch.consumer.node]
        positions = kept(patch.consumer.out_labels)
        delta = patch.bias if positions is None else patch.bias[positions]
        if not delta.any():
            continue
        weight = _weight_of(node)
        if node.op != "MatMul" and (len(node.inputs) < 3 or not node.inputs[2].name):
            fresh = tensors.fresh(f"{node.name or node.op}.absorbed")
            _set_bias(node, add_constant(model.graph, fresh, delta.astype(weight.dtype)))
            continue
        old = constant_value(node.inputs[2]) if node.op != "MatMul" else None
        if old is None:
            column = delta.reshape(-1, *[1] * (weight.ndim - 2)) if node.op == "Conv" else delta
            fresh = tensors.fresh(f"{node.name or node.op}.absorbed")
            constant = add_constant(model.graph, fresh, column.astype(weight.dtype))
            later[id(node)] = _add_after(node, constant, tensors, names)
            continue
        bias, new = node.inputs[2], (old.astype(np.float64) + delta).astype(weight.dtype)
        if len(bias.outputs) == 1 and not any(bias is tensor for tensor in model.graph.outputs):
            _store(model, bias, new)
        else:
            fresh = tensors.fresh(f"{bias.name}.absorbed")
            copies[fresh] = bias.name
            replaced.append(bias)
            _set_bias(node, add_constant(model.graph, fresh, new))
    if later:
        model.graph.nodes = [
            each for node in model.graph.nodes for each in (node, later.get(id(node))) if each is not None
        ]
    for bias in replaced:
        _drop_unread(model, bias)
    return copies


def _weight_of(node: gs.Node) -> Array:
    weight = constant_value(node.inputs[1])
    assert weight is not None  # `consumers` lets no other through
    return weight


def _set_bias(node: gs.Node, constant: gs.Constant) -> None:
    if len(node.inputs) < 3:
        node.inputs.append(constant)
    else:
        set_input(node, 2, constant)


def _store(model: Model, tensor: gs.Tensor, values: Array) -> None:
    """Replace a constant in either home: an initializer or a Constant node."""
    if isinstance(tensor, gs.Constant):
        model.weights[tensor.name] = values
        return
    maker = tensor.inputs[0]
    maker.attrs.clear()
    maker.attrs["value"] = gs.Constant("", np.ascontiguousarray(values))
    tensor.shape = list(values.shape) if tensor.shape is not None else None


def _drop_unread(model: Model, tensor: gs.Tensor) -> None:
    if len(tensor.outputs) or any(tensor is out for out in model.graph.outputs):
        return
    if isinstance(tensor, gs.Constant):
        model.graph.initializers.pop(tensor.name, None)
        model.graph.inputs = [each for each in model.graph.inputs if each is not tensor]
    else:
        remove_nodes(model.graph, list(tensor.inputs))


def _add_after(node: gs.Node, constant: gs.Constant, tensors: Namer, names: Namer) -> gs.Node:
    out = node.outputs[0]
    raw = gs.Variable(tensors.fresh(f"{out.name}.raw"))
    node.outputs = [raw]
    return gs.Node("Add", names.fresh(f"{node.name or node.op}.absorb"), {}, [raw, constant], [out])
