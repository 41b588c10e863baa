"""Plug points as folders: a file put into a registry's folder registers itself, no list is edited."""

import difflib
import importlib
import importlib.metadata
import pkgutil
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from graphrewrite.errors import InvalidConfig, UnknownNameError

T = TypeVar("T")
Factory = TypeVar("Factory", bound=Callable[..., object])


class Registry(Generic[T]):
    """Name -> class for one kind of plug-in, filled from a package folder and from entry points.

    `package` is the dotted name of the folder whose files register themselves; it is imported on first use, so that
    importing graphrewrite stays cheap. Other distributions add entries through the entry-point group
    `graphrewrite.<kind>` (spaces become underscores); loading the entry point must run its `register` decorator.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._entries: dict[str, Callable[..., T]] = {}
        self._discovered = False

    def register(self, name: str) -> Callable[[Factory], Factory]:
        """Return a decorator that files a class under `name`; a second registration of a name is an error."""

        def add(factory: Factory) -> Factory:
            present = self._entries.get(name)
            if present is not None and _origin(present) != _origin(factory):
                raise InvalidConfig(
                    f"the {self.kind} {name!r} is registered twice, by {_origin(present)} and {_origin(factory)}; "
                    "names must be unique; rename one of them"
                )
            self._entries[name] = factory  # type: ignore[assignment]
            return factory

        return add

    def make(self, name: str, **fields: object) -> T:
        """Build the entry called `name` with the given field values.

        Raises:
            UnknownNameError: no such entry; the message lists close names.
            InvalidConfig: the fields do not fit the entry.
        """
        factory = self.find(name)
        try:
            return factory(**fields)
        except TypeError as error:
            raise InvalidConfig(f"{self.kind} {name!r} does not take these options: {error}") from error

    def find(self, name: str) -> Callable[..., T]:
        """Return the class filed under `name` without building it."""
        self._discover()
        if name not in self._entries:
            close = difflib.get_close_matches(name, self._entries, n=3, cutoff=0.4) or sorted(self._entries)
            raise UnknownNameError(
                f"there is no {self.kind} called {name!r}; did you mean {', '.join(close)}? "
                f"(a new one is one file in {self.package})"
            )
        return self._entries[name]

    def name_of(self, value: object) -> str:
        """Return the name under which the class of `value` is filed."""
        self._discover()
        for name, factory in self._entries.items():
            if factory is type(value):
                return name
        raise UnknownNameError(
            f"{type(value).__name__} is not a registered {self.kind}; only registered ones can be written to JSON; "
            f"decorate the class with the registry's register(name)"
        )

    def __iter__(self) -> Iterator[str]:
        self._discover()
        return iter(sorted(self._entries))

    def __contains__(self, name: object) -> bool:
        self._discover()
        return name in self._entries

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True
        root = importlib.import_module(self.package)
        for info in sorted(pkgutil.iter_modules(root.__path__), key=lambda entry: entry.name):
            name = f"{self.package}.{info.name}"
            try:
                importlib.import_module(name)
            except Exception as error:
                self._discovered = False
                raise InvalidConfig(
                    f"the file {name} in the {self.kind} folder cannot be imported ({type(error).__name__}: {error}); "
                    "every file there must import cleanly; mend or remove it"
                ) from error
        group = f"graphrewrite.{self.kind.replace(' ', '_')}"
        for entry in importlib.metadata.entry_points(group=group):
            try:
                entry.load()
            except Exception as error:
                self._discovered = False
                raise InvalidConfig(
                    f"the entry point {entry.name!r} ({entry.value}) of group {group} cannot be loaded "
                    f"({type(error).__name__}: {error}); update or remove the distribution that brings it"
                ) from error


def _origin(factory: object) -> str:
    return f"{getattr(factory, '__module__', '?')}.{getattr(factory, '__qualname__', factory)}"
