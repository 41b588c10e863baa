"""Distillation as a short form: the recipe it stands for, where scores are found, and what comes of it."""

from dataclasses import replace

import numpy as np
import pytest

from graphrewrite.bridge.recipe import Recipe, Stage
from graphrewrite.data import ArraySource
from graphrewrite.errors import InvalidConfig, InvalidData
from graphrewrite.ir import Builder
from graphrewrite.ir.diff import is_same
from graphrewrite.passes.channels import MacsBelow, RemoveChannels
from graphrewrite.passes.losses.cross_entropy import CrossEntropy
from graphrewrite.passes.losses.mse import Mse
from graphrewrite.passes.losses.soft_labels import SoftLabels
from graphrewrite.passes.train import Distill, FineTune
from graphrewrite.passes.train.distill import before_softmax
from graphrewrite.pipeline import Context, Pipeline
from graphrewrite.runtime import session
from tests.passes.train.nets import context, digits, net, right, train, trained

CUT = RemoveChannels(budget=MacsBelow(0.3))


def test_it_is_the_recipe_it_says() -> None:
    soft = Stage(4, 0.01, (SoftLabels(2.0, weight=0.75), CrossEntropy(weight=0.25)), warmup=1.0)

    assert Distill(4, 0.01, 2.0, 0.25, 32).recipe(None) == Recipe((soft,), batch=32)
    assert Distill(1).recipe("scores").stages[0] == Stage(
        1, 0.001, (SoftLabels(tensor="scores"),), warmup=0.5
    )


def test_it_does_what_finetune_does_with_that_recipe() -> None:
    model, hurt = trained(), net(seed=5)
    around = replace(context(), original=model)

    short = Distill(2).run(hurt.clone(), around)
    long = FineTune(Distill(2).recipe(None)).run(hurt.clone(), around)

    assert is_same(short.model, long.model)


@pytest.mark.parametrize("seed", range(3))
def test_a_pruned_net_recovers_without_labels(seed: int) -> None:
    unlabelled = replace(context(), data=ArraySource(dict(digits()[0].arrays)))
    model = trained(seed)

    pruned = Pipeline([CUT]).run(model, unlabelled)
    recovered = Pipeline([CUT, Distill(4, 0.005)]).run(model, unlabelled)

    assert recovered.report.after.macs == pruned.report.after.macs
    assert right(recovered.model) > right(pruned.model) + 0.05
    assert right(recovered.model) > right(model) - 0.1


def test_scores_are_found_before_a_softmax() -> None:
    ended, open_ended = net(softmax=True), net()

    assert before_softmax(open_ended) is None
    found = before_softmax(ended)
    assert found is not None
    assert [node.op for node in ended.graph.nodes if node.outputs[0].name == found] == ["Gemm"]
    # Softmax or not, the same scores are compared, so the same weights come out.
    rest = {name: trained().weights[name] for name in trained().weights}
    results = []
    for hurt in (ended, open_ended):
        whole = hurt.clone()
        for name, values in rest.items():
            whole.weights[name] = values
        results.append(Distill(1).run(hurt.clone(), replace(context(), original=whole)).model)
    one, two = results
    assert all((one.weights[name] == two.weights[name]).all() for name in ("w0", "w1", "w2"))


def test_a_single_number_is_taught_as_a_number() -> None:
    # Softened scores of one class are 1 whatever the net says: nothing would be learned from them.
    b = Builder(seed=0)
    student = b.model(b.linear(b.input(["N", 4], "x"), 1, 4))
    teacher = student.clone()
    (name,) = (name for name, weight in teacher.weights.items() if weight.size == 4)
    teacher.weights[name] = -3 * student.weights[name]
    (stage,) = Distill(1, labels=0.25).recipe_for(student).stages
    assert stage.losses == (Mse(of="teacher", weight=0.75), Mse(weight=0.25))

    x = np.random.default_rng(0).standard_normal((64, 4)).astype(np.float32)
    around = Context(data=ArraySource({"x": x}), original=teacher)
    learned = Distill(40, 0.05, batch=16).run(student.clone(), around).model
    wanted, before, after = (session(each).run(None, {"x": x})[0] for each in (teacher, student, learned))
    assert np.square(after - wanted).mean() < 0.1 * np.square(before - wanted).mean()


def test_labels_are_needed_only_when_asked_for() -> None:
    unlabelled = replace(context(), data=ArraySource(dict(digits()[0].arrays)))

    with pytest.raises(InvalidData, match="CrossEntropy needs labels"):
        Pipeline([CUT, Distill(labels=0.5)]).run(trained(), unlabelled)


@pytest.mark.parametrize("labels", [-0.1, 1.0])
def test_an_impossible_share_is_refused(labels: float) -> None:
    with pytest.raises(InvalidConfig, match=r"Distill.labels is"):
        Distill(labels=labels)


@pytest.mark.parametrize(
    ("step", "words"),
    [({"epochs": 0}, "epochs"), ({"rate": -1.0}, "rate"), ({"temperature": 0.0}, "temperature")],
)
def test_what_a_recipe_cannot_be_is_refused_when_it_is_made(step: dict[str, float], words: str) -> None:
    with pytest.raises(InvalidConfig, match=words):
        Distill(**step)  # type: ignore[arg-type]


def test_it_survives_json() -> None:
    pipeline = Pipeline([CUT, Distill(2, labels=0.5, teacher="big.onnx")])

    assert Pipeline.from_json(pipeline.to_json()) == pipeline


def test_distilling_again_gives_the_same_model() -> None:
    one, two = (train(trained(), Pipeline([CUT, Distill(1)])) for _ in range(2))

    assert is_same(one, two)
