"""C++ of the tests: found compiler, built once per source and flags, kept in `build/tests` between runs."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
BUILT = ROOT / "build" / "tests"


def compiler() -> str:
    """Return the C++ compiler, or skip the test with the reason."""
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        if name and shutil.which(name):
            return name
    pytest.skip("there is no C++ compiler")


def call(
    command: Sequence[str | Path], timeout: float = 540, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end and return it with its texts, whatever its exit code; `environment` is added to ours."""
    return subprocess.run(
        [str(word) for word in command],
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        env=os.environ | environment,
    )


def succeed(command: Sequence[str | Path], timeout: float = 540, **environment: str) -> str:
    """Run a command that must succeed and return what it printed; a failure shows the end of both streams."""
    done = call(command, timeout, **environment)
    assert done.returncode == 0, (
        f"{' '.join(map(str, command))}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    )
    return done.stdout


def shared_library(source: Path, *, includes: Sequence[Path], flags: Sequence[str] = ()) -> Path:
    """Compile one file into a library and return its path; an unchanged one is there already."""
    words = [compiler(), "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", *flags]
    digest = hashlib.sha256(" ".join(words).encode())
    for folder in (*includes, source.parent):
        for path in sorted(folder.rglob("*.h")):
            digest.update(path.read_bytes())
    digest.update(source.read_bytes())
    target = BUILT / f"{source.stem}-{digest.hexdigest()[:16]}.so"
    if not target.exists():
        BUILT.mkdir(parents=True, exist_ok=True)
        # Under a name of this process first: two test processes may build it at once.
        fresh = target.with_suffix(f".{os.getpid()}")
        succeed([*words, *(f"-I{folder}" for folder in includes), source, "-o", fresh])
        fresh.replace(target)
    return target
