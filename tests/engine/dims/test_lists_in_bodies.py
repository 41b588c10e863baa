"""Lists that loops fill and branches return: their items share the axes, and cuts reach what is declared of them."""

import numpy as np
import pytest

from graphrewrite.dims import groups, shrink
from graphrewrite.ir.edit import all_graphs
from tests.engine.dims.bodies import demand, filled
from tests.support.oracles import random_dead, removal
from tests.support.tolerances import FLOAT32

GATHERED = """agraph (float[N, T, 4] x) => (Y)
    <float[4, 6] into, float[6, 6] cell, float[4, 6] fresh, float[6, 3] last> {
    steps = Transpose <perm = [1, 0, 2]> (x)
    shape = Shape (x)
    one = Constant <value = int64 {1}> ()
    time = Gather <axis = 0> (shape, one)
    going = Constant <value = bool {1}> ()
    zero = Constant <value = int64 {0}> ()
    start = Gather <axis = 0> (steps, zero)
    h = MatMul (start, into)
    none = SequenceEmpty ()
    end, all = Loop (time, going, h, none) <
        body = round (int64 i, bool on, float[N, 6] state, seq(float[N, 6]) list)
            => (bool on_out, float[N, 6] next, seq(float[N, 6]) longer) {
            on_out = Identity (on)
            step = Gather <axis = 0> (steps, i)
            mixed = MatMul (state, cell)
            read = MatMul (step, fresh)
            sum = Add (mixed, read)
            next = Tanh (sum)
            longer = SequenceInsert (list, next)
        }
    >
    JOIN
}"""
HIDDEN = "6: cell[0] cell[1] fresh[1] into[1] last[0]"


@pytest.mark.parametrize(
    ("join", "result"),
    [
        ("s = ConcatFromSequence <axis = 1, new_axis = 1> (all)\n y = MatMul (s, last)", "float[N, T, 3] y"),
        ("s = ConcatFromSequence <axis = 0> (all)\n y = MatMul (s, last)", "float[M, 3] y"),
        ("two = Constant <value = int64 {-2}> ()\n s = SequenceAt (all, two)\n y = MatMul (s, last)", "float[N, 3] y"),
        ("s = SequenceAt (all, zero)\n t = Add (s, end)\n y = MatMul (t, last)", "float[N, 3] y"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("time", ["T", "5"])
def test_states_that_a_loop_appends_to_a_list(join: str, result: str, time: str) -> None:
    """As scripted loops are exported; the list is joined along time, along the batch, or asked for one item."""
    text = GATHERED.replace("JOIN", join).replace("(Y)", f"({result})")
    demand(filled(text.replace("T,", f"{time},")), HIDDEN)


def test_the_length_of_a_list_that_a_loop_fills_is_no_reader() -> None:
    join = """count = SequenceLength (all)
    share = Cast <to = 1> (count)
    t = Div (end, share)
    y = MatMul (t, last)"""
    demand(filled(GATHERED.replace("JOIN", join).replace("(Y)", "(float[N, 3] y)")), HIDDEN)


def test_declared_sizes_of_a_list_in_a_body_are_forgotten_when_it_is_cut() -> None:
    join = "s = ConcatFromSequence <axis = 1, new_axis = 1> (all)\n y = MatMul (s, last)"
    found = groups(filled(GATHERED.replace("JOIN", join).replace("(Y)", "(float[N, T, 3] y)")))
    dead = found.none_dead()
    dead[found.groups[0].unit_ids[[1, 4]]] = True
    cut = shrink(found.analysis, found.dead_labels(dead)).model
    _, body = all_graphs(cut.graph)
    assert body.inputs[2].shape == ["N", 4]
    kind = body.inputs[3].info.type.sequence_type.elem_type.tensor_type
    assert kind.elem_type == 1 and not kind.HasField("shape")


def test_a_list_that_is_full_before_the_loop_is_read_and_changed_in_it() -> None:
    """The item in front is taken out and a new one put in behind: a delay line."""
    text = """agraph (float[N, 4] x) => (float[N, 3] y)
        <float[4, 6] a, float[4, 6] b, float[6, 6] cell, float[6, 3] last, int64 rounds = {3}> {
        g = MatMul (x, a)
        h = MatMul (x, b)
        line = SequenceConstruct (g, h)
        going = Constant <value = bool {1}> ()
        zero = Constant <value = int64 {0}> ()
        after = Loop (rounds, going, line) <
            body = round (int64 i, bool on, seq(float[N, 6]) list) => (bool on_out, seq(float[N, 6]) later) {
                on_out = Identity (on)
                oldest = SequenceAt (list, zero)
                mixed = MatMul (oldest, cell)
                bent = Tanh (mixed)
                rest = SequenceErase (list, zero)
                later = SequenceInsert (rest, bent)
            }
        >
        t = SequenceAt (after, zero)
        y = MatMul (t, last)
    }"""
    demand(filled(text), "6: a[1] b[1] cell[0] cell[1] last[0]")


def test_branches_that_append_or_not() -> None:
    text = GATHERED.replace(
        "longer = SequenceInsert (list, next)",
        """odd = Cast <to = 9> (i)
            longer = If (odd) <
                then_branch = some () => (seq(float[N, 6]) p) { twice = Add (next, next)
                    p = SequenceInsert (list, twice) },
                else_branch = none_of_it () => (seq(float[N, 6]) q) { q = Identity (list) }
            >""",
    ).replace("JOIN", "s = ConcatFromSequence <axis = 0> (all)\n y = MatMul (s, last)")
    demand(filled(text.replace("(Y)", "(float[M, 3] y)")), HIDDEN)


def test_an_axis_that_grows_from_item_to_item_stays_whole() -> None:
    text = """agraph (float[N, 4] x) => (float[N, 1] y) <float[4, 6] into, int64 rounds = {3}> {
        h = MatMul (x, into)
        going = Constant <value = bool {1}> ()
        none = SequenceEmpty ()
        end, all = Loop (rounds, going, h, none) <
            body = round (int64 i, bool on, float[N, S] state, seq(float[N, U]) list)
                => (bool on_out, float[N, W] next, seq(float[N, V]) longer) {
                on_out = Identity (on)
                next = Concat <axis = 1> (state, h)
                longer = SequenceInsert (list, next)
            }
        >
        s = ConcatFromSequence <axis = 1> (all)
        y = ReduceMax <axes = [1]> (s)
    }"""
    demand(filled(text), pins={"into[1]": "its length changes from round to round"})


def test_random_cuts_of_a_loop_that_appends_differ_without_the_masks() -> None:
    join = "s = ConcatFromSequence <axis = 1, new_axis = 1> (all)\n y = MatMul (s, last)"
    model = filled(GATHERED.replace("JOIN", join).replace("(Y)", "(float[N, T, 3] y)"))
    found = groups(model)
    dead = random_dead(found, np.random.default_rng(1), untouched=0)
    assert removal(model, found, dead).error < FLOAT32
    found.analysis.mixes.clear()
    assert removal(model, found, dead).error > 1e-3
