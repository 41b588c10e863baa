"""The two totals a budget is about, without the rows and the memory of a whole table."""

from dataclasses import dataclass
from typing import Literal

import onnx_graphsurgeon as gs

import graphrewrite.cost.rules  # noqa: F401  (loading the folder files the rules)
from graphrewrite.cost.registry import RULES, key_of
from graphrewrite.cost.site import Unsized
from graphrewrite.cost.tally import KnownShapes
from graphrewrite.cost.walk import Walk
from graphrewrite.ir import Model
from graphrewrite.ir.garbage import paused
from graphrewrite.ir.shapes import infer


@dataclass(frozen=True)
class Totals:
    """What `CostTable` says under the same names: multiply-accumulates, numbers in weights, samples in that world."""

    macs: int
    params: int
    batch: int = 1

    def total(self, what: Literal["macs", "params"]) -> int:
        """Return one total, at the sizes of the world that was counted."""
        return self.macs if what == "macs" else self.params

    def per_sample(self, what: Literal["macs", "params"]) -> int:
        """Return one total for a single sample, rounded; weights do not grow with the batch."""
        return round(self.macs / self.batch) if what == "macs" and self.batch > 1 else self.total(what)


@paused()
def totals(model: Model, info: KnownShapes | None = None, world: int = 0) -> Totals:
    """Count a model's multiply-accumulates and parameters, the same numbers as `of` at a third of its time."""
    info = info or infer(model)
    walk = Walk.over(model, info, world)
    macs = sum(_macs(walk, node) for node in model.graph.nodes)
    walk.file_returned()
    params = sum(numbers for numbers, _ in walk.tally.weights.values())
    return Totals(macs, params, batch_of(model, info, world))


def batch_of(model: Model, info: KnownShapes, world: int) -> int:
    """Return the number of samples in a world: the symbolic first axis of the first input; 1 when it is fixed."""
    for tensor in model.inputs:
        shape, sizes = info.shape(tensor.name), info.sizes(tensor.name, world)
        if shape and sizes:
            return 1 if isinstance(shape[0], int) else max(sizes[0], 1)
    return 1


def _macs(walk: Walk, node: gs.Node) -> int:
    """Return a node's multiply-accumulates and file its weights."""
    if walk.runs_inside(node):
        return walk.row(node)[0].macs
    key = key_of(node.domain, node.op)
    walk.weights(node, key)
    rule = RULES.get(key)
    if rule is None or rule.macs is None:
        return 0
    try:
        return rule.macs(walk.site(node))
    except Unsized:
        return 0
