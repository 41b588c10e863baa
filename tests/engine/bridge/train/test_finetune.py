"""Fine-tuning on digits: what it reaches, what it leaves alone, and what it refuses."""

from collections.abc import Mapping

import numpy as np
import pytest

from graphrewrite.bridge import EarlyStop, Optimiser, Recipe, Stage, finetune
from graphrewrite.bridge.schedules import Constant
from graphrewrite.bridge.transforms import Sign, StepQuantize
from graphrewrite.data import ArraySource
from graphrewrite.errors import InvalidConfig, InvalidData, UnknownNameError
from graphrewrite.ir import Array, Builder, Model
from graphrewrite.passes.losses.cross_entropy import CrossEntropy
from graphrewrite.passes.losses.feature_match import FeatureMatch
from graphrewrite.passes.losses.mse import Mse
from graphrewrite.passes.losses.soft_labels import SoftLabels
from tests.engine.bridge.train.digits import INPUT, accuracy, brief, held_out, net, same, training

LABELLED = (CrossEntropy(),)


@pytest.fixture(scope="module")
def trained() -> Model:
    """A net trained from random weights."""
    recipe = brief(Stage(20, 0.01, (CrossEntropy(smoothing=0.05),), warmup=0.5))
    return finetune(net(), recipe, training())


def test_a_net_learns_digits_from_random_weights(trained: Model) -> None:
    assert accuracy(net()) < 0.25
    assert accuracy(trained) > 0.95


def test_only_weights_change(trained: Model) -> None:
    before, trained = net(), trained.clone()
    assert set(trained.weights) == set(before.weights)
    for name, weight in before.weights.items():
        assert not np.array_equal(trained.weights[name], weight)
        trained.weights[name] = weight
    assert same(trained, before)


def test_a_student_learns_from_a_teacher_without_labels(trained: Model) -> None:
    student = net(seed=5, hidden=32)
    unlabelled = {INPUT: training().arrays[INPUT]}
    recipe = brief(Stage(12, 0.01, (SoftLabels(2.0),)))
    assert accuracy(finetune(student, recipe, unlabelled, trained)) > 0.95


def test_labels_and_teacher_are_mixed_and_features_matched(trained: Model) -> None:
    hidden = trained.graph.nodes[1].outputs[0].name
    losses = (CrossEntropy(), SoftLabels(weight=0.5), FeatureMatch({hidden: hidden}, weight=10.0))
    found = finetune(net(seed=5), brief(Stage(8, 0.01, losses)), training(), trained)
    assert accuracy(found) > 0.93


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"ema": 0.9, "clip": 0.5},
        {"accumulate": 3, "optimiser": Optimiser("sgd", {"momentum": 0.9})},
        {"precision": "bf16"},
    ],
    ids=str,
)
def test_the_same_seed_gives_the_same_model(fields: Mapping[str, object]) -> None:
    def found(seed: int) -> Model:
        stages = (Stage(1, 0.01, LABELLED), Stage(1, 0.01, LABELLED))
        recipe = brief(*stages, seed=seed, **fields)
        return finetune(net(), recipe, training(200), transform=noisy)

    first = found(1)
    assert same(first, found(1))
    assert not same(first, found(2))


def noisy(sample: dict[str, Array], rng: np.random.Generator) -> dict[str, Array]:
    return {INPUT: np.float64(sample[INPUT]) + rng.normal(0, 0.1, 64)}


def test_workers_read_the_same_samples() -> None:
    alone, helped = (
        finetune(net(), brief(accumulate=2), training(100), transform=noisy, workers=workers)
        for workers in (0, 2)
    )
    assert same(alone, helped)


def test_passes_of_a_step_add_up_to_the_step() -> None:
    whole = finetune(net(), brief(), training(203))
    parts = finetune(net(), brief(accumulate=5), training(203))
    for name, weight in whole.weights.items():
        np.testing.assert_allclose(np.float64(parts.weights[name]), np.float64(weight), atol=2e-5)


def test_an_average_is_what_comes_back() -> None:
    # One step from the start: the average keeps 0.75 of the start and takes 0.25 of the step.
    recipe = brief(Stage(1, 0.1, LABELLED, Constant()), batch=64)
    start, step = net(), finetune(net(), recipe, training(64))
    average = finetune(net(), brief(*recipe.stages, batch=64, ema=0.75), training(64))
    for name, weight in start.weights.items():
        want = 0.75 * np.float64(weight) + 0.25 * np.float64(step.weights[name])
        np.testing.assert_allclose(np.float64(average.weights[name]), want, atol=1e-6)


