"""What a block is: a part of a graph that can be left out whole, and where that leaves a gap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphrewrite.cost import CostTable
from graphrewrite.dims.labels import Ints
from graphrewrite.dims.sweep import Analysis
from graphrewrite.passes.blocks.flow import Flow

if TYPE_CHECKING:
    from graphrewrite.passes.blocks.width import Width


@dataclass(frozen=True, eq=False)
class Block:
    """A branch that may be left out of a sum (*residual*), or of concatenations (*concat*).

    Attributes:
        name: the name of the sum, numbered where it has several branches; of the concatenation with the operand.
        cuts: the (node, input) pairs through which the branch enters: one sum, or every concatenation it is joined in.
        branch, trunk, result: names of the tensors: what is left out, what it is computed from and added to (for a
            concatenation: an operand beside it), and what the first of `cuts` gives.
        stream: the tensor in which the run of sums begins that this block belongs to; the first result of the
            concatenations that hold it.
        nodes: the nodes that work for the branch alone.
        weights: the initializers only they read.
        axis: the axis of `result` along which channels lie; None where that is not a single axis.
        macs, params: what goes with the branch alone, inner blocks included; MACs in sample world A.
        inside: the next larger block around this one.
        shared: names of tensors of the branch that something else reads too, so what makes them stays.
        labels: the labels of the channels that die with a branch of a concatenation; none of a residual one.
    """

    name: str
    cuts: tuple[tuple[int, int], ...]
    branch: str
    trunk: str
    result: str
    stream: str
    nodes: tuple[int, ...]
    weights: tuple[str, ...]
    axis: int | None
    macs: float
    params: float
    inside: int | None = None
    shared: tuple[str, ...] = ()
    labels: Ints | None = None

    @property
    def join(self) -> int:
        """The first node the branch enters."""
        return self.cuts[0][0]

    @property
    def slot(self) -> int:
        """The input of `join` through which the branch enters."""
        return self.cuts[0][1]

    @property
    def kind(self) -> str:
        """How the branch is joined: "residual" or "concat"."""
        return "residual" if self.labels is None else "concat"


@dataclass(frozen=True, eq=False)
class Blocks:
    """The blocks of a model, and why other joins with a branch of their own have none.

    First those of sums, then those of concatenations, both in graph order; `width` follows what the latter do.
    """

    analysis: Analysis
    flow: Flow
    table: CostTable
    blocks: tuple[Block, ...]
    left: dict[str, str]
    width: Width | None = None

    def __iter__(self) -> Iterator[Block]:
        return iter(self.blocks)

    def __len__(self) -> int:
        return len(self.blocks)

    def within(self, number: int) -> list[int]:
        """Return a block and all blocks inside it."""
        found = [number]
        for other, block in enumerate(self.blocks):
            around = block.inside
            while around is not None and around != number:
                around = self.blocks[around].inside
            if around == number:
                found.append(other)
        return sorted(found)


__all__ = ["Block", "Blocks"]
