"""Float8 on both sides of layers: the numbers, and files that onnxruntime loads."""

import re
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest
from onnx.reference import ReferenceEvaluator

from graphrewrite import Context, Model, Outcome, Pipeline
from graphrewrite.data import ArraySource
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Builder
from graphrewrite.passes.factor.writer import Writer
from graphrewrite.passes.weights import Float8Qdq

Singles = npt.NDArray[np.float32]
Draw = Callable[[Builder, gs.Tensor], gs.Tensor]


def numbers(fraction: int, least: int, largest: float) -> npt.NDArray[np.float64]:
    """All finite numbers of a float8 from zero up, by its definition; the place of each is its code."""
    found = [0.0]
    ones = 1 << fraction
    found += [part / ones * 2.0**least for part in range(1, ones)]
    found += [(1 + part / ones) * 2.0**power for power in range(least, 17) for part in range(ones)]
    return np.array([number for number in found if number <= largest])


TYPES = {"float8_e4m3fn": numbers(3, -6, 448), "float8_e5m2": numbers(2, -14, 57344)}


def nearest(values: Singles, step: Singles, kind: str) -> npt.NDArray[np.float64]:
    """Each value over its step as the nearest number, of two the one with an even code, and what that stands for."""
    table = TYPES[kind]
    parts = (values / step).astype(np.float64)
    away = np.abs(np.minimum(np.abs(parts), table[-1])[..., None] - table)
    codes = np.argmin(away + 1e-12 * (np.arange(len(table)) % 2), axis=-1)
    return np.sign(parts) * table[codes] * step


def run_as_is(model: Model, feeds: dict[str, Singles], optimise: bool = False) -> Singles:
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    made = ort.InferenceSession(model.to_proto().SerializeToString(), options, ["CPUExecutionProvider"])
    return np.asarray(made.run(None, feeds)[0])


def samples(*shape: int, seed: int = 3) -> Singles:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def quantised(model: Model, x: Singles, **fields: object) -> Outcome:
    step = Float8Qdq(smallest=1, **fields)  # type: ignore[arg-type]
    return step.run(model.clone(), Context(data=ArraySource({"x": x})))


@pytest.mark.parametrize("kind", list(TYPES))
def test_numbers_are_those_of_a_slow_float8(kind: str) -> None:
    b = Builder(19, ir_version=9)
    x = b.input(["N", 5], "x")
    model = b.model(b.op("MatMul", x, b.constant(samples(5, 7, seed=1), "w"), name="layer"))
    seen, weight = samples(16, 5), np.asarray(model.weights["w"], np.float32)
    fed = np.concatenate([3 * samples(6, 5, seed=4), 0.001 * samples(2, 5), np.zeros((1, 5), np.float32)])

    after = quantised(model, seen, codes=kind).model

    top = np.float32(TYPES[kind][-1])
    step, steps = np.abs(seen).max() / top, np.abs(weight).max(0) / top
    want = nearest(fed, step, kind) @ nearest(weight, steps, kind)
    for got in (
        run_as_is(after, {"x": fed}),
        run_as_is(after, {"x": fed}, optimise=True),
        np.asarray(list(ReferenceEvaluator(after.to_proto()).run(None, {"x": fed}))[0]),
    ):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())
    assert np.abs(want - fed @ weight).max() > 1e-3 * np.abs(want).max()  # there was something to see


def two_convs(b: Builder, x: gs.Tensor) -> gs.Tensor:
    return b.conv(b.relu(b.conv(x, 8, 4)), 8, 8, bias=False)


def directly(b: Builder, x: gs.Tensor) -> gs.Tensor:
    return b.conv(b.conv(x, 8, 4, group=4), 8, 8)


def pooled(b: Builder, x: gs.Tensor) -> gs.Tensor:
    y = b.op("MaxPool", b.relu(b.conv(x, 8, 4)), kernel_shape=[2, 2], strides=[2, 2])
    return b.linear(b.relu(b.linear(b.op("Flatten", y), 16, 72, bias=False)), 4, 16)


def attention_like(b: Builder, x: gs.Tensor) -> gs.Tensor:
    rows = b.op("Reshape", x, b.constant(np.array([0, 4, 36])))
    wide = b.add(b.op("MatMul", rows, b.weight(36, 24)), b.constant(samples(24)))
    turned = b.op("Transpose", b.op("Sigmoid", wide), perm=[0, 2, 1])
    return b.op("MatMul", b.op("Clip", turned, b.constant(np.float32(0.3))), b.weight(4, 5))


def shared(b: Builder, x: gs.Tensor) -> gs.Tensor:
    weight = b.weight(6, 6)
    return b.op("MatMul", b.relu(b.op("MatMul", x, weight)), weight)


