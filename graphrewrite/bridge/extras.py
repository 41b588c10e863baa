"""How the bridge is imported without torch, and what is said when a package that training needs is not there."""

from collections.abc import Callable, Mapping
from importlib import import_module

from graphrewrite.errors import MissingExtra


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """Return a package's `__getattr__`, which imports a name from its file when it is first asked for.

    `homes` says which file of the package a name comes from.

    Raises:
        MissingExtra: (when asked) torch, which the file imports, is not installed.
    """

    def find(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            home = import_module(f"{package}.{homes[name]}")
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] != "torch":
                raise
            raise missing(name, "torch", error) from error
        return getattr(home, name)

    return find


def missing(what: str, package: str, error: ImportError) -> MissingExtra:
    """Return the error to raise: what cannot be done, which package it lacks, and the extra that brings it."""
    return MissingExtra(
        f"{what} needs {package}, which cannot be imported ({error}); it comes with an extra; "
        'install it with pip install "graphrewrite[train]"'
    )
