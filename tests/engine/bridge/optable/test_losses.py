"""Losses in what onnx's cases leave out: half precision, everything ignored, gradients in int32 labels."""

import numpy as np
import pytest
import torch

from graphrewrite.bridge.optable.losses import nll, softmax_cross_entropy
from graphrewrite.ir import Array
from tests.engine.bridge.nodes import bridged, by_onnxruntime, node_model, same


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
def test_against_onnxruntime(reduction: str, weighted: bool) -> None:
    rng = np.random.default_rng(0)
    given: list[Array | None] = [
        rng.standard_normal((3, 5, 2, 4)).astype(np.float32),
        rng.integers(0, 5, (3, 2, 4)).astype(np.int32),
    ]
    if weighted:
        given.append(rng.random(5).astype(np.float32))
    for ignored in ({}, {"ignore_index": 2}, {"ignore_index": -1}):
        proto = node_model("SoftmaxCrossEntropyLoss", given, 2, {"reduction": reduction, **ignored}, opset=13)
        assert same(bridged(proto, given), by_onnxruntime(proto, given))


def test_weights_in_the_mean_count_as_often_as_their_label() -> None:
    logs = torch.log(torch.tensor([[0.5, 0.5], [0.25, 0.75]]))
    found = nll(logs, torch.tensor([0, 1]), torch.tensor([1.0, 3.0]))
    wanted = -(np.log(0.5) * 1 + np.log(0.75) * 3) / 4
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float32))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_keep_their_type_and_have_gradients(dtype: torch.dtype) -> None:
    scores = torch.randn(4, 3, dtype=dtype, requires_grad=True)
    loss, logs = softmax_cross_entropy(scores, torch.tensor([0, 1, 2, 1]))
    loss.backward()
    assert loss.dtype == logs.dtype == dtype
    wanted = (torch.softmax(scores.detach().float(), 1) - torch.eye(3)[[0, 1, 2, 1]]) / 4
    assert scores.grad is not None
    torch.testing.assert_close(scores.grad.float(), wanted, rtol=0.02, atol=0.01)
