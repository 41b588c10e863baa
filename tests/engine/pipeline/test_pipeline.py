"""Steps run in order on clones, are checked, reported, and remembered in the model."""

import json

import numpy as np
import pytest

from graphrewrite.data import ArraySource
from graphrewrite.errors import InvalidConfig, InvalidData, UnknownNameError, UnsupportedOp
from graphrewrite.ir import Builder, Model
from graphrewrite.ir.diff import diff
from graphrewrite.pipeline import (
    METADATA_KEY,
    Context,
    Outcome,
    Pass,
    Pipeline,
    Report,
    StepError,
    relative_error,
)
from graphrewrite.runtime import run, sample_inputs
from graphrewrite.serial import from_json
from tests.engine.pipeline.passes_for_tests import (
    Edit,
    Nothing,
    Scale,
    ScaleAs,
    ScaleBounded,
    ScaleFreely,
    residual,
    weight_of,
)


def test_steps_run_in_order_and_the_input_stays_as_it_was() -> None:
    model = residual()
    untouched = model.clone()

    result = Pipeline([Scale("a"), Nothing(), Scale("b")]).run(model)

    assert diff(untouched, model) == ""
    assert result.changed
    assert [(step.name, step.changed) for step in result.report.steps] == [
        ("Scale", True),
        ("Nothing", False),
        ("Scale", True),
    ]
    assert [note.subject for note in result.notes[:3]] == [
        weight_of(model, "a"),
        "model",
        weight_of(model, "b"),
    ]
    for node in ("a", "b"):
        name = weight_of(model, node)
        assert relative_error(model.weights[name], result.model.weights[name]) == pytest.approx(1e-6, rel=0.2)


def test_each_step_says_how_it_was_checked() -> None:
    steps: list[Pass] = [
        Nothing(),
        Scale(),
        ScaleAs(factor=1.5, promised=1.5),
        ScaleBounded(factor=1.001),
        ScaleFreely(factor=2.0),
    ]
    data = ArraySource({"x": np.random.default_rng(0).standard_normal((5, 3, 8, 8)).astype(np.float32)})

    report = Pipeline(steps).run(residual(), Context(data=data)).report

    assert [step.verified.how for step in report.steps] == [
        "unchanged",
        "same",
        "reference",
        "bounded",
        "runs",
    ]
    same, reference, bounded, free = (step.verified for step in report.steps[1:])
    assert same.error is not None and 0 < same.error < 1e-5
    assert same.worlds == ("x [2, 3, 8, 8]", "x [3, 3, 8, 8]")
    assert reference.error == 0.0
    # A proof is worth something when the outputs moved: half as much again of one weight does move them.
    assert reference.movement is not None and reference.movement > 1e-2
    assert bounded.metric is not None and 0 < bounded.metric < 0.05
    assert free.error is None and free.movement is not None and free.movement > 1e-2
    assert report.served == "runs with onnxruntime's optimisations"
    assert report.error == same.error


def test_the_error_reported_is_the_error_of_the_outputs() -> None:
    model = residual()

    result = Pipeline([Scale(factor=1.00003)]).run(model)

    by_hand = 0.0
    for world in (0, 1):
        feeds = sample_inputs(model, world=world)
        one, two = (next(iter(run(m, feeds).values())) for m in (model, result.model))
        by_hand = max(by_hand, float(np.abs(np.subtract(one, two)).max() / np.abs(one).max()))
    assert result.report.error == pytest.approx(by_hand, rel=1e-3)


