"""What each layer became: followed by its weight, its output or its name, with costs worked out by hand."""

import numpy as np

from graphrewrite.ir import Builder, Model
from graphrewrite.ir.edit import add_constant, set_input
from graphrewrite.report.became import became, section


def net(factored: bool = False) -> Model:
    """Two products of [n, 8] with [8, 6] and [6, 4]; the first one through a rank of 2 when factored."""
    b = Builder()
    x = b.input(["n", 8], name="x")
    sizes = {"left": (8, 2), "right": (2, 6)} if factored else {"first": (8, 6)}
    for name, shape in sizes.items():
        x = b.op("MatMul", x, b.weight(*shape, name=f"{name}.weight"), name=name)
    x.name = "wide"
    return b.model(b.op("MatMul", b.relu(x), b.weight(6, 4, name="w"), name="second"))


def test_a_layer_written_with_two_others_is_followed_by_its_output() -> None:
    first, second = became(net(), net(factored=True))
    assert (first.op, first.shape, first.ops, first.nodes) == (
        "MatMul",
        (8, 6),
        ("MatMul",) * 2,
        ("left", "right"),
    )
    assert (first.macs_before, first.macs_after) == (8 * 6, 8 * 2 + 2 * 6)
    assert (first.bytes_before, first.bytes_after) == (4 * 48, 4 * 28)
    assert second.is_same and not first.is_same


def test_a_layer_is_followed_by_the_later_names_of_its_weight() -> None:
    before, after = net(), net()
    second = after.nodes("MatMul")[1]
    second.name = "renamed"
    second.outputs[0].name = "elsewhere"
    set_input(second, 1, add_constant(after.graph, "halves", np.zeros((6, 4), np.float16)))
    assert became(before, after)[1].nodes == ()
    after.origin["halves"] = ("w", "rounded")
    found = became(before, after)[1]
    assert (found.nodes, found.bytes_before, found.bytes_after) == (("renamed",), 96, 48)


def test_a_layer_whose_name_alone_is_left_is_followed_by_that() -> None:
    after = net()
    first = after.nodes("MatMul")[0]
    first.outputs[0].name = "elsewhere"
    set_input(first, 1, add_constant(after.graph, "thinner", np.zeros((8, 6), np.float16)))
    assert became(net(), after)[0].bytes_after == 96


def test_a_layer_that_ends_later_now_is_followed_to_where_what_worked_on_it_ends() -> None:
    """The rectifier went into the first product: nothing has the old name, nor the product's output."""
    after = net()
    first, relu = after.nodes("MatMul")[0], after.nodes("Relu")[0]
    after.graph.nodes.remove(relu)
    end = relu.outputs[0]
    relu.outputs.clear()
    first.outputs[0] = end
    first.name = "fused"
    set_input(first, 1, add_constant(after.graph, "other", np.zeros((8, 6), np.float16)))
    found = became(net(), after)
    assert [row.nodes for row in found] == [("fused",), ("second",)]


def test_the_table_has_what_is_told_what_it_costs_and_why_others_were_left() -> None:
    told = {"right": {"rank": "2"}, "gate": {"rank": "3 -> 1"}}
    found = section(became(net(), net(factored=True)), told, {"second": "too small"})
    assert found.columns == (
        "layer", "operator", "weight", "rank", "MACs per sample", "bytes of constants", "why left alone",
    )  # fmt: skip
    assert found.rows == (
        ("first", "MatMul → 2 MatMul", "[8,\N{NO-BREAK SPACE}6]", "2", "48 → 28", "192 B → 112 B", ""),
        ("second", "MatMul", "[6,\N{NO-BREAK SPACE}4]", "", "24", "96 B", "too small"),
        ("gate", "", "", "3 → 1", "", "", ""),
    )
    assert found.numbers == ("rank", "MACs per sample", "bytes of constants") and "<svg" in found.picture


def test_where_nothing_became_other_there_is_no_table() -> None:
    found = section(became(net(), net()), {}, {})
    assert not found.rows and found.told.startswith("2 layers, all with")


def test_the_reason_is_found_under_the_name_a_layer_has_now() -> None:
    after = net()
    after.nodes("MatMul")[1].name = "renamed"
    assert (
        section(became(net(), after), {"first": {"rank": "3"}}, {"renamed": "too small"}).rows[1][-1]
        == "too small"
    )