def test_a_gradient_is_cut_to_its_length() -> None:
    # Plain descent with rate 1 moves the weights by the gradient, so by the length it was cut to.
    recipe = brief(Stage(1, 1.0, LABELLED, Constant()), batch=64, clip=0.01, optimiser=Optimiser("sgd"))
    before, after = net().weights, finetune(net(), recipe, training(64)).weights
    moved = sum(float(np.square(np.float64(after[name]) - np.float64(before[name])).sum()) for name in before)
    assert moved**0.5 == pytest.approx(0.01, rel=1e-3)


def test_the_best_epoch_is_kept() -> None:
    # The rate is so high that later epochs destroy what the first ones learned.
    scores: list[float] = []

    def metric(outputs: Mapping[str, Array], labels: Array | None) -> float:
        assert labels is not None
        scores.append(float((outputs["scores"].argmax(1) == labels).mean()))
        return scores[-1]

    recipe = brief(Stage(6, 0.3, LABELLED, Constant()), optimiser=Optimiser("sgd", {"momentum": 0.95}))
    found = finetune(net(), recipe, training(300), validation=held_out(), metric=metric)
    assert len(scores) == 6 and scores[-1] < max(scores)
    assert accuracy(found) == pytest.approx(max(scores), abs=1e-9)


def test_a_stage_stops_early() -> None:
    judged: list[int] = []

    def never_better(outputs: Mapping[str, Array], labels: Array | None) -> float:
        judged.append(1)
        return 0.0

    recipe = brief(Stage(9, 0.01, LABELLED), early_stop=EarlyStop(2))
    finetune(net(), recipe, training(64), validation=held_out(), metric=never_better)
    assert len(judged) == 3


def test_without_labels_the_losses_are_judged() -> None:
    teacher, recipe = net(seed=3), brief(Stage(2, 0.01, (SoftLabels(),)), early_stop=EarlyStop(2))
    unlabelled = {INPUT: held_out().arrays[INPUT]}
    found = finetune(net(), recipe, {INPUT: training(64).arrays[INPUT]}, teacher, validation=unlabelled)
    assert not same(found, net())


def test_frozen_weights_stay_and_trainable_ones_move() -> None:
    first, bias, last, _ = net().weights
    stages = (
        Stage(1, 0.01, LABELLED, trainable=(first, bias), frozen=(bias,)),
        Stage(1, 0.01, LABELLED, frozen=("*_1",)),
    )
    only = finetune(net(), brief(stages[0]), training(64))
    changed = [
        name for name, weight in net().weights.items() if not np.array_equal(only.weights[name], weight)
    ]
    assert changed == [first]
    both = finetune(net(), brief(*stages), training(64))
    assert np.array_equal(both.weights[first], only.weights[first])
    assert not np.array_equal(both.weights[last], only.weights[last])


def test_zeros_stay_zeros_through_momentum_decay_and_average() -> None:
    start = net()
    name = next(iter(start.weights))
    weight = start.weights[name].copy()
    weight[np.abs(weight) < 0.1] = 0
    start.weights[name] = weight
    optimiser = Optimiser("sgd", {"momentum": 0.9, "weight_decay": 0.01})
    recipe = brief(Stage(3, 0.05, LABELLED, keep_zeros=("*",)), ema=0.9, optimiser=optimiser)
    found = finetune(start, recipe, training(300)).weights[name]
    assert np.array_equal(found == 0, weight == 0) and (weight == 0).sum() > 1000
    without = finetune(start, brief(Stage(3, 0.05, LABELLED)), training(300)).weights[name]
    assert not np.array_equal(without == 0, weight == 0)


def test_stages_change_transforms_and_the_last_ones_are_written() -> None:
    weight, hidden = next(iter(net().weights)), net().graph.nodes[0].outputs[0].name
    stages = (
        Stage(6, 0.01, LABELLED, transforms={hidden: Sign()}),
        Stage(6, 0.005, LABELLED, transforms={hidden: Sign(), weight: StepQuantize(3)}),
    )
    found = finetune(net(), brief(*stages), training(), validation=held_out())
    assert [node.op for node in found.graph.nodes].count("Where") == 1
    assert found.weights[weight].dtype == np.int8 and np.abs(found.weights[weight].astype(int)).max() <= 4
    assert accuracy(found) > 0.8


