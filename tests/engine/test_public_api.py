"""The public surface: what is promised to users is listed here, so that a change to it is a decision."""

import ast
import importlib
import inspect
from pathlib import Path
from types import ModuleType

import pytest

import graphrewrite
from graphrewrite import Model
from graphrewrite.errors import MissingExtra

ROOT = Path(__file__).resolve().parents[2]

PUBLIC = [
    "ArraySource",
    "Claim",
    "Context",
    "GraphRewriteError",
    "Model",
    "Note",
    "Outcome",
    "Pass",
    "Pipeline",
    "Report",
    "__version__",
    "register",
    "session",
]

MOST_METHODS = 15


def rooms() -> list[str]:
    """Return the dotted names of all rooms: packages of the engine, and every folder of methods."""
    engine = sorted((ROOT / "graphrewrite").glob("*/__init__.py"))
    found = ["graphrewrite", *(f"graphrewrite.{path.parent.name}" for path in engine)]
    for top in ("passes", "custom_ops", "models"):
        for path in sorted((ROOT / top).rglob("__init__.py")):
            found.append(".".join(["graphrewrite", *path.parent.relative_to(ROOT).parts]))
    return found


def undocumented(module: ModuleType) -> list[str]:
    """Return the names of `__all__` that are missing, or classes and functions without words of their own."""
    return [name for name in getattr(module, "__all__", []) if not has_words(getattr(module, name, None))]


def has_words(value: object) -> bool:
    """True for a documented class or function, and for any other value that exists."""
    if not inspect.isclass(value) and not inspect.isroutine(value):
        return value is not None
    # A class inherits its base's docstring, and a dataclass without one is given its own signature.
    own = value.__dict__.get("__doc__") if inspect.isclass(value) else value.__doc__
    return bool(own) and not str(own).startswith(f"{value.__name__}(")


def public_methods(owner: type) -> list[str]:
    """Return the public methods a class defines; properties read as data and are not counted."""
    callables = [name for name, value in vars(owner).items() if callable(getattr(value, "__func__", value))]
    return sorted(name for name in callables if not name.startswith("_"))


def test_the_names_of_graphrewrite_are_the_promised_ones() -> None:
    assert sorted(graphrewrite.__all__) == PUBLIC


def test_importing_names_is_all_the_front_does() -> None:
    tree = ast.parse((ROOT / "graphrewrite" / "__init__.py").read_text(encoding="utf-8"))
    assert not any(isinstance(node, (ast.FunctionDef, ast.ClassDef)) for node in ast.walk(tree))


def test_model_stays_small() -> None:
    assert len(public_methods(Model)) <= MOST_METHODS, public_methods(Model)


@pytest.mark.parametrize("name", rooms())
def test_every_promised_name_exists_and_is_documented(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} has no docstring"
    try:
        assert undocumented(module) == []
    except MissingExtra as error:
        pytest.skip(str(error))


def test_missing_and_silent_names_are_found() -> None:
    module = ModuleType("probe")
    exec(  # the smallest module that shows every case
        "from dataclasses import dataclass\n"
        "__all__ = ['said', 'unsaid', 'absent', 'Made', 'Heir', 'LIMIT']\n"
        "LIMIT = 3\n"
        "def said():\n    'Words.'\n"
        "def unsaid(): pass\n"
        "@dataclass\nclass Made:\n    field: int\n"
        "class Base:\n    'Words.'\n"
        "class Heir(Base): pass\n",
        module.__dict__,
    )
    assert undocumented(module) == ["unsaid", "absent", "Made", "Heir"]


def test_methods_are_counted_and_properties_are_not() -> None:
    class Probe:
        limit = 3

        def act(self) -> None: ...

        @classmethod
        def load(cls) -> None: ...

        @staticmethod
        def check() -> None: ...

        @property
        def size(self) -> int:
            return 0

        def _hidden(self) -> None: ...

    assert public_methods(Probe) == ["act", "check", "load"]
