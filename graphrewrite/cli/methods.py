"""What can be chosen by name: every registered method, as its registry, docstrings and fields describe it.

A docstring that names a year names a paper: `Lin et al., 2020`, `Polyak and Wolf, 2015`, `Migacz 2017`. That is all a
newcomer has to do to be listed with its source.
"""

import dataclasses
import difflib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pkgutil import iter_modules
from typing import cast, get_type_hints

from graphrewrite.errors import GraphRewriteError, UnknownNameError
from graphrewrite.pipeline.base import Json
from graphrewrite.registry import OPTIONAL_PACKAGES, Registry, registries, registry_holding
from graphrewrite.serial import to_json

# Where methods live. Other registries (verbs, workloads) hold parts of the tool.
ROOMS = ("graphrewrite.passes", "graphrewrite.bridge", "graphrewrite.pipeline.metrics")

_NAME = r"[^\W\d_a-z][\w'-]+"
_CITED = re.compile(
    rf"({_NAME}(?:(?:,| and| &)\s{_NAME})*(?:\set\sal\.|\sand\sothers)?),?\s\(?((?:19|20)\d\d)\b"
)


@dataclasses.dataclass(frozen=True)
class Option:
    """A field of a method; `default` is None and `required` True where one has to be given."""

    name: str
    type: str
    default: Json
    required: bool


@dataclasses.dataclass(frozen=True)
class Method:
    """One registered class. `needs` are beyond the model: data, labels, a teacher, torch."""

    name: str
    kind: str
    summary: str
    text: str
    papers: tuple[str, ...]
    needs: tuple[str, ...]
    options: tuple[Option, ...]


@dataclasses.dataclass(frozen=True)
class Listing:
    """All methods by kind and name, and packages left out -> what they need that is not installed."""

    methods: tuple[Method, ...]
    left_out: dict[str, str]


def listing() -> Listing:
    """Import every room and describe what its registries hold."""
    left_out: dict[str, str] = {}
    for room in ROOMS:
        _import_packages(room, left_out)
    found = []
    for registry in registries():
        if registry.package.startswith(tuple(f"{room}." for room in ROOMS)) or registry.package in ROOMS:
            found += [described(registry, name) for name in registry]
            left_out |= registry.unavailable
    return Listing(tuple(found), left_out)


def chosen(found: Listing, name: str | None, kind: str | None) -> list[Method]:
    """Return the methods of a name (one for each kind that has it), of a kind, of both, or all.

    Raises:
        UnknownNameError: there is none; close names, or all kinds, are listed.
    """
    kinds = sorted({method.kind for method in found.methods})
    if kind is not None and kind not in kinds:
        raise UnknownNameError(
            f"there is no kind of methods called {kind!r}; expected one of {', '.join(kinds)}"
        )
    of_name = [method for method in found.methods if name in (None, method.name)]
    if not of_name:
        every = sorted({method.name for method in found.methods})
        close = difflib.get_close_matches(str(name), every, n=3, cutoff=0.4)
        hint = f"; did you mean {', '.join(close)}?" if close else "."
        raise UnknownNameError(
            f"there is no method called {name!r}{hint} See all of them with: graphrewrite methods"
        )
    both = [method for method in of_name if kind in (None, method.kind)]
    if not both:
        others = " and a ".join(method.kind for method in of_name)
        raise UnknownNameError(f"{name} is no {kind}; it is a {others}; leave --kind out")
    return both


def described(registry: Registry[object], name: str) -> Method:
    """Read what a registered class says of itself."""
    factory = registry.find(name)
    text = inspect.getdoc(factory) or ""
    module = inspect.getdoc(sys.modules[factory.__module__]) or ""
    return Method(
        name,
        registry.kind,
        text.partition("\n\n")[0].replace("\n", " "),
        text,
        papers(f"{text}\n\n{module}"),
        _needs(factory),
        tuple(_options(factory)),
    )


