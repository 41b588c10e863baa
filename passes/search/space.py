"""What may be chosen: fields of a pipeline, each with the values it may take.

A policy never sees the fields: to it a candidate is a point in the unit cube, one coordinate for each field. So any
policy searches any pipeline, and a new kind of field needs nothing but its own `at` and `place`.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, floor, isfinite, log
from typing import TypeAlias, cast

from graphrewrite.errors import GraphRewriteError, InvalidConfig
from graphrewrite.pipeline.base import Json, Pass
from graphrewrite.serial import from_json, to_json

Point: TypeAlias = tuple[float, ...]
_DIGITS = 12
_SLACK = 1e-9  # 0.3 / 0.1 is a little less than 3


@dataclass(frozen=True)
class Span:
    """Numbers from `low` to `high`, both among them; in steps of `step`, or spread evenly over their logarithms.

    Two whole numbers without a step mean whole numbers.
    """

    low: int | float
    high: int | float
    step: int | float | None = None
    logarithmic: bool = False

    def __post_init__(self) -> None:
        if not (isfinite(self.low) and isfinite(self.high) and self.low < self.high):
            raise InvalidConfig(
                f"Span({self.low}, {self.high}) is empty; expected low < high; turn them round"
            )
        if self.logarithmic and (self.low <= 0 or self.step is not None):
            raise InvalidConfig(
                f"Span({self.low}, {self.high}, {self.step}) cannot be logarithmic; expected numbers above 0, no step"
            )
        if self.step is not None and not 0 < self.step <= self.high - self.low:
            raise InvalidConfig(
                f"Span.step is {self.step}; expected a number above 0 and at most {self.high - self.low}"
            )

    @property
    def size(self) -> int | None:
        """How many numbers there are; None when they are not counted."""
        step = self._step
        return None if step is None else floor((self.high - self.low) / step + _SLACK) + 1

    @property
    def _step(self) -> int | float | None:
        if self.step is not None or self.logarithmic:
            return self.step
        return 1 if isinstance(self.low, int) and isinstance(self.high, int) else None

    def at(self, place: float) -> Json:
        """Return the number at a place in [0, 1]."""
        size, step = self.size, self._step
        if size is not None and step is not None:
            value = self.low + min(int(place * size), size - 1) * step
            return round(value, _DIGITS)  # 0.3, not 0.30000000000000004
        if self.logarithmic:
            return exp(log(self.low) + place * (log(self.high) - log(self.low)))
        return self.low + place * (self.high - self.low)

    def place(self, value: Json) -> float | None:
        """Return where a number lies in [0, 1]; None when it is not among them."""
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not self.low <= value <= self.high
        ):
            return None
        size, step = self.size, self._step
        if size is not None and step is not None:
            return min((round((value - self.low) / step) + 0.5) / size, 1.0)
        if self.logarithmic:
            return (log(value) - log(self.low)) / (log(self.high) - log(self.low))
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Choice:
    """One of several values: numbers, names of registered things, or these as JSON with their fields."""

    options: tuple[Json, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(self.options))
        if len(self.options) < 2:
            raise InvalidConfig(
                f"Choice has {len(self.options)} options; expected two or more; write one into the pipeline instead"
            )

    @property
    def size(self) -> int:
        """How many values there are."""
        return len(self.options)

    def at(self, place: float) -> Json:
        """Return the value at a place in [0, 1]."""
        return self.options[min(int(place * self.size), self.size - 1)]

    def place(self, value: Json) -> float | None:
        """Return where a value lies in [0, 1]; None when it is not among them."""
        return (self.options.index(value) + 0.5) / self.size if value in self.options else None


@dataclass(frozen=True)
class Each:
    """A number of its own for each channel group of the model; belongs to a field that maps names of groups."""

    group: Span | Choice


Domain: TypeAlias = Span | Choice | Each


@dataclass(frozen=True)
class Space:
    """A pipeline, and which of its fields vary.

    `fields` maps paths to domains: `1.budget.fraction` is the fraction of the budget of the second step; what follows
    a mapping is a name in it, dots and all.
    """

    pipeline: Pass
    fields: Mapping[str, Span | Choice] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.fields:
            raise InvalidConfig(
                "there is nothing to search: no field varies; expected paths into the pipeline with a Span or a Choice"
            )
        for end in (0.0, 1.0):
            self.fill(tuple(end for _ in self.fields))  # what cannot be is said before anything is tried

    @property
    def sizes(self) -> tuple[int | None, ...]:
        """How many values each coordinate stands for, None for a span without steps."""
        return tuple(domain.size for domain in self.fields.values())

    def values(self, point: Point) -> dict[str, Json]:
        """Return what a point of the unit cube stands for, by path."""
        return {
            path: domain.at(place) for (path, domain), place in zip(self.fields.items(), point, strict=True)
        }

    def fill(self, point: Point) -> Pass:
        """Return the pipeline with the values of a point.

        Raises:
            InvalidConfig: a path leads nowhere, or a field does not take such a value.
        """
        document = to_json(self.pipeline, Pass)
        for path, value in self.values(point).items():
            _put(document, path, copy.deepcopy(value))
        try:
            return cast(Pass, from_json(document, Pass))
        except GraphRewriteError as error:
            raise InvalidConfig(f"the space does not fit the pipeline: {error}") from error

    def origin(self) -> Point | None:
        """Return the point of the pipeline as it stands; None when the space does not hold it."""
        document = to_json(self.pipeline, Pass)
        places = []
        for path, domain in self.fields.items():
            where, key = _reach(document, path)
            found = where[int(key)] if isinstance(where, list) else where.get(str(key))
            place = domain.place(found)
            if place is None:
                return None
            places.append(place)
        return tuple(places)


def expanded(fields: Mapping[str, Domain], groups: Sequence[str]) -> dict[str, Span | Choice]:
    """Return the fields with every `Each` written out, a path for each group.

    Raises:
        InvalidConfig: there are no groups to write one out for.
    """
    found: dict[str, Span | Choice] = {}
    for path, domain in fields.items():
        if not isinstance(domain, Each):
            found[path] = domain
            continue
        if not groups:
            raise InvalidConfig(
                f"{path} varies for each channel group, and the model has none that can shrink"
            )
        found.update({f"{path}.{group}": domain.group for group in groups})
    return found


def _put(document: Json, path: str, value: Json) -> None:
    where, key = _reach(document, path)
    if isinstance(where, list):
        where[int(key)] = value
    else:
        where[str(key)] = value


def _reach(document: Json, path: str) -> tuple[list[Json] | dict[str, Json], int | str]:
    """Return the list or object that a path ends in, and the place in it."""
    where, rest = document, path
    while isinstance(where, (dict, list)):
        token, _, later = rest.partition(".")
        if isinstance(where, dict) and token.isdigit() and isinstance(where.get("steps"), list):
            where = where["steps"]
            continue
        key: int | str
        if isinstance(where, list):
            if not token.isdigit() or int(token) >= len(where):
                raise InvalidConfig(
                    f"the path {path!r} asks for item {token!r} of a list of {len(where)}; expected a number below that"
                )
            key = int(token)
            inner = where[key]
        elif token in where:
            key, inner = token, where[token]
        else:  # a name that is new to the mapping, with what dots it has
            return where, rest
        if not later:
            return where, key
        where, rest = inner, later
    raise InvalidConfig(
        f"the path {path!r} leads beyond a plain value; expected it to end before {rest!r}; correct it"
    )
