"""Rules of matrix products."""

import numpy as np
import pytest

from tests.engine.dims.cases import Case, Cases, demand
from tests.support.drawing import Drawing, Drawn

cases = Cases()
INT8 = np.int8


def head(d: Drawing, x: Drawn, width: int) -> Drawn:
    """Read the last axis."""
    return d.matmul(x, d.floats(width, 3, name="last"))


@cases.add(
    "5: b[0] last[0] w[0]", opsets=(9, 11, 13), pins={"w[1]": "graph input", "last[1]": "graph output"}
)
def gemm_with_a_transposed_weight(d: Drawing) -> Drawn:
    x = d.input(2, 4)
    w, b = d.floats(5, 4, name="w"), d.floats(5, name="b")
    return head(d, d.op("Gemm", x, w, b, shape=(x.shape[0], 5), transB=1), 5)


@cases.add("5: b[1] last[0] w[1]")
def gemm_with_a_plain_weight_and_a_bias_of_rank_two(d: Drawing) -> Drawn:
    x = d.input(2, 4)
    y = d.op(
        "Gemm",
        x,
        d.floats(4, 5, name="w"),
        d.floats(1, 5, name="b"),
        shape=(x.shape[0], 5),
        alpha=0.5,
        beta=2.0,
    )
    return head(d, y, 5)


@cases.add("5: last[0] w[1]", symbolic=[False])
def gemm_with_a_transposed_first_operand(d: Drawing) -> Drawn:
    x = d.input(4, 2)
    return head(d, d.op("Gemm", x, d.floats(4, 5, name="w"), shape=(2, 5), transA=1), 5)


@cases.add("5: b[0] last[0] w[1]", opsets=(9, 13))
def matmul_and_add(d: Drawing) -> Drawn:
    x = d.input(2, 3, 4)
    return head(d, d.add(d.matmul(x, d.floats(4, 5, name="w")), d.floats(5, name="b")), 5)


@cases.add("6: k[1] q[1]", opsets=(13,))
def matmul_of_two_activations(d: Drawing) -> Drawn:
    x = d.input(2, 3, 4)
    q, k = d.matmul(x, d.floats(4, 6, name="q")), d.matmul(x, d.floats(4, 6, name="k"))
    return d.matmul(q, d.transpose(k, 0, 2, 1))


@cases.add("3: a[0] b[0] o[0]")
def matmul_over_a_labelled_batch(d: Drawing) -> Drawn:
    """Three products side by side, summed with weights: each is a unit."""
    x = d.unsqueeze(d.input(2, 2, 4), 1)
    y = d.matmul(d.mul(x, d.floats(3, 1, 1, name="a")), d.floats(3, 4, 5, name="b"))
    y = d.mul(y, d.floats(3, 1, 1, name="o"))
    return d.reduce("ReduceSum", y, 1)


@cases.add("5: v[0] w[1]")
def matmul_with_a_vector(d: Drawing) -> Drawn:
    x = d.matmul(d.input(2, 3, 4), d.floats(4, 5, name="w"))
    return d.op("MatMul", x, d.floats(5, name="v"), shape=x.shape[:2])


@cases.add("5: last[0] w[0]", opsets=(12, 17))
def einsum_with_a_summed_letter(d: Drawing) -> Drawn:
    x = d.input(2, 3, 4)
    y = d.op("Einsum", x, d.floats(5, 4, name="w"), shape=(*x.shape[:2], 5), equation="btc, oc -> bto")
    return head(d, y, 5)


@cases.add("5: last[0] w[0]", opsets=(12,))
def einsum_with_an_ellipsis(d: Drawing) -> Drawn:
    x = d.input(2, 3, 4)
    return head(
        d, d.op("Einsum", x, d.floats(5, 4, name="w"), shape=(*x.shape[:2], 5), equation="...c,oc->...o"), 5
    )


@cases.add("3: g[0] k[1]*2 q[1]*2", "2: k[1]*3 q[1]*3", opsets=(13,))
def einsum_of_heads(d: Drawing) -> Drawn:
    """Three heads of two dims, a gate per head, the heads summed at the end."""
    x = d.input(2, 3, 4)
    q, k = (d.reshape(d.matmul(x, d.floats(4, 6, name=name)), 0, 3, 3, 2) for name in "qk")
    scores = d.op("Einsum", q, k, shape=(x.shape[0], 3, 3, 3), equation="bqhd,bkhd->bhqk")
    return d.reduce("ReduceSum", d.mul(scores, d.floats(3, 1, 1, name="g")), 1)


