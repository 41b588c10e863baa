"""Products of bytes whose ranges are found on every run: what the graph says, and which kernels take it up."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from graphrewrite.errors import InvalidConfig, VerificationError
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.weights import DynamicQuantize, dynamic
from graphrewrite.passes.weights.integers import Integers, Layer, Style, write
from graphrewrite.pipeline import Pipeline, PipelineResult
from graphrewrite.runtime import run
from tests.passes.quant.nets import left, only, served


def attention() -> Model:
    """Three products that read one tensor, two of activations, one behind, and a Gemm stored across."""
    b = Builder(opset=17, seed=2)
    x = b.op("LayerNormalization", b.input(["N", 5, 96], "x"), b.constant(np.ones(96, np.float32)))
    query, keys, values = (
        b.add(b.op("MatMul", x, b.weight(96, 64), name=name), b.constant(np.full(64, 0.1, np.float32)))
        for name in ("query", "keys", "values")
    )
    scores = b.op("Softmax", b.op("MatMul", query, b.op("Transpose", keys, perm=[0, 2, 1]), name="scores"))
    mixed = b.op("MatMul", b.op("MatMul", scores, values, name="mixed"), b.weight(64, 96), name="out")
    flat = b.op("Reshape", mixed, b.constant(np.array([-1, 96])))
    return b.model(b.linear(flat, 40, 96, name="head"))


def quantised(model: Model, step: DynamicQuantize | None = None) -> PipelineResult:
    return Pipeline((step or DynamicQuantize(),)).run(model)


def feeds(*shape: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(3).standard_normal(shape).astype(np.float32)}


@pytest.mark.parametrize(
    "step", [DynamicQuantize(), DynamicQuantize(per_channel=False), DynamicQuantize(weight_bits=4)]
)
def test_the_graph_is_that_of_floats_with_every_rounding(step: DynamicQuantize) -> None:
    verified = quantised(attention(), step).report.steps[-1].verified

    assert verified.error == 0.0
    assert verified.movement is not None and verified.movement > 1e-3


def test_products_are_fused_into_integer_kernels_and_share_what_they_read() -> None:
    found = served(quantised(attention()).model)

    assert found["DynamicQuantizeLinear"] == 1 and found["MatMulIntegerToFloat"] == 3
    assert found["DynamicQuantizeMatMul"] == 2  # one reader each: rounded inside
    assert not Counter({"Cast": 1, "MatMulInteger": 1, "Mul": 1, "Add": 1}) & found


def test_kernels_give_what_the_graph_says() -> None:
    result, x = quantised(attention()), feeds(2, 5, 96)

    plain, kernels = only(run(result.model, x)), only(run(result.model, x, optimize=True))

    assert np.abs(kernels - plain).max() < 0.01 * np.abs(plain).max()


def test_steps_per_channel_are_nearer_than_one_for_all() -> None:
    b = Builder(opset=17, seed=1)
    weight = b.rng.standard_normal((48, 64)) * np.logspace(-2, 0, 64)
    model = b.model(b.op("MatMul", b.input(["N", 48], "x"), b.constant(weight.astype(np.float32))))
    x = feeds(16, 48)
    exact = only(run(model, x))

    def away(step: DynamicQuantize) -> float:
        """Return the mean over outputs of the error relative to each output's size."""
        error = only(run(quantised(model, step).model, x)) - exact
        return float((np.linalg.norm(error, axis=0) / np.linalg.norm(exact, axis=0)).mean())

    assert away(DynamicQuantize()) < 0.3 * away(DynamicQuantize(per_channel=False))


@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e20])
def test_activations_of_any_size_have_a_range(scale: float) -> None:
    b = Builder(opset=17, seed=4)
    model = b.model(b.op("MatMul", b.input(["N", 40], "x"), b.weight(40, 40)))
    x = {"x": feeds(3, 40)["x"] * np.float32(scale)}

    exact, got = only(run(model, x)), only(run(quantised(model).model, x))

    assert np.abs(got - exact).max() <= 0.02 * np.abs(exact).max()


@pytest.mark.parametrize("group", [1, 4])
def test_convolutions_are_rounded_when_asked(group: int) -> None:
    b = Builder(opset=17, seed=3)
    x = b.relu(b.conv(b.input(["N", 8, 8, 8], "x"), 16, 8, name="first"))
    model = b.model(b.conv(x, 16, 16, group=group, pad=0, stride=2, bias=False, name="second"))

    assert not quantised(model, DynamicQuantize(smallest=1)).changed
    result = quantised(model, DynamicQuantize(smallest=1, convolutions=True))

    assert result.report.steps[-1].verified.error == 0.0
    assert served(result.model)["ConvInteger"] == 2


def test_layers_are_left_for_a_reason() -> None:
    b = Builder(opset=17, seed=5)
    x = b.input([40, 40], "x")
    weights = {"first": b.op("MatMul", b.weight(40, 40), x, name="first")}
    weights["turned"] = b.op("Gemm", x, b.weight(40, 40), name="turned", transA=1)
    weights["scaled"] = b.op(
        "Gemm", x, b.weight(40, 40), b.constant(np.ones(40, np.float32)), name="scaled", beta=2.0
    )
    weights["batch"] = b.op("MatMul", x, b.weight(2, 40, 40), name="batch")
    weights["small"] = b.op("MatMul", x, b.weight(40, 3), name="small")
    weights["half"] = b.op("Gemm", x, b.weight(40, 40), name="half", alpha=0.5)
    result = quantised(b.model(*weights.values()))

    assert left(result) == {
        "first": "its first input is the constant one",
        "turned": "it transposes its input",
        "scaled": "it multiplies what it adds, by its factor beta",
        "batch": "its weight is a batch of matrices",
        "small": "its weight has 120 numbers, fewer than 1024",
    }
    assert result.report.steps[-1].verified.error == 0.0
    rows = result.report.steps[-1].details["layers"]
    assert isinstance(rows, list) and [row["name"] for row in rows if isinstance(row, dict)][0] == "half"


def test_bad_settings_and_old_operator_sets_are_told() -> None:
    with pytest.raises(InvalidConfig, match="weight_bits"):
        DynamicQuantize(weight_bits=9)
    b = Builder(opset=10)
    model = b.model(b.op("MatMul", b.input(["N", 40], "x"), b.weight(40, 40)))
    assert "need 11" in left(quantised(model))["the whole model"]


def other_code(layer: Layer) -> Layer:
    codes = layer.codes.copy()
    codes[0] = -codes[0]
    return layer._replace(codes=codes)


def other_step(layer: Layer) -> Layer:
    return layer._replace(steps=np.roll(layer.steps, 1))


@pytest.mark.parametrize("mutate", [other_code, other_step])
def test_integers_that_stand_for_something_else_break_the_claim(
    mutate: Callable[[Layer], Layer], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(model: Model, layers: Sequence[Layer], style: Style) -> None:
        first, *rest = layers
        write(model, [mutate(first), *rest] if isinstance(style, Integers) else layers, style)

    monkeypatch.setattr(dynamic, "write", wrong)
    with pytest.raises(VerificationError, match="the pass's own reference"):
        quantised(attention())


def test_nodes_need_no_names() -> None:
    model = attention()
    for node in model.graph.nodes:
        node.name = ""

    result = quantised(model)

    assert result.report.steps[-1].verified.error == 0.0
    assert served(result.model)["DynamicQuantizeLinear"] == 1
