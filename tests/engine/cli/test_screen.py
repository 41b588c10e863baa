"""The three ways to print: terminal, pipe, JSON."""

import io
import json
import math
from collections.abc import Callable

import pytest

from graphrewrite.cli.screen import Screen, to_json
from graphrewrite.pipeline.base import Json


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn(out: io.StringIO, as_json: bool = False) -> Callable[[], str]:
    screen = Screen(out, io.StringIO(), as_json=as_json)
    screen.heading("title")
    screen.facts([("a", "1"), ("long", "2")])
    screen.table(("name", "n"), [("[red]x\x1b[0m", "1")], right=("n",))
    screen.document({"a": 1})
    return out.getvalue


def test_a_pipe_gets_plain_ascii_text() -> None:
    assert drawn(io.StringIO())() == "title\na     1\nlong  2\nname           n\n[red]x\\x1b[0m  1\n"


def test_a_terminal_gets_rich_text_with_names_spelled_out() -> None:
    text = drawn(Terminal())()
    assert "\u2500" in text, "no rule under the table's head"
    assert "[red]x\\x1b[0m" in text, "a name was taken for markup or sent to the terminal raw"


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in drawn(Terminal())()


def test_json_is_the_document_alone() -> None:
    assert json.loads(drawn(io.StringIO(), as_json=True)()) == {"a": 1}


def test_no_document_without_json() -> None:
    out = io.StringIO()
    Screen(out, io.StringIO()).document({"a": 1})
    assert out.getvalue() == ""


def test_warnings_go_to_stderr_in_one_line() -> None:
    out, err = io.StringIO(), io.StringIO()
    Screen(out, err, as_json=True).warn("one\ntwo")
    assert (out.getvalue(), err.getvalue()) == ("", "one two\n")


def test_nobody_watches_progress_in_a_pipe() -> None:
    err = io.StringIO()
    with Screen(io.StringIO(), err).progress() as show:
        assert show is None
    assert err.getvalue() == ""


def test_a_terminal_sees_progress() -> None:
    err = Terminal()
    with Screen(io.StringIO(), err).progress() as show:
        assert show is not None
        show("collecting", 1, 3)
        show("cutting", 1, 1)
        show("collecting", 3, 3)
    assert "collecting" in err.getvalue()


def test_json_text_reads_back_and_is_ascii() -> None:
    value: Json = {"a": [1, 2.5, None, True], "b": {"größe": []}, "c": [{"x": [1]}, [2]], "empty": {}}
    text = to_json(value)
    assert json.loads(text) == value
    assert text.isascii()
    assert '"a": [1, 2.5, null, true]' in text


def test_figures_json_cannot_hold_become_null() -> None:
    assert json.loads(to_json({"a": math.nan, "b": [math.inf, 1.0]})) == {"a": None, "b": [None, 1.0]}
