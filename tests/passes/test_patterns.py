"""Patterns of names: what fits, what is left and why."""

from dataclasses import dataclass

import pytest

from graphrewrite.errors import InvalidConfig
from graphrewrite.passes.patterns import as_tuples, check_weights_named, matching, why_left


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("w[0]", ["w[0]"]),
        ("w*", ["w[0]", "w0", "w\n1"]),
        ("*0*", ["w[0]", "w0"]),
        ("w?", []),
        ("W0", []),
        ("*", ["w[0]", "w0", "w\n1", "v"]),
        ("", []),
    ],
)
def test_only_stars_are_special(pattern: str, names: list[str]) -> None:
    assert matching(pattern, ["w[0]", "w0", "w\n1", "v"]) == names


def test_why_a_layer_is_left() -> None:
    assert why_left("head", (), (), "lower") is None
    assert why_left("head", ("h*",), ("t*",), "lower") is None
    assert why_left("tail", ("h*",), ("t*",), "lower") == "not among the layers to lower"
    assert why_left("tail", (), ("x", "*l", "t*"), "lower") == "named by the skip pattern '*l'"


def test_a_pattern_must_name_something() -> None:
    check_weights_named(("h*", "tail"), ["head", "tail"])
    with pytest.raises(
        InvalidConfig, match="'x' names no layer with a constant weight; there are head, tail; "
    ):
        check_weights_named(("h*", "x"), ["head", "tail"])
    with pytest.raises(InvalidConfig, match="there are none"):
        check_weights_named(("x",), [])


def test_one_text_is_one_pattern() -> None:
    @dataclass(frozen=True)
    class Step:
        only: tuple[str, ...] = ()
        skip: tuple[str, ...] = ()

        def __post_init__(self) -> None:
            as_tuples(self, "only", "skip")

    assert Step("head", ["a", "b"]) == Step(("head",), ("a", "b"))  # type: ignore[arg-type]
