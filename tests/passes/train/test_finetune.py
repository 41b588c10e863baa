"""Training as a step: what changes, what does not, and what is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from graphrewrite.bridge.recipe import Recipe, Stage
from graphrewrite.bridge.schedules import Constant
from graphrewrite.data import ArraySource
from graphrewrite.errors import Diverged, InvalidConfig, InvalidData, UnsupportedOp, VerificationError
from graphrewrite.ir import Builder, Model
from graphrewrite.ir.diff import diff, is_same
from graphrewrite.passes.losses.cross_entropy import CrossEntropy
from graphrewrite.passes.losses.soft_labels import SoftLabels
from graphrewrite.passes.train import FineTune
from graphrewrite.passes.train.finetune import changed_weights, check_graph
from graphrewrite.pipeline import METADATA_KEY, Context, Pipeline
from tests.passes.train.nets import context, digits, labelled, net, right, train, trained

TAUGHT = FineTune(Recipe((Stage(2, 0.003, (SoftLabels(),)),)))


def test_random_weights_learn_digits() -> None:
    before, after = net(), trained()

    assert right(before) < 0.3
    assert right(after) > 0.95


def test_only_numbers_of_weights_change() -> None:
    model = net()

    result = Pipeline([labelled(1)]).run(model, context())

    lines = [line for line in diff(model, result.model).splitlines() if METADATA_KEY not in line]
    names = ["w0", "b0", "w1", "b1", "w2", "b2"]
    assert [line.partition(":")[0] for line in lines] == [f"~ initializer {name}" for name in names]
    (step,) = result.report.steps
    assert step.verified.how == "runs"
    assert step.details["weights"] == names


def test_frozen_weights_are_not_told_as_changed() -> None:
    stage = Stage(1, 0.003, (CrossEntropy(),), frozen=("w0", "b*"))

    after = train(net(), FineTune(Recipe((stage,))))

    assert changed_weights(net(), after) == ["w1", "w2"]


@pytest.mark.parametrize(
    "edit",
    [
        lambda m: m.graph.nodes[0].attrs.update(alpha=2.0),
        lambda m: setattr(m.graph.nodes[-1], "name", "other"),
        lambda m: m.graph.nodes.pop(),
        lambda m: m.weights.__setitem__("w1", np.array(m.weights["w1"], np.float64)),
        lambda m: m.metadata.update(more="words"),
    ],
)
def test_the_check_sees_whatever_else_changes(edit: Callable[[Model], object]) -> None:
    """Mutations: of a trained model each of these is seen, and the numbers of its weights are not."""
    before, after = net(), trained().clone()
    after.metadata.clear()
    check_graph(before, after)
    edit(after)

    with pytest.raises(VerificationError, match="training changed more than weights"):
        check_graph(before, after)


def test_the_check_sees_a_number_that_is_no_weight() -> None:
    def drawn(shape: int) -> Model:
        b = Builder(seed=0)
        y = b.op("Reshape", b.input(["N", 4], "x"), b.constant(np.array([-1, shape], np.int64), "to"))
        return b.model(b.op("MatMul", y, b.weight(2, 2)))

    with pytest.raises(VerificationError, match="initializer to: int64"):
        check_graph(drawn(2), drawn(1))


def test_a_seed_gives_the_same_bytes_again_and_another_seed_others() -> None:
    one, two, other = (train(net(), labelled(1), seed) for seed in (1, 1, 2))

    assert is_same(one, two)
    assert not is_same(one, other)


def test_the_original_teaches_what_was_changed() -> None:
    """A net of which one layer was thrown away learns its answers back, without a label."""
    model = trained()
    unlabelled = replace(context(), data=ArraySource(dict(digits()[0].arrays)), original=model)
    hurt = model.clone()
    hurt.weights["w1"] = net(seed=5).weights["w1"]
    step = FineTune(Recipe((Stage(8, 0.005, (SoftLabels(),)),)))

    result = step.run(hurt.clone(), unlabelled)

    assert right(hurt) < 0.5
    assert right(result.model) > 0.9


def test_a_model_is_not_its_own_teacher() -> None:
    result = Pipeline([TAUGHT]).run(trained(), context())

    assert not result.changed
    assert any("the teacher is this very model" in note.text for note in result.notes)


def test_a_teacher_of_another_file(tmp_path: Path) -> None:
    path = tmp_path / "teacher.onnx"
    trained().save(path)

    after = train(net(seed=3), replace(TAUGHT, teacher=str(path)))

    assert right(after) > right(net(seed=3)) + 0.3


def test_a_teacher_with_other_outputs_is_refused(tmp_path: Path) -> None:
    b = Builder(seed=0)
    path = tmp_path / "teacher.onnx"
    b.model(b.op("MatMul", b.input(["N", 64], "x"), b.weight(64, 7))).save(path)

    with pytest.raises(InvalidData, match="expected a teacher with the same outputs"):
        train(net(), replace(TAUGHT, teacher=str(path)))


def test_the_best_epoch_on_validation_data_is_kept(tmp_path: Path) -> None:
    """A rate that ruins the net after its first epochs: judged, the best of them comes back."""
    test = digits()[1]
    path = tmp_path / "validation.npz"
    np.savez(path, x=test.arrays["x"], labels=np.asarray(test.labels))
    wild = Stage(6, 0.3, (CrossEntropy(),), schedule=Constant())
    start = trained()

    blind = train(start, FineTune(Recipe((wild,))))
    judged = train(start, FineTune(Recipe((wild,)), validation=str(path)))

    assert right(judged) >= right(blind)
    assert not is_same(judged, blind)


def test_without_data_or_labels_or_teacher_it_says_what_is_missing() -> None:
    with pytest.raises(InvalidConfig, match="training needs samples; .* --data"):
        Pipeline([labelled()]).run(net())
    with pytest.raises(InvalidData, match="CrossEntropy needs labels"):
        Pipeline([labelled()]).run(net(), Context(data=ArraySource(dict(digits()[0].arrays))))
    with pytest.raises(InvalidConfig, match="there is none; expected a model; name its file in `teacher`"):
        TAUGHT.run(net(), context())


def test_an_operator_without_a_torch_form_is_named() -> None:
    b = Builder(seed=0)
    y = b.op("MatMul", b.input(["N", 64], "x"), b.weight(64, 10))
    model = b.model(b.op("Mystery", y, domain="some.where", name="riddle"))

    with pytest.raises(UnsupportedOp, match=r"'riddle' \(some.where.Mystery"):
        labelled().run(model, context())


def test_a_loss_that_is_no_number_stops_the_run() -> None:
    ruinous = FineTune(Recipe((Stage(3, 1e30, (CrossEntropy(),)),)))

    with pytest.raises(Diverged, match="finite"):
        ruinous.run(net(), context())


def test_it_survives_json_with_stages_losses_and_schedules() -> None:
    stages = (
        Stage(
            2, 0.1, (CrossEntropy(0.1), SoftLabels(2.0, weight=0.5)), Constant(), warmup=0.5, norms="frozen"
        ),
        Stage(1, 0.01, (SoftLabels(),), trainable=("w*",)),
    )
    pipeline = Pipeline([FineTune(Recipe(stages, batch=16, clip=1.0, ema=0.99), teacher="a.onnx")])

    text = pipeline.to_json()

    assert Pipeline.from_json(text) == pipeline
    assert json.loads(text)["steps"][0]["recipe"]["stages"][0]["losses"][0] == {
        "name": "cross_entropy", "smoothing": 0.1, "tensor": None, "weight": 1.0,
    }  # fmt: skip


def test_in_a_folder_of_its_own_it_keeps_a_log_and_goes_on_after_an_interruption(tmp_path: Path) -> None:
    straight = Pipeline([labelled(3)]).run(net(), context()).model
    calls = []

    def stop_in_the_second_epoch(step: str, done: int, total: int) -> None:
        calls.append(done)
        if step == "stage 1" and done == 27:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Pipeline([labelled(3)]).run(
            net(), replace(context(), progress=stop_in_the_second_epoch), workdir=tmp_path
        )
    calls.clear()
    again = Pipeline([labelled(3)]).run(
        net(), replace(context(), progress=lambda *call: calls.append(call[1])), workdir=tmp_path
    )

    assert is_same(again.model, straight)
    assert 19 not in calls and 20 in calls  # 19 steps are an epoch; its state was the last one kept
    assert len((tmp_path / "step-01" / "log.csv").read_text().splitlines()) == 1 + 3