@cases.add(symbolic=[False], moves=False)
def einsum_that_takes_a_diagonal(d: Drawing) -> Drawn:
    return d.op("Einsum", d.floats(3, 3, name="w"), d.input(3), shape=(3,), equation="ii,i->i")


@cases.add("5: last[0] w[1]", opsets=(13,))
def matmul_of_integers(d: Drawing) -> Drawn:
    """Quantised on the way in, a product of integers, floats again."""
    x = d.input(2, 4)
    q = d.op("QuantizeLinear", x, d.scalar(0.05), d.const(np.uint8(120)), shape=x.shape)
    w = d.const(d.rng.integers(-9, 9, (4, 5)).astype(INT8), "w")
    y = d.op("MatMulInteger", q, w, d.const(np.uint8(120)), d.const(INT8(1)), shape=(x.shape[0], 5))
    return head(d, d.mul(d.op("Cast", y, shape=y.shape, to=1), d.scalar(0.01)), 5)


@cases.add("5: last[0] w[1] z[0]", opsets=(13,))
def matmul_of_integers_with_zero_points_per_column(d: Drawing) -> Drawn:
    x = d.input(2, 4)
    q = d.op("QuantizeLinear", x, d.scalar(0.05), d.const(np.uint8(120)), shape=x.shape)
    w, z = d.const(d.rng.integers(-9, 9, (4, 5)).astype(INT8), "w"), d.const(np.arange(5).astype(INT8), "z")
    y = d.op("MatMulInteger", q, w, d.const(np.uint8(120)), z, shape=(x.shape[0], 5))
    return head(d, d.mul(d.op("Cast", y, shape=y.shape, to=1), d.scalar(0.01)), 5)


@cases.add("5: last[0] r[0] s[0] w[1]", "6: v[1] w[0]", opsets=(13,))
def quantised_matmul(d: Drawing) -> Drawn:
    """Scales and zero points per column; between the two products everything stays quantised."""
    x = d.input(2, 4)
    zero, scale = d.const(np.uint8(120)), d.scalar(0.05)
    q = d.op("QuantizeLinear", x, scale, zero, shape=x.shape)
    v, w = (
        d.const(d.rng.integers(-90, 90, size).astype(INT8), name)
        for name, size in (("v", (4, 6)), ("w", (6, 5)))
    )
    y = d.op(
        "QLinearMatMul",
        q,
        scale,
        zero,
        v,
        d.scalar(0.02),
        d.const(INT8(1)),
        scale,
        zero,
        shape=(x.shape[0], 6),
    )
    s = d.const((0.02 + 0.01 * np.arange(5)).astype(np.float32), "s")
    r = d.const(np.arange(5).astype(INT8), "r")
    y = d.op("QLinearMatMul", y, scale, zero, w, s, r, scale, zero, shape=(x.shape[0], 5))
    return head(d, d.op("DequantizeLinear", y, scale, zero, shape=y.shape), 5)


@cases.add("5: last[0] w[0]")
def fused_matmul_of_the_runtime(d: Drawing) -> Drawn:
    x = d.input(2, 3, 4)
    y = d.op(
        "FusedMatMul",
        x,
        d.floats(5, 4, name="w"),
        shape=(*x.shape[:2], 5),
        domain="com.microsoft",
        transB=1,
        alpha=0.5,
    )
    return head(d, y, 5)


@cases.add("4: a[1] last[0] w[0]", "6: w[1]")
def a_matrix_used_twice_the_second_time_transposed(d: Drawing) -> Drawn:
    """There and back with one matrix: its inner axis is free, its outer axis is the input's."""
    x = d.matmul(d.input(2, 3, 5), d.floats(5, 4, name="a"))
    w = d.floats(4, 6, name="w")
    y = d.unary("Tanh", d.matmul(x, w))
    return head(d, d.matmul(y, d.transpose(w, 1, 0)), 4)


@pytest.mark.parametrize("case", cases, ids=str)
def test_groups_pins_and_cuts(case: Case) -> None:
    demand(case)
