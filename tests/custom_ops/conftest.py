"""The compiled library under test: the one that is named or installed, else one built from the checkout."""

import os
import shutil
from pathlib import Path

import pytest

from tests.custom_ops.runtimes.compiled import ROOT, compiler, succeed


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of the operators' library."""
    from graphrewrite.custom_ops import library as installed

    if installed.available():
        return installed.library_path()
    if shutil.which("cmake") is None:
        pytest.skip("building the operators needs cmake")
    compiler()
    folder = ROOT / "build" / "tests" / f"ops-{os.getpid()}"
    succeed(["cmake", "-S", ROOT / "custom_ops", "-B", folder, "-DCMAKE_BUILD_TYPE=Release"])
    succeed(["cmake", "--build", folder, "--parallel", "2"])
    (built,) = folder.glob("*graphrewrite_ops.*")
    return built
