"""Removing whole residual blocks: where they are, what they are worth, and the pass that leaves them out."""

from graphrewrite.passes.blocks.block import Block, Blocks
from graphrewrite.passes.blocks.find import find
from graphrewrite.passes.blocks.remove import RemoveBlocks

__all__ = ["Block", "Blocks", "RemoveBlocks", "find"]
