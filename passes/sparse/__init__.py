"""Zeros in weights: patterns that make them, and nodes that skip them."""

from graphrewrite.passes.sparse.lower_block_sparse import LowerBlockSparse
from graphrewrite.passes.sparse.lower_q_block_sparse import LowerQBlockSparse
from graphrewrite.passes.sparse.mask_blocks import MaskBlocks
from graphrewrite.passes.sparse.train import TrainSparse

__all__ = ["LowerBlockSparse", "LowerQBlockSparse", "MaskBlocks", "TrainSparse"]
