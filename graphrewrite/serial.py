"""Dataclasses to JSON and back: passes, criteria, budgets and whatever else is configured by its fields.

A field's declared type says how it is read. A type that is the `of` of a registry is written as the registered name
beside the fields, `{"name": "macs_below", "fraction": 0.5}`, and read back through that registry, so that a new
criterion or pass is written and read without a line here. All fields are written, defaults too: a stored pipeline
means the same after a default has changed.
"""

import dataclasses
import difflib
import enum
import json
import math
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ForwardRef, Literal, TypeAlias, Union, cast, get_args, get_origin, get_type_hints

from graphrewrite.errors import InvalidConfig
from graphrewrite.registry import Registry, registry_holding, registry_of

Json: TypeAlias = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

_NOT_FINITE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def to_json(value: object, expected: object = None) -> Json:
    """Return a value as plain JSON types; `expected` is the declared type, by default the value's own.

    Raises:
        InvalidConfig: the value, or a field of it, is of a kind that JSON cannot hold.
        UnknownNameError: a field's type has a registry, but the value's class is not registered there.
    """
    return _write(value, type(value) if expected is None else expected, type(value).__name__)


def from_json(document: Json, expected: object) -> object:
    """Build a value of the declared type `expected` from what `to_json` wrote.

    Raises:
        InvalidConfig: a field is unknown (close names are listed), missing, or has an impossible value.
        UnknownNameError: a registry has no entry of the name; close names are listed.
    """
    return _read(document, expected, "")


def parse(text: str, what: str) -> Json:
    """Parse JSON text; `what` names it in the message.

    Raises:
        InvalidConfig: the text is not JSON; the message says where.
    """
    try:
        return cast(Json, json.loads(text))
    except (json.JSONDecodeError, RecursionError) as error:
        raise InvalidConfig(
            f"{what} is not JSON ({error}); expected one JSON document; check the text"
        ) from error


def _write(value: object, expected: object, where: str) -> Json:
    registry = registry_of(expected) or registry_holding(type(value))
    if registry is not None:
        return _write_entry(value, registry, where)
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dict(_write_fields(value, where))
    if isinstance(value, Mapping):
        inner = _last(expected)
        return {
            str(key): _write(item, inner or type(item), f"{where}[{key!r}]") for key, item in value.items()
        }
    if isinstance(value, (Sequence, frozenset, set)):
        items = sorted(value, key=repr) if isinstance(value, (frozenset, set)) else value
        kinds = _item_types(expected, len(items))
        return [
            _write(item, kind or type(item), f"{where}[{i}]")
            for i, (item, kind) in enumerate(zip(items, kinds, strict=True))
        ]
    if hasattr(value, "item"):  # a numpy scalar
        return _write(value.item(), expected, where)
    raise InvalidConfig(
        f"{where} is a {type(value).__name__}, which JSON cannot hold; expected numbers, text, lists, dataclasses "
        "or registered things; change the field's type"
    )


def _write_entry(value: object, registry: Registry[object], where: str) -> Json:
    name = registry.name_of(value)
    fields = dict(_write_fields(value, where)) if dataclasses.is_dataclass(value) else {}
    if registry.tag in fields:
        raise InvalidConfig(
            f"{where} has a field called {registry.tag!r}, which is where JSON keeps the registered name; "
            "expected another name; rename the field"
        )
    return {registry.tag: name, **fields}


def _write_fields(value: object, where: str) -> Iterator[tuple[str, Json]]:
    hints = get_type_hints(type(value))
    for field in dataclasses.fields(cast("Any", value)):
        if field.init:
            expected = _alternative_of(getattr(value, field.name), hints[field.name])
            yield field.name, _write(getattr(value, field.name), expected, f"{where}.{field.name}")


def _alternative_of(value: object, expected: object) -> object:
    """Of a union, return the alternative that a value is of, as far as registries and containers matter."""
    if not _is_union(expected):
        return expected
    alternatives = [option for option in get_args(expected) if option is not types.NoneType]
    if value is None or len(alternatives) == 1:
        return alternatives[0] if value is not None else types.NoneType
    return next((option for option in alternatives if option is type(value)), None) or type(value)


def _read(document: Json, expected: object, where: str) -> object:
    if expected in (object, Any, "Json") or expected == Json:
        return document
    registry = registry_of(expected)
    if registry is not None:
        return _read_entry(document, registry, where)
    if isinstance(expected, ForwardRef) and expected.__forward_arg__ == "Json":
        return document  # any JSON: the alias names itself, and type hints are resolved one level deep only
    if _is_union(expected):
        return _read_union(document, get_args(expected), where)
    origin = get_origin(expected) or expected
    if origin is Literal:
        if document not in get_args(expected):
            raise _wrong(document, f"one of {', '.join(map(repr, get_args(expected)))}", where)
        return document
    if origin in _SCALARS:
        return _SCALARS[origin](document, where)
    if isinstance(origin, type) and issubclass(origin, enum.Enum):
        if not isinstance(document, str) or document not in origin.__members__:
            raise _wrong(document, f"one of {', '.join(origin.__members__)}", where)
        return origin[document]
    if origin in (tuple, list, frozenset, set, Sequence):
        if not isinstance(document, list):
            raise _wrong(document, "a list", where)
        kinds = _item_types(expected, len(document))
        if len(kinds) != len(document):
            raise _wrong(document, f"a list of {len(kinds)}", where)
        items = [
            _read(item, kind or object, f"{where}[{i}]")
            for i, (item, kind) in enumerate(zip(document, kinds, strict=True))
        ]
        return tuple(items) if origin is Sequence else cast("Callable[[object], object]", origin)(items)
    if origin in (dict, Mapping):
        if not isinstance(document, dict):
            raise _wrong(document, "an object", where)
        inner = _last(expected) or object
        return {key: _read(item, inner, f"{where}[{key!r}]") for key, item in document.items()}
    if dataclasses.is_dataclass(origin):
        return _read_dataclass(document, origin, where)
    raise InvalidConfig(
        f"{_place(where)} has the declared type {expected}, which cannot be read from JSON; expected a number, text, "
        "list, dataclass, or the `of` of a registry"
    )


