"""Operators of our own that do less than their function bodies: blocks of zeros are not multiplied."""

from math import prod

from graphrewrite.cost.registry import macs_rule
from graphrewrite.cost.site import Site


@macs_rule("BlockSparseConv", domain="graphrewrite")
def block_sparse_conv(site: Site) -> int:
    """The numbers in the blocks that are left, at every position of the output [N, channels, H, W]."""
    sizes = site.output(0)
    return prod(site.input(1)) * sizes[0] * prod(sizes[2:])


@macs_rule("BlockSparseMatMul", domain="graphrewrite")
def block_sparse_matmul(site: Site) -> int:
    """The numbers in the blocks that are left, for every row of the output [..., features]."""
    return prod(site.input(1)) * prod(site.output(0)[:-1])


@macs_rule("QBlockSparseConv", domain="graphrewrite")
def q_block_sparse_conv(site: Site) -> int:
    """The numbers in the blocks [blocks, 16, 4] that are left, at every position of the output [N, channels, H, W]."""
    sizes = site.output(0)
    return prod(site.input(3)) * sizes[0] * prod(sizes[2:])


@macs_rule("QBlockSparseMatMul", domain="graphrewrite")
def q_block_sparse_matmul(site: Site) -> int:
    """The numbers in the blocks [blocks, 16, 4] that are left, for every row of the output [..., features]."""
    return prod(site.input(1)) * prod(site.output(0)[:-1])
