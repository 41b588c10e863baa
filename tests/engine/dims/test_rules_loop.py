"""Loop: what it carries is one axis in all rounds, what grows stays whole, and cuts reach into its body."""

import numpy as np

from graphrewrite.dims import groups, shrink
from graphrewrite.dims.shrink import weight_array
from graphrewrite.ir.edit import all_graphs
from tests.engine.dims.bodies import demand, filled

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


def test_constants_that_a_body_returns_are_weights() -> None:
    """One is what a state is reset to, one is collected in every round: both are cut like what reads them."""
    text = """agraph (float[2, 4] x) => (float[2, 3] y, float[3, 2, 2] z)
        <float[4, 6] into, float[6, 3] last, int64 rounds = {3}, float[5, 2] tap> {
        h = MatMul (x, into)
        going = Constant <value = bool {1}> ()
        after, all = Loop (rounds, going, h) <
            body = body (int64 i, bool on, float[2, 6] state) => (bool on_out, float[2, 6] reset, float[2, 5] mark)
                <float[2, 6] reset, float[2, 5] mark> { on_out = Identity (on) }
        >
        y = MatMul (after, last)
        z = MatMul (all, tap)
    }"""
    demand(filled(text), "5: mark[1] tap[0]", "6: into[1] last[0] reset[1]")


def test_states_from_graph_inputs_are_a_contract() -> None:
    text = RECURRENCE.replace("(float[N, 4] x)", "(float[N, 4] x, float[N, 6] h)").replace(
        "    h = MatMul (x, into)\n", ""
    )
    demand(
        filled(text.replace("float[4, 6] into, ", "")),
        pins={"cell[0]": "graph input h", "cell[1]": "graph input h"},
    )


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
