"""The int8 operators over blocks of 16 outputs x 4 inputs: their file format, their rounding, and what they refuse."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from graphrewrite import custom_ops
from graphrewrite.custom_ops import Case
from graphrewrite.custom_ops.ops.q_block_sparse_conv.cases import case as convolution
from graphrewrite.custom_ops.quads import Quads, density, pack, unpack
from graphrewrite.custom_ops.quads.sample import sparse_weight
from graphrewrite.errors import ShapeError
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

CONV = custom_ops.find("QBlockSparseConv")
MATMUL = custom_ops.find("QBlockSparseMatMul")


def conv_case(**changed: Array) -> Case:
    case = next(CONV.cases())
    return dataclasses.replace(case, inputs={**case.inputs, **changed})


def matmul_case(**changed: Array) -> Case:
    case = next(MATMUL.cases())
    return dataclasses.replace(case, inputs={**case.inputs, **changed})


@pytest.mark.parametrize("shape", [(16, 4), (1, 1), (17, 5), (40, 33, 3), (33, 6, 3, 2)])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 1.0])
def test_unpacking_gives_back_what_was_packed(shape: tuple[int, ...], sparsity: float) -> None:
    weight = sparse_weight(np.random.default_rng(3), shape, sparsity)
    packed = pack(weight)

    np.testing.assert_array_equal(unpack(packed, shape[0], shape[1], shape[2:]), weight)
    assert np.all(np.diff(packed.positions) > 0)


def test_a_lone_weight_is_one_block_where_the_format_says() -> None:
    weight = np.zeros((32, 8, 3), np.int8)
    weight[18, 5, 2] = -7  # group 1, quad 1, tap 2; output 2 and input 1 of the block

    packed = pack(weight)

    assert packed.positions.tolist() == [(1 * 2 + 1) * 3 + 2]
    assert packed.blocks.shape == (1, 16, 4)
    assert packed.blocks[0, 2, 1] == -7 and np.count_nonzero(packed.blocks) == 1
    assert density(weight) == 1 / 12


def test_a_weight_without_numbers_keeps_one_block() -> None:
    assert pack(np.zeros((3, 3), np.int8)).positions.tolist() == [0]


@pytest.mark.parametrize("weight", [np.zeros((4, 4)), np.zeros(4, np.int8), np.zeros((0, 4), np.int8)])
def test_what_cannot_be_packed_is_said(weight: Array) -> None:
    with pytest.raises(ShapeError, match="has no blocks; expected int8"):
        pack(weight)  # type: ignore[arg-type]


def halves() -> Case:
    """A layer of one weight 1 whose outputs are x / 2: every odd x is a tie."""
    quads = pack(np.array([[[[1]]]], np.int8))
    return dataclasses.replace(
        next(CONV.cases()),
        inputs={
            "x": np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16),
            "x_scale": np.array(1, np.float32),
            "x_zero_point": np.array(100, np.uint8),
            "blocks": quads.blocks,
            "positions": quads.positions,
            "w_scale": np.array([1], np.float32),
            "y_scale": np.array(2, np.float32),
            "y_zero_point": np.array(7, np.uint8),
            "bias": np.array([0], np.int32),
        },
        attributes={"in_channels": 1, "out_channels": 1, "kernel_shape": [1, 1]},
    )


def test_halves_go_to_the_even_step_before_the_zero_point_is_added() -> None:
    # x = 101: 0.5 -> 0 -> 7; x = 103: 1.5 -> 2 -> 9; x = 99: -0.5 -> 0 -> 7; x = 85: -7.5 -> -8 -> -1 -> 0.
    got = by_reference(CONV, halves())[0].reshape(-1)
    assert [int(got[x]) for x in (101, 103, 99, 97, 85, 86)] == [7, 9, 7, 5, 0, 0]


def test_ties_come_out_alike_everywhere() -> None:
    wanted = by_reference(CONV, halves())[0]
    np.testing.assert_array_equal(by_body(CONV, halves())[0], wanted)
    for isa in isas():
        np.testing.assert_array_equal(by_kernel(CONV, halves(), isa)[0], wanted)


def test_the_body_becomes_one_quantised_convolution_when_it_is_loaded(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path_factory.mktemp("body") / "optimised.onnx")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    model = one_node(CONV, next(CONV.cases()))
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    assert [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node] == [
        "QLinearConv"
    ]


@needs_library
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_with_a_number_that_is_not_finite_is_nan_and_the_others_are_not(bad: float) -> None:
    case = matmul_case()
    x = np.repeat(case.inputs["x"], 3, axis=0)
    wanted = by_reference(MATMUL, dataclasses.replace(case, inputs={**case.inputs, "x": x}))[0]
    spoiled = x.copy()
    spoiled[1, 69] = bad
    for isa in isas():
        got = by_kernel(MATMUL, dataclasses.replace(case, inputs={**case.inputs, "x": spoiled}), isa)[0]
        assert np.isnan(got[1]).all()
        assert_agree([got[[0, 2]]], [wanted[[0, 2]]], 1e-5, isa)


@needs_library
@pytest.mark.parametrize("row", [[0.0] * 69 + [3e38], [-3e38] + [0.0] * 68 + [3e38]])
def test_a_range_at_the_end_of_float32_is_answered(row: list[float]) -> None:
    got = by_kernel(MATMUL, matmul_case(x=np.array([row], np.float32)))[0]
    assert got.shape == (1, 49)


def refused(case: Case, attributes: Mapping[str, object] | None = None) -> str:
    """Load and run a broken case in the library and return what onnxruntime says."""
    spec = CONV if "kernel_shape" in case.attributes else MATMUL
    changed = dataclasses.replace(case, attributes={**case.attributes, **(attributes or {})})  # type: ignore[dict-item]
    with pytest.raises(Exception) as error:  # onnxruntime's classes share no public base
        session = started(one_node(spec, changed, function=False), kernels=True)
        session.run(None, {"x": case.inputs["x"]})
    text = str(error.value)
    assert "the_node" in text
    return text


@needs_library
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"positions": np.array([5, 5], np.int32)}, r"positions[1] is 5; expected more than the one before"),
        ({"positions": np.array([-1, 5], np.int32)}, r"positions[0] is -1"),
        ({"positions": np.array([0, 18], np.int32)}, r"positions[1] is 18; expected"),
        ({"positions": np.array([0], np.int32)}, "positions has shape [1]; expected [2]"),
        ({"blocks": np.zeros((2, 4, 16), np.int8)}, "expected [blocks, 16, 4]"),
        ({"w_scale": np.ones(3, np.float32)}, "w_scale has shape [3]; expected [16]"),
        ({"w_scale": np.full(16, np.nan, np.float32)}, "expected a finite number"),
        ({"x_scale": np.array(0, np.float32)}, "x_scale is 0"),
        ({"x_scale": np.array([1, 2], np.float32)}, "x_scale has shape [2]; expected []"),
        ({"y_scale": np.array(np.inf, np.float32)}, "y_scale is inf"),
        ({"y_scale": np.array(1e-12, np.float32)}, "steps of y, which has 256; expected less than 2^30"),
        ({"bias": np.full(16, 2**31 - 1, np.int32)}, "could sum up to"),
        ({"bias": np.zeros(15, np.int32)}, "bias has shape [15]; expected [16]"),
        ({"x": np.zeros((1, 7, 9, 9), np.uint8)}, "expected [N, 8, H, W]"),
        ({"x": np.zeros((1, 8, 0, 9), np.uint8)}, "x has 0 rows"),
    ],
)
def test_a_convolution_refuses_what_it_cannot_mean(changed: dict[str, Array], said: str) -> None:
    two: dict[str, Array] = {"blocks": np.ones((2, 16, 4), np.int8), "positions": np.array([0, 7], np.int32)}
    attributes = {"pads": [0, 0, 0, 0]}
    assert said in refused(conv_case(**{**two, **changed}), attributes)


@needs_library
@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"kernel_shape": [3]}, "kernel_shape is [3]; expected"),
        ({"kernel_shape": [3, 0]}, "kernel_shape is [3, 0]"),
        ({"kernel_shape": [70000, 70000]}, "expected at most 262144 and 65536"),
        ({"strides": [0, 1]}, "strides is [0, 1]"),
        ({"dilations": [-1, 1]}, "dilations is [-1, 1]"),
        ({"pads": [1, 1]}, "pads is [1, 1]; expected top, left, bottom, right"),
        ({"pads": [-1, 0, 0, 0]}, "pads is [-1, 0]"),
        ({"out_channels": 0}, "bias has shape [16]; expected [0]"),
        ({"in_channels": -8}, "in_channels is -8"),
        ({"dilations": [50, 1]}, "x has 9 rows and 2 of border; expected at least the kernel's 101"),
    ],
)
def test_a_convolution_refuses_attributes_that_mean_nothing(attributes: dict[str, object], said: str) -> None:
    assert said in refused(conv_case(), attributes)


@needs_library
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"positions": np.array([18 * 4], np.int32), "blocks": np.ones((1, 16, 4), np.int8)},
            "positions[0] is 72",
        ),
        ({"w_scale": np.full(49, np.inf, np.float32)}, "w_scale[0] is not finite"),
        ({"bias": np.full(49, np.nan, np.float32)}, "bias[0] is not finite"),
        ({"x": np.zeros((1, 71), np.float32)}, "expected [..., 70]"),
    ],
)
def test_a_product_refuses_what_it_cannot_mean(changed: dict[str, Array], said: str) -> None:
    assert said in refused(matmul_case(**changed))


@needs_library
def test_blocks_that_a_narrow_product_would_saturate_are_exact() -> None:
    """All weights and inputs at their ends: pairs of products need more than 16 bits."""
    for low in (-128, 127):
        weight = np.full((16, 8, 1, 1), low, np.int8)
        quads: Quads = pack(weight)
        case = halves()
        inputs = {
            **case.inputs,
            "x": np.full((1, 8, 3, 3), 255, np.uint8),
            "x_zero_point": np.array(0, np.uint8),
            "y_zero_point": np.array(128, np.uint8),
            "blocks": quads.blocks,
            "positions": quads.positions,
            "w_scale": np.full(16, 1 / 3000, np.float32),
            "bias": np.zeros(16, np.int32),
        }
        wide = dataclasses.replace(
            case, inputs=inputs, attributes={"in_channels": 8, "out_channels": 16, "kernel_shape": [1, 1]}
        )
        wanted = by_reference(CONV, wide)[0]
        assert wanted[0, 0, 0, 0] == 128 + round(255 * 8 * low / 6000)
        for isa in isas():
            np.testing.assert_array_equal(by_kernel(CONV, wide, isa)[0], wanted)


@needs_library
@pytest.mark.parametrize("seed", range(40))
def test_any_window_over_any_picture(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kernel, strides, dilations = (rng.integers(1, high, 2).tolist() for high in (6, 4, 4))
    pads = rng.integers(0, 6, 4).tolist()
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    least = [max(1, reach[axis] - pads[axis] - pads[axis + 2]) for axis in (0, 1)]
    sizes = [least[0] + int(rng.integers(0, 12)), least[1] + int(rng.integers(0, 70))]
    channels, outputs = int(rng.integers(1, 23)), int(rng.integers(1, 40))
    drawn = convolution(
        "drawn",
        (int(rng.integers(1, 3)), channels, *sizes),
        outputs,
        kernel,
        float(rng.uniform(0, 1)),
        strides=strides,
        pads=pads,
        dilations=dilations,
        seed=seed,
    )
    wanted = by_reference(CONV, drawn)
    for isa in isas():
        assert_agree(by_kernel(CONV, drawn, isa), wanted, 0, isa)


@needs_library
@pytest.mark.slow
def test_weights_larger_than_a_cache_go_by_in_pieces() -> None:
    rng = np.random.default_rng(0)
    blocks, positions = pack(sparse_weight(rng, (1500, 2048), 0.5))
    wide = dataclasses.replace(
        matmul_case(),
        inputs={
            "x": rng.standard_normal((65, 2048)).astype(np.float32),
            "blocks": blocks,
            "positions": positions,
            "w_scale": np.full(1500, 1e-4, np.float32),
            "bias": np.zeros(1500, np.float32),
        },
        attributes={"in_features": 2048, "out_features": 1500},
    )
    wanted = by_reference(MATMUL, wide)
    for threads in (1, 3):
        assert_agree(by_kernel(MATMUL, wide, threads=threads), wanted, 1e-5, f"{threads} threads")
