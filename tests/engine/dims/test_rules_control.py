"""Rules of If, Loop and Scan: what bodies tie, what stays free in them, what pins, and that cuts reach into them."""

from collections.abc import Mapping

import numpy as np
import pytest

from graphrewrite import cost
from graphrewrite.dims import groups, shrink
from graphrewrite.dims.shrink import weight_array
from graphrewrite.ir import Model
from graphrewrite.ir.edit import all_graphs
from graphrewrite.passes.channels import MacsBelow, RemoveChannels
from graphrewrite.pipeline import Context
from tests.engine.dims.bodies import filled
from tests.engine.dims.cases import described, prove
from tests.support.verdict import model_faults


def demand(model: Model, *expect: str, pins: Mapping[str, str] | None = None) -> None:
    """Check the groups, the reasons of pins, the counts, and random cuts of a model."""
    found = groups(model)
    assert described(found) == sorted(expect), found.pinned
    reasons = {name.split(" ")[0]: reason for name, reason in found.pinned.items()}
    for place, part in (pins or {}).items():
        assert part in reasons.get(place, ""), (
            f"{place} is pinned because {reasons.get(place)!r}, not {part!r}"
        )
    assert found.macs() == cost.of(found.analysis.model).macs
    assert not model_faults(model, 0, budget=False)
    assert prove(model, found) or not expect


# ------------------------------------------------------------------------------------------------ If

BRANCHES = """agraph (float[N, 4] x, bool choice) => (float[N, 3] y)
    <float[4, 5] outer, float[6, 3] last> {
    h = MatMul (x, outer)
    r = If (choice) <
        then_branch = one () => (float[N, 6] a) <float[5, 7] up, float[7, 6] down> {
            wide = MatMul (h, up)
            bent = Relu (wide)
            a = MatMul (bent, down)
        },
        else_branch = two () => (float[N, 6] b) <float[5, 6] other> { b = MatMul (h, other) }
    >
    y = MatMul (r, last)
}"""


def test_both_branches_of_an_if_return_the_same_positions() -> None:
    demand(
        filled(BRANCHES),
        "5: other[0] outer[1] up[0]",
        "6: down[1] last[0] other[1]",
        "7: down[0] up[1]",
    )


def test_of_two_branches_the_dearer_counts_also_after_the_other_became_dearer() -> None:
    model = filled(BRANCHES)
    found = groups(model)
    # batch 2: outer 4*5, dearer branch 5*7 + 7*6, last 6*3
    assert found.macs() == 2 * (20 + 77 + 18)
    wide = next(group for group in found if group.units == 7)
    dead = found.none_dead()
    dead[wide.unit_ids[:5]] = True
    # 5*2 + 2*6 are fewer than the other's 5*6
    assert found.macs(dead) == 2 * (20 + 30 + 18)
    cut = shrink(found.analysis, found.dead_labels(dead)).model
    assert cost.of(cut).macs == 2 * (20 + 30 + 18)


def test_branches_of_equal_cost_both_shrink_for_a_budget() -> None:
    text = """agraph (float[N, 4] x, bool choice) => (float[N, 3] y) {
        y = If (choice) <
            then_branch = one () => (float[N, 3] a) <float[4, 8] w, float[8, 3] v> {
                h = MatMul (x, w)
                a = MatMul (h, v)
            },
            else_branch = two () => (float[N, 3] b) <float[4, 8] w, float[8, 3] v> {
                h = MatMul (x, w)
                b = MatMul (h, v)
            }
        >
    }"""
    model = filled(text)
    outcome = RemoveChannels(budget=MacsBelow(0.5)).run(model, Context(threads=1))
    assert cost.of(outcome.model).macs <= 0.5 * cost.of(model).macs
    demand(model, "8: v[0] w[1]", "8: v.1[0] w.1[1]")


def test_names_that_were_unique_stay_and_those_used_twice_stay_in_the_first_branch() -> None:
    text = """agraph (float[N, 4] x, bool choice) => (float[N, 6] y) {
        y = If (choice) <
            then_branch = one () => (float[N, 6] a) <float[4, 6] w> { a = MatMul (x, w) },
            else_branch = two () => (float[N, 6] b) <float[4, 6] w> { b = MatMul (x, w) }
        >
    }"""
    graphs = list(all_graphs(groups(filled(text)).analysis.model.graph))
    assert [list(graph.initializers) for graph in graphs] == [[], ["w"], ["w.1"]]
    assert [[t.name for n in graph.nodes for t in n.outputs] for graph in graphs] == [["y"], ["a"], ["b"]]


