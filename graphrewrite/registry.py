"""Plug points as folders: a file put into a registry's folder registers itself, no list is edited."""

import difflib
import importlib
import importlib.metadata
import pkgutil
import weakref
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar, cast

from graphrewrite.errors import InvalidConfig, UnknownNameError

T = TypeVar("T")
Factory = TypeVar("Factory", bound=Callable[..., object])


# Packages that extras bring. A file that cannot be imported for want of one is left out, and named when it is missed.
OPTIONAL_PACKAGES = frozenset(
    {"PIL", "accelerate", "jinja2", "matplotlib", "safetensors", "sklearn", "torch"}
)

_all: "weakref.WeakSet[Registry[object]]" = weakref.WeakSet()


class Registry(Generic[T]):
    """Name -> class for one kind of plug-in, filled from a package folder and from entry points.

    `package` is the dotted name of the folder whose files register themselves; it is imported on first use, so that
    importing graphrewrite stays cheap. With `depth=1` the files of its subfolders register themselves too. Other
    distributions add entries through the entry-point group `graphrewrite.<kind>` (spaces become underscores); loading
    the entry point must run its `register` decorator.

    `of` is the protocol or base class of the entries: a dataclass field of that type is written to JSON, and read
    back, through this registry. `tag` is the JSON key that holds an entry's name.
    """

    def __init__(
        self, kind: str, package: str, of: type[object] | None = None, tag: str = "name", depth: int = 0
    ) -> None:
        self.kind = kind
        self.package = package
        self.of = of
        self.tag = tag
        self.depth = depth
        self._entries: dict[str, Callable[..., T]] = {}
        self._unavailable: dict[str, str] = {}
        self._discovered = False
        _all.add(cast("Registry[object]", self))

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
            absent = "".join(
                f"; {file} is left out, it needs {need}" for file, need in self._unavailable.items()
            )
            raise UnknownNameError(
                f"there is no {self.kind} called {name!r}; did you mean {', '.join(close) or 'another kind'}? "
                f"(a new one is one file in {self.package}{absent})"
            )
        return self._entries[name]

    def name_of(self, value: object) -> str:
        """Return the name under which the class of `value` is filed."""
        for discover in (False, True):
            if discover:
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

    @property
    def unavailable(self) -> dict[str, str]:
        """Files left out -> the package that they need and that is not installed."""
        self._discover()
        return dict(self._unavailable)

    def __contains__(self, name: object) -> bool:
        self._discover()
        return name in self._entries

    def holds(self, factory: object) -> bool:
        """Tell whether a class is filed here."""
        return any(entry is factory for entry in self._entries.values())

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True
        try:
            self._import_files(self.package, self.depth)
            self._load_entry_points()
        except BaseException:
            self._discovered = False  # the next use reports the same file again instead of an empty registry
            raise

    def _import_files(self, package: str, depth: int) -> None:
        # A kind whose entries are so small that they share one file has a module instead of a folder.
        folder = getattr(importlib.import_module(package), "__path__", [])
        for info in sorted(pkgutil.iter_modules(folder), key=lambda entry: entry.name):
            name = f"{package}.{info.name}"
            try:
                importlib.import_module(name)
            except Exception as error:
                absent = error.name if isinstance(error, ModuleNotFoundError) else None
                if absent is not None and absent.split(".")[0] in OPTIONAL_PACKAGES:
                    self._unavailable[name] = absent
                    continue
                raise InvalidConfig(
                    f"the file {name} in the {self.kind} folder cannot be imported ({type(error).__name__}: {error}); "
                    "every file there must import cleanly; mend or remove it"
                ) from error
            if info.ispkg and depth > 0:
                self._import_files(name, depth - 1)

    def _load_entry_points(self) -> None:
        group = f"graphrewrite.{self.kind.replace(' ', '_')}"
        for entry in importlib.metadata.entry_points(group=group):
            try:
                entry.load()
            except Exception as error:
                raise InvalidConfig(
                    f"the entry point {entry.name!r} ({entry.value}) of group {group} cannot be loaded "
                    f"({type(error).__name__}: {error}); update or remove the distribution that brings it"
                ) from error


def registries() -> list[Registry[object]]:
    """Return the registries of everything imported so far, by kind; a kind is there once its package is imported."""
    return sorted(_all, key=lambda registry: registry.kind)


def registry_of(expected: object) -> Registry[object] | None:
    """Return the registry through which values of a declared type are written and read, when there is one."""
    return next((registry for registry in _all if registry.of is not None and registry.of is expected), None)


def registry_holding(factory: object) -> Registry[object] | None:
    """Return the registry in which a class is filed, when there is one."""
    return next((registry for registry in _all if registry.holds(factory)), None)


def _origin(factory: object) -> str:
    return f"{getattr(factory, '__module__', '?')}.{getattr(factory, '__qualname__', factory)}"