def test_statistics_of_norms_move_unless_they_are_frozen() -> None:
    def normed() -> Model:
        b = Builder(seed=0)
        x = b.input(["N", 64], INPUT)
        model = b.model(b.linear(b.relu(b.batchnorm(b.linear(x, 16, 64), 16, name="norm")), 10, 16))
        model.outputs[0].name = "scores"
        return model

    slots = next(node for node in normed().graph.nodes if node.op == "BatchNormalization").inputs[3:5]
    statistics = [tensor.name for tensor in slots]
    moving = finetune(normed(), brief(Stage(1, 0.01, LABELLED)), training(64)).weights
    still = finetune(normed(), brief(Stage(1, 0.01, LABELLED, norms="frozen")), training(64)).weights
    for name in statistics:
        assert not np.array_equal(moving[name], normed().weights[name])
        assert np.array_equal(still[name], normed().weights[name])


def test_what_the_caller_drew_before_is_not_disturbed() -> None:
    np.random.seed(5)
    want = np.random.RandomState(5).rand()
    finetune(net(), brief(), training(64))
    assert np.random.rand() == want


UNLABELLED = {INPUT: np.zeros((4, 64), np.float32)}


@pytest.mark.parametrize(
    ("recipe", "data", "teacher", "error", "message"),
    [
        (brief(), UNLABELLED, None, InvalidData, "CrossEntropy needs labels"),
        (brief(Stage(losses=(SoftLabels(),))), UNLABELLED, None, InvalidConfig, "needs a teacher"),
        (brief(Stage(losses=(SoftLabels(),))), UNLABELLED, net(classes=7), InvalidData, "same outputs"),
        (brief(early_stop=EarlyStop()), training(8), None, InvalidConfig, "validation"),
        (brief(precision="fp16"), training(8), None, InvalidConfig, "fp16"),
        (brief(Stage(losses=LABELLED, frozen=("*",))), training(8), None, InvalidConfig, "trains nothing"),
        (brief(Stage(losses=LABELLED, frozen=("w",))), training(8), None, UnknownNameError, "'w'"),
        (brief(trainable=("nothing",)), training(8), None, UnknownNameError, "nothing"),
        (
            brief(Stage(losses=(FeatureMatch({"a": "b"}),))),
            training(8),
            net(),
            UnknownNameError,
            "no tensor 'b'",
        ),
    ],
)
def test_what_cannot_be_is_refused(
    recipe: Recipe,
    data: ArraySource,
    teacher: Model | None,
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        finetune(net(), recipe, data, teacher)


def test_a_model_that_runs_one_batch_size_only_is_refused() -> None:
    b = Builder(seed=0)
    x = b.input([8, 64], INPUT)
    rows = b.op("Reshape", x, b.constant(np.array([8, 2, 32])))
    model = b.model(b.op("Reshape", b.op("MatMul", rows, b.weight(32, 5)), b.constant(np.array([8, 10]))))
    assert not same(finetune(model, brief(batch=8), training(16)), model)
    with pytest.raises(InvalidData, match="batches of exactly 8 and cannot run 4 samples"):
        finetune(model, brief(batch=8), training(20))


def test_a_loss_without_a_gradient_is_refused() -> None:
    b = Builder(seed=0)
    scores = b.linear(b.input(["N", 64], INPUT), 10, 64)
    model = b.model(scores, b.op("Cast", b.op("ArgMax", scores, axis=1, keepdims=0), to=1, name="class"))
    recipe = brief(Stage(1, 0.01, (Mse("class_out"),)))
    with pytest.raises(InvalidConfig, match="no gradient leads from Mse"):
        finetune(model, recipe, training(8))


def test_a_teacher_with_other_outputs_is_refused() -> None:
    def two(*names: str) -> Model:
        b = Builder(seed=0)
        x = b.input(["N", 64], INPUT)
        model = b.model(b.linear(x, 3, 64), b.linear(x, 2, 64))
        for tensor, name in zip(model.outputs, names, strict=True):
            tensor.name = name
        return model

    recipe = brief(Stage(1, 0.01, (SoftLabels(),)))
    with pytest.raises(InvalidData, match="other outputs than the student: 'a'"):
        finetune(two("a", "b"), recipe, UNLABELLED, two("b", "c"))
    # A second output that nothing reads, and a teacher that gives them in another order.
    found = finetune(two("a", "b"), recipe, UNLABELLED, two("a", "b"))
    assert [tensor.name for tensor in found.outputs] == ["a", "b"]
