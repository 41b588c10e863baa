"""Weights packed to a few bits, and mixtures of experts: rows go one by one, inner positions in whole blocks.

A row of a packed weight [N, K] is one output; along K neighbours share bytes and a scale, so only whole blocks can go.
"""

from typing import TYPE_CHECKING

import numpy as np

from graphrewrite.dims.axes import Axis
from graphrewrite.dims.rules.contrib import MICROSOFT
from graphrewrite.dims.sweep import Step, rule
from graphrewrite.ir import Array
from graphrewrite.ir.edit import set_input

if TYPE_CHECKING:
    from graphrewrite.dims.shrink import Cut


@rule("MatMulNBits", domain=MICROSOFT)
def matmul_bits(s: Step) -> None:
    """The weight is [N, blocks of K, bytes of a block]; scales and zero points have one number per row and block."""
    a = s.forced(s.axes(0))
    rows, inner, block = s.integer("N", 0), s.integer("K", 0), s.integer("block_size", 32)
    if s.constant(1) is None or s.integer("weight_prepacked", 0):
        s.refuse("a packed weight that is computed, or packed for one machine, is not followed", tell=True)
        return
    weight = s.weight(1, free=(0, 1))
    out, count = weight[0], weight[1].sizes[0]
    _blocks(s, a[-1], weight[1], inner, block)
    _table(s, 2, out, weight[1])
    zero = s.constant(3)
    if zero is not None and zero.dtype != np.uint8:
        _table(s, 3, out, weight[1])
    if s.has(4):
        s.pin(a[-1], "an order of groups (g_idx)")
    if s.has(5):
        s.tie(out, s.axes(5)[0])
    s.contracts(0, len(a) - 1)
    s.contracts(1, 1)
    s.mix("zero", 0, {len(a) - 1: a[-1]})
    s.macs(1, [*a[:-1], a[-1], out])
    bits = s.integer("bits", 4)

    def follow(cut: "Cut") -> None:
        cut.set_attr(s.index, "N", cut.count(out))
        cut.set_attr(s.index, "K", cut.count(a[-1]))
        if zero is not None and zero.dtype == np.uint8:
            _repack(s, cut, zero.reshape(rows, -1), out, weight[1], count, bits)

    s.restate([out, weight[1]], follow)
    s.out([*a[:-1], out])


def _table(s: Step, slot: int, out: Axis, blocks: Axis) -> None:
    """Tie numbers per row and block, [N, blocks] or the same in one row."""
    axes = s.forced(s.axes(slot))
    if len(axes) == 1:
        axes = s.digits(axes[0], [out.sizes[0], blocks.sizes[0]])
    s.tie(axes[0], out)
    s.tie(axes[1], blocks)


