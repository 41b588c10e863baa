"""What a model costs: a row for each node, and totals in which a shared weight counts once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

Quantity: TypeAlias = Literal["macs", "ops", "params", "weight_bytes", "activation_bytes", "peak_bytes"]

# What grows with the number of samples; weights do not.
_PER_SAMPLE = frozenset({"macs", "ops", "activation_bytes", "peak_bytes"})


class NodeCost(NamedTuple):
    """Costs of one node, its bodies or function body included.

    `name` is the node's name, or its first output where it has none. `params` and `weight_bytes` count what this node
    reads, also when others read it too. `note` says why a number is an estimate or missing; it is empty otherwise.
    """

    name: str
    op: str
    macs: int
    ops: int
    params: int
    weight_bytes: int
    activation_bytes: int
    note: str = ""


@dataclass(frozen=True)
class CostTable:
    """Costs of a model at the input sizes of one sample world.

    Attributes:
        nodes: one row for each node of the main graph, in graph order.
        macs: multiply-accumulates of products: convolutions, matrix products, attention, recurrent cells, transforms.
        ops: element operations besides those: activations, sums, normalisations, pooling.
        params: numbers in weights, each initializer or Constant once; integers that steer shapes and indices are none.
        weight_bytes: the bytes those numbers take in a file, sub-byte types packed.
        activation_bytes: bytes of all tensors that nodes write, views included.
        peak_bytes: most bytes alive at once when nodes run in order; a view shares the memory of what it views.
        inputs: the sizes each graph input has in that world.
        batch: samples in that world: the symbolic first axis of the first input; 1 when that axis is fixed.
        unknown: operator without a rule -> names of its nodes; their macs and ops are missing from the totals.
        unsized: names of nodes whose sizes are not known; their numbers are missing from the totals too.
    """

    nodes: tuple[NodeCost, ...]
    macs: int
    ops: int
    params: int
    weight_bytes: int
    activation_bytes: int
    peak_bytes: int
    inputs: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    batch: int = 1
    unknown: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unsized: tuple[str, ...] = ()

    def total(self, what: Quantity) -> int:
        """Return one total, at the sizes of the table's world."""
        return int(getattr(self, what))

    def per_sample(self, what: Quantity) -> int:
        """Return one total for a single sample: divided by `batch` where it grows with the batch, rounded."""
        value = self.total(what)
        return round(value / self.batch) if what in _PER_SAMPLE and self.batch > 1 else value

    def by_op(
        self, what: Literal["macs", "ops", "params", "weight_bytes", "activation_bytes"]
    ) -> dict[str, int]:
        """Return operator -> sum over its nodes, largest first; weights read by several nodes count for each."""
        sums: dict[str, int] = {}
        for row in self.nodes:
            sums[row.op] = sums.get(row.op, 0) + int(getattr(row, what))
        return dict(sorted(sums.items(), key=lambda entry: -entry[1]))

    def notes(self) -> tuple[tuple[str, str], ...]:
        """Return (node name, text) for every number that is an estimate or missing."""
        return tuple((row.name, row.note) for row in self.nodes if row.note)
