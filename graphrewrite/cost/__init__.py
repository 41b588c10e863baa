"""What a model costs: multiply-accumulates, element operations, weights, and activation memory, node by node."""

from graphrewrite.cost.count import of, work_of
from graphrewrite.cost.registry import macs_rule, moves, ops_rule, per_input, per_output, uncounted
from graphrewrite.cost.site import Site, Unsized
from graphrewrite.cost.sums import Totals, totals
from graphrewrite.cost.table import CostTable, NodeCost, Quantity

__all__ = [
    "CostTable",
    "NodeCost",
    "Quantity",
    "Site",
    "Totals",
    "Unsized",
    "macs_rule",
    "moves",
    "of",
    "ops_rule",
    "per_input",
    "per_output",
    "totals",
    "uncounted",
    "work_of",
]
