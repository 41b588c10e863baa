"""Factors in the place of weights: ranks, proofs, choice of layers, what is refused."""

import dataclasses

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.factor import Factorize
from graphrewrite.passes.factor.factorizations import Factorization, factorizations
from graphrewrite.passes.factor.factorizations.svd import Svd
from graphrewrite.passes.factor.factorizations.wavelet import Wavelet
from graphrewrite.passes.factor.low_rank import truncated
from graphrewrite.pipeline import Context, Pipeline
from graphrewrite.pipeline.verify import StepError


def dense() -> Model:
    """Products of every kind: with and without bias, turned and scaled, over sequences, in a convolution."""
    b = Builder(opset=18, seed=4)
    x = b.input(["N", 3, 9, 9], "x")
    features = b.relu(b.conv(x, out=24, into=3, stride=2, name="conv"))
    flat = b.op("Flatten", b.op("GlobalAveragePool", features), axis=1)
    turned = b.op("Gemm", flat, b.weight(40, 24), b.weight(40), name="turned", transB=1, alpha=0.5, beta=2.0)
    straight = b.op("Gemm", b.relu(turned), b.weight(40, 32), name="straight", alpha=2.0)
    rows = b.op("Unsqueeze", straight, b.constant(np.array([1])))
    return b.model(b.op("MatMul", rows, b.weight(32, 48), name="product"))


def layers_of(result: object) -> dict[str, dict[str, object]]:
    rows = result.report.steps[0].details["layers"]  # type: ignore[attr-defined]
    return {row["name"]: row for row in rows}


@pytest.mark.parametrize("name", list(factorizations))
def test_every_factorization_is_proved_on_every_kind_of_layer(name: str) -> None:
    result = Pipeline([Factorize(factorizations.make(name), smallest=0)]).run(dense())

    rows = layers_of(result)
    assert result.report.steps[0].verified.how == "reference"
    assert {"turned", "straight", "product"} <= set(rows)
    assert ("conv" in rows) == factorizations.find(name).convolutions  # type: ignore[attr-defined]
    assert all(row["parameters_after"] < row["parameters_before"] for row in rows.values())  # type: ignore[operator]


def test_a_truncated_weight_is_as_far_away_as_its_lost_singular_values() -> None:
    weight = np.diag([5.0, 4.0, 3.0, 2.0])

    found = truncated(weight, 2)

    assert found.parameters == 16
    np.testing.assert_allclose(found.expand(), np.diag([5.0, 4.0, 0.0, 0.0]), atol=1e-12)


@pytest.mark.parametrize(
    ("svd", "rank"),
    [
        (Svd(params=1.0, rank=3), 3),
        (Svd(params=1.0, energy=0.41), 1),  # 25 of 54 are 0.463
        (Svd(params=1.0, energy=0.75), 2),  # 41 of 54 are 0.759
        (Svd(params=1.0, energy=0.9), 3),
        (Svd(params=0.5), 1),  # 8 of 16 numbers are one column and one row
        (Svd(params=1.0, energy=0.9, rank=2), 2),
    ],
)
def test_the_smallest_rank_holds(svd: Svd, rank: int) -> None:
    assert svd.factor(np.diag([5.0, 4.0, 3.0, 2.0]), np.random.default_rng(0)).rank == rank


def test_a_weight_of_low_rank_loses_nothing() -> None:
    b = Builder(opset=18)
    x = b.input(["N", 32], "x")
    thin = b.rng.standard_normal((2, 32, 4)).astype(np.float32)
    model = b.model(b.op("MatMul", x, b.constant(thin[0] @ thin[1].T), name="product"))

    result = Pipeline([Factorize(Svd(energy=0.9999), smallest=0)]).run(model)

    row = layers_of(result)["product"]
    assert (row["rank"], row["parameters_after"]) == (4, 2 * 32 * 4)
    assert row["relative_error"] < 1e-6  # type: ignore[operator]


def test_a_wrong_reference_would_be_seen() -> None:
    @dataclasses.dataclass(frozen=True)
    class Wrong(Factorize):
        def run(self, model: Model, context: Context):  # type: ignore[no-untyped-def]
            before = model.clone()
            return dataclasses.replace(super().run(model, context), reference=lambda: before)

    with pytest.raises(StepError):
        Pipeline([Wrong(Svd(rank=1), smallest=0)]).run(dense())


