"""Rules of weights packed to a few bits and of mixtures of experts in one operator."""

import numpy as np
import pytest

from tests.engine.dims.cases import Case, Cases, demand
from tests.support.drawing import Drawing, Drawn

cases = Cases()
MS = "com.microsoft"


def head(d: Drawing, x: Drawn, width: int) -> Drawn:
    """Read the last axis."""
    return d.matmul(x, d.floats(width, 3, name="last"))


def hidden(d: Drawing, width: int = 6, name: str = "w", rows: int = 3) -> Drawn:
    """Draw a hidden layer over an input of rank three."""
    return d.matmul(d.input(2, rows, 4), d.floats(4, width, name=name))


def bits_of(
    d: Drawing, rows: int, inner: int, block: int, bits: int, name: str
) -> tuple[Drawn, Drawn, Drawn]:
    """Draw a packed weight [rows, blocks, bytes], its scales and its zero points."""
    count = inner // block
    weight = d.rng.integers(0, 256, (rows, count, block * bits // 8)).astype(np.uint8)
    scales = d.floats(rows, count, scale=0.01, offset=0.05, name=f"{name}_scale")
    zero = d.rng.integers(0, 256, (rows, -(-count * bits // 8))).astype(np.uint8)
    return d.const(weight, name), scales, d.const(zero, f"{name}_zero")


@cases.add("3: a[1]*16 p[1] p_scale[1]", "5: b[0] last[0] p[0] p_scale[0]")
def matmul_with_a_weight_of_four_bits(d: Drawing) -> Drawn:
    """Rows go one by one, inner positions in blocks of sixteen; zero points are packed in halves of a byte."""
    x = hidden(d, 48, "a")
    weight, scales, zero = bits_of(d, 5, 48, 16, 4, "p")
    y = d.op(
        "MatMulNBits", x, weight, scales, zero, None, d.floats(5, name="b"), shape=(*x.shape[:2], 5), domain=MS,
        K=48, N=5, bits=4, block_size=16,
    )  # fmt: skip
    return head(d, y, 5)


@cases.add("3: a[1]*16 p[1] p_scale[0]*4", "4: last[0] p[0] p_scale[0]*3")
def matmul_with_a_weight_of_eight_bits_and_scales_in_a_row(d: Drawing) -> Drawn:
    x = hidden(d, 48, "a")
    weight, scales, _ = bits_of(d, 4, 48, 16, 8, "q")
    weight = d.const(weight.tensor.values, "p")
    scales = d.const(scales.tensor.values.ravel(), "p_scale")
    y = d.op(
        "MatMulNBits", x, weight, scales, shape=(*x.shape[:2], 4), domain=MS, K=48, N=4, bits=8, block_size=16
    )
    return head(d, y, 4)


@cases.add("4: last[0] p[0] p_scale[0]", pins={"a[1]": "last one not full", "p[1]": "last one not full"})
def matmul_whose_last_block_is_not_full(d: Drawing) -> Drawn:
    x = hidden(d, 40, "a")
    weight, scales, _ = bits_of(d, 4, 48, 16, 4, "p")
    y = d.op(
        "MatMulNBits", x, weight, scales, shape=(*x.shape[:2], 4), domain=MS, K=40, N=4, bits=4, block_size=16
    )
    return head(d, y, 4)


@cases.add("3: a[1]*16 m[0]*5 p[0]*40", "5: last[0] m[0]*3 p[0]*24")
def matmul_with_a_weight_of_normal_floats(d: Drawing) -> Drawn:
    x = hidden(d, 48, "a")
    weight = d.const(d.rng.integers(0, 256, 5 * 48 // 2).astype(np.uint8), "p")
    scales = d.floats(15, scale=0.1, offset=1.0, name="m")
    y = d.op(
        "MatMulBnb4",
        x,
        weight,
        scales,
        shape=(*x.shape[:2], 5),
        domain=MS,
        K=48,
        N=5,
        block_size=16,
        quant_type=1,
    )
    return head(d, y, 5)


@cases.add("6: a[1] b2[1] last[0] w1[2] w2[1]", "5: b1[1] w1[1] w2[2]", "4: b1[0] b2[0] r[1] w1[0] w2[0]")
def mixture_of_experts(d: Drawing) -> Drawn:
    """Four experts, two of them for each token: width, inner width and experts go."""
    x = d.input(2, 3, 4)
    y = d.matmul(x, d.floats(4, 6, name="a"))
    router = d.reshape(d.matmul(x, d.floats(4, 4, name="r")), -1, 4)
    first, second = d.floats(4, 5, 6, name="w1"), d.floats(4, 6, 5, name="w2")
    b1, b2 = d.floats(4, 5, name="b1"), d.floats(4, 6, name="b2")
    y = d.op("MoE", y, router, first, b1, second, b2, shape=y.shape, domain=MS, k=2, activation_type="gelu")
    return head(d, y, 6)


@cases.add("6: a[1] last[0] w1[2] w2[1]", "5: b1[1]*2 w1[1]*2 w2[2]", "3: b1[0] r[1] w1[0] w2[0]")
def mixture_of_gated_experts(d: Drawing) -> Drawn:
    """Gate and value of an inner position lie side by side in the first weight."""
    x = d.input(2, 3, 4)
    y = d.matmul(x, d.floats(4, 6, name="a"))
    router = d.reshape(d.matmul(x, d.floats(4, 3, name="r")), -1, 3)
    first, second = d.floats(3, 10, 6, name="w1"), d.floats(3, 6, 5, name="w2")
    y = d.op(
        "MoE", y, router, first, d.floats(3, 10, name="b1"), second, shape=y.shape, domain=MS, k=2,
        activation_type="swiglu", swiglu_fusion=1, activation_alpha=1.7, activation_beta=1.0, swiglu_limit=7.0,
    )  # fmt: skip
    return head(d, y, 6)


@pytest.mark.parametrize("case", cases, ids=str)
def test_groups_pins_and_cuts(case: Case) -> None:
    demand(case)
