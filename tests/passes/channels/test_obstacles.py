"""A budget that cannot be met says what holds the model back: reasons with their share, operators nobody knows."""

import re

import pytest

from graphrewrite.errors import BudgetError
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.channels import MacsBelow, RemoveChannels
from graphrewrite.passes.channels.obstacles import held_back
from graphrewrite.pipeline import Context


def net(op: str, domain: str | None = None) -> Model:
    """Eight channels between two products; an operator between them."""
    b = Builder()
    x = b.input(["N", 4], "x")
    hidden = b.op("MatMul", x, b.weight(4, 8))
    inside = b.op(op, hidden, domain=domain)
    return b.model(b.op("MatMul", inside, b.weight(8, 3)))


def test_an_impossible_budget_names_what_ties_the_layers() -> None:
    model = net("Relu")

    with pytest.raises(BudgetError) as caught:
        RemoveChannels(budget=MacsBelow(0.05)).run(model, Context())

    # Four input and three output features: 32 and 24 of 56 multiplications.
    assert "(graph input x) (in layers with 57% of the MACs)" in str(caught.value)
    assert re.search(r"graph output \S+ \(in layers with 43% of the MACs\)", str(caught.value))
    assert "not known here" not in str(caught.value)


def test_operators_that_nobody_knows_are_named() -> None:
    model = net("Whatever", domain="com.example")

    assert "operators not known here: Whatever (1 node)" in held_back(model).replace("com.example.", "")
    assert "no dimension rule" in held_back(model)


def test_what_may_change_holds_nothing_back() -> None:
    assert "graph input x" in held_back(net("Relu"))
    assert "graph input x" not in held_back(net("Relu"), may_change=["x"])


def test_nothing_pinned_has_nothing_to_say() -> None:
    b = Builder()
    model = b.model(b.relu(b.input(["N", "C"], "x")))

    assert held_back(model) == ""