def test_branches_of_unlike_lengths_stay_whole() -> None:
    text = """agraph (float[N, 4] x, bool choice) => (y) <float[3, 2] last> {
        r = If (choice) <
            then_branch = one () => (a) <float[4, 6] left> { a = MatMul (x, left) },
            else_branch = two () => (b) <float[4, 5] right> { b = MatMul (x, right) }
        >
        low = ReduceMax <keepdims = 1, axes = [1]> (r)
        y = Concat <axis = 1> (low, low)
    }"""
    why = "its length differs between the branches"
    demand(filled(text), pins={"left[1]": why, "right[1]": why})


def test_what_an_if_captures_for_whole_numbers_is_not_forgotten() -> None:
    """The If returns indices only; the positions its branches count are those of a weight outside."""
    text = """agraph (float[N, 4] x, bool choice) => (int64[N, 1] y) <float[4, 6] w, float[6] gain> {
        h = MatMul (x, w)
        y = If (choice) <
            then_branch = one () => (int64[N, 1] a) { a = ArgMax <axis = 1> (h) },
            else_branch = two () => (int64[N, 1] b) { g = Mul (h, gain) b = ArgMin <axis = 1> (g) }
        >
    }"""
    demand(filled(text), pins={"w[1]": "ArgM"})


def test_an_if_with_one_choice_is_the_branch_it_takes() -> None:
    text = """agraph (float[N, 4] x) => (float[N, 3] y) <float[4, 6] w, float[6, 3] v> {
        h = MatMul (x, w)
        sizes = Shape (h)
        axis = Constant <value = int64 {1}> ()
        six = Constant <value = int64 {6}> ()
        width = Gather (sizes, axis)
        is_six = Equal (width, six)
        r = If (is_six) <
            then_branch = one () => (float[N, 6] a) { a = Relu (h) },
            else_branch = two () => (float[M, 6] b) {
                line = Constant <value = int64[2] {-1, 6}> () b = Reshape (h, line)
            }
        >
        y = MatMul (r, v)
    }"""
    demand(filled(text), "6: v[0] w[1]")


def test_a_constant_that_a_branch_returns_is_returned_whole() -> None:
    text = """agraph (float[2, 4] x, bool choice) => (float[2, 3] y) <float[4, 6] w, float[6, 3] v> {
        r = If (choice) <
            then_branch = one () => (float[2, 6] a) { a = MatMul (x, w) },
            else_branch = two () => (float[2, 6] b) <float[2, 6] b> { }
        >
        y = MatMul (r, v)
    }"""
    demand(filled(text), pins={"w[1]": "a constant that"})


# ------------------------------------------------------------------------------------------------ Loop

RECURRENCE = """agraph (float[N, 4] x) => (float[N, 3] y, float[3, N, 2] z)
    <float[4, 6] into, float[6, 3] last, int64 rounds = {3}, float[6, 2] tap> {
    h = MatMul (x, into)
    going = Constant <value = bool {1}> ()
    after, all = Loop (rounds, going, h) <
        body = body (int64 i, bool on, float[N, 6] state) => (bool on_out, float[N, 6] next, float[N, 6] seen)
            <float[6, 6] cell, float[6] bias> {
            on_out = Identity (on)
            mixed = MatMul (state, cell)
            biased = Add (mixed, bias)
            next = Tanh (biased)
            seen = Abs (next)
        }
    >
    y = MatMul (after, last)
    z = MatMul (all, tap)
}"""


def test_what_a_loop_carries_is_one_axis_before_inside_and_after() -> None:
    demand(filled(RECURRENCE), "6: bias[0] cell[0] cell[1] into[1] last[0] tap[0]")


def test_the_work_of_a_loop_counts_once_for_every_round() -> None:
    # batch 2: 4*6, three rounds of 6*6, 6*3, and three times 6*2
    assert groups(filled(RECURRENCE)).macs() == 2 * (24 + 3 * 36 + 18 + 3 * 12)


def test_a_cut_reaches_weights_and_declared_shapes_of_the_body() -> None:
    found = groups(filled(RECURRENCE))
    dead = found.none_dead()
    dead[found.groups[0].unit_ids[[1, 4]]] = True
    shrunk = shrink(found.analysis, found.dead_labels(dead))
    kept = [0, 2, 3, 5]
    cell = weight_array(found.analysis.model, "cell")
    np.testing.assert_array_equal(weight_array(shrunk.model, "cell"), cell[np.ix_(kept, kept)])
    _, body = all_graphs(shrunk.model.graph)
    assert [tensor.shape for tensor in body.inputs[2:]] == [["N", 4]]
    assert [tensor.shape for tensor in body.outputs[1:]] == [["N", 4], ["N", 4]]
    assert set(body.initializers) == {"cell", "bias"}