@pytest.mark.parametrize("level", ["structure", "off"])
def test_weaker_levels_run_nothing(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("ran a model")

    monkeypatch.setattr("graphrewrite.pipeline.proof.session", refuse)
    report = Pipeline([Scale(factor=3.0)], verify=level).run(residual()).report  # type: ignore[arg-type]

    assert [step.verified.how for step in report.steps] == [level]
    assert report.served == ""


def test_nothing_is_run_when_nothing_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("ran a model")

    monkeypatch.setattr("graphrewrite.pipeline.proof.session", refuse)
    model = residual()
    result = Pipeline([Nothing(), Nothing()]).run(model)

    assert not result.changed
    assert METADATA_KEY not in result.model.metadata
    assert diff(model, result.model) == ""


def test_pipelines_nest_and_report_their_inner_steps() -> None:
    result = Pipeline([Pipeline([Scale("a"), Nothing()]), Scale("b")]).run(residual())

    outer = result.report.steps
    assert [step.name for step in outer] == ["pipeline", "Scale"]
    assert [step.name for step in outer[0].steps] == ["Scale", "Nothing"]
    assert outer[0].verified.how == "steps"
    assert outer[0].verified.error == outer[0].steps[0].verified.error


def test_of_nested_levels_the_weaker_holds() -> None:
    inner = Pipeline([Scale("a", 2.0)], verify="off")

    report = Pipeline([inner, Scale("b")]).run(residual()).report
    assert [report.steps[0].steps[0].verified.how, report.steps[1].verified.how] == ["off", "same"]

    report = Pipeline([Pipeline([Scale("a", 2.0)])], verify="structure").run(residual()).report
    assert report.steps[0].steps[0].verified.how == "structure"


def test_a_pipeline_is_itself_a_pass() -> None:
    outcome = Pipeline([Scale()]).run(residual().clone(), Context())

    assert isinstance(outcome, Outcome) and outcome.changed


def test_a_symbolic_batch_is_checked_at_two_sizes_and_a_fixed_one_at_one() -> None:
    b = Builder()
    fixed = b.model(b.relu(b.conv(b.input([1, 3, 8, 8], "x"), out=2, into=3, name="b")))

    assert Pipeline([Scale()]).run(fixed).report.steps[0].verified.worlds == ("x [1, 3, 8, 8]",)


def test_a_model_that_runs_with_one_batch_only_is_checked_there_and_the_report_says_so() -> None:
    b = Builder()
    y = b.conv(b.input(["N", 3, 8, 8], "x"), out=2, into=3, name="b")
    result = Pipeline([Scale()]).run(b.model(b.op("Reshape", y, b.constant(np.array([1, 128])))))

    assert result.report.steps[0].verified.worlds == ("x [1, 3, 8, 8]",)
    assert [note.text for note in result.report.notes if "one size only" in note.text]


def test_a_proof_that_moved_nothing_is_noted() -> None:
    dead = residual()  # its outputs are the bias of the head, whatever comes before
    name = weight_of(dead, "head")
    dead.weights[name] = np.zeros_like(dead.weights[name])

    moved, still = (
        Pipeline([ScaleAs(factor=1.5, promised=1.5)]).run(model).report.notes for model in (residual(), dead)
    )

    assert not [note for note in moved if "moved no output" in note.text]
    assert [note.subject for note in still if "moved no output" in note.text] == ["ScaleAs"]


def test_a_model_with_an_unknown_operator_is_checked_by_structure_and_says_so() -> None:
    b = Builder()
    y = b.op("Foo", b.conv(b.input(["N", 3, 8, 8], "x"), out=2, into=3, name="b"), domain="my.domain")

    result = Pipeline([Scale(factor=2.0)]).run(b.model(y))

    assert result.report.steps[0].verified.how == "structure"
    (note,) = [note for note in result.report.notes if note.subject == "model"]
    assert note.kind == "warning" and "not verified by running" in note.text and "my.domain:Foo" in note.text


def test_random_outputs_are_left_out_and_named() -> None:
    b = Builder()
    x = b.input(["N", 3, 8, 8], "x")
    steady = b.conv(x, out=2, into=3, name="b")
    model = b.model(steady, b.op("RandomNormalLike", x, name="noise"))

    result = Pipeline([Scale()]).run(model)

    assert list(result.report.steps[0].verified.outputs) == ["b_out"]
    assert [note.subject for note in result.report.notes if "random" in note.text] == ["noise_out"]


def test_data_is_used_where_no_sample_can_be_invented() -> None:
    def model() -> Model:
        b = Builder()
        x = b.input(["N", 3, 8, 8], "x")
        # The sum over everything must be the number of elements for this Reshape to work: ones do, random ones do not.
        total = b.op("Cast", b.op("ReduceSum", b.op("Abs", x), keepdims=0), to=7)
        size = b.op("Unsqueeze", total, b.constant(np.array([0])))
        return b.model(b.op("Reshape", b.conv(x, out=3, into=3, name="b"), size))

    without = Pipeline([Scale()]).run(model())
    assert without.report.steps[0].verified.how == "structure"
    assert any("pass data" in note.text for note in without.report.notes)

    ones = ArraySource({"x": np.ones((4, 3, 8, 8), np.float32)})
    with_data = Pipeline([Scale()]).run(model(), Context(data=ones))
    assert with_data.report.steps[0].verified.how == "same"


def test_a_model_that_cannot_be_verified_by_running_is_an_error_that_says_how_else() -> None:
    b = Builder(ir_version=14)
    model = b.model(b.conv(b.input(["N", 3, 8, 8], "x"), out=2, into=3, name="b"))

    with pytest.raises(Exception, match="IR version 14.*verify='structure'"):
        Pipeline([Scale()]).run(model)


def test_progress_is_told_before_each_step_and_at_the_end() -> None:
    told: list[tuple[str, int, int]] = []

    Pipeline([Scale(), Nothing()]).run(residual(), Context(progress=lambda *told_now: told.append(told_now)))

    assert told == [("Scale", 0, 2), ("Nothing", 1, 2), ("Nothing", 2, 2)]


def test_an_unexpected_failure_of_a_pass_names_the_step() -> None:
    def stumble(model: Model) -> None:
        raise KeyError("lost")

    with pytest.raises(KeyError) as caught:
        Pipeline([Nothing(), Edit(stumble)]).run(residual())

    assert caught.value.__notes__ == ["in step 2 of 2, Edit"]


# ------------------------------------------------------------------------------------------------ configuration


@pytest.mark.parametrize(
    ("steps", "message"),
    [((Scale,), r"steps\[0\].*a class must be called"), ((Nothing(), "tidy"), r"steps\[1\] is 'tidy'")],
)
def test_what_is_not_a_pass_is_refused(steps: tuple[object, ...], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        Pipeline(steps)  # type: ignore[arg-type]


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="'full', 'structure' or 'off'"):
        Pipeline([], verify="most")  # type: ignore[arg-type]


def test_a_bounded_claim_needs_data_and_known_metrics() -> None:
    with pytest.raises(InvalidConfig, match="measured on data.*pass data"):
        Pipeline([ScaleBounded(factor=1.001)]).run(residual())


# ------------------------------------------------------------------------------------------------ reports and JSON


def test_a_report_is_plain_json_and_comes_back_equal() -> None:
    report = (
        Pipeline([Pipeline([Scale("a")]), Nothing(), ScaleAs(factor=1.5, promised=1.5)])
        .run(residual())
        .report
    )

    document = json.loads(json.dumps(report.to_json(), allow_nan=False))

    assert from_json(document, Report) == report


def test_the_table_has_a_row_per_step_with_counts_by_hand() -> None:
    rows = Pipeline([Pipeline([Scale("a")]), Nothing()]).run(residual()).report.table()

    assert [row[0] for row in rows] == ["step", "pipeline", "  Scale", "Nothing", "total"]
    # Convolutions 4*3*9+4 and 4*4*9+4, the head 5*4+5.
    assert rows[1][2] == str(112 + 148 + 25)
    # 64 places times 4*27 and 4*36, the head 20.
    assert rows[1][3] == "16.1k" and 64 * (108 + 144) + 20 == 16148
    assert rows[3][4:6] == ["-", "unchanged"]


def test_a_pipeline_of_registered_passes_survives_json() -> None:
    pipeline = Pipeline([Pipeline([], verify="off"), Pipeline([Pipeline()])], verify="structure")

    assert Pipeline.from_json(pipeline.to_json()) == pipeline
    assert Pipeline.from_json('[{"pass": "pipeline"}]') == Pipeline([Pipeline()])


def test_bad_pipeline_json_is_refused_with_its_place() -> None:
    with pytest.raises(UnknownNameError, match="no pass called 'pipelin'; did you mean pipeline"):
        Pipeline.from_json('{"pass": "pipelin"}')
    with pytest.raises(InvalidConfig, match="no field 'step'; did you mean steps"):
        Pipeline.from_json('{"pass": "pipeline", "step": []}')
    with pytest.raises(InvalidConfig, match="is not JSON"):
        Pipeline.from_json("{")


def test_an_unregistered_pass_cannot_be_stored_and_the_report_says_so() -> None:
    result = Pipeline([Scale()]).run(residual())

    assert METADATA_KEY not in result.model.metadata
    assert any("not stored" in note.text for note in result.report.notes)
    with pytest.raises(UnknownNameError):
        Pipeline([Scale()]).to_json()


# ------------------------------------------------------------------------------------------------ accuracy as a bound


def test_accuracy_is_measured_on_labels() -> None:
    from graphrewrite.pipeline.metrics import metrics

    model = residual()
    rng = np.random.default_rng(1)
    x = rng.standard_normal((70, 3, 8, 8)).astype(np.float32)
    answers = next(iter(run(model, {"x": x}).values())).argmax(axis=1)
    other = Scale("head", -1.0).run(model.clone(), Context()).model
    theirs = next(iter(run(other, {"x": x}).values())).argmax(axis=1)

    drop = metrics.make("accuracy_drop").measure(model, other, ArraySource({"x": x}, answers))

    assert drop == pytest.approx(1.0 - np.mean(theirs == answers)) and drop > 0
    with pytest.raises(InvalidData, match="one label per sample"):
        metrics.make("accuracy_drop").measure(model, other, ArraySource({"x": x}))


def test_step_errors_belong_to_the_family_and_unknown_operators_too() -> None:
    from graphrewrite.errors import GraphRewriteError

    assert issubclass(StepError, GraphRewriteError) and issubclass(UnsupportedOp, GraphRewriteError)
