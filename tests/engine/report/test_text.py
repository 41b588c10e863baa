"""Figures as text."""

import pytest

from graphrewrite.report import text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00 k"),
        (1234567, "1.23 M"),
        (99_960, "100 k"),
        (999_600, "1.00 M"),
        (12_340, "12.3 k"),
    ],
)
def test_counts_have_three_figures(value: int, expected: str) -> None:
    assert text.count(value) == expected


def test_sizes_are_decimal() -> None:
    assert [text.size(12), text.size(2_800_000)] == ["12 B", "2.80 MB"]


@pytest.mark.parametrize(("value", "expected"), [(2.5, "2.50 s"), (0.00123, "1.23 ms"), (4.2e-5, "42.0 us")])
def test_durations_choose_their_unit(value: float, expected: str) -> None:
    assert text.seconds(value) == expected


def test_change_is_relative_to_before() -> None:
    assert [text.change(200, 100), text.change(100, 125), text.change(7, 7), text.change(0, 3)] == [
        "-50.0 %",
        "+25.0 %",
        "0 %",
        "",
    ]


def test_names_from_a_file_cannot_steer_the_terminal() -> None:
    assert text.safe("a\x1b[2Jb\rc\u202ed") == "a\\x1b[2Jb\\rc\\u202ed"
    assert text.one_line(" first\n\tsecond ") == "first second"
    assert text.safe("größe/层") == "größe/层"


def test_columns_line_up_and_figures_stand_right() -> None:
    lines = text.columns(("name", "n"), [("long name", "1"), ("a", "20")], frozenset({1}))
    assert lines == ["name        n", "long name   1", "a          20"]


def test_shapes_say_what_is_unknown() -> None:
    assert text.shape(None) == "?"
    assert text.shape(["batch", None, 3]) == "[batch, ?, 3]"
