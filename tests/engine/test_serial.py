"""Dataclasses go to JSON and come back equal; what does not fit is refused with the place and what was expected."""

import enum
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import pytest

from graphrewrite.errors import InvalidConfig, UnknownNameError
from graphrewrite.registry import Registry
from graphrewrite.serial import Json, from_json, parse, to_json


class Shape(Protocol):
    def area(self) -> float: ...


# `json` stands for a package folder here: discovery imports its files, and these classes register below.
shapes: Registry[Shape] = Registry("shape", package="json", of=Shape)


@shapes.register("square")
@dataclass(frozen=True)
class Square:
    side: float = 1.0

    def area(self) -> float:
        return self.side**2


@shapes.register("round")
@dataclass(frozen=True)
class Round:
    radius: float
    centre: tuple[int, int] = (0, 0)

    def area(self) -> float:
        return math.pi * self.radius**2


@dataclass(frozen=True)
class Unfiled:
    def area(self) -> float:
        return 0.0


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclass(frozen=True)
class Limits:
    low: int
    high: float = math.inf


@dataclass(frozen=True)
class Drawing:
    title: str
    shape: Shape
    others: tuple[Shape, ...] = ()
    backup: Shape | None = None
    limits: Limits | None = None
    size: int | str = 3
    mode: Literal["fast", "exact"] = "fast"
    colour: Colour = Colour.RED
    names: Mapping[str, Shape] = field(default_factory=dict)
    folder: Path = Path("here")
    flags: frozenset[str] = frozenset()
    open: bool = True


FULL = Drawing(
    "all",
    Square(2.0),
    others=(Round(1.5, (3, 4)), Square()),
    backup=Round(0.5),
    limits=Limits(1),
    size="large",
    mode="exact",
    colour=Colour.BLUE,
    names={"first": Square(9.0)},
    folder=Path("there/deep"),
    flags=frozenset({"b", "a"}),
    open=False,
)


@pytest.mark.parametrize("drawing", [Drawing("plain", Square()), FULL], ids=["defaults", "everything"])
def test_a_value_survives_the_trip_through_text(drawing: Drawing) -> None:
    text = json.dumps(to_json(drawing), allow_nan=False)

    assert from_json(parse(text, "the text"), Drawing) == drawing


def test_registered_values_are_written_by_name_with_all_their_fields() -> None:
    written = to_json(Drawing("plain", Round(2.0)))

    assert isinstance(written, dict)
    assert written["shape"] == {"name": "round", "radius": 2.0, "centre": [0, 0]}
    assert written["limits"] is None


def test_infinity_stays_legal_json() -> None:
    assert to_json(Limits(1)) == {"low": 1, "high": "inf"}


def test_a_bare_name_stands_for_an_entry_with_its_defaults() -> None:
    assert from_json({"title": "t", "shape": "square"}, Drawing) == Drawing("t", Square())


def test_an_unregistered_class_cannot_be_written() -> None:
    with pytest.raises(UnknownNameError, match="Unfiled is not a registered shape"):
        to_json(Drawing("t", Unfiled()))


BAD: list[tuple[Json, type[Exception], str]] = [
    ({"title": "t", "shape": {"name": "squar"}}, UnknownNameError, "no shape called 'squar'.*square"),
    (
        {"title": "t", "shape": {"name": "square", "sde": 2}},
        InvalidConfig,
        "shape.square has no field 'sde'.*side",
    ),
    ({"title": "t", "shape": {"name": "round"}}, InvalidConfig, "shape.round lacks the field 'radius'"),
    ({"title": "t", "shape": {"side": 2.0}}, InvalidConfig, "under 'name'"),
    (
        {"title": "t", "shape": {"name": "square", "side": True}},
        InvalidConfig,
        "side is true; it must be a number",
    ),
    ({"title": 3, "shape": "square"}, InvalidConfig, "title is 3; it must be text"),
    ({"titel": "t", "shape": "square"}, InvalidConfig, "no field 'titel'; did you mean title"),
    ({"title": "t", "shape": "square", "mode": "slow"}, InvalidConfig, "mode is \"slow\".*'fast', 'exact'"),
    ({"title": "t", "shape": "square", "colour": "GREEN"}, InvalidConfig, "RED, BLUE"),
    ({"title": "t", "shape": "square", "limits": {"low": 1.5}}, InvalidConfig, "limits.low is 1.5"),
    (
        {"title": "t", "shape": "square", "others": "square"},
        InvalidConfig,
        'others is "square"; it must be a list',
    ),
    (
        {"title": "t", "shape": "square", "others": [{"name": "round", "radius": "x"}]},
        InvalidConfig,
        "others\\[0\\]",
    ),
    ({"title": "t", "shape": {"name": "round", "radius": 1, "centre": [1]}}, InvalidConfig, "a list of 2"),
    ({"title": "t", "shape": "square", "size": [1]}, InvalidConfig, "size fits none of its forms"),
    ([], InvalidConfig, "the document is \\[\\]; it must be an object"),
]


@pytest.mark.parametrize(
    ("document", "kind", "message"), BAD, ids=[str(number) for number in range(len(BAD))]
)
def test_what_does_not_fit_is_refused_with_its_place(
    document: Json, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        from_json(document, Drawing)


def test_text_that_is_not_json_is_refused() -> None:
    with pytest.raises(InvalidConfig, match=r"pipeline\.json is not JSON"):
        parse("{", "pipeline.json")


def test_a_field_named_like_the_tag_is_refused() -> None:
    @shapes.register("named")
    @dataclass(frozen=True)
    class Named:
        name: str = "x"

        def area(self) -> float:
            return 0.0

    with pytest.raises(InvalidConfig, match="rename the field"):
        to_json(Drawing("t", Named()))