def papers(text: str) -> tuple[str, ...]:
    """Return the papers that a docstring names, each once: authors and year."""
    found = (f"{' '.join(authors.split())}, {year}" for authors, year in _CITED.findall(text))
    return tuple(dict.fromkeys(found))


def _import_packages(name: str, left_out: dict[str, str]) -> None:
    try:
        package = import_module(name)
    except ModuleNotFoundError as error:
        absent = (error.name or "").split(".")[0]
        if absent not in OPTIONAL_PACKAGES:
            raise
        left_out[name] = absent
        return
    for info in iter_modules(package.__path__):
        if info.ispkg:
            _import_packages(f"{name}.{info.name}", left_out)


def _needs(factory: Callable[..., object]) -> tuple[str, ...]:
    """Tell from signatures and fields what a method asks for; order: data, labels, teacher, torch.

    What they cannot tell, because it is imported when it runs, a class says itself: `asks`, a tuple of these words.
    """
    told: set[str] = set(getattr(factory, "asks", ()))
    for name, member in inspect.getmembers(factory, inspect.isfunction):
        returned = None if name.startswith("_") else member.__annotations__.get("return")
        words = set(re.findall(r"\w+", str(returned)))
        accumulates = (
            isinstance(returned, type) and hasattr(returned, "update") and hasattr(returned, "result")
        )
        told |= (
            {"data"} if accumulates or words & {"Need", "GradientNeed", "AnyNeed", "Accumulator"} else set()
        )
        told |= {"torch"} if "GradientNeed" in words else set()
        told |= {"data", "torch"} if "WeightTransform" in words else set()
    if isinstance(getattr(factory, "needs", None), property):
        told |= _of_a_loss(factory)
    rooms = [factory.__module__, *(str(getattr(kind, "__module__", "")) for kind in _hints(factory).values())]
    if "torch" in vars(sys.modules[factory.__module__]) or any(r.startswith(f"{ROOMS[1]}.") for r in rooms):
        told.add("torch")
    if "torch" in told and hasattr(factory, "claim"):
        told.add("data")  # a pass that trains
    for field in dataclasses.fields(factory) if dataclasses.is_dataclass(factory) else ():
        if registry_holding(type(field.default)) is not None:
            told |= set(_needs(type(field.default)))
    return tuple(need for need in ("data", "labels", "teacher", "torch") if need in told)


def _of_a_loss(factory: Callable[..., object]) -> set[str]:
    try:
        needs = getattr(factory(), "needs", None)
    except (
        GraphRewriteError,
        TypeError,
    ):  # it cannot be made without options: what it would say is in its text
        text = inspect.getsource(getattr(factory, "needs").fget)  # noqa: B009
        return {"data", "torch", *(need for need in ("labels", "teacher") if f"{need}=" in text)}
    told = {"data", "torch"} | ({"labels"} if getattr(needs, "labels", False) else set())
    return told | ({"teacher"} if getattr(needs, "teacher", None) is not None else set())


def _options(factory: Callable[..., object]) -> Iterator[Option]:
    hints = _hints(factory)
    for field in dataclasses.fields(factory) if dataclasses.is_dataclass(factory) else ():
        if field.init:
            kind = hints[field.name]
            shown = (
                kind.__name__ if isinstance(kind, type) and not getattr(kind, "__args__", ()) else str(kind)
            )
            required = field.default is field.default_factory is dataclasses.MISSING
            default: object = None
            if field.default is not dataclasses.MISSING:
                default = field.default
            elif field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
            yield Option(field.name, re.sub(r"[a-z_]\w*\.", "", shown), _plain(default, kind), required)


def _plain(default: object, kind: object) -> Json:
    return to_json(default, type(default) if default is None else kind)


def _hints(factory: Callable[..., object]) -> dict[str, object]:
    return cast("dict[str, object]", get_type_hints(factory)) if isinstance(factory, type) else {}