def test_layers_are_chosen_by_size_and_name() -> None:
    by: Factorization = Svd(rank=2)

    def factored(**fields: object) -> list[str]:
        return list(layers_of(Pipeline([Factorize(by, **fields)]).run(dense())))  # type: ignore[arg-type]

    assert factored(smallest=1000) == ["straight", "product"]
    assert factored(smallest=0, only="s*") == ["straight"]
    assert factored(smallest=0, skip=("conv", "t*")) == ["straight", "product"]
    with pytest.raises(InvalidConfig, match="names no layer"):
        factored(skip=("nobody",))


def test_what_is_left_is_told_with_its_reason() -> None:
    b = Builder(opset=18)
    x = b.input(["N", 8, 6, 6], "x")
    grouped = b.conv(x, out=8, into=8, group=2, name="grouped")
    rows = b.op("Reshape", grouped, b.constant(np.array([-1, 8])))
    small = b.op("MatMul", rows, b.weight(8, 8), name="small")
    turned = b.op("Gemm", b.op("Transpose", small, perm=[1, 0]), b.weight(8, 64), name="turned", transA=1)
    result = Pipeline([Factorize(Svd(rank=8, params=1.0), smallest=0)]).run(b.model(turned))

    why = {note.subject: note.text for note in result.notes}
    assert "groups" in why["grouped"]
    assert "128 numbers, its weight 64" in why["small"]
    assert "transposes" in why["turned"]
    assert not result.changed


def test_weights_of_other_operators_are_told_of() -> None:
    b = Builder(opset=18)
    x = b.input(["T", "N", 8], "x")
    (states,) = b.op_all(
        "GRU", x, b.weight(1, 12, 8), b.weight(1, 12, 4), outputs=1, name="cell", hidden_size=4
    )
    image = b.op("ConvTranspose", b.input(["N", 2, 4, 4], "image"), b.weight(2, 3, 2, 2), name="up")
    result = Pipeline([Factorize(Svd(), smallest=0)]).run(b.model(states, image))

    why = {note.subject: note.text for note in result.notes}
    assert "--gates" in why["cell"] and "transposed" in why["up"]


def test_a_weight_that_others_keep_is_left_alone() -> None:
    b = Builder(opset=18)
    weight = b.weight(64, 64)
    inner = b.op("MatMul", b.input(["N", 64], "x"), weight, name="one")
    result = Pipeline([Factorize(Svd(rank=2))]).run(b.model(b.op("MatMul", inner, weight, name="two")))

    assert not result.changed
    assert all("read by other nodes too" in note.text for note in result.notes)


def test_an_old_operator_set_is_left_alone() -> None:
    b = Builder(opset=11)
    model = b.model(b.op("MatMul", b.input(["N", 64], "x"), b.weight(64, 64)))

    result = Pipeline([Factorize(Svd(), smallest=0)]).run(model)

    assert not result.changed
    assert "operator set 11" in result.notes[0].text


def test_layers_in_bodies_are_layers_too() -> None:
    b = Builder(opset=18)
    state, step = gs.Variable("state", np.float32, [None, 16]), gs.Variable("step", np.float32, [None, 16])
    product, out = (
        gs.Variable("product", np.float32, [None, 16]),
        gs.Variable("again", np.float32, [None, 16]),
    )
    inner = Builder(opset=18, seed=3)
    weight = inner.weight(16, 16, name="inner_weight")
    inner.graph.inputs = [state, step]
    sum_ = gs.Variable("sum")
    inner.graph.nodes += [
        gs.Node("Add", "sum", {}, [state, step], [sum_]),
        gs.Node("MatMul", "gate", {}, [sum_, weight], [product]),
        gs.Node("Identity", "again", {}, [product], [out]),
    ]
    inner.graph.outputs = [product, out]
    x, start = b.input([5, "N", 16], "x"), b.input(["N", 16], "start")
    ends = b.op_all("Scan", start, x, outputs=2, name="scan", body=inner.graph, num_scan_inputs=1)

    result = Pipeline([Factorize(Wavelet(levels=2), smallest=0)]).run(b.model(*ends))

    assert result.report.steps[0].verified.how == "reference"
    assert list(layers_of(result)) == ["gate"]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("svd", {"rank": -1}),
        ("svd", {"energy": 0.0}),
        ("svd", {"params": 1.5}),
        ("wavelet", {"levels": 0}),
        ("wavelet", {"start": "db7"}),
        ("wavelet", {"taps": 3}),
        ("wavelet", {"permutation": "none"}),
        ("wavelet", {"rounds": -1}),
        ("hadamard", {"permutation": "none"}),
        ("hadamard", {"rounds": -1}),
    ],
)
def test_impossible_configurations_are_refused(name: str, fields: dict[str, object]) -> None:
    with pytest.raises(InvalidConfig):
        factorizations.make(name, **fields)
