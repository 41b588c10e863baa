"""Recurrent layers factored for training: modes, weights worked out ahead of the loop, and back into nodes."""

from typing import cast

import numpy as np
import pytest

from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.factor import FactorCells, Factorize, LowerWavelet
from graphrewrite.passes.factor.factorizations import Factorization
from graphrewrite.passes.factor.factorizations.hadamard import Hadamard
from graphrewrite.passes.factor.factorizations.svd import Svd
from graphrewrite.passes.factor.factorizations.wavelet import Wavelet
from graphrewrite.passes.factor.wavelets import coefficients
from graphrewrite.pipeline import Context, Pass, Pipeline, PipelineResult
from graphrewrite.pipeline.base import Json
from graphrewrite.runtime import run
from tests.passes.factor.test_gates import HIDDEN, recurrent

START = Wavelet(levels=2, permutation="random", diagonals="ones")


def ran(model: Model, mode: str, by: Factorization = START) -> PipelineResult:
    return Pipeline([FactorCells(by, mode, smallest=0)]).run(model, Context(seed=3))


def factored(result: PipelineResult) -> list[str]:
    rows = cast("list[dict[str, Json]]", result.report.steps[0].details["layers"])
    return [str(row["name"]) for row in rows]


@pytest.mark.parametrize(
    ("op", "mode", "gates"),
    [
        ("GRU", "state", "h"),
        ("GRU", "gates", "zr"),
        ("GRU", "state_update", "zh"),
        ("GRU", "full", "zrh"),
        ("LSTM", "state", "c"),
        ("LSTM", "gates", "iof"),
        ("LSTM", "forget", "f"),
        ("LSTM", "full", "iofc"),
    ],
)
def test_a_mode_names_the_gates_that_are_factored(op: str, mode: str, gates: str) -> None:
    result = ran(recurrent(op), mode)

    assert factored(result) == [f"cell.state.{gate}" for gate in gates]
    assert result.report.steps[0].verified.how == "reference"


@pytest.mark.parametrize("by", [START, Hadamard(), Svd(rank=3)], ids=lambda by: type(by).__name__)
@pytest.mark.parametrize("direction", ["bidirectional", "reverse"])
def test_ahead_of_the_loop_or_in_it_is_the_same(by: Factorization, direction: str) -> None:
    model = recurrent("LSTM", direction, start=True)
    feeds = [FactorCells(by, "full", ahead, smallest=0) for ahead in (True, False)]

    one, two = (Pipeline([step]).run(model, Context(seed=3)) for step in feeds)

    assert factored(one) == factored(two) and len(factored(one)) == (8 if direction == "bidirectional" else 4)
    for result, ahead in ((one, True), (two, False)):
        assert bool(result.model.nodes("EyeLike")) == ahead

    rng = np.random.default_rng(0)
    shapes = {
        tensor.name: [5 if size in ("T", "N") else size for size in tensor.shape] for tensor in model.inputs
    }
    given = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    for name, found in run(one.model, given).items():
        np.testing.assert_allclose(np.asarray(found), np.asarray(run(two.model, given)[name]), atol=1e-5)


@pytest.mark.parametrize("by", [START, Hadamard()], ids=["WaveletLinear", "HadamardLinear"])
def test_lowering_puts_factors_back_into_the_loop(by: Factorization, request: pytest.FixtureRequest) -> None:
    steps: list[Pass] = [FactorCells(by, "full", smallest=0), LowerWavelet()]

    result = Pipeline(steps).run(recurrent("GRU", "bidirectional"))

    assert [step.verified.how for step in result.report.steps] == ["reference", "same"]
    kind = request.node.callspec.id
    bodies = [node.attrs["body"] for node in result.model.nodes("Scan")]
    assert [sum(node.op == kind for node in body.nodes) for body in bodies] == [3, 3]
    assert not result.model.nodes("EyeLike") and not result.model.nodes(kind)


def test_what_is_multiplied_with_something_else_than_the_unit_matrix_stays() -> None:
    model = ran(recurrent("GRU"), "state").model
    model.nodes("EyeLike")[0].attrs["k"] = 1

    result = Pipeline([LowerWavelet()]).run(model)

    (scan,) = result.model.nodes("Scan")
    assert not any(node.op == "WaveletLinear" for node in scan.attrs["body"].nodes)
    assert result.report.steps[0].verified.how == "same"


def test_a_start_has_ones_for_diagonals_and_each_is_a_weight_of_its_own() -> None:
    model = ran(recurrent("GRU"), "full").model

    held = {name: weight for name, weight in model.weights.items() if name.startswith("cell.state.")}
    for gate in "zrh":
        own = {name: values for name, values in held.items() if name.startswith(f"cell.state.{gate}.")}
        floats = {name: values for name, values in own.items() if values.dtype == np.float32}
        # Two diagonals of the width, one of the coefficients, four filters of six taps.
        assert (
            sum(values.size for values in floats.values()) == 2 * HIDDEN + coefficients(HIDDEN, 6, 2) + 4 * 6
        )
        assert sum(values.ndim == 1 and bool((values == 1).all()) for values in floats.values()) == 3
    permutations = [values for values in held.values() if values.dtype == np.int64 and len(values) > HIDDEN]
    assert len({values.tobytes() for values in permutations}) == 3


def test_biases_that_begin_as_zeros_are_weights_of_their_own() -> None:
    model = ran(recurrent("GRU", bias=False), "state").model

    assert {"cell.b_z", "cell.b_r", "cell.b_h"} <= set(model.weights)


def test_a_layer_without_such_a_gate_stays() -> None:
    result = ran(recurrent("LSTM"), "update")

    assert not result.changed and result.model.nodes("LSTM")
    assert "nothing called 'update'" in result.notes[0].text


def test_a_narrow_layer_stays() -> None:
    small, enough = (
        Pipeline([FactorCells(START, smallest=bound)]).run(recurrent("GRU"), Context(seed=3))
        for bound in (HIDDEN**2 + 1, HIDDEN**2)
    )

    assert not small.changed and enough.changed


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="state_update"):
        FactorCells(mode="all")


def test_a_product_outside_of_loops_is_written_where_it_is() -> None:
    b = Builder(opset=17, seed=0)
    model = b.model(b.op("MatMul", b.input(["N", 16], "x"), b.weight(16, 16), name="layer"))

    one, two = (
        Pipeline([Factorize(START, 0, ahead=ahead)]).run(model).model.to_proto() for ahead in (True, False)
    )

    assert one.graph == two.graph
