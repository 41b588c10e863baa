"""Weights filed in few bits: what the graph says, what onnxruntime makes of it, which weights are left and why."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import cast

import ml_dtypes
import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphrewrite.data.accumulators import Floats
from graphrewrite.errors import InvalidConfig, VerificationError
from graphrewrite.ir import Array, Builder, Model
from graphrewrite.passes.weights import WeightOnly, forms, weight_only
from graphrewrite.passes.weights.blocks import Blocks, rounded
from graphrewrite.passes.weights.forms import low_first
from graphrewrite.pipeline import Pipeline, PipelineResult
from graphrewrite.runtime import run
from tests.passes.quant.nets import served


def net(opset: int = 21) -> Model:
    """A table, products of each kind, convolutions there and back, a cell; widths that blocks do not divide."""
    b = Builder(opset=opset, seed=1)
    x: gs.Tensor = b.op("Gather", b.weight(50, 40), b.input(["N", 6], "ids", np.int64), name="table")
    x = b.add(b.op("MatMul", x, b.weight(40, 100), name="wide"), b.constant(np.ones(100, np.float32)))
    x = b.op("Reshape", x, b.constant(np.array([-1, 100])))
    x = b.relu(b.linear(x, 100, 100, name="across"))
    x = b.op("Gemm", x, b.weight(100, 100), b.constant(np.ones((1, 100), np.float32)), name="along")
    x = b.conv(b.op("Reshape", x, b.constant(np.array([-1, 4, 5, 5]))), 32, 4, name="conv")
    x = b.op("ConvTranspose", x, b.weight(32, 8, 3, 3), name="up", group=2)
    x = b.op("Reshape", x, b.constant(np.array([0, -1, 49])))
    return b.model(b.op("LSTM", x, b.weight(1, 128, 49), b.weight(1, 128, 32), hidden_size=32, name="cell"))


def products(opset: int = 17) -> Model:
    """Two products, with a norm that keeps the rows in bounds."""
    b = Builder(opset=opset, seed=2)
    x = b.op("LayerNormalization", b.input(["N", 128], "x"), b.constant(np.ones(128, np.float32)))
    hidden = b.op("Sigmoid", b.op("MatMul", x, b.weight(128, 96), name="up"))
    return b.model(b.op("MatMul", hidden, b.weight(96, 128), name="down"))


def filed(model: Model, step: WeightOnly) -> PipelineResult:
    return Pipeline((step,)).run(model)


def error(result: PipelineResult) -> float | None:
    return result.report.steps[-1].verified.error


def rows(result: PipelineResult) -> list[dict[str, object]]:
    return cast("list[dict[str, object]]", result.report.steps[-1].details["layers"])


def left(result: PipelineResult) -> dict[str, str]:
    return {note.subject: note.text for note in result.notes if note.kind == "skipped"}


@pytest.mark.parametrize(
    "step",
    [
        WeightOnly(),
        WeightOnly(2, 0),
        WeightOnly(3, 16, symmetric=False),
        WeightOnly(8, 0, symmetric=False),
        WeightOnly(8, codes="float8_e4m3fn"),
        WeightOnly(form="dequantize"),
        WeightOnly(form="dequantize", symmetric=False),
        WeightOnly(8, 0, form="dequantize", symmetric=False),
        WeightOnly(8, form="dequantize", codes="float8_e5m2"),
        WeightOnly(form="matmul_nbits"),
        WeightOnly(2, 64, form="matmul_nbits", symmetric=False),
        WeightOnly(8, form="matmul_nbits", symmetric=False),
    ],
)
def test_every_form_says_what_the_codes_stand_for(step: WeightOnly) -> None:
    result = filed(net(), step)

    verified = result.report.steps[-1].verified
    assert error(result) == 0.0 and verified.movement is not None and verified.movement > 1e-3
    assert not left(result)
    assert [row["name"] for row in rows(result)] == [
        *("table", "wide", "across", "along", "conv", "up", "cell input 1", "cell input 2")
    ]
    own = {row["name"] for row in rows(result) if row["form"] != "expand"}
    assert own == (set() if step.form == "expand" else {"wide", "across", "along"})


def test_two_bits_have_a_type_of_their_own_in_the_newest_operator_set() -> None:
    result = filed(net(25), WeightOnly(2, form="dequantize"))

    kinds = {tensor.dtype for tensor in result.model.graph.initializers.values()}
    assert error(result) == 0.0 and np.dtype(ml_dtypes.int2) in kinds


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_expanded_weights_are_floats_again_once_they_are_loaded(bits: int) -> None:
    model = net(17)
    result = filed(model, WeightOnly(bits, 32))

    assert served(result.model) == served(model)
    size = [len(each.to_proto().SerializeToString()) for each in (model, result.model)]
    # A step for 32 numbers is a bit for each; constants and operators are some 2.7 KiB for a weight here.
    assert size[1] < (bits + 1) / 32 * size[0] + 8 * 2800


@pytest.mark.parametrize(("form", "opset"), [("matmul_nbits", 17), ("dequantize", 21)])
@pytest.mark.parametrize("bits", [4, 8])
def test_kernels_round_the_rows_of_products_block_by_block(form: str, opset: int, bits: int) -> None:
    result = filed(products(opset), WeightOnly(bits, 32, form=form))
    x = np.random.default_rng(0).standard_normal((5, 128)).astype(np.float32)

    (got,) = run(result.model, {"x": x}, optimize=True).values()

    assert served(result.model)["MatMulNBits"] == 2 and not served(result.model)["MatMul"]
    up, down = (weight for weight in products().weights.values() if weight.ndim == 2)
    normed = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
    hidden = 1 / (1 + np.exp(-slow_product(normed, up, bits, form)))
    away = np.abs(got.astype(np.float64) - slow_product(hidden, down, bits, form))
    # Floats in the place of rounded rows would be forty times as far off.
    assert away.max() < 1e-4 * np.abs(got.astype(np.float64)).max()


def slow_product(x: Floats, weight: Array, bits: int, form: str) -> Floats:
    """Multiply rows, rounded to 255 levels in each block of 32, with a rounded weight [inputs, outputs]."""
    rows = np.ascontiguousarray(weight.T, np.float32)
    blocks = x.reshape(len(x), -1, 32)
    step = np.abs(blocks).max(axis=2, keepdims=True) / 127
    near = (np.rint(blocks / step) * step).reshape(len(x), -1)
    return np.asarray(near @ rounded(rows, bits, 32, negative=form != "dequantize").expand().T)


def test_a_gemm_keeps_its_bias_and_what_is_none_is_added() -> None:
    result = filed(net(), WeightOnly(form="matmul_nbits"))

    made = Counter(len(node.inputs) for node in result.model.nodes("MatMulNBits"))
    assert made == {3: 2, 6: 1}  # "across" has a vector; "along" adds a matrix of one row behind
    assert not result.model.nodes("Gemm")


def test_a_weight_that_is_read_twice_is_filed_once() -> None:
    b = Builder(opset=17, seed=4)
    table = b.weight(64, 48)
    x = b.op("Gather", table, b.input(["N"], "ids", np.int64), name="in")
    model = b.model(b.op("Gemm", x, table, transB=1, name="out"))

    for form in ("expand", "matmul_nbits"):
        result = filed(model, WeightOnly(form=form))
        assert error(result) == 0.0
        assert [(row["name"], row["form"]) for row in rows(result)] == [("in", "expand")]


def test_weights_are_left_for_a_reason() -> None:
    b = Builder(opset=17, seed=5)
    x = b.input(["N", 40], "x")
    shared = b.weight(40, 40)
    y = b.op("MatMul", x, shared, name="shared")
    y = b.op("MatMul", b.add(y, shared), b.weight(40, 8), name="small")
    both = b.op("MatMul", y, b.op("Transpose", y, perm=[1, 0]), name="both")
    broken = np.full((40, 40), np.inf, np.float32)
    wide = b.op("MatMul", b.op("Cast", x, to=11), b.constant(np.ones((40, 40))), name="wide")
    last = b.op("Mul", b.op("MatMul", x, b.constant(broken), name="broken"), b.op("Cast", wide, to=1))
    given = b.op("MatMul", x, b.weight(40, 40), name="asked")
    model = b.model(both, last, given)

    found = left(filed(model, WeightOnly(skip=("asked",), smallest=1000)))

    assert {name: why.split(",")[0] for name, why in found.items()} == {
        "shared": "its weight is read in another way too",
        "small": "its weight has 320 numbers",
        "both": "its weight is computed",
        "wide": "its weight is float64; float32 and float16 and bfloat16 can be rounded here",
        "broken": "its weight holds numbers that are not finite",
        "asked": "named by the skip pattern 'asked'",
    }


def test_weights_in_bodies_are_filed_there() -> None:
    b = Builder(opset=17, seed=6)
    x = b.input(["N", 48], "x")
    outer = b.weight(48, 48)
    inside = Builder(opset=17, seed=7)
    own = inside.op("MatMul", x, inside.weight(48, 48), name="own")
    captured = inside.op("MatMul", own, outer, name="captured")
    captured.dtype = np.dtype(np.float32)
    inside.graph.outputs = [captured]
    other = Builder(opset=17)
    same = other.op("Identity", x)
    same.dtype = np.dtype(np.float32)
    other.graph.outputs = [same]
    condition = b.input([], "when", np.bool_)
    model = b.model(b.op("If", condition, then_branch=inside.graph, else_branch=other.graph))

    for form in ("expand", "matmul_nbits"):
        result = filed(model, WeightOnly(form=form))
        assert error(result) == 0.0 and len(rows(result)) == 2


@pytest.mark.parametrize(("dtype", "number"), [(np.float16, 10), (ml_dtypes.bfloat16, 16)])
def test_half_precision_is_expanded_to_half_precision(dtype: type[np.generic], number: int) -> None:
    b = Builder(opset=17, seed=8)
    weight = b.constant(b.rng.standard_normal((48, 40)).astype(dtype))
    x = b.op("Cast", b.op("Cast", b.input(["N", 48], "x"), to=number), to=1)
    model = b.model(b.op("MatMul", x, b.op("Cast", b.op("Gather", weight, b.constant(np.arange(48))), to=1)))

    for form in ("expand", "matmul_nbits"):
        result = filed(model, WeightOnly(form=form))
        assert error(result) == 0.0
        assert [row["form"] for row in rows(result) if not row["left"]] == ["expand"]


def test_an_older_operator_set_is_told_what_it_lacks() -> None:
    for step, needed in (
        (WeightOnly(form="dequantize"), "need 21"),
        (WeightOnly(8, codes="float8_e5m2"), "need 19"),
    ):
        result = filed(net(17), step)
        assert not result.changed and needed in left(result)["the whole model"]
    assert filed(net(17), WeightOnly(8, 0, form="dequantize")).changed


def test_bad_settings_are_refused() -> None:
    for settings, told in (
        ({"bits": 9}, "WeightOnly.bits"),
        ({"form": "packed"}, "WeightOnly.form"),
        ({"block": -1}, "WeightOnly.block"),
        ({"bits": 3, "form": "dequantize"}, "it has 2, 4 and 8"),
        ({"block": 48, "form": "matmul_nbits"}, "blocks of 16"),
        ({"codes": "float8_e5m2"}, "give bits=8"),
    ):
        with pytest.raises(InvalidConfig, match=told):
            WeightOnly(**settings)
    with pytest.raises(InvalidConfig, match="names no layer"):
        filed(net(), WeightOnly(only=("nothing",)))


def test_codes_lie_low_bits_first() -> None:
    np.testing.assert_array_equal(low_first(np.array([[-8, 7, 0]]), 4), [[0xF0, 0x08]])
    np.testing.assert_array_equal(low_first(np.array([[-2, -1, 0, 1]]), 2), [[0b11100100]])


def swapped_nibbles(codes: Array, bits: int) -> Array:
    packed = low_first(codes, bits)
    return packed >> 4 | packed << 4


def test_swapped_nibbles_break_the_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "low_first", swapped_nibbles)
    with pytest.raises(VerificationError, match="the pass's own reference"):
        filed(products(), WeightOnly(form="matmul_nbits"))


def shifted_block(blocks: Blocks) -> Blocks:
    return blocks._replace(steps=np.roll(blocks.steps, 1, axis=1))


def wrong_zero(blocks: Blocks) -> Blocks:
    assert blocks.zeros is not None
    zeros = blocks.zeros.copy()
    zeros[0, 0] ^= 1
    return blocks._replace(zeros=zeros)


@pytest.mark.parametrize("mutate", [shifted_block, wrong_zero])
@pytest.mark.parametrize("form", ["expand", "dequantize", "matmul_nbits"])
def test_other_steps_and_zeros_break_the_claim(
    form: str, mutate: Callable[[Blocks], Blocks], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(name: str) -> Callable[..., gs.Variable]:
        real = getattr(forms, name)

        def write(*given: object) -> gs.Variable:
            changed = [mutate(each) if isinstance(each, Blocks) else each for each in given]
            made: gs.Variable = real(*changed)
            return made

        return write

    names: Sequence[str] = ("expanded", "dequantised", "packed_product")
    for name in names:
        monkeypatch.setattr(weight_only, name, wrong(name))
    with pytest.raises(VerificationError, match="the pass's own reference"):
        filed(products(21), WeightOnly(form=form, symmetric=False))
