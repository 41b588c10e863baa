"""One forward sweep over a graph: every tensor's axes, what the ties are, and how a cut is carried out and proved.

A rule per operator (`rules/`) reads the axes of its inputs through a `Step`, ties them, and hands over the axes of its
outputs. What it knows beyond that it records: where positions mix (the proof needs it), the multiply-accumulates as a
product of axes (the budget needs it), and how the node's numbers follow a cut (the surgery needs it). An input a rule
does not ask for is pinned, and so is everything an operator without a rule touches: unknown means larger, not wrong.
"""

from collections.abc import Collection
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.dims import places, ports
from graphrewrite.dims.axes import Axis, rigid, rows_of
from graphrewrite.dims.labels import Labels
from graphrewrite.dims.ragged import file_ragged, is_ragged, may_stay_open
from graphrewrite.dims.record import (
    Analysis,
    Balance,
    Grouped,
    MacTerm,
    Mix,
    Restate,
    WeightUse,
    is_constant,
    pairs,
    rule,
    rules,
)
from graphrewrite.dims.shared import note_bare, settle
from graphrewrite.dims.step import Step, UnknownRank, refined
from graphrewrite.ir import Model
from graphrewrite.ir.bodies import decided, has_bodies, returned_by_nodes, uniquely_named
from graphrewrite.ir.domains import domain_name
from graphrewrite.ir.garbage import paused
from graphrewrite.ir.shapes import ShapeInfo, infer

if TYPE_CHECKING:
    from graphrewrite.dims.shrink import Cut


@paused()
def analyse(
    model: Model,
    info: ShapeInfo | None = None,
    labels: Labels | None = None,
    may_change: Collection[str] = (),
    own_dims: bool = False,
) -> Analysis:
    """Sweep a model whose local functions have been inlined.

    `labels` may be some that keep a record of what is done; `may_change` names graph inputs and outputs whose fixed
    lengths may shrink: the caller will then feed, and get, the kept positions only. With `own_dims` the heads of
    attention may lose dims of their own, equally many, where nothing ties them (see `graphrewrite.dims.cells`);
    there `labels` are always new ones.
    """
    from graphrewrite.dims import rules as _  # noqa: F401  (fills the rule table)

    model, info = _ready(model, info)
    open_ports = frozenset(may_change)
    if not own_dims:
        return _swept(Analysis(model, info, Labels() if labels is None else labels, open_ports))
    tied: set[int] = set()
    while True:
        # Undoing what was hoped for leaves more ties behind than there are: where it failed it is not tried again.
        known = len(tied)
        result = _swept(Analysis(model, info, Labels(), open_ports, tied))
        if len(tied) == known:
            return result


def _swept(result: Analysis) -> Analysis:
    """Fill a blank analysis."""
    model, info = result.model, result.info
    result.positions.update((id(node), index) for index, node in enumerate(result.nodes))
    for tensor in model.graph.inputs:
        sizes = pairs(info, tensor.name)
        if isinstance(tensor, gs.Variable):
            result.env[tensor.name] = (
                None if sizes is None else [ports.entry(result, tensor, p) for p in sizes]
            )
    sweep_nodes(result, model.graph)
    for tensor in model.graph.outputs:
        ports.leave(result, tensor)
    _settle(result)
    ports.pin_idle(result)
    return result


def _ready(model: Model, info: ShapeInfo | None) -> tuple[Model, ShapeInfo]:
    """Give tensors inside bodies names of their own and write branches out that are always taken."""
    if not has_bodies(model.graph):
        return model, info or infer(model)
    unique = returned_by_nodes(uniquely_named(model))
    if info is None or unique is not model:
        info = infer(unique)
    return decided(unique, info), info


def sweep_nodes(analysis: Analysis, graph: gs.Graph) -> None:
    """Apply the rules to the nodes of a graph in order."""
    first = analysis.positions[id(graph.nodes[0])] if graph.nodes else 0
    for index, node in enumerate(graph.nodes, start=first):
        if node.op == "Constant" and not node.domain:
            continue
        _visit(analysis, Step(analysis, index, node))


def _settle(analysis: Analysis) -> None:
    """Refine the digits still open, unless a shuffle bypasses them; settle what has groups; then labels are final."""
    waits: list[tuple[str, list[Axis]]] = []
    for index, name in analysis.loose:
        axes = analysis.env[name]
        if index in analysis.bypassed or axes is None:
            continue
        if may_stay_open(analysis, axes):
            waits.append((name, axes))
        else:
            _refine(analysis, name, axes)
    settle(analysis)
    waiting = list(analysis.open)
    while True:
        # A product refines labels, which may take the plain axis of another node away: until nothing changes.
        entangled = [
            o
            for o in waiting
            if not all(_is_plain(analysis, balance.axis) for balance in o.balances) or not o.is_possible()
        ]
        if not entangled:
            break
        for choice in entangled:
            choice.as_product()
        waiting = [o for o in waiting if not any(o is e for e in entangled)]
    for choice in waiting:
        choice.as_balance()
        analysis.balances.extend(choice.balances)
    for name, axes in waits:
        if is_ragged(axes):
            file_ragged(analysis, name, axes)
        else:  # the operators that mix its members asked for the same product
            _refine(analysis, name, axes)
    analysis.restates = [_unless_bypassed(analysis, restate) for restate in analysis.restates]
    for window in analysis.windows:
        _guard(analysis, window)
    places.settle(analysis)
    analysis.labels.is_closed = True


