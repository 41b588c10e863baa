"""The pass that trains binary nets: what it puts into a graph, what it leaves, what it refuses."""

from dataclasses import replace

import numpy as np
import pytest

from graphrewrite.bridge.optimisers import Optimiser
from graphrewrite.bridge.recipe import Recipe, Stage
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Builder, Model
from graphrewrite.ir.diff import diff
from graphrewrite.passes.binary import LowerBinaryConv, TrainBinary
from graphrewrite.passes.binary.binarizers import binarizers
from graphrewrite.passes.binary.binarizers.rbnn import Rbnn
from graphrewrite.passes.binary.binarizers.react import React
from graphrewrite.passes.binary.binarizers.siman import Siman
from graphrewrite.passes.binary.choice import Choice
from graphrewrite.passes.binary.prepare import prepare, settle
from graphrewrite.passes.losses.cross_entropy import CrossEntropy
from graphrewrite.passes.losses.soft_labels import SoftLabels
from graphrewrite.passes.recipes.adam_bnn import AdamBnn
from graphrewrite.pipeline import Context, Pipeline
from graphrewrite.runtime import run
from tests.passes.binary.nets import BINARY, few, net, right, scores

ALL = Choice(ends=False, least_signs=70, skip=())
BRIEF = Recipe((Stage(3, 0.05, (CrossEntropy(),)),), Optimiser("sgd", {"momentum": 0.9}), batch=32)


def ops(model: Model) -> list[str]:
    return [node.op for node in model.graph.nodes]


def binary_weights(model: Model) -> int:
    found = (model.weights[node.inputs[1].name] for node in model.nodes("Conv"))
    return sum(set(np.unique(weight)) == {-1.0, 1.0} for weight in found)


def test_a_trained_net_knows_more_than_chance_and_lowers_to_the_same() -> None:
    step = TrainBinary(binarizers.make("recu"), replace(BRIEF, stages=(Stage(4, 0.1, (CrossEntropy(),)),)))
    result = Pipeline([step]).run(net(), Context(data=few(256), seed=1))
    lowered = Pipeline([LowerBinaryConv(when="always")]).run(result.model).model

    assert binary_weights(result.model) == BINARY
    assert right(result.model) > 0.3
    np.testing.assert_allclose(scores(lowered), scores(result.model), atol=1e-4)
    assert ops(lowered).count("BinaryConv") == BINARY
    rows = result.report.steps[0].details["layers"]
    assert isinstance(rows, list) and len(rows) == BINARY
    assert all(0.4 < row["as at first"] < 1 for row in rows)  # type: ignore[index,call-overload,operator]


@pytest.mark.parametrize("method", list(binarizers))
def test_what_is_prepared_can_be_taken_back_but_for_what_the_method_adds(method: str) -> None:
    model = net(rectifier="Relu")
    prepared = prepare(model, ALL, binarizers.make(method))
    assert len(prepared.marks) == len(prepared.weights) == BINARY
    settle(prepared.model, prepared.marks)

    added = {
        op: ops(prepared.model).count(op) - ops(model).count(op) for op in {*ops(prepared.model), *ops(model)}
    }
    want = {
        "sign": {},
        "recu": {"Mul": BINARY},
        "siman": {"Mul": BINARY, "ReduceMean": BINARY, "Sub": BINARY},
        "rbnn": {"Mul": BINARY, "ReduceMean": BINARY, "Sub": BINARY},
        # A shift for each sign; three of the rectifiers stand before a binary layer.
        "react": {"Add": BINARY + 2 * (BINARY - 1), "PRelu": BINARY - 1, "Relu": 1 - BINARY},
    }
    assert {op: count for op, count in added.items() if count} == want[method]


def test_a_rectifier_is_stepped_over_or_learned() -> None:
    model = net(rectifier="Relu")
    over = prepare(model, ALL, binarizers.make("sign"))
    products = [node for node in over.model.nodes("Mul") if node.outputs[0].name in over.marks]

    assert [node.inputs[0].inputs[0].op for node in products][1:] == ["Add"] * (BINARY - 1)
    learned = prepare(model, ALL, React())
    assert ops(learned.model).count("Relu") == 1  # no binary layer reads the last one


