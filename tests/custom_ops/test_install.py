"""`pip install .` with a compiler and without: what is installed, and what it says of itself."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.custom_ops.runtimes.compiled import ROOT, compiler, succeed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

# One small operator is enough to see a wheel with kernels, and compiles in seconds.
ONE_OP = {"SKBUILD_CMAKE_DEFINE": "GR_OPS=pack_signs"}

ASK = """
import numpy as np, onnxruntime as ort
from graphrewrite import custom_ops
from graphrewrite.custom_ops.presence import presence
found = presence()
print(custom_ops.available(), found.isa or "none", "PackSigns" in found.ops)
print(found.why_not)
"""


def wheel(folder: Path, **environment: str) -> Path:
    """Build a wheel from a copy of the checkout, in the environment of the tests, and return it."""
    for needed in ("pip", "scikit_build_core"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"building needs {needed}")
    copy = folder / "checkout"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    for name in ("graphrewrite", "passes", "custom_ops", "models"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    succeed([*command, "--wheel-dir", folder, copy], 1200, PIP_DISABLE_PIP_VERSION_CHECK="1", **environment)
    (built,) = folder.glob("*.whl")
    return built


def ask(built: Path, folder: Path) -> list[str]:
    """Unpack a wheel and ask the package in it for its kernels, in an interpreter that knows no other installation."""
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "installed")
    # Without `site` the hooks of an editable install are out of the way; the packages it depends on stay.
    packages = sysconfig.get_paths()["purelib"]
    environment: Mapping[str, str] = {
        **{key: value for key, value in os.environ.items() if not key.startswith("GRAPHREWRITE_")},
        "PYTHONPATH": os.pathsep.join([str(folder / "installed"), packages]),
    }
    done = subprocess.run(
        [sys.executable, "-S", "-c", ASK],
        check=True,
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
    )
    return done.stdout.splitlines()


def test_with_a_compiler_the_wheel_holds_the_kernels(tmp_path: Path) -> None:
    compiler()
    built = wheel(tmp_path, **ONE_OP)
    assert re.search(r"-py3-none-(linux|macosx|win)\w*\.whl$", built.name)
    with zipfile.ZipFile(built) as archive:
        names = archive.namelist()
    assert [name for name in names if re.search(r"\.(so|dylib|dll)$", name)] == [
        "graphrewrite/custom_ops/libgraphrewrite_ops.so"
    ]
    assert [name for name in names if re.search(r"\.(cc|h|map)$|CMakeLists", name)] == []
    told = ask(built, tmp_path)
    assert told[0].split()[0] == "True"
    assert told[0].split()[1] in {"scalar", "avx2", "avx512", "amx", "neon"}
    assert told[0].split()[2] == "True"


def test_without_a_compiler_the_wheel_is_pure_and_says_so(tmp_path: Path) -> None:
    broken = tmp_path / "no-compiler"
    broken.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    broken.chmod(0o755)
    built = wheel(tmp_path, CXX=str(broken), CC=str(broken))
    assert built.name.endswith("-py3-none-any.whl")
    first, why = ask(built, tmp_path)[:2]
    assert first == "False none False"
    assert "built without a C++ compiler" in why
    assert "models still run through their function bodies" in why
    assert "install a compiler and then graphrewrite again" in why


def test_kernels_that_are_not_wanted_are_not_built(tmp_path: Path) -> None:
    built = wheel(tmp_path, GRAPHREWRITE_NO_KERNELS="1")
    assert built.name.endswith("-py3-none-any.whl")
    assert "GRAPHREWRITE_NO_KERNELS" in ask(built, tmp_path)[1]