def test_a_loop_of_unknown_length_is_cut_as_well() -> None:
    text = RECURRENCE.replace("int64 rounds = {3}, ", "").replace(
        "(float[N, 4] x)", "(float[N, 4] x, int64 rounds)"
    )
    model = filled(text.replace("float[3, N, 2] z", "float[R, N, 2] z"))
    demand(model, "6: bias[0] cell[0] cell[1] into[1] last[0] tap[0]")


def test_an_axis_that_grows_from_round_to_round_stays_whole_and_the_others_do_not() -> None:
    text = """agraph (float[N, 4] x) => (float[N, 3] y)
        <float[4, 6] into, float[6, 3] last, int64 rounds = {3}> {
        flat = MatMul (x, into)
        one = Constant <value = int64[1] {1}> ()
        h = Unsqueeze (flat, one)
        going = Constant <value = bool {1}> ()
        after = Loop (rounds, going, h) <
            body = body (int64 i, bool on, float[N, T, 6] state) => (bool on_out, float[N, U, 6] next) {
                on_out = Identity (on)
                bent = Sigmoid (state)
                next = Concat <axis = 1> (bent, h)
            }
        >
        mean = ReduceMean <axes = [1], keepdims = 0> (after)
        y = MatMul (mean, last)
    }"""
    demand(filled(text), "6: into[1] last[0]")


def test_a_channel_axis_that_grows_from_round_to_round_is_pinned_with_the_reason() -> None:
    text = """agraph (float[N, 4] x) => (float[N, 1] y) <float[4, 6] into, int64 rounds = {3}> {
        h = MatMul (x, into)
        going = Constant <value = bool {1}> ()
        after = Loop (rounds, going, h) <
            body = body (int64 i, bool on, float[N, T] state) => (bool on_out, float[N, U] next) {
                on_out = Identity (on)
                next = Concat <axis = 1> (state, h)
            }
        >
        y = ReduceMax <axes = [1]> (after)
    }"""
    demand(filled(text), pins={"into[1]": "its length changes from round to round"})


def test_sizes_written_in_a_body_are_restated_there() -> None:
    """Two heads of three, split and joined by numbers in the body; a scale from Shape stays what it was."""
    text = """agraph (float[N, 4] x) => (float[N, 3] y) <float[4, 6] into, float[6, 3] last, int64 rounds = {2}> {
        h = MatMul (x, into)
        going = Constant <value = bool {1}> ()
        after = Loop (rounds, going, h) <
            body = body (int64 i, bool on, float[N, 6] state) => (bool on_out, float[N, 6] next)
                <float[6, 6] cell, float[3, 3] inner> {
                on_out = Identity (on)
                mixed = MatMul (state, cell)
                split = Constant <value = int64[3] {-1, 2, 3}> ()
                heads = Reshape (mixed, split)
                sizes = Shape (heads)
                place = Constant <value = int64 {2}> ()
                dims = Gather (sizes, place)
                dims_float = Cast <to = 1> (dims)
                root = Sqrt (dims_float)
                turned = MatMul (heads, inner)
                scaled = Div (turned, root)
                flat = Constant <value = int64[2] {-1, 6}> ()
                joined = Reshape (scaled, flat)
                next = Tanh (joined)
            }
        >
        y = MatMul (after, last)
    }"""
    demand(
        filled(text),
        "2: cell[0]*3 cell[1]*3 into[1]*3 last[0]*3",
        "3: cell[0]*2 inner[1] into[1]*2 last[0]*2",
        "3: cell[1]*2 inner[0]",
    )


def test_weights_read_inside_and_outside_of_a_body() -> None:
    """The matrix is one weight and ties; the bias gets a copy of its own where other positions stay."""
    text = """agraph (float[N, 6] x) => (float[N, 3] y)
        <float[6, 5] both, float[5] bias, float[5, 5] plain, float[5, 3] last, int64 rounds = {2}> {
        outside = MatMul (x, both)
        biased = Add (outside, bias)
        h = MatMul (biased, plain)
        going = Constant <value = bool {1}> ()
        after = Loop (rounds, going, h) <
            body = body (int64 i, bool on, float[N, 5] state) => (bool on_out, float[N, 5] next) {
                on_out = Identity (on)
                again = MatMul (x, both)
                shifted = Add (state, bias)
                sum = MatMul (shifted, plain)
                next = Add (sum, again)
            }
        >
        y = MatMul (after, last)
    }"""
    demand(filled(text), "5: bias[0]*2 both[1] last[0] plain[0] plain[1]")


