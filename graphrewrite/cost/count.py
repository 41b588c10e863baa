"""The front door: a model's cost table, and the cost of a single node under sizes of one's own."""

import onnx_graphsurgeon as gs

import graphrewrite.cost.rules  # noqa: F401  (loading the folder files the rules)
from graphrewrite.cost.registry import RULES, key_of
from graphrewrite.cost.site import NumbersOf, Site, SizesOf, Unsized
from graphrewrite.cost.sums import batch_of
from graphrewrite.cost.table import CostTable
from graphrewrite.cost.tally import KnownShapes
from graphrewrite.cost.walk import count_graph
from graphrewrite.ir import Array, Model
from graphrewrite.ir.shapes import infer


def of(model: Model, info: KnownShapes | None = None, world: int = 0) -> CostTable:
    """Count what a model costs, node by node, at the input sizes of a sample world.

    Symbolic input sizes have the number the world gives them (`CostTable.inputs` lists them); the symbolic batch is
    divided out by `CostTable.per_sample`. A body that runs an unknown number of times counts once, and of the branches
    of an If with an unknown condition the dearer one counts; both leave a note. `info` saves inferring shapes again.
    """
    info = info or infer(model)
    tally = count_graph(model, info, world)
    inputs = {tensor.name: info.sizes(tensor.name, world) for tensor in model.inputs}
    return CostTable(
        nodes=tuple(tally.rows),
        macs=sum(row.macs for row in tally.rows),
        ops=sum(row.ops for row in tally.rows),
        params=sum(params for params, _ in tally.weights.values()),
        weight_bytes=sum(stored for _, stored in tally.weights.values()),
        activation_bytes=sum(row.activation_bytes for row in tally.rows),
        peak_bytes=tally.peak,
        inputs={name: sizes for name, sizes in inputs.items() if sizes is not None},
        batch=batch_of(model, info, world),
        unknown={op: tuple(names) for op, names in sorted(tally.unknown.items())},
        unsized=tuple(tally.unsized),
    )


def work_of(
    node: gs.Node, sizes_of: SizesOf, numbers_of: NumbersOf | None = None, opset: int = 20
) -> tuple[int, int] | None:
    """Return (macs, ops) of one node with the sizes that `sizes_of` names, without its bodies.

    None when the operator has no rule or a size it needs is unknown. For asking what a node would cost if some of its
    tensors were smaller: sizes given for a constant win over its stored ones.
    """
    rule = RULES.get(key_of(node.domain, node.op))
    if rule is None:
        return None
    site = Site(node, sizes_of, numbers_of or _no_numbers, opset)
    try:
        return rule.macs(site) if rule.macs else 0, rule.ops(site) if rule.ops else 0
    except Unsized:
        return None


def _no_numbers(name: str) -> Array | None:
    return None
