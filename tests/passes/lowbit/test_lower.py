"""Lowering to few bits: what is lowered, what is left and why, and that the claim can fail."""

import dataclasses
from collections.abc import Callable
from typing import cast

import numpy as np
import pytest

from graphrewrite.cost.speeds import Point, Speeds, Work
from graphrewrite.custom_ops.ops.low_bit_mat_mul.pack import unpack
from graphrewrite.errors import InvalidConfig, VerificationError
from graphrewrite.ir import Builder, Model
from graphrewrite.ir.edit import all_nodes
from graphrewrite.passes.lowbit import LowerLowBit, lower
from graphrewrite.passes.lowbit.worth import why_slower
from graphrewrite.pipeline import Context, Outcome, Pipeline
from graphrewrite.runtime import run, sample_inputs
from tests.engine.dims.bodies import filled
from tests.support.speeds import quick


@pytest.fixture(autouse=True)
def quick_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is lowered must not depend on the machine that runs the tests."""
    monkeypatch.setattr(lower, "known_speeds", quick)


def perceptron() -> Model:
    """Draw a Gemm with all its factors, a MatMul in three axes, and layers that cannot be lowered."""
    b = Builder(seed=5)
    x = b.input(["N", 5, 130], "x")
    wide = b.relu(b.op("MatMul", x, b.weight(130, 200), name="wide"))
    flat = b.op("Reshape", wide, b.constant(np.array([-1, 200])))
    gemm = b.op("Gemm", flat, b.weight(150, 200), b.weight(150), name="gemm", transB=1, alpha=0.5, beta=2.0)
    small = b.op("MatMul", gemm, b.weight(150, 10), name="small")
    back = b.op("MatMul", small, b.op("Transpose", small), name="both")
    return b.model(back)


CELL = """agraph (float[7, N, 40] x) => (float[7, N, 160] y)
    <float[1, 160] zero, float[40, 160] entry, float[160, 160] round> {
    gates = MatMul (x, entry)
    shape = Shape (x)
    one = Constant <value = int64[1] {1}> ()
    batch = Gather (shape, one)
    width = Constant <value = int64[1] {160}> ()
    both = Concat <axis = 0> (batch, width)
    h = Expand (zero, both)
    last, y = Scan <num_scan_inputs = 1,
        body = cell (float[N, 160] state, float[N, 160] step) => (float[N, 160] next, float[N, 160] seen)
            <float[160, 160] again> {
            kept = MatMul (state, again)
            more = MatMul (kept, round)
            sum = Add (more, step)
            next = Tanh (sum)
            seen = Identity (next)
        }
    > (h, gates)
}"""


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("group", [0, 32])
def test_lowered_layers_equal_rounded_ones(bits: int, group: int) -> None:
    result = Pipeline([LowerLowBit(bits, group)]).run(perceptron())

    assert [node.name for node in result.model.nodes("LowBitMatMul")] == [
        "wide",
        "gemm",
    ]
    assert [node.name for node in result.model.nodes("MatMul")] == ["small", "both"]
    assert not result.model.nodes("Gemm")


def test_what_is_left_is_told() -> None:
    outcome = _run(perceptron(), LowerLowBit(skip=("wide",)))

    told = {note.subject: note.text for note in outcome.notes if note.kind == "skipped"}
    assert told["wide"] == "named by the skip pattern 'wide'"
    assert told["small"] == "its weight has 1500 numbers, fewer than 16384"


def test_the_answer_is_near_that_of_floats_at_four_bits_and_further_off_at_one() -> None:
    b = Builder(seed=3)
    x = b.input([4, 256], "x")
    model = b.model(b.linear(x, out=128, into=256, name="layer", bias=False))
    feeds = sample_inputs(model)
    wanted = run(model, feeds)
    away = []
    for bits in (4, 2, 1):
        got = run(_run(model.clone(), LowerLowBit(bits)).model, feeds)
        (name,) = wanted
        floats = np.asarray(wanted[name], np.float64)
        away.append(
            float(np.linalg.norm(np.asarray(got[name], np.float64) - floats) / np.linalg.norm(floats))
        )

    # Bell-shaped weights: an even rounding of 4, 2 and 1 bits leaves about 1, 12 and 36 % of their squares.
    assert 0.05 < away[0] < 0.15 and 0.25 < away[1] < 0.4 and 0.5 < away[2] < 0.7


def test_codes_are_the_ones_of_the_weight() -> None:
    b = Builder()
    x = b.input([1, 160], "x")
    signs = np.sign(np.random.default_rng(0).standard_normal((160, 128))).astype(np.float32)
    outcome = _run(
        b.model(b.op("MatMul", x, b.constant(3 * signs), name="layer")), LowerLowBit(bits=1, group=0)
    )

    (node,) = outcome.model.nodes("LowBitMatMul")
    codes = unpack(np.asarray(node.inputs[1].values), 1, 128, 160)
    np.testing.assert_array_equal(2.0 * codes.T - 1, signs)
    np.testing.assert_allclose(node.inputs[3].values, 3, rtol=1e-6)
    (row,) = cast("list[dict[str, float]]", outcome.details["layers"])
    assert row["relative_error"] < 1e-6
    assert row["bytes_before"] == 4 * 160 * 128
    assert row["bytes_after"] == 160 * 128 / 8 + 128 * (2 + 4)


@pytest.mark.parametrize("draw", [perceptron, lambda: filled(CELL)])
def test_a_wrong_weight_breaks_the_claim(draw: Callable[[], Model]) -> None:
    @dataclasses.dataclass(frozen=True)
    class Wrong(LowerLowBit):
        def run(self, model: Model, context: Context) -> Outcome:
            outcome = super().run(model, context)
            node = next(node for node in all_nodes(outcome.model.graph) if node.op == "LowBitMatMul")
            gain = node.inputs[3]
            gain.values = np.asarray(gain.values) * np.float32(1.01)
            return outcome

    with pytest.raises(VerificationError):
        Pipeline([Wrong()]).run(draw())


def test_products_in_the_body_of_a_loop_are_lowered() -> None:
    """Weights of the body and of the graph around it, seven times one after the other."""
    result = Pipeline([LowerLowBit(skip=("gates",))]).run(filled(CELL))

    (scan,) = result.model.nodes("Scan")
    assert [node.op for node in scan.attrs["body"].nodes].count("LowBitMatMul") == 2
    assert [node.name or node.outputs[0].name for node in result.model.nodes("MatMul")] == ["gates"]


def test_a_constant_sum_behind_a_product_becomes_its_bias() -> None:
    b = Builder(seed=4)
    x = b.input(["N", 3, 160], "x")
    first = b.add(
        b.constant(np.arange(160, dtype=np.float32)), b.op("MatMul", x, b.weight(160, 160), name="vector")
    )
    second = b.add(b.op("MatMul", first, b.weight(160, 160), name="matrix"), b.weight(3, 160))
    third = b.op("MatMul", second, b.weight(160, 160), name="twice")
    model = b.model(b.add(third, b.constant(np.ones(1, np.float32))), third)

    result = Pipeline([LowerLowBit(bits=4)]).run(model)

    assert [(node.op, node.name) for node in result.model.nodes()] == [
        ("LowBitMatMul", "vector"),
        ("LowBitMatMul", "matrix"),
        ("Add", "add_6"),
        ("LowBitMatMul", "twice"),
        ("Add", "add_9"),
    ]


def test_measured_speeds_decide() -> None:
    work = Work(256, 256, 32)
    slow = Speeds("isa", "here", "", (Point("MatMul", work, 1e-6), Point("LowBitMatMul/2", work, 2e-6)))
    fast = Speeds("isa", "here", "", (Point("MatMul", work, 2e-6), Point("LowBitMatMul/2", work, 1e-6)))

    assert why_slower(slow, 2, work) == (
        "it would run 0.50 times as fast on here (isa); 32 rows of 256 x 256 stay in floats"
    )
    assert why_slower(fast, 2, work) is None
    assert "no speeds of LowBitMatMul/4 are known" in (why_slower(fast, 4, work) or "")
    assert "graphrewrite calibrate" in (why_slower(None, 2, work) or "")


def test_without_speeds_nothing_is_lowered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lower, "known_speeds", lambda: None)
    outcome = _run(perceptron(), LowerLowBit())

    assert not outcome.changed
    assert any("graphrewrite calibrate" in note.text for note in outcome.notes)


def test_always_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lower, "known_speeds", lambda: None)
    result = Pipeline([LowerLowBit(when="always")]).run(perceptron())

    assert [node.name for node in result.model.nodes("LowBitMatMul")] == ["wide", "gemm", "small"]


@pytest.mark.parametrize(
    "wrong", [{"bits": 3}, {"group": 20}, {"group": 8192}, {"rows": 0}, {"when": "never"}]
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidConfig, match="expected"):
        LowerLowBit(**wrong)  # type: ignore[arg-type]


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="names no layer"):
        _run(perceptron(), LowerLowBit(only=("nothing",)))


def _run(model: Model, step: LowerLowBit) -> Outcome:
    return step.run(model, Context())
