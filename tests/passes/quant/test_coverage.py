"""What is taken in besides plain layers: products of activations, what moves numbers, and what stays out of it."""

from typing import cast

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphrewrite.ir import Builder, Model
from graphrewrite.passes.quant import InsertQdq, kernels
from graphrewrite.passes.weights import WeightOnly
from graphrewrite.pipeline import Pipeline, PipelineResult
from graphrewrite.runtime import run
from tests.passes.quant.nets import context, left, only, quantised, served
from tests.support.inside import in_scan


def attention() -> Model:
    """Two heads over six tokens of sixteen numbers, between two products with weights."""
    b = Builder(opset=17, seed=2)
    x = b.input(["N", 6, 16], "x")
    parts = [b.op("MatMul", x, b.weight(16, 16), name=name) for name in ("queries", "keys", "values")]
    heads = [
        b.op("Transpose", b.op("Reshape", part, b.constant(np.array([0, 6, 2, 8]))), perm=[0, 2, 1, 3])
        for part in parts
    ]
    turned = b.op("Transpose", heads[1], perm=[0, 1, 3, 2])
    weights = b.op("Softmax", b.op("MatMul", heads[0], turned, name="scores"), axis=-1)
    mixed = b.op("Transpose", b.op("MatMul", weights, heads[2], name="mixed"), perm=[0, 2, 1, 3])
    flat = b.op("Reshape", mixed, b.constant(np.array([0, 6, 16])))
    return b.model(b.op("MatMul", flat, b.weight(16, 16), name="last"))


def rows_of(result: PipelineResult, key: str, table: str) -> dict[str, dict[str, object]]:
    rows = cast("list[dict[str, object]]", result.report.steps[-1].details[table])
    return {str(row[key]): row for row in rows}


def test_attention_is_left_in_floats_unless_it_is_asked_for() -> None:
    around = context((8, 6, 16))
    plain = quantised(attention(), around=around)
    whole = quantised(attention(), InsertQdq(attention=True), around)

    assert left(plain) == {"scores": kernels.PRODUCT, "mixed": kernels.PRODUCT} and not left(whole)
    found = served(whole.model)
    integers = found["MatMulIntegerToFloat"] + found["QLinearMatMul"]
    assert integers == 6 and not found["MatMul"] + found["FusedMatMul"]
    assert found["Softmax"] == 1
    assert whole.report.steps[-1].verified.error == 0.0
    assert (
        rows_of(whole, "op", "between")["Softmax"]["why"] == "on bytes it is 0.2 times as fast as on floats"
    )

    assert around.data is not None
    feeds = next(around.data.batches(8))
    exact, near, far = (only(run(each, feeds)) for each in (attention(), plain.model, whole.model))
    assert np.linalg.norm(near - exact) < np.linalg.norm(far - exact) < 0.05 * np.linalg.norm(exact)


def test_a_convolution_of_single_channels_needs_bytes_on_both_sides() -> None:
    b = Builder(opset=17)
    x = b.input(["N", 3, 12, 12], "x")
    alone = b.op("Tanh", b.conv(b.op("Tanh", x), 3, 3, group=3, name="alone"))
    first = b.relu(b.conv(alone, 8, 3, name="first"))
    between = b.relu(b.conv(first, 8, 8, group=8, name="between"))
    model = b.model(b.conv(between, 4, 8, kernel=1, name="last"))

    result = quantised(model)

    assert left(result) == {"alone": kernels.LIGHT}
    assert served(result.model)["QLinearConv"] == 3


def test_what_splits_and_chooses_numbers_works_on_bytes() -> None:
    b = Builder(opset=17)
    y = b.relu(b.conv(b.input(["N", 3, 12, 12], "x"), 8, 3, name="first"))
    halves = b.op_all("Split", y, b.constant(np.array([4, 4])), outputs=2, axis=1)
    chosen = b.op("Gather", halves[0], b.constant(np.array([3, 1, 2, 0])), axis=1)
    joined = b.concat(chosen, b.op("Slice", halves[1], *(b.constant(np.array([n])) for n in (0, 4, 1))))
    model = b.model(b.conv(joined, 4, 8, name="last"))

    result = quantised(model)

    found = served(result.model)
    assert found["QLinearConv"] == 2 and found["QLinearConcat"] == 1 and found["Split"] == 1
    assert found["QuantizeLinear"] == 1 and found["DequantizeLinear"] == 1
    steps = {float(node.inputs[1].values) for node in result.model.nodes("QuantizeLinear")}
    assert len(steps) == 3  # the input's, that of all that is moved, and the last one's


def test_one_float_reader_does_not_keep_integers_from_the_others() -> None:
    b = Builder(opset=17)
    y = b.relu(b.conv(b.input(["N", 3, 12, 12], "x"), 8, 3, name="first"))
    total = b.add(b.conv(y, 8, 8, name="second"), y)
    model = b.model(b.conv(total, 4, 8, name="last"), b.op("Tanh", total))

    found = served(quantised(model).model)

    assert found["QLinearAdd"] == 1 and found["QLinearConv"] == 3


