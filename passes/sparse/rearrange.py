"""Putting channels into another order without changing what a model computes.

A pattern with blocks of neighbouring outputs keeps more when strong filters are neighbours. Moving filters moves what
comes after them: biases, norms, the inputs of every reader, everything the channel groups tie. Source of the idea: the
filter rearrangement of "1xN Pattern" (Lin et al. 2021), there for chains of layers; here for any group whose channels
keep a position of their own wherever they go.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.dims import ChannelGroup, Groups
from graphrewrite.dims.axes import Axis, Rigid, Rows
from graphrewrite.ir import Array, Model
from graphrewrite.ir.domains import domain_name
from graphrewrite.passes.channels.skip import Places

Ints = npt.NDArray[np.int64]

# Operators that do to every channel the same, or keep each at its position. All others hold their channels in place.
_ALIKE_NAMES = """
    Abs Add AveragePool BatchNormalization Cast Ceil Celu Clip Concat Conv ConvTranspose Cos
    DequantizeLinear Div Dropout Elu Equal Erf Exp Expand Flatten Floor Gelu Gemm GlobalAveragePool
    GlobalLpPool GlobalMaxPool Greater GreaterOrEqual HardSigmoid HardSwish Identity InstanceNormalization
    LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization LpPool MatMul Max MaxPool
    Mean MeanVarianceNormalization Min Mish Mul Neg PRelu Pad Pow QuantizeLinear RMSNormalization Reciprocal
    ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare Relu Reshape Resize Round Selu Shape Sigmoid Sign Sin Slice Softmax Softplus Softsign
    Split Sqrt Squeeze Sub Sum Swish Tanh ThresholdedRelu Transpose Unsqueeze Upsample Where
"""
_ALIKE = frozenset(_ALIKE_NAMES.split())


# They move channels about; what becomes of those they lose sight of is not known.
_MOVERS = frozenset(
    {"Concat", "Expand", "Flatten", "Pad", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
)
# They look at neighbours along every axis from the third on.
_SPATIAL = frozenset({"AveragePool", "Conv", "ConvTranspose", "LpPool", "MaxPool", "Resize", "Upsample"})


@dataclass(frozen=True)
class Orders:
    """New orders by group number: position u of group g is taken by its unit `orders[g][u]`."""

    found: Groups
    orders: Mapping[int, Ints] = field(default_factory=dict)

    def of(self, weight: Mapping[str, Array]) -> dict[str, Array]:
        """Return the weights that change, in the new order."""
        return self._moved(weight, lambda order: order)

    def undone(self, weight: Mapping[str, Array]) -> dict[str, Array]:
        """Return the weights that `of` would change, brought back from the new order."""
        return self._moved(weight, lambda order: np.argsort(order))

    def _moved(self, weights: Mapping[str, Array], way: Callable[[Ints], Ints]) -> dict[str, Array]:
        moved: dict[str, Array] = {}
        for number, order in self.orders.items():
            # A tensor with several readers is a member for each; its axis moves once.
            places = {(m.tensor, m.axis): m.index for m in self.found.groups[number].members}
            for (name, axis), index in places.items():
                values = moved.get(name, weights[name])
                take = np.arange(values.shape[axis])
                take[index] = index[way(order)]
                moved[name] = np.take(values, take, axis=axis)
        return moved


def movable(found: Groups) -> dict[int, str]:
    """Return, for every group by number, why its channels must stay where they are; "" where they may move."""
    places = Places(found)
    why = dict.fromkeys(range(len(found)), "")

    def hold(axis: Axis, reason: str) -> None:
        for number in places.groups_on(axis):
            why[number] = why[number] or reason

    analysis, env = found.analysis, found.analysis.env
    for axes in env.values():
        for axis in axes or ():
            if not axis.is_rigid and not _is_plain(found, axis):
                hold(axis, "its channels are split or mixed with others on their way")
    for balance in analysis.balances:
        hold(balance.axis, f"something works on them in {balance.groups} groups")
    for window in analysis.windows:
        hold(window, "something reads neighbouring channels")
    for node in analysis.nodes:
        if node.op in _MOVERS:
            kept = {
                n for out in node.outputs for axis in env.get(out.name) or () for n in places.groups_on(axis)
            }
            for axis in env.get(node.inputs[0].name) or ():
                if not kept.issuperset(places.groups_on(axis)):
                    hold(axis, f"they cannot be followed through {node.op} ({node.name})")
        if node.op in _SPATIAL:
            for axis in (env.get(node.inputs[0].name) or ())[2:]:
                hold(axis, f"{node.op} ({node.name}) reads neighbouring channels")
        reason = _holds(node)
        if reason:
            for tensor in (*node.inputs, *node.outputs):
                for axis in env.get(tensor.name) or ():
                    hold(axis, reason)
    for number, group in enumerate(found):
        why[number] = why[number] or _scattered(found, group)
    return why


def _is_plain(found: Groups, axis: Axis) -> bool:
    """Tell whether an axis is one block of channels, each with one label, perhaps beside sizes nothing goes from."""
    blocks = [factor for factor in axis.factors if not isinstance(factor, Rigid)]
    if len(blocks) != 1 or not isinstance(blocks[0], Rows) or blocks[0].shuffled is not None:
        return False
    number = found.structure.axis_id(axis)
    return number < 0 or found.structure.rows(number).shape[1] == 1


def _holds(node: gs.Node) -> str:
    if node.op not in _ALIKE or domain_name(node.domain):
        return f"{node.op} ({node.name}) may treat channels differently"
    if node.op in ("Conv", "ConvTranspose"):
        groups = int(node.attrs.get("group", 1))
        shape = node.inputs[1].shape
        depthwise = shape is not None and groups == shape[0] and shape[1] == 1
        if groups > 1 and not depthwise:
            return f"{node.op} ({node.name}) works in {groups} groups"
    return ""


def _scattered(found: Groups, group: ChannelGroup) -> str:
    """Say where a weight holds the group on numbers that are no initializer of the main graph."""
    initializers = found.analysis.model.weights
    outside = next((m.tensor for m in group.members if m.tensor not in initializers), None)
    return f"{outside} lies in a body or a function" if outside else ""


def put(model: Model, weights: Mapping[str, Array]) -> None:
    """Replace weights of a model, keeping their names."""
    for name, values in weights.items():
        model.weights[name] = values
