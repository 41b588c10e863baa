"""How much a block is worth: one criterion per file, found by name."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from graphrewrite.passes.blocks.block import Block
from graphrewrite.passes.channels.evidence import Evidence, Need
from graphrewrite.registry import Registry


@runtime_checkable
class BlockCriterion(Protocol):
    """A rule for what a block is worth. May also define `needs(block) -> tuple[Need, ...]`; the default is none."""

    def score(self, block: Block, evidence: Evidence) -> float:
        """Return one number, not negative; larger = keep. Blocks of all streams are compared by it."""
        ...


criteria: Registry[BlockCriterion] = Registry("block criterion", package=__name__, of=BlockCriterion)


def needs_of(criterion: BlockCriterion, block: Block) -> tuple[Need, ...]:
    """Return what a criterion wants to know about a block; criteria of weights want nothing."""
    asked: Callable[[Block], tuple[Need, ...]] | None = getattr(criterion, "needs", None)
    return tuple(asked(block)) if asked is not None else ()


__all__ = ["Block", "BlockCriterion", "Evidence", "Need", "criteria", "needs_of"]
