"""Inputs and outputs that may change: caches, states, features; what the caller is told; and that the proof selects."""

from dataclasses import replace
from typing import cast

import numpy as np
import pytest

from graphrewrite.dims import groups
from graphrewrite.errors import InvalidConfig, VerificationError
from graphrewrite.ir import Builder, Model, infer
from graphrewrite.passes.channels import MacsBelow, Ratio, RemoveChannels
from graphrewrite.passes.channels.latency import relative_latency
from graphrewrite.passes.tidy import Tidy
from graphrewrite.pipeline import Context, Outcome, Pass, Pipeline
from graphrewrite.pipeline.verify import relative_error
from graphrewrite.runtime import run, sample_inputs, take_kept
from tests.passes.channels.nets import cut, details, groups_told
from tests.passes.channels.transformers import DIM, HEADS, cached

CACHE = ("past_*", "present_*")


def shapes(model: Model) -> dict[str, list[int]]:
    """Return the sizes of inputs and outputs in sample world A, in which N is 2."""
    found = infer(model)
    return {tensor.name: [*(found.sizes(tensor.name) or ())] for tensor in (*model.inputs, *model.outputs)}


def test_a_cache_holds_heads_back_unless_it_may_change() -> None:
    whole, free = (
        groups(cached(), may_change=names)
        for names in ((), ("past_k", "past_v", *("present_k_out", "present_v_out")))
    )

    assert {group.kind for group in whole} == {"width", "mlp"}
    assert sorted((group.kind, group.units) for group in free) == sorted(
        [("heads", HEADS), ("head_dim", DIM), ("head_dim", DIM), ("width", 12), ("mlp", 20)]
    )


def test_one_side_of_a_cache_is_not_enough() -> None:
    for patterns in (("past_*",), ("present_*",)):
        told = groups_told(cut(cached(), RemoveChannels(budget=Ratio(0.5), may_change=patterns)))
        assert len(told) == 2


def test_heads_of_a_cache_go_and_the_claim_holds() -> None:
    result = cut(cached(), RemoveChannels(budget=Ratio(0.5), may_change=CACHE, units=("heads", "head_dim")))
    (report,) = result.report.steps

    assert shapes(result.model)["past_k"][1::2] == [HEADS // 2, DIM // 2]
    assert shapes(result.model)["present_v_out"][1] == HEADS // 2
    assert report.verified.how == "reference" and (report.verified.error or 0) < 1e-5
    assert (report.verified.movement or 0) > 1e-3
    assert len(report.verified.worlds) == 2


def test_the_caller_is_told_which_positions_to_feed() -> None:
    result = cut(cached(), RemoveChannels(budget=Ratio(0.5), may_change=CACHE, units="heads"))  # type: ignore[arg-type]
    ports = cast("dict[str, dict[str, list[int]]]", details(result)["ports"])
    (report,) = result.report.steps

    assert ports.keys() == {"past_k", "past_v", "present_k_out", "present_v_out"}
    assert all(axes == {"1": ports["past_k"]["1"]} for axes in ports.values())
    first, second = ports["past_k"]["1"]
    notes = {note.subject: note.text for note in report.notes}
    feed = (
        f"must feed it as [N, 2, P, 6] from now on with positions {first}, {second} of axis 1 of the original"
    )
    assert notes["past_k"] == f"the caller {feed}"
    assert notes["present_k_out"].startswith("the caller gets it from now on with positions ")


def test_steps_of_a_cache_stay_although_their_number_is_fixed() -> None:
    found = groups(cached(past=5), may_change=("past_k", "past_v", "present_k_out", "present_v_out"))

    assert sorted(group.units for group in found if group.kind == "head_dim") == [DIM, DIM]


def test_recurrent_states_and_features_may_change() -> None:
    b = Builder()
    x, h = b.input([3, "N", 4], "x"), b.input([1, "N", 8], "h")
    y, last = b.op_all(
        "GRU",
        x,
        b.weight(1, 24, 4, name="w"),
        b.weight(1, 24, 8, name="r"),
        None,
        None,
        h,
        outputs=2,
        hidden_size=8,
    )
    model = b.model(b.op("MatMul", b.op("Squeeze", y, b.constant(np.array([1]))), b.weight(8, 2)), last)

    assert not len(groups(model))
    names = (last.name, "h", "x")
    result = cut(model, RemoveChannels(budget=Ratio(0.5), may_change=names))

    assert shapes(result.model)["h"][::2] == [1, 4] and shapes(result.model)["x"][::2] == [3, 2]
    assert shapes(result.model)[last.name][-1] == 4
    assert sorted(row["units"] for row in groups_told(result)) == [4, 8]


def test_later_steps_are_proved_with_what_the_cut_model_takes() -> None:
    half = RemoveChannels(budget=Ratio(0.5), may_change=CACHE)
    steps: list[Pass] = [half, Tidy(), half]
    result = Pipeline(steps, verify="full").run(cached(), Context(threads=1))

    assert shapes(result.model)["past_k"][1::2] == [1, 2]
    assert [step.verified.how for step in result.report.steps][::2] == ["reference", "reference"]


def test_latency_is_measured_with_what_each_model_takes() -> None:
    found = groups(cached(), may_change=("past_k", "past_v", "present_k_out", "present_v_out"))
    dead = found.none_dead()
    dead[next(group for group in found if group.kind == "heads").unit_ids[:2]] = True

    assert relative_latency(found.analysis.model, found, dead, Context(threads=1)) > 0


@pytest.mark.parametrize("wrong", ["another head", "nothing said"])
def test_the_proof_sees_a_wrong_selection(wrong: str) -> None:
    class Lying(RemoveChannels):
        def run(self, model: Model, context: Context) -> Outcome:
            outcome = super().run(model, context)
            ports = {name: dict(axes) for name, axes in outcome.ports.items()}
            for axes in ports.values():
                axes[1] = (axes[1] + 1) % HEADS
            return replace(outcome, ports=ports if wrong == "another head" else {})

    with pytest.raises(VerificationError):
        Pipeline([Lying(budget=Ratio(0.5), may_change=CACHE, units=("heads",))], verify="full").run(
            cached(), Context(threads=1)
        )


def test_the_cut_model_computes_the_kept_positions_at_other_sizes_too() -> None:
    model = cached()
    outcome = RemoveChannels(budget=MacsBelow(0.5), may_change=CACHE).run(model.clone(), Context(threads=1))
    assert outcome.reference is not None
    reference = outcome.reference()
    rng = np.random.default_rng(0)
    for batch, past, tokens in ((1, 0, 1), (1, 9, 1), (4, 3, 2)):
        feeds = {
            "x": rng.standard_normal((batch, tokens, 4)).astype(np.float32),
            **{f"past_{p}": rng.standard_normal((batch, HEADS, past, DIM)).astype(np.float32) for p in "kv"},
        }
        expected = take_kept(run(reference, feeds, threads=1), outcome.ports)
        found = run(outcome.model, take_kept(feeds, outcome.ports), threads=1)
        for name, array in expected.items():
            assert relative_error(array, found[name]) < 1e-5
    assert sample_inputs(outcome.model)["past_k"].shape[1] < HEADS


def test_a_pattern_that_names_nothing_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="'pasts' of what may change names no input or output.*past_k"):
        cut(cached(), RemoveChannels(may_change=("pasts",)))
