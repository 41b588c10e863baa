"""The pass as a whole: its claim, its record of what was cut, its reasons; and that its proof can fail."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from graphrewrite.dims import Shrunk, groups, shrink
from graphrewrite.dims.shrink import weight_array
from graphrewrite.dims.structure import Mask
from graphrewrite.dims.sweep import Analysis
from graphrewrite.errors import GraphRewriteError, InvalidConfig, VerificationError
from graphrewrite.ir import Array, Builder, Model
from graphrewrite.passes.channels import MacsBelow, Ratio, RemoveChannels
from graphrewrite.passes.channels import remove as room
from graphrewrite.passes.channels.adjust import add_biases
from graphrewrite.passes.channels.criteria import criteria
from graphrewrite.passes.channels.evidence import Criterion
from graphrewrite.passes.channels.reconstruct import reconstructions
from graphrewrite.pipeline import Context, Pass, Pipeline
from graphrewrite.pipeline.verify import StepError
from graphrewrite.serial import Json, from_json, to_json
from tests.passes.channels.nets import (
    NETS,
    Doomed,
    Wide,
    attention,
    cut,
    details,
    groups_told,
    kept_told,
    samples,
    tower,
    weight,
)

STEPS = {
    "global": RemoveChannels(budget=MacsBelow(0.6)),
    "uniform": RemoveChannels(budget=Ratio(0.5), scope="uniform"),
    "fitted": RemoveChannels(budget=MacsBelow(0.6), reconstruct=reconstructions.make("least_squares")),
}


@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize("name", NETS)
def test_the_claim_holds_with_full_verification(name: str, kind: str) -> None:
    model = NETS[name]()
    data = samples(model) if kind == "fitted" and name != "recurrent" else None
    step = STEPS[kind] if data is not None or kind != "fitted" else STEPS["global"]

    (report,) = cut(model, step, Context(data=data, threads=1)).report.steps

    assert report.verified.how == "reference" and len(report.verified.worlds) == 2
    assert report.verified.error is not None and report.verified.error < 1e-5
    assert (
        report.verified.movement is not None and report.verified.movement > 1e-3
    )  # else equality proves nothing


@pytest.mark.parametrize("name", NETS)
def test_the_model_that_came_in_stays_as_it_was(name: str) -> None:
    model = NETS[name]()
    before = {key: np.array(value) for key, value in model.weights.items()}
    text = model.to_proto().SerializeToString()

    cut(model, RemoveChannels())

    assert model.to_proto().SerializeToString() == text
    assert all(np.array_equal(before[key], model.weights[key]) for key in before)


def taken(old: Array, axes: Mapping[str, list[int]]) -> Array:
    """Carry a record of kept positions out, with loops: slots of a grouped convolution first, then whole slices."""
    array = np.array(old)
    for axis, positions in axes.items():
        if np.ndim(positions) == 2:
            parts = zip(np.split(array, len(positions), axis=0), np.array(positions), strict=True)
            array = np.concatenate([np.take(part, slots, axis=int(axis)) for part, slots in parts], axis=0)
    for axis, positions in axes.items():
        if np.ndim(positions) == 1:
            array = np.take(array, positions, axis=int(axis))
    return array


@pytest.mark.parametrize("name", NETS)
def test_kept_positions_make_the_new_weights_from_the_old_ones(name: str) -> None:
    model = NETS[name]()
    result = cut(model, RemoveChannels(budget=MacsBelow(0.4), absorb=False))
    kept, copied = kept_told(result), details(result)["copied_from"]
    assert isinstance(copied, dict) and kept

    for tensor, axes in kept.items():
        old = weight_array(model, str(copied.get(tensor, tensor)))
        np.testing.assert_array_equal(weight_array(result.model, tensor), taken(old, axes))
        for positions in axes.values():
            rows = np.atleast_2d(np.array(positions))
            assert (np.diff(rows, axis=1) > 0).all()
    floats = [
        key
        for key, value in model.weights.items()
        if value.dtype == np.float32 and key in result.model.weights
    ]
    for tensor in set(floats) - set(kept):
        np.testing.assert_array_equal(result.model.weights[tensor], model.weights[tensor])


def test_kept_slots_of_a_grouped_convolution_are_told_group_by_group() -> None:
    """Of four groups of four inputs each keeps two, not the same two; checked filter by filter."""
    model = NETS["grouped"]()
    result = cut(model, RemoveChannels(budget=Ratio(0.5), absorb=False))
    kept = kept_told(result)
    rows, inputs = kept["w_4"]["0"], kept["w_1"]["0"]
    slots = np.array(kept["w_4"]["1"])

    assert slots.shape == (4, 2)
    assert (slots + 4 * np.arange(4)[:, None]).ravel().tolist() == inputs
    old, new = weight(model, "w_4"), weight(result.model, "w_4")
    for place, row in enumerate(rows):
        np.testing.assert_array_equal(new[place], old[row][slots[row // 8]])


def test_private_copies_are_listed_with_their_origin() -> None:
    """Two layers share a vector and lose different channels."""
    b = Builder(seed=6)
    x = b.input(["N", 4], "x")
    shared = b.constant(np.arange(1, 9, dtype=np.float32), "shared")
    y = b.relu(b.op("Add", b.linear(x, 8, 4, bias=False), shared))
    y = b.relu(b.op("Mul", b.linear(y, 8, 8, bias=False), shared))
    model = b.model(b.linear(y, 3, 8))

    result = cut(
        model,
        RemoveChannels(criterion=criteria.make("random"), budget=Ratio(0.5), absorb=False),
        Context(seed=3),
    )

    kept, copied = kept_told(result), details(result)["copied_from"]
    assert isinstance(copied, dict)
    (copy,) = copied
    assert copied[copy] == "shared" and {"shared", copy} <= set(kept)
    assert kept["shared"] != kept[copy]
    for name in ("shared", copy):
        assert weight(result.model, name).tolist() == [position + 1 for position in kept[name]["0"]]
    assert result.model.origin[copy][0] == "shared"


@pytest.mark.parametrize("name", NETS)
def test_details_are_plain_json(name: str) -> None:
    for step in (RemoveChannels(), RemoveChannels(budget=Ratio(1.0))):
        told = details(cut(NETS[name](), step))

        assert json.loads(json.dumps(told, allow_nan=False)) == told
        assert told.keys() == {
            *("macs_before", "macs_after", "params_before", "params_after", "kept", "copied_from"),
            *("groups", "pinned", "no_rule", "compensated", "ports"),
        }


@pytest.mark.parametrize("name", NETS)
def test_pins_have_reasons_and_what_is_pinned_is_not_cut(name: str) -> None:
    result = cut(NETS[name](), RemoveChannels(budget=Ratio(0.3)))
    pinned, kept = details(result)["pinned"], kept_told(result)
    assert isinstance(pinned, dict) and pinned

    assert all(isinstance(reason, str) and len(reason) > 10 for reason in pinned.values())
    assert any("graph input" in str(reason) or "graph output" in str(reason) for reason in pinned.values())
    for label in pinned:
        tensor, _, axis = label.partition("[")
        if axis.endswith("]"):  # all of it, not some positions
            assert axis[:-1] not in kept.get(tensor, {})


@pytest.mark.parametrize(
    "name", [name for name in NETS if name != "grouped"]
)  # equal counts come before scores there
def test_within_a_group_the_lowest_scores_went(name: str) -> None:
    for row in groups_told(cut(NETS[name](), RemoveChannels(budget=MacsBelow(0.5)))):
        if row["highest_removed_score"] is not None:
            assert row["highest_removed_score"] <= row["lowest_kept_score"]
        assert 1 <= row["kept"] <= row["units"]


def test_notes_say_what_was_done_and_what_was_not() -> None:
    (step,) = cut(tower(), RemoveChannels(budget=Ratio(0.5))).report.steps
    told = {note.subject: (note.kind, note.text) for note in step.notes}

    assert told["channels"] == ("done", "removed 13 of 26 units in 3 groups")
    assert told["w_24[0]"] == ("skipped", "graph output head_out")


def another(analysis: Analysis, dead: Mask) -> Mask:
    """Drop the neighbour of the first removed channel in its stead: every shape is as it should be."""
    wrong = dead.copy()
    gone = int(np.flatnonzero(dead)[0])
    units = groups(analysis.model).structure.units
    spare = next(int(u) for u in units if not dead[u] and abs(int(u) - gone) < 8)
    wrong[gone], wrong[spare] = False, True
    return wrong


@pytest.mark.parametrize("name", ["tower", "residual", "attention", "branches"])
def test_a_cut_of_another_channel_is_caught_and_the_tensor_named(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = NETS[name]()
    first = groups(model).groups[0]

    def wrong(analysis: Analysis, dead: Mask) -> Shrunk:
        return shrink(analysis, another(analysis, dead))

    monkeypatch.setattr(room, "shrink", wrong)
    others = tuple(group.name for group in groups(model).groups[1:])
    step = RemoveChannels(Doomed((0,)), Ratio(1 - 1 / first.units), skip=others)

    with pytest.raises(
        VerificationError, match="broke its promise: the output .* differs from the pass's own reference"
    ) as caught:
        cut(model, step)

    error = caught.value
    assert isinstance(error, StepError)
    assert (error.step, error.stage) == ("remove_channels", "claim")
    made = {tensor.name for node in model.graph.nodes for tensor in node.outputs}
    assert error.tensor in made and repr(error.tensor) in str(error)


def test_one_channel_more_than_was_said_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(analysis: Analysis, dead: Mask) -> Shrunk:
        more = dead.copy()
        units = groups(analysis.model).structure.units
        more[next(u for u in units if not dead[u])] = True
        return shrink(analysis, more)

    monkeypatch.setattr(room, "shrink", greedy)

    with pytest.raises(VerificationError, match="differs from the pass's own reference"):
        cut(tower(), RemoveChannels(budget=Ratio(0.8)))


def test_a_forgotten_compensation_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference gets the biases; a cut model without them is another function."""
    calls = []

    def once(*arguments: object) -> dict[str, str]:
        calls.append(arguments)
        return {} if len(calls) == 1 else add(*arguments)  # type: ignore[arg-type]

    add = add_biases
    monkeypatch.setattr(room, "add_biases", once)
    model = tower()

    with pytest.raises(VerificationError, match="differs from the pass's own reference"):
        cut(model, RemoveChannels(budget=Ratio(0.5)), Context(data=samples(model)))


