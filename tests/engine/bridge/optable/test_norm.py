"""Norms of one sample: weights that are broadcast, other precisions, even windows of LRN, constants."""

import numpy as np
import pytest
import torch

from graphrewrite.bridge import GraphModule
from graphrewrite.bridge.optable.norm import group_normalization_by_group, mean_variance_normalization
from graphrewrite.ir import Builder, Model
from tests.engine.bridge.nodes import agrees, by_reference, node_model

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 6, 4, 5)).astype(np.float32)


def row(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("axis", "scale", "bias"),
    [(-1, (5,), (5,)), (2, (4, 5), (4, 5)), (2, (4, 1), (5,)), (1, (6, 4, 5), None), (-1, (1,), (5,))],
)
@pytest.mark.parametrize("outputs", [1, 3])
def test_layer_norms(axis: int, scale: tuple[int, ...], bias: tuple[int, ...] | None, outputs: int) -> None:
    given = [X, row(*scale), *([] if bias is None else [row(*bias)])]
    assert agrees(
        "LayerNormalization", given, outputs, {"axis": axis, "epsilon": 1e-3}, opset=17, judge=by_reference
    )


@pytest.mark.parametrize(("axis", "scale"), [(-1, (5,)), (2, (4, 5)), (2, (4, 1)), (0, (2, 6, 4, 5))])
def test_root_mean_square_norms(axis: int, scale: tuple[int, ...]) -> None:
    given = [X, row(*scale)]
    assert agrees("RMSNormalization", given, 1, {"axis": axis, "epsilon": 1e-3}, opset=23, judge=by_reference)


@pytest.mark.parametrize("op", ["LayerNormalization", "RMSNormalization"])
def test_half_precision_is_computed_in_single(op: str) -> None:
    x = (X * 300).astype(np.float16)  # squares overflow in half precision
    proto = node_model(op, [x, np.ones(5, np.float16)], 1, opset=23)
    (found,) = GraphModule(Model.from_proto(proto)).run({"x0": x, "x1": np.ones(5, np.float16)}).values()
    assert np.isfinite(np.asarray(found)).all()
    assert np.asarray(found).dtype == np.float16


def test_a_plain_layer_norm_is_one_call_of_torch() -> None:
    b = Builder(seed=0)
    y = b.op("LayerNormalization", b.input(["N", 7, 8]), b.weight(8), b.weight(8), axis=-1)
    calls = [node.target for node in GraphModule(b.model(y)).graph.nodes if node.op == "call_function"]
    assert calls == [torch.layer_norm]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
def test_response_norms_over_even_windows_too(size: int) -> None:
    attributes = {"size": size, "alpha": 0.5, "beta": 0.6, "bias": 1.5}
    # onnxruntime computes odd windows only, and onnx's evaluator as many channels as there are samples.
    square = row(6, 6, 2, 3)
    assert agrees("LRN", [square], 1, attributes, opset=13, judge=by_reference)
    assert size % 2 == 0 or agrees("LRN", [X], 1, attributes, opset=13)


@pytest.mark.parametrize("opset", [7, 21])
def test_instance_norms(opset: int) -> None:
    assert agrees("InstanceNormalization", [X, row(6), row(6)], 1, {"epsilon": 1e-2}, opset=opset)


def test_an_instance_of_one_number_is_its_bias() -> None:
    given = [X[:, :, :1, :1], row(6), row(6)]
    proto = node_model("InstanceNormalization", given)
    found = GraphModule(Model.from_proto(proto))(*map(torch.from_numpy, given))
    assert np.allclose(found, np.broadcast_to(given[2][:, None, None], found.shape), atol=1e-3)


def test_group_norms_by_channel_and_by_group() -> None:
    assert agrees("GroupNormalization", [X, row(6), row(6)], 1, {"num_groups": 3}, judge=by_reference)
    scale, bias = row(3), row(3)
    found = group_normalization_by_group(
        *(torch.from_numpy(a) for a in (X, scale, bias)), num_groups=3, epsilon=1e-3
    )
    groups = X.reshape(2, 3, -1)
    plain = (groups - groups.mean(2, keepdims=True)) / np.sqrt(groups.var(2, keepdims=True) + 1e-3)
    assert np.allclose(found, (plain * scale[:, None] + bias[:, None]).reshape(X.shape), atol=1e-5)


@pytest.mark.parametrize("axes", [[0, 2, 3], [2, 3], [-1]])
def test_mean_and_variance(axes: list[int]) -> None:
    assert agrees("MeanVarianceNormalization", [X], 1, {"axes": axes}, opset=13)


def test_a_constant_has_no_slope() -> None:
    x = torch.ones(1, 1, 2, 2, requires_grad=True)
    found = mean_variance_normalization(x)
    found.sum().backward()
    assert found.abs().max() == 0
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