def _blocks(s: Step, axis: Axis, blocks: Axis, inner: int, block: int) -> None:
    """Let the inner axis lose whole blocks, unless the last one is not full."""
    if inner % block or axis.sizes[0] != inner:
        for each in (axis, blocks):
            s.pin(each, "packed blocks run along it, the last one not full")
        return
    outer, places = s.digits(axis, [inner // block, block])
    s.pin(places, "packed blocks run along it: whole blocks go")
    s.tie(outer, blocks)


def _repack(s: Step, cut: "Cut", zero: Array, out: Axis, blocks: Axis, count: int, bits: int) -> None:
    """Write the packed zero points of the kept rows and blocks: `8 / bits` of them share a byte, low bits first."""
    per_byte = 8 // bits
    shifts = bits * np.arange(per_byte, dtype=np.uint8)
    numbers = (zero.astype(np.uint8)[:, :, None] >> shifts & (2**bits - 1)).reshape(len(zero), -1)[:, :count]
    for number, axis in enumerate((out, blocks)):
        kept = cut.kept(axis)
        if kept is not None:
            numbers = np.take(numbers, kept, axis=number)
    filled = np.pad(numbers, ((0, 0), (0, -numbers.shape[1] % per_byte)))
    bytes_ = (filled.reshape(len(numbers), -1, per_byte) << shifts).sum(axis=2).astype(np.uint8)
    flat = s.rank(3) == 1
    name = f"{s.node.inputs[3].name}.cut"
    set_input(cut.nodes[s.index], 3, cut.file(name, bytes_.ravel() if flat else bytes_))


@rule("MatMulBnb4", domain=MICROSOFT)
def matmul_bnb(s: Step) -> None:
    """A weight [N, K] as one row of half bytes with a scale for every block of it."""
    a = s.forced(s.axes(0))
    rows, inner, block = s.integer("N", 0), s.integer("K", 0), s.integer("block_size", 64)
    if inner % block or not s.integer("transB", 1) or a[-1].sizes[0] != inner:
        s.refuse("blocks of the packed weight run across its rows", tell=True)
        return
    blocks, places = s.digits(a[-1], [inner // block, block])
    s.pin(places, "packed blocks run along it: whole blocks go")
    out, mine, inside = s.digits(s.forced(s.axes(1))[0], [rows, inner // block, block // 2])
    s.pin(inside, "packed blocks run along it: whole blocks go")
    row, its = s.digits(s.forced(s.axes(2))[0], [rows, inner // block])
    for axis, others in ((out, [row]), (blocks, [mine, its])):
        for other in others:
            s.tie(axis, other)
    s.contracts(0, len(a) - 1)
    s.mix("zero", 0, {len(a) - 1: a[-1]})
    s.macs(1, [*a[:-1], a[-1], out])

    def follow(cut: "Cut") -> None:
        cut.set_attr(s.index, "N", cut.count(out))
        cut.set_attr(s.index, "K", cut.count(a[-1]))

    s.restate([out, a[-1]], follow)
    s.out([*a[:-1], out])


@rule("MoE", domain=MICROSOFT)
def mixture(s: Step) -> None:
    """Experts [E, inner, hidden] and back [E, hidden, inner], of which a router [tokens, E] chooses k by softmax."""
    x, router = s.forced(s.axes(0)), s.forced(s.axes(1))
    experts = router[-1]
    if s.integer("use_sparse_mixer", 0):
        s.pin(experts, "a sparse mixer compares experts with each other")
    else:
        s.mix("softmax", 1, {len(router) - 1: experts})
        s.analysis.chosen.append((s.window(experts), s.integer("k", 1)))
    first, second = s.forced(s.axes(2)), s.forced(s.axes(4))
    hidden, inner = x[-1], second[2]
    fused = first[1].sizes[0] // inner.sizes[0]
    order = [inner.sizes[0], 2] if s.integer("swiglu_fusion", 0) == 1 else [2, inner.sizes[0]]

    def tie_first(axis: Axis) -> None:
        if fused == 1:
            s.tie(axis, inner)
            return
        parts = s.digits(axis, order)
        s.pin(parts[order.index(2)], "gate and value")
        s.tie(parts[1 - order.index(2)], inner)

    tie_first(first[1])
    for axis in (first[2], second[1]):
        s.tie(hidden, axis)
    if s.has(3):
        tie_first(s.forced(s.axes(3))[1])
    if s.has(5):
        s.tie(hidden, s.forced(s.axes(5))[1])
    if s.has(6):
        third = s.forced(s.axes(6))
        s.tie(third[1], inner)
        s.tie(third[2], hidden)
    if s.has(7):
        s.tie(s.forced(s.axes(7))[1], inner)
    for slot in range(2, 8):
        if s.has(slot):
            s.tie(s.axes(slot)[0], experts)
    s.contracts(2, 2)
    s.contracts(4, 2)
    # Of the weights, not of the input: onnxruntime's kernel may write its result over an input that nobody else reads.
    for slot, axis in ((2, first[2]), (6, hidden)):
        if s.has(slot):
            s.mix("zero", slot, {2: axis})
    s.mix("zero", 4, {2: inner})
    work = float(s.integer("k", 1) * (fused + 1 + s.has(6)))
    s.macs(work, [*x[:-1], hidden, inner])
    s.out(x)


@rule("QMoE", domain=MICROSOFT)
def packed_mixture(s: Step) -> None:
    """Both widths of an expert are packed: the hidden one in the first weight, the inner one in the second."""
    s.refuse("the packed weights of the experts run along both of their widths", tell=True)