def _read_entry(document: Json, registry: Registry[object], where: str) -> object:
    if isinstance(document, str):  # the bare name stands for an entry with its defaults
        document = {registry.tag: document}
    if not isinstance(document, dict) or not isinstance(document.get(registry.tag), str):
        raise _wrong(
            document, f"a {registry.kind}, an object with its registered name under {registry.tag!r}", where
        )
    name = str(document[registry.tag])
    factory = registry.find(name)
    fields: dict[str, Json] = {key: item for key, item in document.items() if key != registry.tag}
    label = f"{where}.{name}" if where else name
    if dataclasses.is_dataclass(factory):
        return _build(factory, fields, label)
    return registry.make(name, **fields)


def _read_dataclass(document: Json, factory: object, where: str) -> object:
    if not isinstance(document, dict):
        raise _wrong(document, "an object", where)
    holder = registry_holding(factory)
    if (
        holder is not None
    ):  # declared by its class rather than by its protocol: the name is there all the same
        document = {key: item for key, item in document.items() if key != holder.tag}
    return _build(factory, document, where)


def _build(factory: object, document: Mapping[str, Json], where: str) -> object:
    fields = {field.name: field for field in dataclasses.fields(cast("Any", factory)) if field.init}
    hints = get_type_hints(factory)
    for key in document:
        if key not in fields:
            close = difflib.get_close_matches(key, fields, n=3, cutoff=0.4) or list(fields)
            raise InvalidConfig(
                f"{_place(where)} has no field {key!r}; "
                + (f"did you mean {', '.join(close)}?" if close else "it takes none; remove it")
            )
    for name, field in fields.items():
        absent = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if absent and name not in document:
            raise InvalidConfig(f"{_place(where)} lacks the field {name!r}, which has no default; add it")
    values = {
        name: _read(item, hints[name], f"{where}.{name}" if where else name)
        for name, item in document.items()
    }
    return cast("Callable[..., object]", factory)(**values)


def _read_union(document: Json, options: Sequence[object], where: str) -> object:
    if document is None and types.NoneType in options:
        return None
    problems: list[InvalidConfig] = []
    rest = [option for option in options if option is not types.NoneType]
    for option in rest:
        try:
            return _read(document, option, where)
        except InvalidConfig as error:
            if len(rest) == 1:
                raise
            problems.append(error)
    raise InvalidConfig(
        f"{_place(where)} fits none of its forms: {'; '.join(map(str, problems))}"
    ) from problems[0]


def _read_float(document: Json, where: str) -> float:
    if isinstance(document, str) and document in _NOT_FINITE:
        return _NOT_FINITE[document]
    if isinstance(document, bool) or not isinstance(document, (int, float)):
        raise _wrong(document, "a number", where)
    return float(document)


def _read_int(document: Json, where: str) -> int:
    if isinstance(document, bool) or not isinstance(document, int):
        raise _wrong(document, "a whole number", where)
    return document


def _read_bool(document: Json, where: str) -> bool:
    if not isinstance(document, bool):
        raise _wrong(document, "true or false", where)
    return document


def _read_str(document: Json, where: str) -> str:
    if not isinstance(document, str):
        raise _wrong(document, "text", where)
    return document


def _read_path(document: Json, where: str) -> Path:
    return Path(_read_str(document, where))


def _read_none(document: Json, where: str) -> None:
    if document is not None:
        raise _wrong(document, "null", where)


_SCALARS: Mapping[object, Callable[[Json, str], object]] = {
    bool: _read_bool,
    int: _read_int,
    float: _read_float,
    str: _read_str,
    Path: _read_path,
    types.NoneType: _read_none,
}


def _item_types(expected: object, count: int) -> list[object]:
    """Return the declared type of each item of a sequence (None where nothing is declared)."""
    arguments = get_args(expected)
    if not arguments:
        return [None] * count
    if get_origin(expected) is tuple and arguments[-1] is not Ellipsis:
        return list(arguments)
    return [arguments[0]] * count


def _last(expected: object) -> object:
    arguments = get_args(expected)
    return arguments[-1] if arguments else None


def _is_union(expected: object) -> bool:
    return get_origin(expected) in (Union, types.UnionType)


def _wrong(document: Json, wanted: str, where: str) -> InvalidConfig:
    text = json.dumps(document)
    shown = text if len(text) <= 60 else f"{text[:57]}..."
    return InvalidConfig(f"{_place(where)} is {shown}; it must be {wanted}; correct the JSON")


def _place(where: str) -> str:
    return where or "the document"
