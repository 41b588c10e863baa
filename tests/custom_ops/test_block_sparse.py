"""The float operators over blocks of N outputs: their file format, their function bodies, and what they refuse."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from graphrewrite import custom_ops
from graphrewrite.custom_ops import Case, OpSpec
from graphrewrite.custom_ops.blocks import ACTIVATIONS, Blocks, activate, density, pack, unpack
from graphrewrite.custom_ops.blocks.sample import sparse_weight
from graphrewrite.custom_ops.spec import Value
from graphrewrite.errors import InvalidConfig, ShapeError
from graphrewrite.ir import Array
from tests.support.kernels import (
    assert_agree,
    by_body,
    by_kernel,
    by_reference,
    isas,
    needs_library,
    one_node,
    started,
)

CONV = custom_ops.find("BlockSparseConv")
MATMUL = custom_ops.find("BlockSparseMatMul")


def changed(case: Case, inputs: Mapping[str, Array], attributes: Mapping[str, Value]) -> Case:
    return dataclasses.replace(
        case, inputs={**case.inputs, **inputs}, attributes={**case.attributes, **attributes}
    )


@pytest.mark.parametrize("shape", [(16, 4), (1, 1), (17, 5), (40, 3, 3), (33, 6, 3, 2)])
@pytest.mark.parametrize("width", [1, 4, 8, 16, 32])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 1.0])
def test_unpacking_gives_back_what_was_packed(shape: tuple[int, ...], width: int, sparsity: float) -> None:
    weight = sparse_weight(np.random.default_rng(3), shape, width, sparsity)
    packed = pack(weight, width)

    np.testing.assert_array_equal(unpack(packed, shape[0], shape[1], shape[2:]), weight)
    assert packed.blocks.shape == (len(packed.positions), width)
    assert np.all(np.diff(packed.positions) > 0)


def test_a_lone_weight_is_one_block_where_the_format_says() -> None:
    weight = np.zeros((16, 5, 3), np.float32)
    weight[13, 2, 1] = -7.0  # group 3 of 4 outputs, input 2, tap 1; output 1 of the block

    packed = pack(weight, 4)

    assert packed.positions.tolist() == [(3 * 5 + 2) * 3 + 1]
    assert packed.blocks.tolist() == [[0.0, -7.0, 0.0, 0.0]]
    assert density(weight, 4) == 1 / (4 * 5 * 3)


def test_a_weight_without_numbers_keeps_one_block() -> None:
    packed = pack(np.zeros((9, 3), np.float32), 8)
    assert packed.positions.tolist() == [0] and not packed.blocks.any()


@pytest.mark.parametrize("weight", [np.zeros((4, 4)), np.zeros(4, np.float32), np.zeros((0, 4), np.float32)])
def test_what_cannot_be_packed_is_said(weight: Array) -> None:
    with pytest.raises(ShapeError, match="has no blocks; expected float32"):
        pack(weight, 8)  # type: ignore[arg-type]


def test_a_width_without_kernels_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="blocks of 3 outputs"):
        pack(np.zeros((6, 2), np.float32), 3)


def test_activations_by_hand() -> None:
    z = np.array([-4.0, -1.5, 0.0, 3.0])
    expected = {
        "none": [-4.0, -1.5, 0.0, 3.0],
        "relu": [0.0, 0.0, 0.0, 3.0],
        "clip": [-1.0, -1.0, 0.0, 2.0],
        "silu": [-4.0 / (1 + np.exp(4.0)), -1.5 / (1 + np.exp(1.5)), 0.0, 3.0 / (1 + np.exp(-3.0))],
        "hardswish": [0.0, -0.375, 0.0, 3.0],  # -1.5 * (0.5 - 0.25)
    }
    for number, kind in enumerate(ACTIVATIONS):
        np.testing.assert_allclose(activate(z, number, -1.0, 2.0), expected[kind], rtol=1e-15)


def test_the_reference_is_a_convolution_written_another_way() -> None:
    rng = np.random.default_rng(5)
    weight = sparse_weight(rng, (12, 3, 3, 2), 4, 0.4)
    x = rng.standard_normal((2, 3, 7, 6)).astype(np.float32)
    bias = rng.standard_normal(12).astype(np.float32)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 0), (0, 2)))
    windows = sliding_window_view(padded, (3, 2), axis=(2, 3))[:, :, ::2, ::3]
    wanted = np.einsum("nchwij,ocij->nohw", windows, weight) + bias[:, None, None]

    found = CONV.reference(
        x,
        *pack(weight, 4),
        bias,
        **CONV.filled(
            {
                "in_channels": 3,
                "out_channels": 12,
                "kernel_shape": [3, 2],
                "strides": [2, 3],
                "pads": [1, 0, 0, 2],
            }
        ),
    )

    assert_agree([np.asarray(found)], [wanted.astype(np.float32)], 1e-6, "windows")


@pytest.mark.parametrize(
    ("activation", "left"),
    [
        (0, ["Conv"]),
        (1, ["Conv", "Relu"]),
        (2, ["Conv", "Clip"]),
        (3, ["Conv", "Sigmoid", "Mul"]),
        (4, ["Conv", "HardSigmoid", "Mul"]),
    ],
)
def test_the_body_becomes_one_dense_layer_when_it_is_loaded(
    activation: int, left: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path_factory.mktemp("body") / "optimised.onnx")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    model = one_node(CONV, changed(next(CONV.cases()), {}, {"activation": activation}))
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    kept = [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
    assert [kind for kind in kept if kind != "Identity"] == left


@needs_library
@pytest.mark.parametrize("spec", [CONV, MATMUL], ids=["conv", "matmul"])
def test_nan_and_infinity_come_out_where_the_reference_has_them(spec: OpSpec) -> None:
    case = next(c for c in spec.cases() if c.name in ("relu", "relu-one-row"))
    x = case.inputs["x"].copy()
    x.reshape(-1)[3] = np.nan
    x.reshape(-1)[-2] = -np.inf
    odd = changed(case, {"x": x}, {})
    with np.errstate(invalid="ignore"):
        wanted = by_reference(spec, odd)[0]
    assert np.isnan(wanted).any()
    for isa in isas():
        found = by_kernel(spec, odd, isa)[0]
        # A zero weight that is not stored is no product with NaN: fewer, never more, than the dense layer has.
        assert not (np.isnan(found) & ~np.isnan(wanted)).any()
        fine = np.isfinite(wanted)
        assert_agree([found[fine]], [wanted[fine]], 1e-5, isa)


def random_layer(seed: int) -> Case:
    """A layer whose window fits its picture somehow: any kernel, stride, padding, dilation and size up to 60."""
    rng = np.random.default_rng(seed)
    kernel, strides, dilations = (rng.integers(1, most, 2).tolist() for most in (6, 4, 4))
    pads = rng.integers(0, 5, 4).tolist()
    reach = [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)]
    least = [max(1, reach[i] - pads[i] - pads[i + 2]) for i in (0, 1)]
    height, columns = (int(rng.integers(size, size + 48)) for size in least)
    channels, outputs, width = (
        int(rng.integers(1, 24)),
        int(rng.integers(1, 50)),
        int(rng.choice([1, 4, 8, 16, 32])),
    )
    weight = sparse_weight(rng, (outputs, channels, *kernel), width, float(rng.choice([0.0, 0.5, 0.9])))
    packed = pack(weight, width)
    inputs = {
        "x": rng.standard_normal((2, channels, height, columns)).astype(np.float32),
        "blocks": packed.blocks,
        "positions": packed.positions,
        "bias": rng.standard_normal(outputs).astype(np.float32),
    }
    attributes: dict[str, Value] = {
        "in_channels": channels,
        "out_channels": outputs,
        "kernel_shape": kernel,
        "strides": strides,
        "pads": pads,
        "dilations": dilations,
        "activation": int(rng.integers(0, len(ACTIVATIONS))),
        "low": -0.5,
        "high": 0.5,
    }
    return Case(f"seed-{seed}", inputs, attributes, 1e-5)


@needs_library
@pytest.mark.parametrize("seed", range(30))
def test_any_window_over_any_picture_agrees_with_the_dense_layer(seed: int) -> None:
    case = random_layer(seed)
    wanted = by_body(CONV, case)
    for isa in isas():
        assert_agree(by_kernel(CONV, case, isa, threads=1 + seed % 3), wanted, case.rtol, isa)


BAD: list[tuple[OpSpec, dict[str, Array], dict[str, Value], str]] = [
    (CONV, {"positions": np.array([3, 2, 4], np.int32)}, {}, r"positions\[1\] is 2; expected rising"),
    (CONV, {"positions": np.array([-1, 2, 4], np.int32)}, {}, r"positions\[0\] is -1; expected rising"),
    (
        CONV,
        {"positions": np.array([0, 2, 10**9], np.int32)},
        {},
        r"positions\[2\] is 1000000000; expected rising",
    ),
    (CONV, {"positions": np.array([0, 2], np.int32)}, {}, "expected one position for each block"),
    (
        CONV,
        {"blocks": np.zeros((3, 5), np.float32)},
        {},
        r"blocks has shape \[3, 5\]; expected \[blocks, N\]",
    ),
    (CONV, {"bias": np.zeros(4, np.float32)}, {}, r"bias has shape \[4\]; expected \[5\]"),
    (CONV, {}, {"kernel_shape": [3]}, r"kernel_shape is \[3\]; expected 2 numbers from 1"),
    (CONV, {}, {"strides": [1, 0]}, r"strides is \[1, 0\]; expected 2 numbers from 1"),
    (CONV, {}, {"pads": [0, 0, -1, 0]}, r"pads is \[0, 0, -1, 0\]; expected 4 numbers from 0"),
    (CONV, {}, {"in_channels": -2}, "in_channels is -2; expected 0 to"),
    (CONV, {}, {"in_channels": 10**9, "kernel_shape": [3, 3]}, "block positions; expected at most"),
    (MATMUL, {"positions": np.array([0, 2, 99], np.int32)}, {}, r"positions\[2\] is 99; expected rising"),
    (MATMUL, {}, {"out_features": 0}, "expected sizes above 0"),
]


def small(spec: OpSpec) -> Case:
    """A layer of 5 outputs, 4 inputs and three blocks of one output each."""
    sizes: dict[str, Value] = {"in_features": 4, "out_features": 5}
    shape: tuple[int, ...] = (2, 4)
    if spec is CONV:
        sizes, shape = {"in_channels": 4, "out_channels": 5, "kernel_shape": [1, 1]}, (1, 4, 3, 3)
    blocks = Blocks(np.ones((3, 1), np.float32), np.array([0, 5, 19], np.int32))
    inputs = {
        "x": np.ones(shape, np.float32),
        "blocks": blocks.blocks,
        "positions": blocks.positions,
        "bias": np.zeros(5, np.float32),
    }
    return Case("small", inputs, sizes, 1e-6)


@needs_library
@pytest.mark.parametrize(("spec", "inputs", "attributes", "message"), BAD)
def test_a_node_that_is_wrong_is_refused_with_its_name(
    spec: OpSpec, inputs: dict[str, Array], attributes: dict[str, Value], message: str
) -> None:
    assert_agree(
        by_kernel(spec, small(spec)), by_reference(spec, small(spec)), 1e-6, "the node that is right"
    )
    model = one_node(spec, changed(small(spec), inputs, attributes), function=False)

    with pytest.raises(Exception, match=message) as refused:
        started(model, kernels=True)

    assert "the_node" in str(refused.value)


@needs_library
@pytest.mark.parametrize(
    ("spec", "shape", "message"),
    [
        (CONV, (1, 3, 3, 3), r"expected \[N, 4, H, W\]"),
        (CONV, (1, 4, 3), r"expected \[N, 4, H, W\]"),
        (CONV, (1, 4, 0, 3), "x has 0 rows"),
        (MATMUL, (2, 3), r"expected \[..., 4\]"),
    ],
)
def test_an_input_of_another_shape_is_refused_at_run_time(
    spec: OpSpec, shape: tuple[int, ...], message: str
) -> None:
    model = one_node(spec, small(spec), function=False)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    session = started(model, kernels=True)

    with pytest.raises(Exception, match=message):
        session.run(None, {"x": np.ones(shape, np.float32)})