class Odd:
    """Criteria that give what no criterion may give."""

    class Short:
        def score(self, group: object, evidence: object) -> Wide:
            return np.ones(1)

    class Wild:
        def score(self, group: object, evidence: object) -> Wide:
            return np.full(8, np.nan)


@pytest.mark.parametrize(
    ("odd", "told"), [(Odd.Short(), r"gave \(1,\) scores for the 8 "), (Odd.Wild(), "not finite")]
)
def test_scores_that_are_none_are_refused(odd: Criterion, told: str) -> None:
    with pytest.raises(InvalidConfig, match=told):
        cut(tower((8, 8)), RemoveChannels(odd))


def test_every_field_survives_json() -> None:
    step = RemoveChannels(
        criterion=criteria.make("activation_variance"),
        budget=MacsBelow(0.25),
        multiple=4,
        absorb=False,
        reconstruct=reconstructions.make("least_squares", ridge=0.5),
        skip=("head*", "stem"),
        scope="uniform",
        floor=0.3,
        units=("heads", "mlp"),
        may_change=("past_*",),
    )

    document = json.loads(json.dumps(to_json(step, Pass)))

    assert document == {
        "pass": "remove_channels",
        "criterion": {"name": "activation_variance"},
        "budget": {"name": "macs_below", "fraction": 0.25},
        "multiple": 4,
        "absorb": False,
        "reconstruct": {"name": "least_squares", "ridge": 0.5},
        "skip": ["head*", "stem"],
        "scope": "uniform",
        "units": ["heads", "mlp"],
        "may_change": ["past_*"],
        "floor": 0.3,
    }
    assert from_json(document, Pass) == step


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"pass": "remove_channels", "critrion": "l1"}, "criterion"),
        ({"pass": "remove_channels", "criterion": "l3"}, "l1"),
        ({"pass": "remove_channels", "budget": {"name": "macs_below", "fraction": 7}}, "at most 1"),
        ({"pass": "remove_channels", "budget": {"name": "macs_below"}}, "fraction"),
        ({"pass": "remove_channels", "multiple": "8"}, "whole number"),
    ],
)
def test_faulty_json_is_refused_with_a_hint(document: Json, told: str) -> None:
    with pytest.raises(GraphRewriteError, match=told):
        from_json(document, Pass)


def test_the_model_says_how_it_was_made_and_it_can_be_done_again(tmp_path: Path) -> None:
    model = attention()
    pipeline = Pipeline([RemoveChannels(budget=MacsBelow(0.4), multiple=4, skip=("embed",))])
    made = pipeline.run(model, Context(threads=1)).model
    made.save(tmp_path / "made.onnx")

    stored = Model.load(tmp_path / "made.onnx").metadata["graphrewrite.pipeline"]
    again = Pipeline.from_json(stored)

    assert again == pipeline
    for name, values in again.run(model, Context(threads=1)).model.weights.items():
        np.testing.assert_array_equal(values, made.weights[name])
