"""LowBitMatMul: its file format, its rounding, what its body costs, and what it refuses."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from graphrewrite import custom_ops
from graphrewrite.custom_ops import Case
from graphrewrite.custom_ops.ops.low_bit_mat_mul.cases import made
from graphrewrite.custom_ops.ops.low_bit_mat_mul.pack import pack, pack_scales, unpack, unpack_scales
from graphrewrite.custom_ops.spec import Value
from graphrewrite.errors import ShapeError
from graphrewrite.ir import Array
from tests.support.kernels import (
    assert_agree,
    by_kernel,
    by_reference,
    isas,
    needs_library,
    one_node,
    started,
)

SPEC = custom_ops.find("LowBitMatMul")


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("shape", [(1, 1), (31, 15), (32, 16), (33, 17), (70, 100)])
def test_unpacking_gives_back_what_was_packed(bits: int, shape: tuple[int, int]) -> None:
    codes = np.random.default_rng(bits).integers(0, 1 << bits, shape, dtype=np.uint8)
    packed = pack(codes, bits)

    np.testing.assert_array_equal(unpack(packed, bits, *shape), codes)
    filled = -(-shape[0] // 32) * 32 * -(-shape[1] // 16) * 16
    assert packed.nbytes == filled * bits // 8


def test_scales_come_back() -> None:
    scales = np.random.default_rng(0).random((40, 3)).astype(np.float16)

    assert pack_scales(scales).shape == (2, 3, 32)
    np.testing.assert_array_equal(unpack_scales(pack_scales(scales), 40), scales)


@pytest.mark.parametrize(
    ("bits", "where", "byte"),
    [
        # Output 34 is number 2 of block 1; input 21 is number 5 of slab 1 (number 5 of slab 2 with 4 bits).
        (1, (1, 1, 2, 1), 1 << 2),  # 5 = 2 * 2 + 1: byte 1, bit 2
        (2, (1, 1, 2, 1), 1 << 2),  # 5 = 1 * 4 + 1: byte 1, bits 2 and 3
        (4, (1, 2, 2, 1), 1 << 4),  # 5 = 1 * 4 + 1: byte 1, bits 4 to 7
    ],
)
def test_a_lone_code_lies_where_the_format_says(bits: int, where: tuple[int, ...], byte: int) -> None:
    codes = np.zeros((40, 30), np.uint8)
    codes[34, 21] = 1

    packed = pack(codes, bits)

    assert np.count_nonzero(packed) == 1
    assert packed[where] == byte


@pytest.mark.parametrize(
    "codes", [np.full((2, 2), 4, np.uint8), np.zeros(4, np.uint8), np.zeros((0, 4), np.uint8)]
)
def test_what_cannot_be_packed_is_said(codes: Array) -> None:
    with pytest.raises(ShapeError, match="expected a matrix"):
        pack(codes, 2)  # type: ignore[arg-type]


def test_a_product_by_hand() -> None:
    """Levels 127, -64, 32 of the row times levels 3, 1, -1 of the weight, times what both are worth."""
    inputs: dict[str, Array] = {
        "x": np.array([[12.7, -6.35, 3.2]], np.float32),  # -63.5 levels: the even one is -64
        "packed": pack(np.array([[3, 2, 1]], np.uint8), 2),
        "scales": pack_scales(np.array([[0.5]])),
        "gain": np.array([2], np.float32),
        "bias": np.array([1], np.float32),
    }
    case = Case("by hand", inputs, {"bits": 2, "group": 16, "offset": 3, "depth": 3})

    (got,) = by_reference(SPEC, case)

    assert got[0, 0] == pytest.approx(0.1 * (127 * 3 - 64 - 32) + 1, rel=1e-6)


def test_the_body_becomes_one_dense_product_when_it_is_loaded(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path_factory.mktemp("body") / "optimised.onnx")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    model = one_node(SPEC, made(2, 64, (4,), 200, 70, 0))
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    left = [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
    assert sorted(left) == sorted(
        ["Abs", "TopK", "Max", "Div", "Div", "Mul", "Round", "MatMul", "Mul", "Add"]
    )


@needs_library
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_row_with_a_number_that_is_not_finite_is_nan_and_the_others_are_not(bits: int, bad: float) -> None:
    case = made(bits, 32, (9,), 100, 40, 3)
    x = np.array(case.inputs["x"], np.float32)
    (wanted,) = by_reference(SPEC, case)
    spoiled = x.copy()
    spoiled[4, 69] = bad
    others = [0, 1, 2, 3, 5, 6, 7, 8]
    for isa in isas():
        (got,) = by_kernel(SPEC, dataclasses.replace(case, inputs={**case.inputs, "x": spoiled}), isa)
        assert np.isnan(got[4]).all()
        assert_agree([got[others]], [wanted[others]], 1e-5, isa)


@needs_library
@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("group", [0, 4096])
def test_the_longest_row_overflows_nothing(bits: int, group: int) -> None:
    """All codes and activations at their ends, 131072 times; and many rows, so that some are taken together."""
    depth = 131072
    codes = np.full((33, depth), (1 << bits) - 1, np.uint8)
    inputs: dict[str, Array] = {
        "x": np.full((9, depth), 5, np.float32),
        "packed": pack(codes, bits),
        "scales": pack_scales(np.ones((33, depth // group if group else 1))),
        "gain": np.ones(33, np.float32),
        "bias": np.zeros(33, np.float32),
    }
    attributes = {"bits": bits, "group": group or depth, "offset": 0, "depth": depth}
    level = 2 * ((1 << bits) - 1)
    for isa in isas():
        (got,) = by_kernel(SPEC, Case("longest", inputs, attributes), isa)
        np.testing.assert_allclose(np.asarray(got, np.float64), 5.0 * depth * level, rtol=1e-5, err_msg=isa)


@needs_library
def test_many_rows_are_worked_off_in_turns() -> None:
    """More rows than are made ready together: 512 KiB of them."""
    for bits in (1, 2):
        case = made(bits, 64, (300,), 2000, 40, 5)
        assert_agree(by_kernel(SPEC, case, threads=3), by_reference(SPEC, case), 1e-5, f"{bits} bits")


def refused(changed: Mapping[str, Array], attributes: Mapping[str, Value]) -> str:
    """Load and run a broken case in the library and return what onnxruntime says."""
    case = made(2, 32, (2,), 100, 40, 1)
    broken = dataclasses.replace(
        case, inputs={**case.inputs, **changed}, attributes={**case.attributes, **attributes}
    )
    with pytest.raises(Exception) as error:  # onnxruntime's classes share no public base
        session = started(one_node(SPEC, broken, function=False), kernels=True)
        session.run(None, {"x": broken.inputs["x"]})
    text = str(error.value)
    assert "the_node" in text
    return text


@needs_library
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"x": np.zeros((2, 99), np.float32)}, "x has shape [2, 99]; expected a last axis of 100"),
        ({"x": np.zeros((), np.float32)}, "expected a last axis of 100"),
        (
            {"packed": np.zeros((2, 7, 32, 2), np.uint8)},
            "packed has shape [2, 7, 32, 2]; expected [2, 7, 32, 4]",
        ),
        ({"packed": np.zeros((1, 7, 32, 4), np.uint8)}, "expected [2, 7, 32, 4]"),
        ({"scales": np.zeros((2, 3, 32), np.float16)}, "scales has shape [2, 3, 32]; expected [2, 4, 32]"),
        ({"scales": np.full((2, 4, 32), np.inf, np.float16)}, "a scale is not finite"),
        ({"gain": np.zeros(33, np.float32)}, "bias has shape [40]; expected [33]"),
        ({"gain": np.zeros((), np.float32)}, "gain has shape []; expected one number per output"),
        ({"gain": np.zeros(0, np.float32)}, "gain has shape [0]; expected one number per output"),
        ({"bias": np.full(40, np.nan, np.float32)}, "the gain or bias of output 0 is not finite"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(changed: dict[str, Array], said: str) -> None:
    assert said in refused(changed, {})


@needs_library
@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"depth": 0}, "depth is 0; expected 1 to 131072"),
        ({"depth": 2**40}, "expected 1 to 131072"),
        ({"group": 0}, "group is 0; expected a multiple of 16"),
        ({"group": -16}, "group is -16"),
        ({"group": 20}, "group is 20"),
        ({"group": 64}, "expected [2, 2, 32]"),
        ({"group": 2**62}, "expected [2, 1, 32]"),
        ({"offset": 9}, "offset is 9; expected 0 to 8"),
        ({"offset": -1}, "offset is -1"),
        ({"bits": 4}, "expected [2, 14, 32, 4]"),
        ({"bits": 1}, "expected [2, 7, 32, 2]"),
    ],
)
def test_attributes_that_mean_nothing_are_refused(attributes: dict[str, Value], said: str) -> None:
    assert said in refused({}, attributes)