def test_what_a_join_alone_reads_is_on_its_scale() -> None:
    b = Builder(opset=17)
    x = b.input(["N", 3, 12, 12], "x")
    signed = [
        b.conv(x, 4, 3, name="small"),
        b.op("Mul", b.conv(x, 4, 3, name="large"), b.constant(np.float32(5))),
    ]
    cut = [b.relu(b.conv(x, 4, 3, name=name)) for name in ("one", "two")]
    joins = [b.concat(*signed), b.concat(*cut), b.concat(b.conv(x, 4, 3, name="three"), cut[1])]
    parts = [b.conv(join, 4, 8, name=f"last{number}") for number, join in enumerate(joins)]
    result = quantised(b.model(*parts))

    found = served(result.model)
    assert found["QLinearConcat"] == 3 and found["QLinearConv"] == 8
    steps = {
        node.inputs[0].name.removesuffix(".exact"): (float(node.inputs[1].values), int(node.inputs[2].values))
        for node in result.model.nodes("QuantizeLinear")
    }
    names = [[tensor.name for tensor in join.inputs[0].inputs] for join in joins]
    assert steps[names[0][0]] == steps[names[0][1]] == steps[joins[0].name]
    # The second half of `cut` has two readers, and its Relu must not get a scale that reaches below zero.
    assert steps[names[1][0]] == steps[joins[1].name] and steps[names[1][1]] != steps[joins[1].name]
    assert steps[names[2][0]] == steps[joins[2].name] and steps[names[1][1]][1] == 0


def test_a_layer_left_in_floats_between_integers_stays_there() -> None:
    """Unless it is guarded, onnxruntime rounds the weights of a float layer between quantisers when it loads them."""
    b = Builder(opset=17, seed=1)
    first = b.relu(b.conv(b.input(["N", 3, 12, 12], "x"), 8, 3, name="first"))
    odd = b.rng.standard_normal((8, 8, 3, 3)).astype(np.float32)
    odd[0] *= 100  # one scale for all of it would leave nothing of the others
    kept = b.relu(b.op("Conv", first, b.constant(odd), name="kept", pads=[1] * 4))
    up = b.op("ConvTranspose", kept, b.weight(8, 4, 2, 2), name="up", strides=[2, 2])
    model = b.model(b.conv(up, 4, 4, name="last"))

    result = quantised(model, InsertQdq(skip=("kept",)))

    found = served(result.model)
    assert found["QLinearConv"] == 2 and found["Conv"] == 1 and found["ConvTranspose"] == 1
    assert found["QuantizeLinear"] == found["DequantizeLinear"] == 2
    feeds = {"x": np.random.default_rng(3).standard_normal((4, 3, 12, 12)).astype(np.float32)}
    plain, kernels_of_all = only(run(result.model, feeds)), only(run(result.model, feeds, optimize=True))
    assert np.abs(kernels_of_all - plain).max() < 0.01 * np.abs(plain).max()


def test_layers_inside_a_loop_are_named() -> None:
    b = Builder(opset=17)
    y = b.conv(b.input(["N", 3, 12, 12], "x"), 4, 3, name="outside")
    model = in_scan(b.model(b.conv(y, 4, 4, name="inside")), share=0.5, own=0.0, seed=0)
    inner = [node.name for node in model.nodes("Scan")[0].attrs["body"].nodes if node.op == "Conv"]

    result = quantised(model)

    assert inner and left(result) == dict.fromkeys(inner, kernels.INNER)


def test_a_relu_behind_a_join_ends_the_scale_of_what_is_joined() -> None:
    b = Builder(opset=17)
    x = b.input(["N", 3, 12, 12], "x")
    both = b.relu(b.concat(b.conv(x, 4, 3, name="one"), b.conv(x, 4, 3, name="two")))
    result = quantised(b.model(b.conv(both, 4, 8, name="last")))

    assert served(result.model)["QLinearConcat"] == 1
    scales: dict[str, set[tuple[float, int]]] = {}
    for node in result.model.nodes("QuantizeLinear"):
        maker = node.inputs[0].inputs[0].op if node.inputs[0].inputs else ""
        scales.setdefault(maker, set()).add((float(node.inputs[1].values), int(node.inputs[2].values)))
    ((step, zero),) = scales["Relu"]
    assert zero == 0
    assert (step, zero) in scales["Conv"] and len(
        scales["Conv"]
    ) == 2  # that of both halves, and the last layer's


def test_what_is_quantised_already_is_left_alone_and_said_to_be() -> None:
    b = Builder(opset=17)
    y = b.relu(b.conv(b.input(["N", 3, 12, 12], "x"), 8, 3, name="first"))
    model = b.model(b.conv(y, 4, 8, name="last"))
    once = quantised(model, InsertQdq(only=("first",)))

    again = quantised(once.model, InsertQdq(attention=True))
    small = Pipeline((WeightOnly(smallest=1),)).run(again.model)

    assert left(again) == {"first": kernels.ALREADY}
    assert served(again.model)["QLinearConv"] == 2
    assert left(small) == {"first": kernels.ALREADY, "last": kernels.ALREADY} and not small.changed


@pytest.mark.parametrize("bits", [8, 3])
@pytest.mark.parametrize("sizes", [(24,), (6, 5), (4, 6, 5)])
def test_convolutions_of_any_rank_have_integer_kernels(sizes: tuple[int, ...], bits: int) -> None:
    b = Builder(opset=17, seed=5)
    y: gs.Tensor = b.input(["N", 3, *sizes], "x")
    for name, inputs in (("first", 3), ("second", 8)):
        bias = b.constant(b.rng.standard_normal(8).astype(np.float32))
        y = b.relu(
            b.op(
                "Conv",
                y,
                b.weight(8, inputs, *[3 for _ in sizes]),
                bias,
                name=name,
                pads=[1] * 2 * len(sizes),
            )
        )
    model, around = b.model(y), context((8, 3, *sizes))

    result = quantised(model, InsertQdq(weight_bits=bits), around)

    found = served(result.model)
    assert found["QLinearConv"] == 2 and found["QuantizeLinear"] == found["DequantizeLinear"] == 1
    assert around.data is not None
    feeds = next(around.data.batches(8))
    exact, rounded = only(run(model, feeds)), only(run(result.model, feeds, optimize=True))
    assert np.linalg.norm(rounded - exact) < (0.02 if bits == 8 else 0.4) * np.linalg.norm(exact)
