"""Who may import whom. The arrows are in one table; everything else here reads the tree and compares.

Four laws: a room imports only the rooms the table grants it; no two modules need each other at import time;
heavy packages are imported at the top of a file only where the table of heavy packages allows it; what else a
file imports at its top is a core dependency, so that every module loads without any extra.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"graphrewrite": "graphrewrite"} | {
    n: f"graphrewrite.{n}" for n in ("passes", "custom_ops", "models")
}

BASE = {"errors", "registry", "serial"}
ENGINE = BASE | {"custom_ops", "ir", "match", "dims", "cost", "runtime", "data", "pipeline"}
ALLOWED: Mapping[str, set[str]] = {
    "errors": set(),
    "registry": {"errors"},
    "serial": {"errors", "registry"},
    "custom_ops": BASE,
    "ir": BASE | {"custom_ops"},
    "match": BASE | {"ir"},
    "cost": BASE | {"ir"},
    "dims": BASE | {"ir", "cost"},
    "runtime": BASE | {"custom_ops", "ir", "cost"},
    "data": BASE | {"ir", "runtime"},
    "pipeline": BASE | {"ir", "runtime", "data", "cost"},
    "bridge": BASE | {"ir", "data", "custom_ops"},
    "passes": ENGINE | {"bridge"},
    "models": BASE | {"ir"},
}
# The shop front: may import every room, and no room may import them back.
FRONT = {"", "__main__", "cli", "demo", "report"}

# Heavy packages, and the files whose top may import them. Elsewhere the import stands inside the function.
HEAVY: Mapping[str, tuple[str, ...]] = {
    "torch": (
        "graphrewrite/bridge/*",
        "passes/losses/*",
        "passes/synth/*",
        "*/torch_impl.py",
        "custom_ops/*/torch_form.py",
        "models/train_*.py",
    ),
    "onnxruntime": ("graphrewrite/runtime/*",),
    "tensorflow": ("models/train_*.py",),
    "sklearn": ("models/train_*.py",),
    "matplotlib": (),
}


@dataclass(frozen=True)
class Import:
    """One imported name: `target` is the dotted name after from or import, `name` what is taken out of it."""

    target: str
    name: str
    line: int
    at_top: bool


def imports_of(source: str) -> list[Import]:
    """Every import of a file; those for the type checker alone count as not at the top."""
    found: list[Import] = []

    def visit(node: ast.AST, at_top: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, "", node.lineno, at_top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            target = "." * node.level + (node.module or "")
            found.extend(Import(target, alias.name, node.lineno, at_top) for alias in node.names)
        inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            inside = True
        for child in ast.iter_child_nodes(node):
            visit(child, at_top and not inside)

    visit(ast.parse(source), True)
    return found


def sources(root: Path) -> dict[str, str]:
    """Return path relative to `root` -> text for every Python file of the package."""
    return {
        path.relative_to(root).as_posix(): path.read_text(encoding="utf-8")
        for folder in PACKAGES
        for path in sorted((root / folder).rglob("*.py"))
        if "__pycache__" not in path.parts
    }


def module_name(path: str) -> str:
    """Return the name a file is imported by: passes/tidy/rules.py -> graphrewrite.passes.tidy.rules."""
    folder, *rest = path.removesuffix(".py").split("/")
    parts = [PACKAGES[folder], *rest]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    """Return the room of a dotted name; the package itself is the room with the empty name."""
    return module.split(".")[1] if "." in module else ""


def forbidden_arrows(files: Mapping[str, str]) -> Iterator[str]:
    """Yield one line for every import that the table does not grant."""
    for path, text in files.items():
        own = room(module_name(path))
        if own not in ALLOWED and own not in FRONT:
            yield f"{path}: the room {own!r} is in no table; give it a row in ALLOWED"
            continue
        for item in imports_of(text):
            if item.target.startswith("."):
                yield f"{path}:{item.line}: relative import"
            if item.target.split(".")[0] != "graphrewrite":
                continue
            # `from graphrewrite import dims` reaches a room; `from graphrewrite import Model` the front.
            whole = item.target == "graphrewrite" and item.name in ALLOWED
            other = item.name if whole else room(item.target)
            if other != own and own not in FRONT and other not in ALLOWED[own]:
                yield f"{path}:{item.line}: {own} may not import {other or 'graphrewrite itself'}"


def import_time_cycles(files: Mapping[str, str]) -> list[list[str]]:
    """Return groups of modules that need each other before any of them has finished loading."""
    modules = {module_name(path): text for path, text in files.items()}
    graph: nx.DiGraph = nx.DiGraph()
    for module, text in modules.items():
        for item in imports_of(text):
            full = f"{item.target}.{item.name}"
            target = full if full in modules else item.target
            if item.at_top and target in modules and target != module:
                graph.add_edge(module, target)
    return sorted(sorted(group) for group in nx.strongly_connected_components(graph) if len(group) > 1)


def heavy_imports(files: Mapping[str, str]) -> Iterator[str]:
    """Yield one line for every heavy package at the top of a file that may not have it there."""
    for path, text in files.items():
        for item in imports_of(text):
            package = item.target.split(".")[0]
            if package in HEAVY and item.at_top and not any(fnmatch(path, at) for at in HEAVY[package]):
                yield f"{path}:{item.line}: {package} at the top of the file"


def core_packages(pyproject: str) -> set[str]:
    """Return the import names of the core dependencies; protobuf (`google`) comes with onnx."""
    names = [re.split(r"[<>=~! ]", line)[0] for line in tomllib.loads(pyproject)["project"]["dependencies"]]
    return {name.replace("-", "_") for name in names} | {"google"}


def undeclared_imports(files: Mapping[str, str], core: set[str]) -> Iterator[str]:
    """Yield one line for every package at the top of a file that a plain install does not bring."""
    known = core | set(sys.stdlib_module_names) | set(HEAVY) | {"graphrewrite"}
    for path, text in files.items():
        for item in imports_of(text):
            package = item.target.split(".")[0]
            if item.at_top and package not in known and not fnmatch(path, "models/train_*.py"):
                yield f"{path}:{item.line}: {package} is no core dependency"


def test_rooms_import_only_what_the_table_grants() -> None:
    assert list(forbidden_arrows(sources(ROOT))) == []


def test_no_module_needs_itself_at_import_time() -> None:
    assert import_time_cycles(sources(ROOT)) == []


def test_heavy_packages_are_imported_where_they_are_used() -> None:
    assert list(heavy_imports(sources(ROOT))) == []


def test_every_module_loads_without_an_extra() -> None:
    core = core_packages((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert list(undeclared_imports(sources(ROOT), core)) == []


def test_the_table_has_no_cycle() -> None:
    arrows = nx.DiGraph([(own, other) for own, others in ALLOWED.items() for other in others])
    assert nx.is_directed_acyclic_graph(arrows)


def test_every_room_has_a_readme() -> None:
    folders = [path for path in (ROOT / "graphrewrite").iterdir() if (path / "__init__.py").exists()]
    folders += [ROOT / name for name in ("passes", "custom_ops", "models", "tests")]
    assert [path.name for path in folders if not (path / "README.md").exists()] == []


def test_every_folder_with_python_files_is_a_package() -> None:
    # An editable install remembers such a folder as a namespace and overlooks an __init__.py added later.
    folders = {Path(path).parent for path in sources(ROOT)}
    assert [folder.as_posix() for folder in folders if not (ROOT / folder / "__init__.py").exists()] == []


# ------------------------------------------------------------------------------------- the checks can fail


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("graphrewrite/ir/model.py", "from graphrewrite.pipeline import Pipeline"),
        ("graphrewrite/ir/model.py", "from graphrewrite import pipeline"),
        ("graphrewrite/ir/model.py", "import graphrewrite.passes.tidy.identity"),
        ("graphrewrite/ir/model.py", "import graphrewrite"),
        ("graphrewrite/ir/model.py", "from .weights import Weights"),
        ("graphrewrite/pipeline/manager.py", "def late():\n    from graphrewrite.passes import tidy"),
        ("passes/tidy/identity.py", "from graphrewrite.cli import main"),
        ("passes/tidy/identity.py", "import graphrewrite.tests.support"),
        ("models/mlp.py", "from graphrewrite.dims import groups"),
        ("graphrewrite/cellar/wine.py", ""),
    ],
)
def test_a_forbidden_arrow_is_found(path: str, text: str) -> None:
    assert len(list(forbidden_arrows({path: text}))) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (
            "graphrewrite/ir/model.py",
            "from graphrewrite.ir.weights import Weights\nimport graphrewrite.errors",
        ),
        ("passes/tidy/identity.py", "from graphrewrite import match\nimport graphrewrite.passes.tidy"),
        ("graphrewrite/cli.py", "from graphrewrite.passes import tidy\nimport graphrewrite.dims, numpy"),
    ],
)
def test_a_granted_arrow_is_left_alone(path: str, text: str) -> None:
    assert list(forbidden_arrows({path: text})) == []


def test_a_cycle_is_found_and_a_deferred_import_breaks_it() -> None:
    one = {"graphrewrite/ir/one.py": "from graphrewrite.ir import two"}
    assert import_time_cycles(one | {"graphrewrite/ir/two.py": "import graphrewrite.ir.one"}) == [
        ["graphrewrite.ir.one", "graphrewrite.ir.two"]
    ]
    deferred = "def later():\n    import graphrewrite.ir.one"
    typed = "if TYPE_CHECKING:\n    import graphrewrite.ir.one"
    assert import_time_cycles(one | {"graphrewrite/ir/two.py": deferred}) == []
    assert import_time_cycles(one | {"graphrewrite/ir/two.py": typed}) == []


def test_a_heavy_import_at_the_top_is_found_and_inside_a_function_is_not() -> None:
    assert len(list(heavy_imports({"passes/channels/remove.py": "from torch.nn import functional"}))) == 1
    assert len(list(heavy_imports({"passes/channels/remove.py": "class A:\n    import torch"}))) == 1
    assert list(heavy_imports({"passes/channels/remove.py": "def f():\n    import torch"})) == []
    assert list(heavy_imports({"passes/losses/soft.py": "import torch"})) == []


def test_an_undeclared_package_at_the_top_is_found() -> None:
    core = core_packages('[project]\ndependencies = ["onnx-graphsurgeon>=0.5", "numpy"]')
    assert core == {"onnx_graphsurgeon", "numpy", "google"}
    assert len(list(undeclared_imports({"passes/tidy/x.py": "import numpy, json, pandas"}, core))) == 1
    assert list(undeclared_imports({"passes/tidy/x.py": "def f():\n    import pandas"}, core)) == []
