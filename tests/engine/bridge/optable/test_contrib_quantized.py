"""onnxruntime's quantized and other operators against its kernels."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from graphrewrite.bridge.optable.contrib_activations import MICROSOFT
from graphrewrite.bridge.optable.contrib_others import irfft, rfft
from graphrewrite.bridge.optable.contrib_recurrent import dynamic_quantize_lstm
from graphrewrite.ir import Array
from tests.engine.bridge.nodes import Given, bridged, by_onnxruntime, node_model, same

RNG = np.random.default_rng(0)


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def bytes_(*shape: int) -> Array:
    return RNG.integers(0, 256, shape).astype(np.uint8)


def signed(*shape: int) -> Array:
    return RNG.integers(-128, 128, shape).astype(np.int8)


def settings(scale: float, zero: int, kind: type[np.generic] = np.uint8) -> list[Array | None]:
    return [np.asarray(scale, np.float32), np.asarray(zero).astype(kind)]


def whole(*numbers: int) -> Array:
    return np.asarray(numbers, np.int64)


ONE, TWO, OUT = settings(0.02, 120), settings(0.05, 30), settings(0.0437, 99)  # no quotient is near a half
IMAGE = bytes_(2, 3, 5, 6)

CASES: dict[str, tuple[str, Given, int, Mapping[str, object]]] = {
    "add": ("QLinearAdd", [bytes_(2, 30), *ONE, bytes_(30), *TWO, *OUT], 1, {}),
    "mul": ("QLinearMul", [bytes_(2, 30), *ONE, bytes_(30), *TWO, *OUT], 1, {}),
    "concat": ("QLinearConcat", [*OUT, bytes_(2, 3), *ONE, bytes_(2, 4), *TWO], 1, {"axis": 1}),
    "sigmoid": ("QLinearSigmoid", [bytes_(99), *TWO, *settings(1 / 256, 0)], 1, {}),
    "softmax": (
        "QLinearSoftmax", [bytes_(2, 3, 5), *settings(0.021, 120), *settings(1 / 256, 0)], 1, {"opset": 13, "axis": 1}
    ),
    "softmax_of_rows": (
        "QLinearSoftmax", [bytes_(2, 3, 5), *settings(0.021, 120), *settings(1 / 256, 0)], 1, {"opset": 11, "axis": 1}
    ),
    "leaky": ("QLinearLeakyRelu", [bytes_(99), *TWO, *OUT], 1, {"alpha": 0.2}),
    "mean": ("QLinearGlobalAveragePool", [IMAGE, *ONE, *OUT], 1, {}),
    "mean_last": ("QLinearGlobalAveragePool", [IMAGE, *ONE, *OUT], 1, {"channels_last": 1}),
    "pool": (
        "QLinearAveragePool", [IMAGE, *ONE, *OUT], 1,
        {"kernel_shape": [2, 3], "strides": [2, 1], "pads": [1, 0, 0, 1]},
    ),
    "gemm": (
        "QGemm",
        [bytes_(3, 8), *ONE, signed(8, 5), *settings(0.03, 4, np.int8), whole(7, 0, -9, 50, 3).astype(np.int32), *OUT],
        1, {"alpha": 0.5},
    ),
    "gemm_floats": (
        "QGemm", [bytes_(3, 8), *ONE, signed(5, 8), *settings(0.03, 0, np.int8)], 1, {"transB": 1}
    ),
    "wide": (
        "MatMulInteger16",
        [RNG.integers(-3000, 3000, (3, 4)).astype(np.int16), RNG.integers(-3000, 3000, (4, 2)).astype(np.int16)],
        1, {},
    ),
    "to_float": (
        "MatMulIntegerToFloat",
        [bytes_(3, 8), signed(8, 5), ONE[0], normal(5), ONE[1], signed(5), normal(5)], 1, {},
    ),
    "dynamic": ("DynamicQuantizeMatMul", [normal(3, 8), signed(8, 5), ONE[0], None, normal(5)], 1, {}),
    "quantize_16": ("QuantizeLinear", [normal(3, 4), *settings(0.001, 30000, np.uint16)], 1, {}),
    "dequantize_16": (
        "DequantizeLinear", [RNG.integers(0, 60000, 9).astype(np.uint16), *settings(0.1, 30000, np.uint16)], 1, {}
    ),
    "inverse": ("Inverse", [RNG.uniform(-1, 1, (2, 4, 4)).astype(np.float32)], 1, {}),
    "gather": ("GatherND", [normal(3, 4, 5), np.asarray([[0, 1], [2, 3]])], 1, {}),
    "triangle": ("Trilu", [normal(3, 4), np.asarray(1)], 1, {"upper": 0}),
    "unique": ("Unique", [np.asarray([3, 1, 3, 2, 1], np.float32)], 3, {}),
    "axis": ("ExpandDims", [normal(3, 4), np.asarray(-1, np.int32)], 1, {}),
    "distances": ("CDist", [normal(4, 3), normal(5, 3)], 1, {"metric": "euclidean"}),
    "squares": ("CDist", [normal(4, 3), normal(5, 3)], 1, {}),
    "pad": ("Pad", [normal(2, 3), whole(0, 1, 2, 0), np.asarray(0.5, np.float32)], 1, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_against_kernels(name: str) -> None:
    op, given, outputs, attributes = CASES[name]
    proto = node_model(op, given, outputs, attributes, domain=MICROSOFT)
    found, wanted = bridged(proto, given), by_onnxruntime(proto, given)
    assert same(found, wanted, 1e-4, 1e-4)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("by_row", [False, True])
def test_an_lstm_of_eight_bits(direction: str, by_row: bool) -> None:
    ways, wide, hidden = 1 + (direction == "bidirectional"), 5, 6
    gates = 4 * hidden
    steps = (ways, gates) if by_row else (ways,)
    scales = [RNG.uniform(0.002, 0.01, steps).astype(np.float32) for _ in range(2)]
    zero = np.zeros(steps, np.int8)
    given = [
        normal(4, 1, wide), signed(ways, wide, gates), signed(ways, hidden, gates), normal(ways, 2 * gates), None, None,
        normal(ways, 1, hidden), normal(ways, 3 * hidden), scales[0], zero, scales[1], zero,
    ]  # fmt: skip
    settings_ = {"hidden_size": hidden, "direction": direction, "clip": 3.0}
    proto = node_model("DynamicQuantizeLSTM", given, 3, settings_, domain=MICROSOFT)
    assert same(bridged(proto, given), by_onnxruntime(proto, given), 1e-4, 1e-4)


def test_gradients_get_through_an_lstm_of_eight_bits() -> None:
    x, bias = torch.randn(3, 2, 5, requires_grad=True), torch.randn(1, 32, requires_grad=True)
    w, r = (torch.randint(-128, 127, (1, n, 16), dtype=torch.int8) for n in (5, 4))
    one, none = torch.full((1,), 0.01), torch.zeros(1, dtype=torch.int8)
    seen, *_ = dynamic_quantize_lstm(x, w, r, bias, None, None, None, None, one, none, one, none)
    seen.sum().backward()
    assert x.grad is not None and bool(x.grad.any()) and bias.grad is not None and bool(bias.grad.any())


def test_a_transform_and_back() -> None:
    x = torch.randn(3, 6, 8, dtype=torch.float64)
    torch.testing.assert_close(irfft(rfft(x, signal_ndim=2), signal_ndim=2), x)
    assert rfft(x).shape == (3, 6, 5, 2)
