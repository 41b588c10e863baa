"""Operators of our own that do less than their function bodies: blocks of zeros are not multiplied."""

from math import prod

from graphrewrite.cost.registry import macs_rule, ops_rule
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


@macs_rule("HadamardLinear", domain="graphrewrite")
def hadamard_linear(site: Site) -> int:
    """The three diagonals, for every row of the output [..., out]; the transforms only add and subtract."""
    return _rows(site) * (site.input_count(1) + site.input_count(3) + site.input_count(4))


@ops_rule("HadamardLinear", domain="graphrewrite")
def hadamard_sums(site: Site) -> int:
    """Two transforms, each a sum or difference per number and binary digit of the position."""
    size = site.input_count(3)
    return _rows(site) * 2 * size * (size.bit_length() - 1)


@macs_rule("WaveletLinear", domain="graphrewrite")
def wavelet_linear(site: Site) -> int:
    """The three diagonals, both filters for every half of every level, as many taps for each number on the way back."""
    length, taps = site.attr("size", 0), site.input(2)[1]
    count = site.input_count(1) + site.input_count(4) + site.input_count(6)
    for _ in range(site.attr("levels", 0)):
        half = (length + taps - 1) // 2
        count += 2 * taps * half + taps * length
        length = half
    return _rows(site) * count


def _rows(site: Site) -> int:
    return prod(site.output(0)[:-1])
