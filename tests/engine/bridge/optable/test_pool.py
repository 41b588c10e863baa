"""Pools with pads of all kinds against onnxruntime, places of the largest, and gradients of empty windows."""

import ml_dtypes
import numpy as np
import pytest
import torch
from torch.nn import functional

from graphrewrite.bridge import GraphModule
from graphrewrite.bridge.optable.pool import max_unpool
from graphrewrite.errors import UnsupportedOp
from graphrewrite.ir import Model
from tests.engine.bridge.nodes import agrees, node_model
from tests.engine.bridge.optable.windows import drawn

OPSETS = (12, 19, 22)


@pytest.mark.parametrize("seed", range(24))
@pytest.mark.parametrize("outputs", [1, 2])
def test_max_pools(seed: int, outputs: int) -> None:
    draw = drawn(seed)
    if "auto_pad" in draw.attributes:
        draw.close_gaps()  # onnxruntime refuses them in some versions of this pool
    attributes = {**draw.attributes, "ceil_mode": seed // 3 % 2}
    if outputs == 2:
        attributes["storage_order"] = seed // 6 % 2
    x = draw.floats(2, 3, *draw.space)
    if seed % 4 == 3:
        x = (x * 40).astype((np.int8, np.uint8)[seed // 4 % 2])
    assert agrees("MaxPool", [x], outputs, attributes, opset=OPSETS[seed % 3])


@pytest.mark.parametrize("seed", range(24))
def test_average_pools(seed: int) -> None:
    draw = drawn(seed)
    attributes = {**draw.attributes, "ceil_mode": seed // 3 % 2, "count_include_pad": seed // 6 % 2}
    assert agrees("AveragePool", [draw.floats(2, 3, *draw.space)], 1, attributes, opset=OPSETS[seed % 2 + 1])


@pytest.mark.parametrize("seed", range(24))
def test_pools_by_norm(seed: int) -> None:
    draw = drawn(seed)
    attributes = {**draw.attributes, "ceil_mode": seed // 3 % 2, "p": seed % 4 + 1}
    assert agrees("LpPool", [draw.floats(2, 3, *draw.space)], 1, attributes, opset=(18, 22)[seed % 2])


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_before_there_were_dilations(op: str) -> None:
    x = np.random.default_rng(0).standard_normal((1, 2, 7, 6)).astype(np.float32)
    attributes = {"kernel_shape": [3, 2], "pads": [0, 1, 2, 0], "strides": [2, 2]}
    assert agrees(op, [x], 1, attributes, opset=7)


@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_averages_in_half_precision(kind: type[np.generic], rank: int) -> None:
    x = np.random.default_rng(rank).standard_normal((1, 2, *[6] * rank)).astype(kind)
    attributes = {"kernel_shape": [2] * rank, "strides": [2] * rank}
    module = GraphModule(Model.from_proto(node_model("AveragePool", [x], attributes=attributes, opset=22)))
    halves = x.astype(np.float32).reshape(1, 2, *[3, 2] * rank)
    wanted = halves.mean(tuple(range(3, 3 + 2 * rank, 2)))
    found = module.run({"x0": x})["y0"]
    assert isinstance(found, np.ndarray) and found.dtype == np.dtype(kind)
    np.testing.assert_allclose(found.astype(np.float32), wanted, atol=0.01)


def test_a_plain_pool_is_one_call_of_torch() -> None:
    x = np.zeros((1, 2, 8, 8), np.float32)
    settings = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    for op, target in (("MaxPool", torch.max_pool2d), ("AveragePool", functional.avg_pool2d)):
        module = GraphModule(Model.from_proto(node_model(op, [x], attributes=settings)))
        assert [node.target for node in module.graph.nodes if node.op == "call_function"] == [target]


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
@pytest.mark.parametrize("rank", [1, 3])
def test_pools_over_whole_images(op: str, rank: int) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, *(4, 5, 6)[:rank])).astype(np.float32)
    assert agrees(op, [x], 1, {"p": 3} if op == "GlobalLpPool" else {})


def test_a_window_of_zeros_has_no_slope() -> None:
    x = torch.zeros(1, 1, 4, requires_grad=True)
    proto = node_model("LpPool", [x.detach().numpy()], attributes={"kernel_shape": [2], "p": 2})
    found = GraphModule(Model.from_proto(proto))(x)
    found.sum().backward()
    assert found.tolist() == [[[0, 0, 0]]]
    assert x.grad is not None
    assert x.grad.tolist() == [[[0, 0, 0, 0]]]


def test_unpooling_undoes_a_pool_and_hands_gradients_back() -> None:
    x = torch.tensor([[[5.0, 1.0, 2.0, 9.0]], [[3.0, 4.0, 8.0, 7.0]]], requires_grad=True)
    largest, places = torch.tensor([[[5.0, 9.0]], [[4.0, 8.0]]]), torch.tensor([[[0, 3]], [[5, 6]]])
    spread = max_unpool(largest, places, kernel_shape=(2,), strides=(2,))
    assert spread.tolist() == [[[5, 0, 0, 9]], [[0, 4, 8, 0]]]
    wider = max_unpool(x[:, :, ::2], places, (2, 1, 6), kernel_shape=(2,), strides=(2,))
    assert wider.shape == (2, 1, 6)
    wider.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[[1, 0, 1, 0]], [[1, 0, 1, 0]]]


def test_four_axes_are_refused() -> None:
    proto = node_model("MaxPool", [np.zeros((1,) * 6, np.float32)], attributes={"kernel_shape": [1] * 4})
    with pytest.raises(UnsupportedOp, match="one to three axes"):
        GraphModule(Model.from_proto(proto))
