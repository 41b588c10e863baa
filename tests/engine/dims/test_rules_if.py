"""If: what both branches return is tied, what one branch has of its own stays free, and the dearer one counts."""

from graphrewrite import cost
from graphrewrite.dims import groups, shrink
from graphrewrite.ir.edit import all_graphs
from graphrewrite.passes.channels import MacsBelow, RemoveChannels
from graphrewrite.pipeline import Context
from tests.engine.dims.bodies import demand, filled

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


def test_a_constant_that_a_branch_returns_is_cut_like_what_the_other_returns() -> None:
    text = """agraph (float[2, 4] x, bool choice) => (float[2, 3] y) <float[4, 6] w, float[6, 3] v> {
        r = If (choice) <
            then_branch = one () => (float[2, 6] a) { a = MatMul (x, w) },
            else_branch = two () => (float[2, 6] b) <float[2, 6] b> { }
        >
        y = MatMul (r, v)
    }"""
    demand(filled(text), "6: b[1] v[0] w[1]")
