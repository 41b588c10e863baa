"""Quantizing, dequantizing and integer products against onnxruntime; how gradients pass a pair of the first two."""

import numpy as np
import pytest
import torch

from graphrewrite.bridge import GraphModule
from graphrewrite.bridge.rounding import rounded
from graphrewrite.ir import Array, Builder, Model
from tests.engine.bridge.nodes import bridged, by_onnxruntime, by_reference, node_model, same

RNG = np.random.default_rng(0)


def floats(*shape: int, dtype: type[np.generic] = np.float32) -> Array:
    return (RNG.standard_normal(shape) * 3).astype(dtype)


def whole(kind: type[np.generic], *shape: int) -> Array:
    bounds = np.iinfo(kind)  # type: ignore[type-var]
    return RNG.integers(bounds.min, bounds.max + 1, shape).astype(kind)


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint16, np.int16])
@pytest.mark.parametrize("settings", [{}, {"axis": 0}, {"axis": -1}, {"axis": 1, "block_size": 2}])
@pytest.mark.parametrize("half", [False, True])
def test_there_and_back(kind: type[np.generic], settings: dict[str, int], half: bool) -> None:
    x = floats(3, 4, 5, dtype=np.float16 if half else np.float32)
    sizes: tuple[int, ...] = (3, 2, 5) if "block_size" in settings else ()
    sizes = sizes or ((x.shape[settings["axis"]],) if settings else ())
    scale = (RNG.random(sizes) * 0.1 + 0.01).astype(x.dtype)
    zero = whole(kind, *sizes)
    if half:
        scale = np.exp2(np.round(np.log2(scale.astype(np.float32)))).astype(
            np.float16
        )  # quotients without rounding
    quantize = node_model("QuantizeLinear", [x, scale, zero], 1, settings)
    levels = bridged(quantize, [x, scale, zero])
    assert same(levels, by_onnxruntime(quantize, [x, scale, zero]))
    given = [whole(kind, 3, 4, 5), scale, zero]
    dequantize = node_model("DequantizeLinear", given, 1, settings)
    assert same(bridged(dequantize, given), by_onnxruntime(dequantize, given), 2e-3 if half else 1e-6)


@pytest.mark.parametrize("opset", [10, 13, 19])
def test_older_versions(opset: int) -> None:
    given = [floats(2, 3), np.asarray(0.07, np.float32), np.asarray(100, np.uint8)]
    proto = node_model("QuantizeLinear", given, opset=opset)
    assert same(bridged(proto, given), by_onnxruntime(proto, given))
    back = [whole(np.int32, 2, 3), np.asarray(0.07, np.float32)]
    proto = node_model("DequantizeLinear", back, opset=opset)
    assert same(bridged(proto, back), by_onnxruntime(proto, back))


