"""What forms make lies where their inputs lie, and is seen through while compiling."""

from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs
import pytest
import torch

from graphrewrite.bridge import GraphModule
from graphrewrite.bridge.optable.activations import limited, prelu
from graphrewrite.bridge.optable.bits import bit_shift
from graphrewrite.bridge.optable.cast import powers_of_two
from graphrewrite.bridge.optable.cumulative import cum_sum
from graphrewrite.bridge.optable.dropout import dropped
from graphrewrite.bridge.optable.fill import eye_like, filled, run_of
from graphrewrite.bridge.optable.index import (
    cut,
    gather,
    gather_elements,
    gather_nd,
    one_hot,
    reverse_sequence,
    trilu,
)
from graphrewrite.bridge.optable.linear import col2im, einsum, gemm
from graphrewrite.bridge.optable.order import arg_max, top_k
from graphrewrite.bridge.optable.pad import center_crop_pad, pad
from graphrewrite.bridge.optable.random import bernoulli, random_normal
from graphrewrite.bridge.optable.reduce import reduce_max
from graphrewrite.bridge.optable.scatter import scatter_elements, scatter_nd, tensor_scatter
from graphrewrite.bridge.optable.shape import expand, reshape, tile
from graphrewrite.bridge.optable.softmax import hardmax
from graphrewrite.ir import Builder

X = torch.zeros(2, 3, 4, device="meta")
SOME = torch.zeros(2, 3, 4, dtype=torch.int64, device="meta")
PAIR = torch.zeros(2, device="meta")


@pytest.mark.parametrize(
    ("form", "shape"),
    [
        (lambda: gather(X, SOME[0], 2), (2, 3, 3, 4)),
        (lambda: gather_elements(X, SOME, axis=1), (2, 3, 4)),
        (lambda: gather_nd(X, SOME[:, :, :1], batch_dims=1), (2, 3, 4)),
        (lambda: cut(X, (-1,), (-9,), (2,), (-2,)), (2, 3, 2)),
        (lambda: one_hot(SOME, 5, PAIR, axis=1), (2, 5, 3, 4)),
        (lambda: reverse_sequence(X, SOME[0, :, 0]), (2, 3, 4)),
        (lambda: trilu(X, 1), (2, 3, 4)),
        (lambda: scatter_elements(X, SOME, X, reduction="add"), (2, 3, 4)),
        (lambda: scatter_nd(X, SOME[:, 0, :2], X[0, :2], reduction="max"), (2, 3, 4)),
        (lambda: tensor_scatter(X, X[:, :2], SOME[:, 0, 0], mode="circular"), (2, 3, 4)),
        (lambda: pad(X, (1, 1), 0, (1,), "wrap"), (2, 5, 4)),
        (lambda: pad(X, (1, 1), PAIR[:1], (1,)), (2, 5, 4)),
        (lambda: center_crop_pad(X, (5, 1), axes=(0, 1)), (5, 1, 4)),
        (lambda: col2im(X[:, :2], (4, 2), (1, 2)), (2, 1, 4, 2)),
        (lambda: einsum(X, X, equation="abc,abd->acd"), (2, 4, 4)),
        (lambda: gemm(X[0], X[0], PAIR[:1], 2.0, 3.0, True, False), (4, 4)),
        (lambda: filled((2, 2), 1.0, torch.float16, X), (2, 2)),
        (lambda: run_of(0, 3, 1, None, SOME), (3,)),
        (lambda: expand(X, (5, 1, 1, 4)), (5, 2, 3, 4)),
        (lambda: reshape(X, (0, -1)), (2, 12)),
        (lambda: tile(X, (1, 2, 1)), (2, 6, 4)),
        (lambda: eye_like(X[0], k=1), (3, 4)),
        (lambda: limited(X, PAIR[:1], None), (2, 3, 4)),
        (lambda: prelu(X, X[0, :, :1]), (2, 3, 4)),
        (lambda: bit_shift(SOME, SOME, direction="LEFT"), (2, 3, 4)),
        (lambda: powers_of_two(X, saturate=True, rounding="up"), (2, 3, 4)),
        (lambda: cum_sum(X, 1, exclusive=1, reverse=1), (2, 3, 4)),
        (lambda: dropped(X, 0.5)[1], (2, 3, 4)),
        (lambda: top_k(X, 2)[1], (2, 3, 2)),
        (lambda: arg_max(X, select_last_index=1), (1, 3, 4)),
        (lambda: bernoulli(X), (2, 3, 4)),
        (lambda: random_normal(like=X, shape=(5,)), (5,)),
        (lambda: reduce_max(X[:, :0], (1,), True), (2, 1, 4)),
        (lambda: hardmax(X), (2, 3, 4)),
    ],
)
def test_new_tensors_lie_with_the_inputs(form: Callable[[], torch.Tensor], shape: tuple[int, ...]) -> None:
    found = form()
    assert found.device.type == "meta" and tuple(found.shape) == shape


def test_sizes_stay_symbolic_while_compiling() -> None:
    b = Builder(seed=0)
    x = b.input(["N", 6, "T"], "x")
    sizes = b.op("Shape", x)

    def whole(*values: int) -> gs.Constant:
        return b.constant(np.asarray(values, np.int64))

    batch, steps = (b.op("Slice", sizes, whole(i), whole(i + 1), whole(0)) for i in (0, 2))
    heads = b.op("Reshape", x, b.op("Concat", batch, whole(2, 3), steps, axis=0))
    last = b.op("Slice", heads, whole(-1), whole(-(2**63)), whole(3), whole(-1))
    padded = b.op("Pad", last, whole(0, 0, 0, 1, 0, 0, 0, 2), mode="edge")
    count = b.op("Squeeze", steps, whole(0))
    places = b.op("Range", b.constant(np.array(0)), count, b.constant(np.array(1)))
    picked = b.op("Gather", padded, places, axis=3)
    left, right = b.op_all("Split", picked, outputs=2, axis=1, num_outputs=2)
    wide = b.op("Expand", left, b.op("Concat", batch, whole(4, 3), steps, axis=0))
    model = b.model(b.op("Flatten", b.op("Mul", wide, right), axis=2))
    module = GraphModule(model)
    compiled = torch.compile(module, fullgraph=True, dynamic=True, backend="eager")
    for size, long in ((2, 5), (3, 7), (4, 9)):
        fed = torch.randn(size, 6, long)
        assert torch.equal(compiled(fed), module(fed))


def test_numbers_are_seen_through_while_compiling() -> None:
    b = Builder(seed=0)
    x = b.input(["N", 6, 5], "x")

    def number(value: float) -> gs.Constant:
        return b.constant(np.asarray(value, np.float32))

    along, count = b.constant(np.asarray([1])), b.constant(np.asarray([3]))
    limited_to = b.op("Clip", b.op("Pow", x, number(2)), number(0), number(3.4e38))
    best = b.op_all("TopK", b.op("CumSum", limited_to, b.constant(np.asarray(2))), count, outputs=2)
    least = b.op("ReduceMin", best[0], along, keepdims=0)
    spread = b.op("Softmax", b.op("Max", least, b.op("ReduceMean", best[0], along, keepdims=0)))
    marked = b.op("Where", b.op("Greater", spread, number(0.3)), spread, b.op("Erf", least))
    model = b.model(b.op("Dropout", b.op("Mod", marked, number(0.7), fmod=1)))
    module = GraphModule(model).eval()
    compiled = torch.compile(module, fullgraph=True, dynamic=True, backend="eager")
    for size in (2, 3):
        fed = torch.randn(size, 6, 5)
        assert torch.equal(compiled(fed), module(fed))