def test_the_mean_is_that_of_the_sample() -> None:
    b = Builder(seed=0)
    x = b.input([2, 3, 4, 4], "x")
    weight = b.constant(np.ones((2, 3, 3, 3), np.float32))
    model = b.model(b.op("Conv", x, weight, kernel_shape=[3, 3], name="one"))
    prepared = prepare(model, Choice(ends=True, least_signs=1, skip=()), Rbnn())
    prepared.model.graph.outputs = [
        next(
            node.outputs[0] for node in prepared.model.nodes("Mul") if node.outputs[0].name in prepared.marks
        )
    ]
    fed = np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32)

    (found,) = run(prepared.model, {"x": fed}).values()

    np.testing.assert_allclose(
        np.asarray(found, np.float32), fed - fed.mean(axis=(1, 2, 3), keepdims=True), atol=1e-6
    )


def test_a_weight_that_others_read_keeps_its_numbers() -> None:
    b = Builder(seed=0)
    weight = b.weight(8, 8, 3, 3, name="shared")
    x = b.conv(b.input(["N", 8, 6, 6], "x"), 8, 8, name="first")
    y = b.op("Conv", x, weight, kernel_shape=[3, 3], pads=[1] * 4, name="one")
    y = b.op("Conv", b.relu(y), weight, kernel_shape=[3, 3], pads=[1] * 4, name="two")
    model = b.model(b.conv(y, 4, 8, name="last"))

    both = prepare(model, ALL, binarizers.make("sign"))
    one = prepare(model, replace(ALL, skip=("two",)), binarizers.make("sign"))

    assert both.weights == {"one": "shared", "two": "shared"}
    assert one.weights == {"one": "shared_binary"} and "shared" in one.model.weights


def test_decay_spares_what_the_method_says() -> None:
    model = net(rectifier="Relu")
    for method, spared in ((Siman(), "conv"), (React(), "gamma")):
        step = TrainBinary(method, BRIEF)
        prepared = prepare(model, ALL, method)
        left = step.recipe_for(prepared).stages[0].undecayed
        filters = {*prepared.weights.values()}
        assert (set(left) == filters) if spared == "conv" else (left and not filters & set(left))


def test_weights_stay_real_in_the_first_stages() -> None:
    stage = BRIEF.stages[0]
    step = TrainBinary(React(), Recipe((stage, stage)), real_stages=1)
    prepared = prepare(net(rectifier="Relu"), ALL, React())

    first, second = step.recipe_for(prepared).stages

    assert set(first.transforms) == set(prepared.marks)
    assert set(second.transforms) == {*prepared.marks, *prepared.weights.values()}


def test_the_two_steps_of_adam_bnn() -> None:
    taught, labelled = AdamBnn(epochs=(3, 5)).recipe("z"), AdamBnn(labels=1.0).recipe(None)
    mixed = AdamBnn(labels=0.25).recipe(None).stages[0]

    assert [stage.epochs for stage in taught.stages] == [3, 5]
    assert [stage.undecayed for stage in taught.stages] == [(), ("*",)]
    assert taught.optimiser.options == {"weight_decay": 5e-6} and taught.stages[0].rate == 1.25e-3
    assert taught.stages[0].losses == (SoftLabels(1.0, tensor="z", weight=1.0),)
    assert labelled.stages[0].losses == (CrossEntropy(weight=1.0),)
    assert [loss.weight for loss in mixed.losses] == [0.75, 0.25]


def test_nothing_to_train_is_told() -> None:
    model = net()
    result = TrainBinary(skip=("conv*",)).run(model, Context())  # not even samples are needed

    assert not result.changed and diff(result.model, model) == ""
    assert {note.subject for note in result.notes} == {
        "stem",
        *(f"conv{i}{j}" for i in (0, 1) for j in (0, 1)),
    }


def test_a_pass_is_json() -> None:
    step = TrainBinary(Rbnn(every=2), BRIEF, skip="stem")  # type: ignore[arg-type]
    assert Pipeline.from_json(Pipeline((step,)).to_json()) == Pipeline((step,))


@pytest.mark.parametrize(
    ("fields", "told"), [({"real_stages": 1}, "real_stages"), ({"least_signs": 0}, "TrainBinary.least_signs")]
)
def test_what_cannot_be_is_refused(fields: dict[str, int], told: str) -> None:
    with pytest.raises(InvalidConfig, match=told):
        TrainBinary(**fields)  # type: ignore[arg-type]


def test_samples_are_needed() -> None:
    with pytest.raises(InvalidConfig, match="samples"):
        TrainBinary().run(net(), Context())
