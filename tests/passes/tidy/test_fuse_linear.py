import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphrewrite.ir import Builder
from graphrewrite.passes.tidy import FuseLinear
from tests.passes.tidy.cases import Case, floats, ints, tidied, verify

IMAGE: list[int | str] = ["N", 6, 8, 8]


def matmul(b: Builder, x: gs.Tensor, out: int = 5, into: int = 6) -> gs.Variable:
    return b.op("MatMul", x, b.weight(into, out))


def pad(b: Builder, x: gs.Tensor, *pads: int, value: float | None = None) -> gs.Variable:
    filling = [] if value is None else [b.constant(np.float32(value))]
    return b.op("Pad", x, b.constant(ints(*pads)), *filling)


def around(b: Builder, x: gs.Tensor, by: int = 1, value: float | None = None) -> gs.Variable:
    return pad(b, x, 0, 0, by, by, 0, 0, by, by, value=value)


FUSED = [
    Case("MatMul, Add", lambda b: b.add(matmul(b, b.input(["N", 6])), b.constant(floats(5))), "Gemm"),
    Case("Add to a MatMul", lambda b: b.add(b.constant(floats(1, 5)), matmul(b, b.input(["N", 6]))), "Gemm"),
    Case(
        "MatMul, Add of a residual",
        lambda b: (lambda x: b.add(matmul(b, x, 6), x))(b.input(["N", 6])),
        "Gemm",
    ),
    Case(
        "Transpose, Gemm",
        lambda b: b.op("Gemm", b.op("Transpose", b.input([6, 3]), perm=[1, 0]), b.weight(6, 5)),
        "Gemm",
    ),
    Case(
        "Transpose, MatMul",
        lambda b: b.op("MatMul", b.input([3, 6]), b.op("Transpose", b.input([5, 6]), perm=[1, 0])),
        "Gemm",
    ),
    Case(
        "Gemm, Add",
        lambda b: b.add(b.op("Gemm", b.input(["N", 6]), b.weight(6, 5)), b.constant(floats(5))),
        "Gemm",
    ),
    Case("Pad, Conv", lambda b: b.conv(around(b, b.input(IMAGE)), 4, 6), "Conv"),
    Case(
        "uneven Pad, Conv",
        lambda b: b.conv(pad(b, b.input(IMAGE), 0, 0, 2, 0, 0, 0, 1, 3, value=0.0), 4, 6, pad=0),
        "Conv",
    ),
    Case(
        "Pad, AveragePool",
        lambda b: b.op("AveragePool", around(b, b.input(IMAGE)), kernel_shape=[3, 3]),
        "AveragePool",
    ),
    Case(
        "Pad with minus infinity, MaxPool",
        lambda b: b.op("MaxPool", around(b, b.input(IMAGE), value=-np.inf), kernel_shape=[3, 3]),
        "MaxPool",
    ),
]


@pytest.mark.parametrize("case", FUSED, ids=str)
def test_it_becomes_one_node(case: Case) -> None:
    verify(case, FuseLinear())


KEPT = [
    Case(
        "MatMul over three axes, Add",
        lambda b: b.add(matmul(b, b.input(["N", 7, 6])), b.constant(floats(5))),
        "Add MatMul",
    ),
    Case(
        "MatMul, Add that makes it larger",
        lambda b: b.add(matmul(b, b.input([1, 6])), b.constant(floats(4, 5))),
        "Add MatMul",
    ),
    Case(
        "MatMul of whole numbers, Add",
        lambda b: b.op(
            "Add",
            b.op("MatMul", b.input([3, 6], dtype=np.int32), b.constant(np.ones((6, 2), np.int32))),
            b.constant(np.int32(1)),
        ),
        "Add MatMul",
        dtypes=(np.int32,),
    ),
    Case(
        "MatMul read twice, Add",
        lambda b: (lambda y: [b.add(y, b.constant(floats(5))), b.relu(y)])(matmul(b, b.input(["N", 6]))),
        "Add MatMul Relu",
    ),
    Case(
        "Gemm with a bias, Add",
        lambda b: b.add(b.linear(b.input(["N", 6]), 5, 6), b.input(["N", 5])),
        "Add Gemm",
    ),
    Case("Pad with ones, Conv", lambda b: b.conv(around(b, b.input(IMAGE), value=1.0), 4, 6), "Conv Pad"),
    Case(
        "Pad that crops, Conv",
        lambda b: b.conv(pad(b, b.input(IMAGE), 0, 0, -1, 0, 0, 0, 1, 0), 4, 6),
        "Conv Pad",
    ),
    Case(
        "Pad of channels, Conv",
        lambda b: b.conv(pad(b, b.input(IMAGE), 0, 1, 0, 0, 0, 1, 0, 0), 4, 8),
        "Conv Pad",
    ),
    Case(
        "Pad by the edge, Conv",
        lambda b: b.conv(
            b.op("Pad", b.input(IMAGE), b.constant(ints(0, 0, 1, 1, 0, 0, 1, 1)), mode="edge"), 4, 6
        ),
        "Conv Pad",
    ),
    Case(
        "Pad with zero, MaxPool",
        lambda b: b.op("MaxPool", around(b, b.input(IMAGE), value=0.0), kernel_shape=[3, 3]),
        "MaxPool Pad",
    ),
    Case(
        "Pad as large as the window, AveragePool",
        lambda b: b.op("AveragePool", around(b, b.input(IMAGE), by=3), kernel_shape=[3, 3]),
        "AveragePool Pad",
    ),
    Case(
        "Pad, AveragePool that pads otherwise",
        lambda b: b.op("AveragePool", around(b, b.input(IMAGE)), kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        "AveragePool Pad",
    ),
    Case(
        "Pad, AveragePool that rounds up",
        lambda b: b.op(
            "AveragePool", around(b, b.input(IMAGE)), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1
        ),
        "AveragePool Pad",
    ),
    Case(
        "Pad, Conv that pads by itself",
        lambda b: b.op("Conv", around(b, b.input(IMAGE)), b.weight(4, 6, 3, 3), auto_pad="SAME_UPPER"),
        "Conv Pad",
    ),
]


@pytest.mark.parametrize("case", KEPT, ids=str)
def test_what_means_something_else_stays(case: Case) -> None:
    outcome = tidied(case.model(), FuseLinear())
    assert not outcome.changed
    assert sorted(node.op for node in outcome.model.graph.nodes) == case.after.split()