def _refine(analysis: Analysis, name: str, axes: list[Axis]) -> None:
    analysis.env[name] = [refined(analysis.labels, axis, "split") if axis.is_split else axis for axis in axes]


def _unless_bypassed(analysis: Analysis, restate: Restate) -> Restate:
    """Let a node inside a shuffle follow a cut only where the shuffled axis stays: else one Gather takes its place."""
    shuffled = analysis.bypassed.get(restate.node)
    if shuffled is None:
        return restate

    def apply(cut: "Cut") -> None:
        if not cut.is_cut(shuffled):
            restate.apply(cut)

    return Restate(restate.node, [shuffled, *restate.needs], apply)


def _guard(analysis: Analysis, window: Axis) -> None:
    """Pin a position of a window that could lose everything while every group keeps a unit.

    Where each position has one label, or the positions are all pairs of two (or more) columns of labels, what the
    groups keep is enough. A part of a product (head 0 without its first dims, head 1 without its last) is neither.
    """
    rows = analysis.rows(window)
    if rows.shape[1] == 1:
        return
    columns = analysis.labels.columns(rows_of(analysis.labels, window, "a window"))
    pairs_of_columns = prod(len(np.unique(column)) for column in columns.T)
    if len(np.unique(columns, axis=0)) < pairs_of_columns:
        least = int(np.argmin((rows > 0).sum(axis=1)))
        analysis.labels.pin(rows[least : least + 1], "a window across a product, which must not become empty")


def _is_plain(analysis: Analysis, axis: Axis) -> bool:
    """Whether every position has one label of its own kind, not a product."""
    return axis.is_rigid or (axis.is_static and analysis.rows(axis).shape[1] == 1)


def _visit(analysis: Analysis, step: Step) -> None:
    node = step.node
    domain = domain_name(node.domain)
    function = rules.get((domain, node.op))
    if function is None:
        step.refuse(f"no dimension rule for {node.op}" + (f" of domain {domain}" if domain else ""))
        analysis.refused.setdefault(f"{domain}.{node.op}" if domain else node.op, []).append(step.why)
        return
    if places.follow(step):
        return
    if _is_shape_arithmetic(analysis, node):
        for tensor in node.outputs:
            sizes = pairs(analysis.info, tensor.name)
            analysis.env[tensor.name] = (
                None if sizes is None else [rigid(pair, "shape arithmetic") for pair in sizes]
            )
        return
    try:
        function(step)
    except UnknownRank as error:
        step.refuse(f"the rank of {error.args[0]} is not known")
        analysis.refused.setdefault(f"{node.op} (unknown rank)", []).append(step.why)
        return
    step.finish()
    note_bare(analysis, node)


# A weight makes new positions, whatever type the numbers have.
_LAYERS = frozenset({"MatMul", "Gemm", "Einsum", "MatMulInteger", "ConvInteger"})


def _is_quantized(dtype: npt.DTypeLike) -> bool:
    return np.dtype(dtype).kind in "iu" and np.dtype(dtype).itemsize <= 2


# What a body reads are not inputs of its node.
_WITH_BODIES = frozenset({"If", "Loop", "Scan"})


# They make axes: a mask or an index spread over the channels follows them.
_GROWING = frozenset({"Expand", "ConstantOfShape"})


def _is_shape_arithmetic(analysis: Analysis, node: gs.Node) -> bool:
    """Integer or boolean results of rigid or constant inputs carry no positions anyone could remove."""
    for tensor in node.outputs:
        dtype = analysis.info.dtype(tensor.name)
        # Numbers of two bytes or less are quantized values, not sizes or places.
        if tensor.name and (dtype is None or np.dtype(dtype).kind not in "iub" or _is_quantized(dtype)):
            return False
    if node.op in _LAYERS or node.op in _WITH_BODIES or places.is_read(analysis, node):
        return False
    if node.op in _GROWING and len(analysis.info.shape(node.outputs[0].name) or ()) > 1:
        return False
    for tensor in node.inputs:
        if not tensor.name or is_constant(tensor):
            continue
        if not all(axis.is_rigid for axis in analysis.axes_of(tensor.name)):
            return False
    return True


__all__ = [
    "Analysis",
    "Balance",
    "Grouped",
    "MacTerm",
    "Mix",
    "Restate",
    "Step",
    "WeightUse",
    "analyse",
    "is_constant",
    "pairs",
    "rule",
    "rules",
]
