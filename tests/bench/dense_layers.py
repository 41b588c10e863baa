"""onnxruntime's own layers, which ours are measured beside: convolutions and products in float, int8 and 4 bits."""

import numpy as np
from onnx import helper

from graphrewrite.custom_ops.quads.sample import sparse_weight
from graphrewrite.ir import Array
from tests.bench.kernels_common import Layer


def float_conv(channels: int, kernel: int, number: int, x: str, y: str) -> Layer:
    """Return a dense layer of floats."""
    weight = (
        np.random.default_rng(number).standard_normal((channels, channels, kernel, kernel)).astype(np.float32)
    )
    names = [f"w{number}", f"b{number}"]
    node = helper.make_node("Conv", [x, *names], [y], pads=[kernel // 2] * 4)
    return node, dict(
        zip(names, (weight / kernel / channels**0.5, np.zeros(channels, np.float32)), strict=True)
    )


def steps(channels: int, kernel: int) -> dict[str, Array]:
    """Return scales, zero points and bias of a layer whose outputs fill their range about as its inputs do."""
    return {
        "x_scale": np.array(0.05, np.float32),
        "x_zero": np.array(128, np.uint8),
        "w_zero": np.array(0, np.int8),
        "w_scale": np.full(channels, 1 / (74 * kernel * channels**0.5), np.float32),
        "bias": np.zeros(channels, np.int32),
    }


def int8_conv(channels: int, kernel: int, number: int, x: str, y: str) -> Layer:
    """Return a dense int8 layer."""
    weight = sparse_weight(np.random.default_rng(number), (channels, channels, kernel, kernel), 0.0)
    inputs = [x, "x_scale", "x_zero", f"w{number}", "w_scale", "w_zero", "x_scale", "x_zero", "bias"]
    node = helper.make_node("QLinearConv", inputs, [y], pads=[kernel // 2] * 4)
    return node, {f"w{number}": weight, **steps(channels, kernel)}


def float_product(inputs: int, outputs: int, number: int, x: str, y: str) -> Layer:
    """Return a product of floats."""
    weight = np.random.default_rng(number).standard_normal((inputs, outputs)).astype(np.float32)
    return helper.make_node("MatMul", [x, f"w{number}"], [y]), {
        f"w{number}": weight / np.float32(inputs**0.5)
    }


def four_bit_product(inputs: int, outputs: int, number: int, x: str, y: str) -> Layer:
    """Return a product with 4-bit weights in groups of 32, computed in int8."""
    rng = np.random.default_rng(number)
    packed = rng.integers(0, 256, (outputs, inputs // 32, 16)).astype(np.uint8)
    scales = rng.uniform(0.01, 0.02, outputs * inputs // 32).astype(np.float32)
    names = [f"w{number}", f"s{number}"]
    sizes = {"K": inputs, "N": outputs, "bits": 4, "block_size": 32, "accuracy_level": 4}
    node = helper.make_node("MatMulNBits", [x, *names], [y], domain="com.microsoft", **sizes)  # type: ignore[arg-type]
    return node, dict(zip(names, (packed, scales), strict=True))


def int8_product(inputs: int, outputs: int, number: int, x: str, y: str) -> Layer:
    """Return a product with int8 weights whose inputs are quantised inside."""
    weight = sparse_weight(np.random.default_rng(number), (outputs, inputs), 0.0).T
    node = helper.make_node("DynamicQuantizeMatMul", [x, f"w{number}", "s"], [y], domain="com.microsoft")
    return node, {f"w{number}": np.ascontiguousarray(weight), "s": np.full(outputs, 0.01, np.float32)}
