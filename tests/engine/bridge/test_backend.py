"""onnx's own cases for every operator pass through the bridge, but for a list that may only shrink."""

import dataclasses
import json
import warnings
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from onnx.backend.test.case.test_case import TestCase

from graphrewrite.bridge import forms
from graphrewrite.bridge.forms import op
from tests.engine.bridge.backend import Verdict, cases, difference, judged, tags

LISTED = Path(__file__).with_name("unsupported.json")
PARTS = 12
# Of the cases without text, sequences, optionals, narrow types, training and classic ML: those onnx's own reference
# evaluator passes (onnx 1.23), and the share of them that must pass here.
REFERENCE, SHARE = 1641, 0.98


@cache
def listed() -> dict[str, str]:
    """Return the cases that do not pass, and why."""
    found: dict[str, str] = json.loads(LISTED.read_text(encoding="utf-8"))
    return found


def part(number: int) -> dict[str, TestCase]:
    """Return every twelfth case."""
    return dict(sorted(cases().items())[number::PARTS])


def quietly(case: TestCase, frozen: bool) -> Verdict:
    """Judge a case without numpy's and torch's warnings about numbers that are meant to overflow."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return judged(case, frozen)


@pytest.mark.parametrize("frozen", [False, True], ids=["fed", "frozen"])
@pytest.mark.parametrize("number", range(PARTS))
def test_cases_pass_but_for_the_list(number: int, frozen: bool) -> None:
    failing = {
        name: verdict
        for name, case in part(number).items()
        if (verdict := quietly(case, frozen)).kind != "passed" and name not in listed()
    }
    assert {name: f"{verdict.kind}: {verdict.why}" for name, verdict in failing.items()} == {}


@pytest.mark.parametrize("number", range(PARTS))
def test_the_list_holds_no_case_that_passes_and_none_that_is_silently_wrong(number: int) -> None:
    """But for numbers drawn at random, and for results that are right but for their last digit."""
    kinds: dict[str, tuple[str, ...]] = {}
    for name, case in part(number).items():
        why = listed().get(name, "random")
        if why.startswith("rounding"):
            kinds[name] = quietly(case, False).kind, quietly(loosened(case), False).kind
        elif not why.startswith("random"):
            kinds[name] = (quietly(case, False).kind,)
    expected = {
        name: ("wrong", "passed") if len(found) == 2 else ("unsupported",) for name, found in kinds.items()
    }
    assert kinds == expected


def loosened(case: TestCase) -> TestCase:
    """Return a case that allows for two units in the last place of bfloat16."""
    return dataclasses.replace(case, rtol=2.0**-6, atol=1e-6)


def test_the_list_names_cases_that_exist() -> None:
    assert set(listed()) - set(cases()) == set()


def test_enough_of_the_plain_cases_pass() -> None:
    plain = [name for name, case in cases().items() if not tags(case)]
    passing = sum(name not in listed() for name in plain)
    assert passing >= SHARE * REFERENCE, Counter(tuple(sorted(tags(cases()[name]))) for name in listed())


def test_a_wrong_form_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    forms.known()
    monkeypatch.setitem(forms._forms, ("", "Abs"), [])

    @op("Abs")
    def not_abs(x):  # type: ignore[no-untyped-def]
        return x

    assert quietly(cases()["test_abs"], False).kind == "wrong"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.ones(3, np.float32), np.ones(3, np.float64)),
        (np.ones(3, np.float32), np.ones((3, 1), np.float32)),
        (np.ones(3, np.float32), np.full(3, 1.01, np.float32)),
        (np.arange(3), np.arange(3)[::-1].copy()),
        ([np.ones(2)], [np.ones(2), np.ones(2)]),
        (None, np.ones(2)),
    ],
)
def test_a_difference_is_seen(one: object, other: object) -> None:
    assert difference(one, other, 1e-3, 1e-7)  # type: ignore[arg-type]
    assert not difference(one, one, 1e-3, 1e-7)  # type: ignore[arg-type]
