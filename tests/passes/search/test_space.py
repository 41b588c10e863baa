"""Spaces: which values a coordinate stands for, and where paths lead."""

import math

import pytest

from graphrewrite.errors import InvalidConfig
from graphrewrite.passes.channels import MacsBelow, RemoveChannels
from graphrewrite.passes.channels.budgets import Widths
from graphrewrite.passes.channels.criteria.l1 import L1
from graphrewrite.passes.search import Choice, Each, Space, Span
from graphrewrite.passes.search.space import expanded
from graphrewrite.passes.tidy import Tidy
from graphrewrite.pipeline import Pipeline


def test_a_span_without_steps_is_a_line() -> None:
    span = Span(0.2, 0.6)
    assert span.size is None
    assert [span.at(place) for place in (0.0, 0.5, 1.0)] == pytest.approx([0.2, 0.4, 0.6])
    assert span.place(0.3) == pytest.approx(0.25)


def test_whole_numbers_share_the_line_evenly() -> None:
    span = Span(2, 5)
    assert span.size == 4
    assert [span.at(place) for place in (0.0, 0.24, 0.25, 0.6, 0.99, 1.0)] == [2, 2, 3, 4, 5, 5]


def test_steps_reach_the_upper_end_in_spite_of_rounding() -> None:
    span = Span(0.1, 1.0, 0.1)
    assert span.size == 10
    assert span.at(1.0) == pytest.approx(1.0)
    assert Span(0.0, 1.0, 0.4).size == 3  # 0, 0.4, 0.8


def test_logarithms_are_spread_evenly() -> None:
    span = Span(0.001, 0.1, logarithmic=True)
    assert span.at(0.5) == pytest.approx(0.01)
    assert span.place(0.01) == pytest.approx(0.5)


@pytest.mark.parametrize("domain", [Span(0.2, 0.6), Span(2, 9), Span(0.1, 1.0, 0.1), Choice(("l1", "l2", 3))])
def test_a_value_lies_where_it_comes_from(domain: Span | Choice) -> None:
    for number in range(21):
        value = domain.at(number / 20)
        place = domain.place(value)
        assert place is not None
        again = domain.at(place)
        assert again == value or math.isclose(float(str(again)), float(str(value)))


def test_what_is_no_value_lies_nowhere() -> None:
    assert Span(1, 3).place(4) is None
    assert Span(0.0, 2.0).place(True) is None
    assert Choice(("a", "b")).place("c") is None


@pytest.mark.parametrize(
    "made",
    [
        lambda: Span(1, 1),
        lambda: Span(0.0, 1.0, logarithmic=True),
        lambda: Span(0.0, 1.0, 2.0),
        lambda: Span(0.0, math.inf),
        lambda: Choice(("only",)),
    ],
)
def test_a_domain_without_a_choice_is_refused(made: object) -> None:
    with pytest.raises(InvalidConfig):
        assert callable(made) and made()


def pipeline() -> Pipeline:
    """Tidying, then channel removal with a width for one group."""
    return Pipeline((Tidy(), RemoveChannels(L1(), Widths(1.0, {"a.weight[0]": 0.5}))))


def test_paths_lead_through_steps_and_registered_things_and_names_with_dots() -> None:
    space = Space(
        pipeline(),
        {
            "1.budget.fraction": Span(0.5, 1.0),
            "1.budget.shares.a.weight[0]": Span(0.2, 1.0, 0.2),
            "1.budget.shares.b.weight[0]": Span(0.5, 1.0, 0.25),
            "1.criterion": Choice(("l1", {"name": "kse", "alpha": 2.0})),
        },
    )
    assert space.sizes == (None, 5, 3, 2)
    filled = space.fill((0.5, 0.9, 0.0, 0.0))
    assert filled == Pipeline(
        (Tidy(), RemoveChannels(L1(), Widths(0.75, {"a.weight[0]": 1.0, "b.weight[0]": 0.5})))
    )
    assert space.fill((0.5, 0.9, 0.0, 1.0)) != filled
    assert pipeline() == space.pipeline  # filling leaves the pipeline alone


def test_the_pipeline_as_it_stands_is_a_point_where_the_space_holds_it() -> None:
    fields: dict[str, Span | Choice] = {"1.budget.fraction": Span(0.5, 1.0), "1.multiple": Choice((1, 8))}
    assert Space(pipeline(), fields).origin() == (1.0, 0.25)
    assert Space(pipeline(), {"1.budget.fraction": Span(0.2, 0.6)}).origin() is None
    assert Space(pipeline(), {"1.budget.shares.new": Span(0.2, 0.6)}).origin() is None


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("1.budget.fracton", "fraction"),
        ("7.budget.fraction", "list of 2"),
        ("budget", "budget"),
        ("1.scope.deeper", "beyond a plain value"),
        ("1.budget.fraction.deeper", "beyond a plain value"),
    ],
)
def test_a_path_that_leads_nowhere_is_named(path: str, message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        Space(pipeline(), {path: Span(0.2, 0.6)})


def test_a_value_that_a_field_does_not_take_is_refused_before_anything_is_tried() -> None:
    with pytest.raises(InvalidConfig, match=r"MacsBelow.fraction is 1\.5"):
        Space(RemoveChannels(budget=MacsBelow(0.5)), {"budget.fraction": Span(0.5, 1.5)})
    with pytest.raises(InvalidConfig, match="no field varies"):
        Space(pipeline())


def test_each_group_gets_a_path_of_its_own() -> None:
    span = Span(0.5, 1.0)
    assert expanded({"0.multiple": Choice((1, 8)), "0.budget.shares": Each(span)}, ["a[0]", "b[0]"]) == {
        "0.multiple": Choice((1, 8)),
        "0.budget.shares.a[0]": span,
        "0.budget.shares.b[0]": span,
    }
    with pytest.raises(InvalidConfig, match="has none"):
        expanded({"0.budget.shares": Each(span)}, [])