def test_an_if_in_a_loop() -> None:
    text = """agraph (float[N, 4] x) => (float[N, 3] y) <float[4, 6] into, float[6, 3] last, int64 rounds = {3}> {
        h = MatMul (x, into)
        going = Constant <value = bool {1}> ()
        after = Loop (rounds, going, h) <
            body = body (int64 i, bool on, float[N, 6] state) => (bool on_out, float[N, 6] next) {
                on_out = Identity (on)
                one = Constant <value = int64 {1}> ()
                early = Less (i, one)
                next = If (early) <
                    then_branch = first () => (float[N, 6] a) <float[6, 8] up, float[8, 6] down> {
                        wide = MatMul (state, up)
                        a = MatMul (wide, down)
                    },
                    else_branch = later () => (float[N, 6] b) <float[6, 6] w> { b = MatMul (state, w) }
                >
            }
        >
        y = MatMul (after, last)
    }"""
    demand(filled(text), "6: down[1] into[1] last[0] up[0] w[0] w[1]", "8: down[0] up[1]")


def test_states_from_graph_inputs_are_a_contract() -> None:
    text = RECURRENCE.replace("(float[N, 4] x)", "(float[N, 4] x, float[N, 6] h)").replace(
        "    h = MatMul (x, into)\n", ""
    )
    demand(
        filled(text.replace("float[4, 6] into, ", "")),
        pins={"cell[0]": "graph input h", "cell[1]": "graph input h"},
    )


# ------------------------------------------------------------------------------------------------ Scan

CELL = """agraph (float[N, 5, 4] x) => (float[N, 5, 2] y) <float[6, 2] last, float[1, 6] zero, float[4, 4] first> {
    turned = MatMul (x, first)
    steps = Transpose <perm = [PERM]> (turned)
    shape = Shape (x)
    nought = Constant <value = int64[1] {0}> ()
    batch = Gather (shape, nought)
    six = Constant <value = int64[1] {6}> ()
    both = Concat <axis = 0> (batch, six)
    h = Expand (zero, both)
    final, states = Scan <num_scan_inputs = 1, ATTRIBUTES,
        body = cell (float[N, 6] state, float[N, 4] step) => (float[N, 6] next, float[N, 6] seen)
            <float[10, 6] gate, float[10, 6] fresh> {
            joined = Concat <axis = 1> (state, step)
            opened = MatMul (joined, gate)
            open = Sigmoid (opened)
            made = MatMul (joined, fresh)
            bent = Tanh (made)
            taken = Mul (open, bent)
            next = Add (taken, state)
            seen = Identity (next)
        }
    > (h, steps)
    rows = Transpose <perm = [BACK]> (states)
    y = MatMul (rows, last)
}"""


@pytest.mark.parametrize(
    ("perm", "back", "attributes"),
    [
        ("1, 0, 2", "1, 0, 2", "scan_input_directions = [0]"),
        ("1, 0, 2", "1, 0, 2", "scan_input_directions = [1], scan_output_directions = [1]"),
        ("0, 1, 2", "0, 1, 2", "scan_input_axes = [1], scan_output_axes = [1]"),
        ("0, 2, 1", "0, 2, 1", "scan_input_axes = [-1], scan_output_axes = [-1]"),
    ],
)
def test_a_cell_scanned_over_time(perm: str, back: str, attributes: str) -> None:
    text = CELL.replace("PERM", perm).replace("BACK", back).replace("ATTRIBUTES", attributes)
    demand(
        filled(text),
        "4: first[1] fresh[0] gate[0]",
        "6: fresh[0] fresh[1] gate[0] gate[1] last[0] zero[1]",
        pins={"first[0]": "graph input x"},
    )


def test_the_scanned_axis_stays_whole() -> None:
    """The rows of a weight are scanned: as many rounds as there are rows."""
    text = """agraph (float[N, 4] x) => (float[5, N, 3] y) <float[5, 4, 6] rows, float[6, 3] last> {
        all = Scan <num_scan_inputs = 1,
            body = round (float[4, 6] row) => (float[N, 6] out) { out = MatMul (x, row) }
        > (rows)
        y = MatMul (all, last)
    }"""
    demand(filled(text), "6: last[0] rows[2]", pins={"rows[0]": "it is scanned", "rows[1]": "graph input x"})


# ------------------------------------------------------------------------------------------------ what is refused


def test_an_operator_without_a_rule_pins_what_it_touches_in_a_body_and_nothing_else() -> None:
    found = groups(filled(RECURRENCE.replace("seen = Abs (next)", "seen = my.Thing (next)")))
    why = "no dimension rule for Thing of domain my"
    assert not list(found)
    assert why in found.pinned["cell[1]"] and why in found.pinned["into[1]"]
    assert list(found.analysis.refused) == ["my.Thing"]


def test_a_body_of_an_unknown_operator_is_left_alone() -> None:
    text = """agraph (float[N, 4] x) => (float[N, 6] y) <float[4, 6] w> {
        h = MatMul (x, w)
        y = my.Twice <body = body () => (float[N, 6] a) { a = Relu (h) }> (x)
    }"""
    found = groups(filled(text))
    assert "no dimension rule for Twice of domain my" in found.pinned["w[1]"]
