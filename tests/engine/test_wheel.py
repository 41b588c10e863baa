"""What is in the wheel: four top-level folders under one name and their data files, no reading matter."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("passes", "custom_ops", "models")
NOT_SHIPPED = re.compile(r"^graphrewrite/(docs|tests)/|^(tests|passes|models|custom_ops)/|/README\.md$")
DATA = (".onnx", ".json", ".j2", ".toml", ".typed")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Return the paths inside a wheel without kernels, built from a copy so that the checkout stays as it is."""
    if importlib.util.find_spec("scikit_build_core") is None or importlib.util.find_spec("pip") is None:
        pytest.skip("building needs pip and scikit-build-core")
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, copy / name)
    for name in ("graphrewrite", *FOLDERS):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*command, "--wheel-dir", str(target), str(copy)],
        check=True,
        timeout=240,
        env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "GRAPHREWRITE_NO_KERNELS": "1"},
    )
    (built,) = target.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        return {built.name, *archive.namelist()}


def expected(suffixes: Iterable[str]) -> set[str]:
    """Return where every file of the four folders with one of these endings must lie in the wheel."""
    found = set()
    for folder in ("graphrewrite", *FOLDERS):
        prefix = "" if folder == "graphrewrite" else "graphrewrite/"
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in set(suffixes) and "__pycache__" not in path.parts:
                found.add(prefix + path.relative_to(ROOT).as_posix())
    return {name for name in found if not name.startswith("graphrewrite/docs/")}


def test_it_is_pure_python(wheel: set[str]) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert f"graphrewrite-{version}-py3-none-any.whl" in wheel


def test_every_module_and_data_file_is_in_it(wheel: set[str]) -> None:
    assert expected({".py"}) - wheel == set()
    assert expected(DATA) - wheel == set()


def test_documents_and_tests_are_not(wheel: set[str]) -> None:
    assert [name for name in wheel if NOT_SHIPPED.search(name)] == []


def test_a_stray_file_would_be_seen() -> None:
    strays = [
        "tests/engine/test_wheel.py",
        "graphrewrite/docs/design.txt",
        "passes/x.py",
        "graphrewrite/ir/README.md",
    ]
    assert all(NOT_SHIPPED.search(name) for name in strays)
    assert not NOT_SHIPPED.search("graphrewrite/passes/tidy/identity.py")
