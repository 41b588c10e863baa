"""Quantisers around layers: where they stand, that the graph is what it claims, and which kernels take it up."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from graphrewrite import models
from graphrewrite.data import ArraySource, load
from graphrewrite.errors import InvalidConfig, InvalidData, VerificationError
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.quant import InsertQdq, insert_qdq, kernels
from graphrewrite.passes.quant.calibrators import calibrators
from graphrewrite.passes.quant.grid import Scale, Stored
from graphrewrite.passes.quant.write import Plan, Quantisers, Style, write
from graphrewrite.passes.tidy import Tidy
from graphrewrite.pipeline import Context, Outcome, Pipeline
from graphrewrite.runtime import run
from tests.passes.quant.nets import context, left, net, only, quantised, served


def test_everything_with_an_integer_kernel_gets_it() -> None:
    result = quantised(net())

    assert result.report.steps[-1].verified.error == 0.0
    found = served(result.model)
    assert found == {
        "QuantizeLinear": 1,
        "QLinearConv": 6,
        "NhwcMaxPool": 1,
        "Transpose": 2,  # convolutions of bytes run with channels last: one before all of them, one behind
        "QLinearAdd": 1,
        "QLinearMul": 2,
        "QLinearSigmoid": 1,
        "QLinearLeakyRelu": 1,
        "QLinearConcat": 1,
        "Resize": 1,
        "QLinearAveragePool": 1,
        "QLinearGlobalAveragePool": 1,
        "Flatten": 1,
        "QGemm": 1,
        "MatMulIntegerToFloat": 1,
    }


def test_a_sum_that_is_rounded_behind_its_rectifier_is_told_to_compute_in_integers() -> None:
    model = Model.load(models.shipped("digits_resnet"))
    samples = load("graphrewrite.models.digits:calibration", model)
    result = Pipeline([Tidy(), InsertQdq()]).run(model, Context(data=samples, threads=1))
    assert served(result.model)["QLinearAdd"] == 6
    rows = {
        row["op"]: row for row in cast("list[dict[str, object]]", result.report.steps[-1].details["between"])
    }
    assert (rows["Add"]["integers"], rows["Add"]["floats"]) == (6, 0)


@pytest.mark.parametrize("activations", ["uint8", "int8", "uint8_symmetric", "int8_symmetric"])
@pytest.mark.parametrize("per_channel", [True, False])
def test_integer_kernels_give_what_the_graph_says(activations: str, per_channel: bool) -> None:
    step = InsertQdq(activations=activations, per_channel=per_channel)
    around = context()
    result = quantised(net(), step, around)
    assert around.data is not None
    feeds = next(around.data.batches(8))

    floats, plain = only(run(net(), feeds)), only(run(result.model, feeds))
    kernels = only(run(result.model, feeds, optimize=True))

    size = np.abs(floats).max()
    assert np.abs(plain - floats).max() < 0.06 * size
    # A sum between two codes may go either way in a kernel, once in each of ten layers.
    assert np.abs(kernels - plain).max() < 0.03 * size


@pytest.mark.parametrize("name", list(calibrators))
def test_every_calibrator_keeps_the_signal(name: str) -> None:
    around = context()
    assert around.data is not None
    result = quantised(net(), InsertQdq(calibrator=calibrators.make(name)), around)
    feeds = next(around.data.batches(8))

    floats, rounded = only(run(net(), feeds)), only(run(result.model, feeds))

    assert np.linalg.norm(rounded - floats) < 0.08 * np.linalg.norm(floats)


@pytest.mark.parametrize("name", models.names())
def test_shipped_models_keep_their_accuracy_in_a_third_of_the_bytes(name: str, tmp_path: Path) -> None:
    card, model = models.card(name), Model.load(models.shipped(name))
    data = load(card.calibration, model)

    result = Pipeline((Tidy(), InsertQdq())).run(model, Context(data=data))

    result.model.save(tmp_path / "small.onnx")
    assert (tmp_path / "small.onnx").stat().st_size < 0.4 * models.shipped(name).stat().st_size
    assert not {"Conv", "Gemm", "MatMul"} & set(served(result.model))
    test = load(card.test, model)
    assert test.labels is not None
    (scores,) = run(result.model, next(test.batches(600)), optimize=True).values()
    assert float((scores.argmax(axis=-1) == test.labels).mean()) > card.accuracy - 0.005


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 7])
def test_weights_of_few_bits_are_bytes_once_they_are_loaded(bits: int) -> None:
    result = quantised(net(), InsertQdq(weight_bits=bits))

    assert result.report.steps[-1].verified.error == 0.0
    assert served(result.model) == served(quantised(net()).model)


def test_even_levels_are_bytes_too_and_nearer_with_few_bits() -> None:
    odd, even = (quantised(net(), InsertQdq(weight_bits=2, even_levels=each)) for each in (False, True))

    assert even.report.steps[-1].verified.error == 0.0
    assert served(even.model) == served(quantised(net()).model)
    moved = [
        [
            row["relative_error"]
            for row in cast("list[dict[str, float]]", each.report.steps[-1].details["layers"])
        ]
        for each in (odd, even)
    ]
    assert sum(moved[1]) < 0.85 * sum(moved[0])
    rows = cast("list[dict[str, object]]", even.report.steps[-1].details["layers"])
    assert {row["levels"] for row in rows} == {4}


@pytest.mark.parametrize(("bits", "most"), [(4, 0.16), (3, 0.13), (2, 0.09)])
def test_few_bits_make_a_small_file_without_losing_time_to_floats(bits: int, most: float) -> None:
    b = Builder(opset=13, seed=1)
    x = b.input(["N", 3, 12, 12], "x")
    model = b.model(b.conv(b.relu(b.conv(x, 128, 3, name="first")), 129, 128, name="second"))

    result = quantised(model, InsertQdq(weight_bits=bits))

    def size(each: Model) -> int:
        return len(each.to_proto().SerializeToString())

    assert size(result.model) < most * size(model)
    assert served(result.model)["QLinearConv"] == 2 and not served(result.model)["BitShift"]


@pytest.mark.parametrize(("group", "pad", "stride"), [(1, 0, 1), (4, 0, 1), (1, 1, 1), (4, 2, 2)])
def test_biases_make_up_for_what_weights_lose_in_the_mean(group: int, pad: int, stride: int) -> None:
    b = Builder(opset=17, seed=5)
    x = b.input(["N", 8, 6, 6], "x")
    model = b.model(b.conv(x, 12, 8, group=group, pad=pad, stride=stride, name="only"))
    rng = np.random.default_rng(0)
    inputs = (rng.random((16, 8, 6, 6)) + np.arange(8)[:, None, None]).astype(np.float32)
    around = Context(data=ArraySource({"x": inputs}))

    def shift(corrects: bool) -> float:
        result = quantised(model, InsertQdq(weight_bits=4, correct_bias=corrects), around)
        away = only(run(result.model, {"x": inputs})) - only(run(model, {"x": inputs}))
        return float(np.abs(away.mean(axis=(0, 2, 3))).max())

    assert shift(True) < 0.1 * shift(False)


def test_a_stream_that_a_norm_reads_stays_float() -> None:
    b = Builder(opset=17)
    x = b.input(["N", 6, 16], "x")
    gain, offset = b.constant(np.ones(16, np.float32)), b.constant(np.zeros(16, np.float32))
    stream = b.add(b.op("MatMul", x, b.weight(16, 16), name="embed"), x)
    for block in ("one", "two"):
        normed = b.op("LayerNormalization", stream, gain, offset)
        stream = b.add(stream, b.op("MatMul", normed, b.weight(16, 16), name=block))
    both = b.op("MatMul", stream, b.op("Transpose", stream, perm=[0, 2, 1]), name="both")

    result = quantised(b.model(both), around=context((4, 6, 16)))

    found = served(result.model)
    assert found["MatMulIntegerToFloat"] == 3 and found["QuantizeLinear"] == 3
    assert found["MatMul"] + found["FusedMatMul"] == 1 and not found["QLinearAdd"]
    assert "a product of two activations" in left(result)["both"]


def test_what_is_read_by_an_output_too_keeps_its_name() -> None:
    b = Builder(opset=17)
    x = b.input(["N", 3, 12, 12], "x")
    middle = b.relu(b.conv(x, 4, 3, name="first"))
    middle.name = "middle"
    model = b.model(b.conv(middle, 4, 4, name="second"), middle)

    result = quantised(model)

    assert [tensor.name for tensor in result.model.outputs] == [tensor.name for tensor in model.outputs]
    assert served(result.model)["QLinearConv"] == 2


def test_layers_are_left_for_a_reason() -> None:
    b = Builder(opset=17)
    x = b.input(["N", 3, 12, 12], "x")
    y = b.conv(x, 4, 3, name="first")
    y = b.op("ConvTranspose", y, b.weight(4, 4, 2, 2), name="up", strides=[2, 2])
    flat = b.op("Flatten", b.op("GlobalAveragePool", b.conv(y, 4, 4, name="second")))
    model = b.model(b.op("Gemm", flat, b.weight(4, 5), name="scaled", alpha=0.5))

    result = quantised(model, InsertQdq(skip=("sec*",)))

    assert left(result) == {
        "up": kernels.TRANSPOSED,
        "second": "named by the skip pattern 'sec*'",
        "scaled": "its factors alpha and beta are not 1",
    }
    rows = cast("list[dict[str, object]]", result.report.steps[-1].details["layers"])
    assert [row["name"] for row in rows] == ["first", "up", "second", "scaled"]


def test_a_layer_without_a_name_is_not_taken_for_one_that_has_it() -> None:
    b = Builder(opset=17)
    y = b.conv(b.input(["N", 3, 12, 12], "x"), 3, 3, name="other_out")
    model = b.model(b.conv(y, 3, 3, name="other"))
    model.graph.nodes[1].name = ""  # so it is called by what it writes, other_out

    result = quantised(model)

    weights = [node.inputs[0] for node in result.model.nodes("DequantizeLinear")]
    codes = [weight.values for weight in weights if weight.dtype == np.int8]
    assert len(codes) == 2 and (codes[0] != codes[1]).any()


def test_an_operator_set_without_steps_per_channel_is_left_whole() -> None:
    b = Builder(opset=12)
    model = b.model(b.conv(b.input(["N", 3, 12, 12], "x"), 4, 3))

    result = quantised(model)

    assert not result.changed and "12" in left(result)["the whole model"]


def test_without_data_it_says_what_is_missing() -> None:
    with pytest.raises(InvalidConfig, match="on samples, and there is no data"):
        quantised(net(), around=Context())


def test_bad_settings_are_refused() -> None:
    for settings in ({"activations": "int3"}, {"weight_bits": 9}, {"batch": 0}, {"even_levels": True}):
        with pytest.raises(InvalidConfig, match=f"InsertQdq.{next(iter(settings))}"):
            InsertQdq(**settings)
    with pytest.raises(InvalidConfig, match="names no layer"):
        quantised(net(), InsertQdq(skip=("nothing",)))


@pytest.mark.parametrize("activations", ["uint8_symmetric", "int8_symmetric"])
def test_values_beyond_a_symmetric_span_get_the_code_that_it_leaves_out(activations: str) -> None:
    b = Builder(opset=17)
    kernel = np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)
    model = b.model(b.op("Conv", b.input(["N", 3, 2, 2], "x"), b.constant(kernel), name="same"))
    x = np.linspace(-1.27, 1.27, 24, dtype=np.float32).reshape(2, 3, 2, 2)
    result = quantised(model, InsertQdq(activations=activations), Context(data=ArraySource({"x": x})))

    # Steps of 0.01, and 127 of them above zero; below, a byte has one more.
    for optimize in (False, True):
        found = only(run(result.model, {"x": 9 * x}, optimize=optimize))
        assert found.max() == pytest.approx(1.27, rel=1e-3) and found.min() == pytest.approx(-1.28, rel=1e-3)


def off_by_one_code(plan: Plan) -> Plan:
    first, *rest = plan.operands
    return plan._replace(operands=[first._replace(stored=_shifted(first.stored)), *rest])


def _shifted(stored: Stored) -> Stored:
    return stored._replace(codes=np.maximum(stored.codes.astype(np.int8), np.int8(-126)))


def off_by_a_percent(plan: Plan) -> Plan:
    first, *rest = plan.roundings
    return plan._replace(
        roundings=[first._replace(scale=Scale(first.scale.step * 1.01, first.scale.zero)), *rest]
    )


def off_at_zero(plan: Plan) -> Plan:
    *rest, last = plan.roundings
    return plan._replace(roundings=[*rest, last._replace(scale=Scale(last.scale.step, last.scale.zero + 1))])


@pytest.mark.parametrize("mutate", [off_by_one_code, off_by_a_percent, off_at_zero])
def test_quantisers_that_stand_for_something_else_break_the_claim(
    mutate: Callable[[Plan], Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(model: Model, plan: Plan, style: Style) -> None:
        write(model, mutate(plan) if isinstance(style, Quantisers) else plan, style)

    monkeypatch.setattr(insert_qdq, "write", wrong)
    with pytest.raises(VerificationError, match="the pass's own reference"):
        quantised(net())


def test_a_run_of_the_pass_alone_says_what_it_did() -> None:
    outcome: Outcome = InsertQdq().run(net(), context())

    assert outcome.notes[0].text == "quantised 8 of 8, 11 nodes between them"


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("calibrator", ["min_max", "mse"])
def test_a_tensor_that_has_no_finite_range_is_named(calibrator: str) -> None:
    b = Builder(opset=17)
    x = b.input(["N", 3, 12, 12], "x")
    dark = b.op("Log", b.op("Sub", x, x))
    model = b.model(b.conv(dark, 4, 3, name="first"))

    with pytest.raises(InvalidData, match=f"the tensor '{dark.name}' cannot be given a range"):
        quantised(model, InsertQdq(calibrators.make(calibrator)))
