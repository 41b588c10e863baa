"""Dishonest passes: every stage of verification catches its kind, and the first differing tensor is the right one.

These are the mutation tests of the pipeline: were a stage to stop looking, one of them would fail.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphrewrite.data import ArraySource
from graphrewrite.errors import VerificationError
from graphrewrite.ir import Builder, Model
from graphrewrite.ir.edit import add_constant, remove_nodes, set_input
from graphrewrite.pipeline import Context, Outcome, Pass, Pipeline, StepError, first_difference
from graphrewrite.runtime import run, sample_inputs
from tests.engine.pipeline.passes_for_tests import (
    Edit,
    Nothing,
    Scale,
    ScaleAs,
    ScaleBounded,
    residual,
    weight_of,
)


@pytest.fixture(autouse=True)
def evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Failing models are saved under the test's own folder."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield tmp_path


def caught(step: Pass, model: Model | None = None, context: Context | None = None) -> StepError:
    """The error that a pipeline with this second step raises."""
    with pytest.raises(StepError) as error:
        Pipeline([Nothing(), step]).run(model or residual(), context)
    return error.value


# ------------------------------------------------------------------------------------------------ structure


def lose_a_weight(model: Model) -> None:
    del model.graph.initializers[weight_of(model, "a")]


def lose_a_producer(model: Model) -> None:
    remove_nodes(model.graph, model.nodes("Add"))


def break_a_type(model: Model) -> None:
    model.weights[weight_of(model, "head")] = model.weights[weight_of(model, "head")].astype(np.float64)


def break_a_rank(model: Model) -> None:
    name = weight_of(model, "head")
    model.weights[name] = model.weights[name][..., None]


def use_an_unknown_attribute(model: Model) -> None:
    model.nodes("Add")[0].attrs["axis"] = 1


def write_twice(model: Model) -> None:
    twin = gs.Variable(model.nodes("Relu")[0].outputs[0].name)
    model.graph.nodes.insert(1, gs.Node("Relu", "twin", {}, [model.graph.inputs[0]], [twin]))


def rename_the_output(model: Model) -> None:
    model.graph.outputs[0].name = "renamed"


def drop_the_output(model: Model) -> None:
    extra = model.nodes("Relu")[0].outputs[0]
    extra.dtype = np.dtype(np.float32)
    model.graph.outputs = [extra]


def add_an_output(model: Model) -> None:
    extra = model.nodes("Relu")[0].outputs[0]
    extra.dtype = np.dtype(np.float32)
    model.graph.outputs.append(extra)


def freeze_the_batch(model: Model) -> None:
    model.graph.inputs[0].shape = [1, 3, 8, 8]


def change_an_input_size(model: Model) -> None:
    model.graph.inputs[0].shape = ["N", 3, 16, 16]


def change_an_input_type(model: Model) -> None:
    model.graph.inputs[0].dtype = np.dtype(np.float16)


STRUCTURE: list[tuple[Callable[[Model], None], str]] = [
    (lose_a_weight, "the constant 'w_1', which is not among the initializers"),
    (lose_a_producer, "which nothing makes"),
    (break_a_type, "[Tt]ype"),
    (break_a_rank, "rank"),
    (use_an_unknown_attribute, "axis"),
    (write_twice, "made twice"),
    (rename_the_output, "the outputs were head_out and are now renamed"),
    (drop_the_output, "the outputs were head_out and are now relu"),
    (add_an_output, "the outputs were head_out and are now head_out, relu"),
    (freeze_the_batch, r"the input x float32\[N, 3, 8, 8\] has become x float32\[1, 3, 8, 8\].*symbolic"),
    (change_an_input_size, r"has become x float32\[N, 3, 16, 16\]"),
    (change_an_input_type, r"has become x float16"),
]


@pytest.mark.parametrize("level", ["structure", "full"])
@pytest.mark.parametrize(("edit", "message"), STRUCTURE, ids=[edit.__name__ for edit, _ in STRUCTURE])
def test_unsound_models_are_caught_without_running_them(
    edit: Callable[[Model], None], message: str, level: str
) -> None:
    with pytest.raises(StepError, match=message) as error:
        Pipeline([Edit(edit)], verify=level).run(residual())  # type: ignore[arg-type]

    assert error.value.stage == "structure"


# ------------------------------------------------------------------------------------------------ running


def reshape_to_a_fixed_batch(model: Model) -> None:
    """Valid to every checker, but only a batch of 2 runs."""
    flat = model.nodes("Flatten")[0]
    flat.op, flat.attrs = "Reshape", {}
    flat.inputs.append(add_constant(model.graph, "size", np.array([2, 4])))


def spoil(model: Model) -> None:
    name = weight_of(model, "b")
    weight = model.weights[name].copy()
    weight[0, 0, 0, 0] = np.inf
    model.weights[name] = weight


def test_a_batch_frozen_inside_the_graph_is_caught_by_the_second_size() -> None:
    error = caught(Edit(reshape_to_a_fixed_batch))

    assert error.stage == "run"
    assert "does not run, the one before did" in str(error) and "Reshape" in str(error)


def test_outputs_that_are_no_longer_finite_are_caught_with_the_tensor_where_it_began() -> None:
    error = caught(Edit(spoil))

    assert error.stage == "run"
    assert error.tensor == "b_out"
    assert "'head_out' is no longer finite" in str(error)


def test_a_model_that_was_not_finite_to_begin_with_may_stay_so() -> None:
    model = residual()
    spoil(model)

    Pipeline([Scale("a", 1.0 + 1e-6)]).run(model)


# ------------------------------------------------------------------------------------------------ claims


@pytest.mark.parametrize(("node", "tensor"), [("a", "a_out"), ("b", "b_out"), ("head", "head_out")])
def test_changed_outputs_are_caught_and_traced_to_the_tensor_where_they_part(node: str, tensor: str) -> None:
    error = caught(Scale(node, 1.01))

    assert error.stage == "claim"
    assert error.tensor == tensor
    assert f"made by {'Gemm' if node == 'head' else 'Conv'} {node}" in str(error)


def test_the_message_names_the_step_those_before_it_and_the_figures() -> None:
    error = caught(Scale("b", 1.01))

    assert isinstance(error, VerificationError)
    assert error.step == "Scale"
    assert "the step Scale (after Nothing) broke its promise: the output 'head_out' differs" in str(error)
    assert "allowed 0.0001" in str(error)
    assert error.__notes__ == ["in step 2 of 2, Scale"]


def test_both_models_and_the_inputs_are_saved_and_show_the_failure_again() -> None:
    error = caught(Scale("b", 1.01))

    assert error.folder is not None and error.folder in str(error)
    folder = Path(error.folder)
    feeds = dict(np.load(folder / "inputs.npz"))
    one, two = (run(folder / name, feeds)["head_out"] for name in ("before.onnx", "after.onnx"))
    assert np.abs(np.subtract(one, two)).max() > 1e-4 * np.abs(one).max()


def test_a_claim_to_equal_a_reference_is_held_against_that_reference() -> None:
    Pipeline([ScaleAs(factor=1.5, promised=1.5)]).run(residual())
    error = caught(ScaleAs(factor=1.5, promised=1.4))

    assert error.stage == "claim" and error.tensor == "b_out"
    assert "the pass's own reference" in str(error)
    assert (Path(str(error.folder)) / "reference.onnx").exists()


def test_a_claim_to_equal_a_reference_needs_one() -> None:
    class Silent(ScaleAs):
        def run(self, model: Model, context: Context) -> Outcome:
            return Outcome(super().run(model, context).model, True)

    assert "names no reference" in str(caught(Silent(factor=1.5)))


def test_a_bound_that_does_not_hold_is_caught() -> None:
    data = ArraySource({"x": np.random.default_rng(0).standard_normal((5, 3, 8, 8)).astype(np.float32)})
    error = caught(ScaleBounded(factor=2.0), context=Context(data=data))

    assert error.stage == "claim"
    assert "relative_error is" in str(error) and "its claim allows 0.05" in str(error)


def test_a_difference_at_the_second_size_only_is_caught() -> None:
    """A sum over the batch divided by 2 is the mean of a batch of 2, and of no other."""

    def model() -> Model:
        b = Builder()
        x = b.input(["N", 4], "x")
        return b.model(b.op("ReduceMean", x, axes=[0], keepdims=1, name="mean"))

    def divide_by_two(model: Model) -> None:
        (mean,) = model.graph.nodes
        total = gs.Variable("total")
        half = add_constant(model.graph, "half", np.array(0.5, np.float32))
        result = mean.outputs[0]
        mean.outputs.clear()
        mean.op = "ReduceSum"
        mean.attrs = {"keepdims": 1}
        mean.inputs.append(add_constant(model.graph, "axes", np.array([0])))
        mean.outputs.append(total)
        model.graph.nodes.append(gs.Node("Mul", "halve", {}, [total, half], [result]))

    class Honest(Edit):
        claim = Scale.claim

    error = caught(Honest(divide_by_two), model())

    assert error.stage == "claim" and "x [3, 4]" in str(error)


# ------------------------------------------------------------------------------------------------ honesty


def test_a_change_that_is_not_reported_is_caught() -> None:
    error = caught(Edit(spoil, says_changed=False))

    assert error.stage == "changed" and "reports no change" in str(error)


def test_a_reported_change_that_did_not_happen_is_caught() -> None:
    error = caught(Edit(lambda model: None))

    assert error.stage == "changed" and "reports a change" in str(error)


def test_writing_into_a_shared_array_is_impossible() -> None:
    def write(model: Model) -> None:
        model.weights[weight_of(model, "a")][:] = 0

    with pytest.raises(ValueError, match="read-only"):
        Pipeline([Edit(write)]).run(residual())


# ------------------------------------------------------------------------------------------------ bisect


def test_equal_models_have_no_first_difference() -> None:
    model = residual()
    assert first_difference(model, model.clone(), sample_inputs(model), 1e-6) is None


def test_the_earliest_of_two_faults_is_named_with_how_much_agrees_before_it() -> None:
    model = residual()
    other = Scale("a", 1.1).run(Scale("head", 1.1).run(model.clone(), Context()).model, Context()).model

    found = first_difference(model, other, sample_inputs(model), 1e-4)

    assert found is not None
    assert (found.tensor, found.producer, found.matched) == ("a_out", "Conv a", 0)
    assert 0.02 < found.error < 0.1  # a tenth of the weights' share; the bias is not scaled


def test_tensors_of_another_shape_count_only_when_asked() -> None:
    model = residual()
    other = model.clone()
    head = other.nodes("Gemm")[0]
    pool = other.nodes("Flatten")[0]
    # Twice the features, of which the second half meets zero weights: the output is the same.
    joined = gs.Variable("wide")
    other.graph.nodes.insert(-1, gs.Node("Concat", "wide", {"axis": 1}, [pool.outputs[0]] * 2, [joined]))
    set_input(head, 0, joined)
    name = weight_of(other, "head")
    other.weights[name] = np.concatenate([other.weights[name], 0 * other.weights[name]], axis=1)
    joined.name = pool.outputs[0].name
    pool.outputs[0].name = "narrow"
    feeds = sample_inputs(model)

    assert first_difference(model, other, feeds, 1e-5, any_shape=False) is None
    found = first_difference(model, other, feeds, 1e-5, any_shape=True)
    assert found is not None and found.detail == "shape [2, 4] against [2, 8]"


def test_a_long_chain_is_traced_in_bunches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphrewrite.pipeline.bisect._BUNCH_BYTES", 100)
    b = Builder()
    y = b.input(["N", 4], "x")
    for index in range(30):
        y = b.op("Add", y, b.constant(np.array([0.1], np.float32), f"c{index}"), name=f"add{index}")
    model = b.model(y)
    other = model.clone()
    other.weights["c17"] = np.array([0.5], np.float32)

    found = first_difference(model, other, sample_inputs(model), 1e-5)

    assert found is not None and (found.tensor, found.matched) == ("add17_out", 17)
