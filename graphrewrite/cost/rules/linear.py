"""Matrix products in all their forms."""

from math import prod

from graphrewrite.cost.registry import macs_rule, ops_rule
from graphrewrite.cost.site import Site, Sizes, Unsized


@macs_rule("MatMul", "MatMulInteger")
@macs_rule(
    "DynamicQuantizeMatMul",
    "MatMulIntegerToFloat",
    "MatMulInteger16",
    "GemmFastGelu",
    "QOrderedMatMul",
    domain="com.microsoft",
)
def matmul(site: Site) -> int:
    """Outputs times the length of the summed axis, the last of the first input."""
    return site.output_count() * _last(site, site.input(0))


@macs_rule("QLinearMatMul")
def qlinear_matmul(site: Site) -> int:
    """As MatMul; both inputs are quantized."""
    return matmul(site)


@macs_rule("Gemm")
@macs_rule(
    "FusedGemm", "QGemm", "GemmFloat8", "TransposeMatMul", "SparseToDenseMatMul", domain="com.microsoft"
)
def gemm(site: Site) -> int:
    """Outputs times the summed axis, which `transA` makes the second last of the first input."""
    first = site.input(0)
    if site.attr("transA", 0) and len(first) > 1:
        return site.output_count() * first[-2]
    return site.output_count() * _last(site, first)


@macs_rule("FusedMatMul", "FusedMatMulActivation", domain="com.microsoft")
def fused_matmul(site: Site) -> int:
    """As MatMul; `transBatchA` moves axis 0 next to the last, and `transA` then swaps it with the last."""
    first = site.input(0)
    if site.attr("transA", 0) and len(first) > 1:
        return site.output_count() * (first[0] if site.attr("transBatchA", 0) else first[-2])
    return site.output_count() * _last(site, first)


@macs_rule("MatMulNBits", "MatMulBnb4", "MatMulFpQ4", domain="com.microsoft")
def packed_matmul(site: Site) -> int:
    """As MatMul; the packed weight's own sizes say nothing about rows and columns."""
    return matmul(site)


@macs_rule("MatMulNBitsMlp", domain="com.microsoft")
def packed_mlp(site: Site) -> int:
    """Two projections of the same input, gate and up."""
    return 2 * matmul(site)


@macs_rule("MatMulNBitsQkv", domain="com.microsoft")
def packed_qkv(site: Site) -> int:
    """Three projections of the same input."""
    return (site.output_count(0) + site.output_count(1) + site.output_count(2)) * _last(site, site.input(0))


@ops_rule("FusedGemm", "FusedMatMulActivation", "GemmFastGelu", "MatMulNBitsMlp", domain="com.microsoft")
def fused_activation(site: Site) -> int:
    """The fused activation function."""
    return site.output_count()


@macs_rule("MoE", domain="com.microsoft")
def mixture(site: Site) -> int:
    """Each token goes through `k` experts, each two or three products [hidden -> inter -> hidden].

    fc1 is [experts, fused * inter, hidden], fc2 [experts, hidden, inter], fc3 (optional) [experts, inter, hidden].
    """
    tokens = prod(site.input(0)[:-1])
    work = prod(site.input(2)[1:]) + prod(site.input(4)[1:])
    if site.has(6):
        work += prod(site.input(6)[1:])
    return tokens * site.attr("k", 1) * work


@macs_rule("QMoE", domain="com.microsoft")
def packed_mixture(site: Site) -> int:
    """As MoE, with the last axis of each weight packed to 8 / bits numbers a byte."""
    tokens = prod(site.input(0)[:-1])
    common = site.attr("expert_weight_bits", 4)
    work = 0
    for index, layer in ((2, "fc1"), (5, "fc2"), (8, "fc3")):
        if site.has(index):
            work += prod(site.input(index)[1:]) * 8 // site.attr(f"{layer}_expert_weight_bits", common)
    return tokens * site.attr("k", 1) * work


@macs_rule("Einsum")
def einsum(site: Site) -> int:
    """Operands are multiplied from left to right, two at a time, letters nobody needs any more summed on the way.

    A step costs the product of the sizes of all letters that take part in it. A single operand has no products.
    """
    terms, result, sizes = _letters(site)
    total = 0
    held = terms[0]
    for index, term in enumerate(terms[1:], start=2):
        total += prod(sizes[letter] for letter in held | term)
        needed = set(result).union(*terms[index:])
        held = (held | term) & needed
    return total


@ops_rule("Einsum")
def einsum_sums(site: Site) -> int:
    """A single operand is only summed or moved: one addition for each of its elements."""
    return site.input_count() if len(site.node.inputs) == 1 else 0


def _letters(site: Site) -> tuple[list[set[str]], set[str], dict[str, int]]:
    """Return the letters of each operand, of the result, and the size of each letter."""
    left, arrow, right = site.attr("equation", "").replace(" ", "").partition("->")
    sizes: dict[str, int] = {}
    terms: list[set[str]] = []
    counts: dict[str, int] = {}
    for index, term in enumerate(left.split(",")):
        letters = _spell(term, len(site.input(index)))
        for letter, size in zip(letters, site.input(index), strict=True):
            # a broadcast axis of length 1 takes the size of its partner
            sizes[letter] = size if sizes.get(letter, 1) == 1 else sizes[letter]
            counts[letter] = counts.get(letter, 0) + 1
        terms.append(set(letters))
    if arrow:
        kept = set(right.replace("...", ""))
        return terms, kept | {letter for letter in sizes if letter.startswith(".")}, sizes
    return terms, {letter for letter, times in counts.items() if times == 1 or letter.startswith(".")}, sizes


def _spell(term: str, rank: int) -> list[str]:
    """Write out the axes of one operand; axes under an ellipsis are named from the right: .1 is the last of them."""
    before, dots, after = term.partition("...")
    hidden = rank - len(before) - len(after)
    if hidden < 0 or (hidden and not dots):
        raise Unsized(f"equation term {term!r} for rank {rank}")
    return [*before, *(f".{place}" for place in range(hidden, 0, -1)), *after]


@ops_rule("Det")
def det(site: Site) -> int:
    """Elimination of n rows: n^3 / 3 for each of the matrices [..., n, n]."""
    n = _last(site, site.input(0))
    return site.input_count() * n // 3


@ops_rule("Inverse", domain="com.microsoft")
def inverse(site: Site) -> int:
    """Elimination and two substitutions per column: n^3 for each of the matrices [..., n, n]."""
    return site.input_count() * _last(site, site.input(0))


@macs_rule("AffineGrid")
def affine_grid(site: Site) -> int:
    """Each output coordinate is a dot product of a row of theta [N, d, d + 1] with a position."""
    return site.output_count() * _last(site, site.input(0))


def _last(site: Site, sizes: Sizes) -> int:
    if not sizes:
        raise Unsized(site.node.inputs[0].name)
    return sizes[-1]
