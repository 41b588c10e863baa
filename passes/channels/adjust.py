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
from graphrewrite.dims.sweep import Analysis, Mix
from graphrewrite.ir import Array, Model, Namer, array_of
from graphrewrite.ir.edit import add_constant, set_input

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


def consumers(analysis: Analysis, dead: Mask) -> tuple[list[Consumer], dict[str, str]]:
    """Return the contractions that lose inputs and can be adjusted, and why others cannot."""
    found, skipped = [], {}
    for mix in analysis.mixes:
        if mix.kind != "zero":
            continue
        lost = [number for number, axis in mix.axes.items() if dead[analysis.rows(axis)].any()]
        if not lost:
            continue
        node = analysis.model.graph.nodes[mix.node]
        consumer = _consumer(analysis, node, mix, lost)
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
    if not isinstance(weight, gs.Constant):
        return "its weight is computed"
    if len(weight.outputs) != 1:
        return "its weight is shared with another node"
    if node.op == "Conv" and node.attrs.get("group", 1) != 1:
        return "a grouped convolution"
    if node.op == "MatMul" and len(weight.shape) != 2:
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
    if use is None or np.dtype(weight.dtype).kind not in "fV":
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
        weight = array_of(analysis.model.graph.initializers[consumer.weight])
        table = np.moveaxis(weight, (consumer.out, consumer.into), (0, 1)).astype(
            np.float64
        )  # [out, in, kernel...]
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
            model.weights[patch.consumer.weight] = patch.weight
    return replace(analysis, model=model)


def add_biases(
    model: Model, nodes: Mapping[int, gs.Node], patches: list[Patch], kept: Callable[[Axis], Ints | None]
) -> None:
    """Add each patch's constant to its consumer's output; `kept` gives the kept outputs (None = all)."""
    namer = Namer(model.graph)
    replaced: list[str] = []
    later: dict[int, gs.Node] = {}
    for patch in patches:
        node = nodes[patch.consumer.node]
        positions = kept(patch.consumer.out_labels)
        delta = patch.bias if positions is None else patch.bias[positions]
        if not delta.any():
            continue
        dtype = np.dtype(array_of(model.graph.initializers[node.inputs[1].name]).dtype)
        if node.op != "MatMul" and len(node.inputs) > 2 and isinstance(node.inputs[2], gs.Constant):
            old = array_of(node.inputs[2])
            new = (
                np.broadcast_to(old.astype(np.float64), (len(delta),))
                if old.ndim < 2
                else old.astype(np.float64)
            ) + delta
            replaced.append(node.inputs[2].name)
            set_input(
                node,
                2,
                add_constant(model.graph, namer.fresh(f"{node.inputs[2].name}.absorbed"), new.astype(dtype)),
            )
        elif node.op != "MatMul" and (len(node.inputs) < 3 or not node.inputs[2].name):
            constant = add_constant(
                model.graph, namer.fresh(f"{node.name or node.op}.absorbed"), delta.astype(dtype)
            )
            if len(node.inputs) < 3:
                node.inputs.append(constant)
            else:
                set_input(node, 2, constant)
        else:
            constant = add_constant(
                model.graph,
                namer.fresh(f"{node.name or node.op}.absorbed"),
                _shaped(node, delta).astype(dtype),
            )
            _add_after(later, node, constant, namer)
    if later:
        model.graph.nodes = [
            each for node in model.graph.nodes for each in (node, later.get(id(node))) if each is not None
        ]
    for name in replaced:
        if name in model.graph.initializers and not len(model.graph.initializers[name].outputs):
            del model.graph.initializers[name]


def _shaped(node: gs.Node, delta: Floats) -> Floats:
    if node.op != "Conv":
        return delta
    kernel = array_of(node.inputs[1]).ndim - 2 if isinstance(node.inputs[1], gs.Constant) else 2
    return delta.reshape(-1, *([1] * kernel))


def _add_after(later: dict[int, gs.Node], node: gs.Node, constant: gs.Constant, namer: Namer) -> None:
    out = node.outputs[0]
    raw = gs.Variable(namer.fresh(f"{out.name}.raw"))
    node.outputs = [raw]
    later[id(node)] = gs.Node(
        "Add", namer.fresh(f"{node.name or node.op}.absorb"), {}, [raw, constant], [out]
    )