def test_gradients_pass_a_pair_within_its_bounds() -> None:
    """Steps of 0.5 from -2 to 1.5: 0.6 stands for 0.5, and 3 is held at 1.5, beyond which nothing is learned."""
    builder = Builder()
    x = builder.input([3], "x")
    scale, zero = builder.constant(np.float32(0.5)), builder.constant(np.int8(0))
    held = builder.op("Clip", x, builder.constant(np.float32(-2)), builder.constant(np.float32(1.5)))
    levels = builder.op("QuantizeLinear", held, scale, zero)
    module = GraphModule(builder.model(builder.op("DequantizeLinear", levels, scale, zero)))
    fed = torch.tensor([0.6, -1.0, 3.0], requires_grad=True)
    found = module(fed)
    (found * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert found.tolist() == [0.5, -1.0, 1.5]
    assert fed.grad is not None and fed.grad.tolist() == [1.0, 2.0, 0.0]


def test_levels_beyond_the_type_get_no_gradient() -> None:
    builder = Builder()
    x = builder.input([2], "x")
    scale = builder.constant(np.float32(0.01))
    levels = builder.op("QuantizeLinear", x, scale)
    module = GraphModule(builder.model(builder.op("DequantizeLinear", levels, scale)))
    fed = torch.tensor([1.0, 4.0], requires_grad=True)
    module(fed).sum().backward()
    assert fed.grad is not None
    torch.testing.assert_close(fed.grad, torch.tensor([1.0, 0.0]))


def test_quantized_weights_learn() -> None:
    builder = Builder(seed=0)
    x = builder.input(["N", 8], "x")
    weight = builder.constant(floats(8, 4), "weight")
    scale = builder.constant(np.full(4, 0.1, np.float32), "scale")
    zero = builder.constant(np.zeros(4, np.int8))
    levels = builder.op("QuantizeLinear", weight, scale, zero, axis=1)
    back = builder.op("DequantizeLinear", levels, scale, zero, axis=1)
    module = GraphModule(builder.model(builder.op("MatMul", x, back)))
    assert list(dict(module.named_parameters())) == ["weight"]
    assert module.frozen["scale"] == "a setting of the quantizer"
    module(torch.randn(3, 8)).square().sum().backward()
    slope = module.weight_named("weight").grad
    assert slope is not None and bool((slope != 0).all())


def test_rounding_has_the_slope_one() -> None:
    x = torch.tensor([0.5, 1.5, -0.2], requires_grad=True)
    y = rounded(x)
    (y * y).sum().backward()
    assert y.tolist() == [0.0, 2.0, -0.0]
    assert x.grad is not None and x.grad.tolist() == [0.0, 4.0, 0.0]


@pytest.mark.parametrize("zeros", [False, True])
def test_integer_matrices(zeros: bool) -> None:
    given: list[Array | None] = [whole(np.uint8, 2, 3, 40), whole(np.int8, 40, 5)]
    if zeros:
        given += [np.asarray(7, np.uint8), whole(np.int8, 5)]
    proto = node_model("MatMulInteger", given)
    assert same(bridged(proto, given), by_onnxruntime(proto, given))


@pytest.mark.parametrize("per_column", [False, True])
def test_quantized_matrices(per_column: bool) -> None:
    sizes = (5,) if per_column else ()
    given = [
        whole(np.uint8, 3, 40), np.asarray(0.02, np.float32), np.asarray(120, np.uint8),
        whole(np.int8, 40, 5), (RNG.random(sizes) * 0.02 + 0.01).astype(np.float32), np.zeros(sizes, np.int8),
        np.asarray(0.9, np.float32), np.asarray(101, np.uint8),
    ]  # fmt: skip
    proto = node_model("QLinearMatMul", given)
    assert same(bridged(proto, given), by_onnxruntime(proto, given))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"pads": [1, 0, 2, 1]},
        {"strides": [2, 1], "auto_pad": "SAME_UPPER"},
        {"dilations": [2, 1], "group": 2},
    ],
)
def test_integer_convolutions(settings: dict[str, object]) -> None:
    inner = 4 // int(str(settings.get("group", 1)))
    x, weight = whole(np.uint8, 2, 4, 7, 8), whole(np.int8, 6, inner, 3, 3)
    zero = np.asarray(130, np.uint8)
    proto = node_model("ConvInteger", [x, weight.view(np.uint8), zero, zero], 1, settings)
    given = [x, weight.view(np.uint8), zero, zero]
    assert same(bridged(proto, given), by_onnxruntime(proto, given))
    given = [
        x, np.asarray(0.02, np.float32), zero,
        weight, (RNG.random(6) * 0.02 + 0.01).astype(np.float32), np.zeros(6, np.int8),
        np.asarray(1.3, np.float32), np.asarray(99, np.uint8), whole(np.int16, 6).astype(np.int32),
    ]  # fmt: skip
    proto = node_model("QLinearConv", given, 1, settings)
    assert same(bridged(proto, given), by_onnxruntime(proto, given))


def test_a_range_of_its_own() -> None:
    for x in (floats(3, 4), np.abs(floats(5)), np.zeros((2, 2), np.float32)):
        proto = node_model("DynamicQuantizeLinear", [x], 3)
        assert same(bridged(proto, [x]), by_reference(proto, [x]))


def test_blocked_four_bit_weights_are_held_one_to_a_byte() -> None:
    import ml_dtypes

    given = [
        RNG.integers(-8, 8, (4, 6)).astype(ml_dtypes.int4),
        (RNG.random((4, 2)) + 0.1).astype(np.float32),
        np.zeros((4, 2), ml_dtypes.int4),
    ]
    proto = node_model("DequantizeLinear", given, 1, {"axis": 1, "block_size": 3})
    wanted = given[0].astype(np.float32) * np.repeat(given[1], 3, 1)
    assert same(bridged(proto, given), [wanted])
    assert isinstance(Model.from_proto(proto), Model)
