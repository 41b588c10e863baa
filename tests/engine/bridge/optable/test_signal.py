"""Transforms, windows and filters against onnxruntime and onnx's evaluator."""

import numpy as np
import pytest
import torch
from onnx import TensorProto

from graphrewrite.bridge.optable.signal import dft, hann, stft
from graphrewrite.ir import Array
from tests.engine.bridge.nodes import bridged, by_onnxruntime, by_reference, node_model, same


def drawn(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("length", [None, 6, 9, 12])
@pytest.mark.parametrize(("parts", "onesided"), [(1, 0), (1, 1), (2, 0)])
@pytest.mark.parametrize("opset", [17, 20])
def test_transforms_of_any_length(length: int | None, parts: int, onesided: int, opset: int) -> None:
    given: list[Array | None] = [drawn(2, 9, parts), None if length is None else np.asarray(length)]
    settings = {"onesided": onesided, **({"axis": 1} if opset == 17 else {})}
    proto = node_model("DFT", given, 1, settings, opset=opset)
    assert same(bridged(proto, given), by_onnxruntime(proto, given))


def test_back_and_forth_is_where_we_began() -> None:
    x = torch.tensor(drawn(3, 8, 2, 2))
    torch.testing.assert_close(dft(dft(x, axis=1), axis=1, inverse=1), x)
    real = torch.tensor(drawn(3, 9, 1))
    halved = dft(real, onesided=1)
    torch.testing.assert_close(dft(halved, 9, inverse=1, onesided=1), real)


@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("step", [1, 3, 5])
def test_frames(onesided: int, step: int) -> None:
    given: list[Array | None] = [drawn(2, 20, 1), np.asarray(step), drawn(8), np.asarray(8)]
    proto = node_model("STFT", given, 1, {"onesided": onesided})
    assert same(bridged(proto, given), by_onnxruntime(proto, given))


def test_gradients_reach_signal_and_window() -> None:
    signal = torch.randn(1, 12, 1, dtype=torch.float64, requires_grad=True)
    window = torch.rand(4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s, w: stft(s, 2, w), [signal, window])


@pytest.mark.parametrize("name", ["HannWindow", "HammingWindow", "BlackmanWindow"])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.DOUBLE])
def test_windows(name: str, kind: int) -> None:
    for size in (2, 7, 16):
        for periodic in (0, 1):
            given = [np.asarray(size, np.int64)]
            proto = node_model(name, given, 1, {"periodic": periodic, "output_datatype": kind})
            assert same(
                bridged(proto, given),
                by_reference(proto, given),
                1e-3,
                1e-3 if kind == TensorProto.FLOAT16 else 1e-5,
            )


def test_a_window_of_one_is_whole() -> None:
    assert hann(1, periodic=0, like=torch.zeros(0)).tolist() == [1.0]


@pytest.mark.parametrize(("bins", "length", "rate"), [(8, 16, 8192), (40, 512, 16000), (20, 64, 8000)])
def test_mel_filters(bins: int, length: int, rate: int) -> None:
    whole = [np.asarray(number, np.int64) for number in (bins, length, rate)]
    given: list[Array | None] = [*whole, np.asarray(20.0, np.float32), np.asarray(rate / 2, np.float32)]
    proto = node_model("MelWeightMatrix", given)
    assert same(bridged(proto, given), by_reference(proto, given))