NETS = [two_convs, directly, pooled, attention_like, shared]


def drawn(draw: Draw) -> Model:
    b = Builder(19, ir_version=9)
    return b.model(draw(b, b.input(["N", 4, 6, 6], "x")))


@pytest.mark.parametrize("draw", NETS)
def test_what_is_written_loads_with_all_fusions_and_is_not_changed_by_them(draw: Draw) -> None:
    model, x = drawn(draw), samples(8, 4, 6, 6)

    outcome = quantised(model, x)

    assert outcome.reference is not None and outcome.details["layers"]
    plain = run_as_is(outcome.model, {"x": x})
    assert np.array_equal(plain, run_as_is(outcome.reference(), {"x": x}))
    served = run_as_is(outcome.model, {"x": x}, optimise=True)
    # A sum in another order may lie on the other side of the middle between two codes.
    apart = np.linalg.norm(served - plain) / np.linalg.norm(plain)
    assert apart < 0.01 < np.linalg.norm(plain - run_as_is(model, {"x": x})) / np.linalg.norm(plain) < 0.15


@pytest.mark.parametrize("draw", [two_convs, directly, pooled, attention_like])
def test_without_what_stands_in_the_way_it_does_not(draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    """When this fails, onnxruntime has learnt to look at the type of codes, and the guards can go."""
    plain_op = Writer.op

    def op(self: Writer, kind: str, *inputs: gs.Tensor, outputs: int = 1, **attrs: object) -> gs.Tensor:
        if kind in ("LeakyRelu", "Reshape"):
            return inputs[0]
        return plain_op(self, kind, *inputs, outputs=outputs, **attrs)

    x = samples(8, 4, 6, 6)
    good = quantised(drawn(draw), x).model
    monkeypatch.setattr(Writer, "op", op)
    bare = quantised(drawn(draw), x).model

    want = run_as_is(good, {"x": x})
    assert np.array_equal(run_as_is(bare, {"x": x}), want)  # as it stands it says the same
    try:
        apart = np.linalg.norm(run_as_is(bare, {"x": x}, optimise=True) - want) / np.linalg.norm(want)
    except Exception as error:
        assert re.search("float8|QLinear|QGemm|Reshape|MaxPool|data type", str(error))
    else:
        assert apart > 0.1


def test_the_pipeline_proves_it_and_what_several_read_is_rounded_once() -> None:
    b = Builder(19, ir_version=9)
    x = b.input(["N", 6], "x")
    model = b.model(b.add(b.op("MatMul", x, b.weight(6, 5)), b.op("MatMul", x, b.weight(6, 5))))

    result = Pipeline([Float8Qdq(smallest=1)]).run(model, Context(data=ArraySource({"x": samples(8, 6)})))

    assert result.report.steps[0].verified.how == "reference"
    assert [node.op for node in result.model.nodes()].count("QuantizeLinear") == 1


def test_a_wrong_step_is_seen_by_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    x = samples(8, 4, 6, 6)
    outcome = quantised(drawn(two_convs), x)
    assert outcome.reference is not None
    scale = next(c for name, c in outcome.model.graph.initializers.items() if name.endswith(".step"))
    scale.values = np.asarray(scale.values) * np.float32(1.5)

    apart = np.abs(run_as_is(outcome.model, {"x": x}) - run_as_is(outcome.reference(), {"x": x})).max()
    assert apart > 1e-2


def test_layers_that_stay_are_told_with_the_reason() -> None:
    b = Builder(19, ir_version=9)
    x = b.input(["N", 4, 6, 6], "x")
    y = b.conv(x, 8, 4, name="kept")
    flat = b.op("Flatten", b.op("GlobalAveragePool", y))
    crossed = b.op("Gemm", b.input([8, 3], "z"), b.weight(8, 5), transA=1, name="crossed")
    model = b.model(b.linear(flat, 4, 8, name="small"), crossed)
    data = ArraySource({"x": samples(3, 4, 6, 6), "z": samples(3, 8, 3)})

    outcome = Float8Qdq(smallest=40, skip=("kept",)).run(model, Context(data=data))

    assert not outcome.changed
    left = {note.subject: note.text for note in outcome.notes}
    assert left["crossed"] == "it transposes its input" and "fewer than 40" in left["small"]
    assert "skip" in left["kept"]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="expected one of float8_e4m3fn, float8_e5m2"):
        Float8Qdq("int8")
    with pytest.raises(InvalidConfig, match="there is no data"):
        Float8Qdq(smallest=1).run(drawn(two_convs), Context())
    b = Builder(17)
    old = b.model(b.op("MatMul", b.input(["N", 64], "x"), b.weight(64, 64)))
    (note,) = Float8Qdq().run(old, Context()).notes
    assert "operator set is 17; float8 needs 19" in note.text
