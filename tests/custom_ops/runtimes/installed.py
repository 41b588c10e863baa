"""Several onnxruntime releases beside each other, each in a folder of its own that pip fills."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.custom_ops.runtimes.compiled import ROOT

WALK = Path(__file__).with_name("walk.py")
# The first release with what the kernels call, and the last one without.
OLDEST, TOO_OLD = "1.17.3", "1.16.3"

Step = Mapping[str, object]
Result = dict[str, object]


@dataclass(frozen=True)
class Runtime:
    """An onnxruntime that steps can be run in; `folder` is None for the one the tests themselves use."""

    folder: Path | None

    def walk(self, steps: Sequence[Step]) -> tuple[str, list[Result], str]:
        """Run the steps in a process of their own; return the release, one result a step, and what went to stderr."""
        done = self._run(WALK, json.dumps(steps))
        answer = json.loads(done.stdout)
        return answer["version"], answer["results"], done.stderr

    def python(self, script: Path, *arguments: str) -> str:
        """Run a script that needs numpy and onnxruntime alone, and return what it printed."""
        return self._run(script, *arguments).stdout

    def _run(self, script: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command, environment = [sys.executable], dict(os.environ)
        if self.folder is not None:
            command.append("-S")  # nothing of the environment the tests run in
            environment["PYTHONPATH"] = str(self.folder)
        done = subprocess.run(
            [*command, str(script), *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=280,
            env=environment,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return done


def runtime(release: str) -> Runtime:
    """Return the runtime of a release, `installed` or `newest`; skip the test where it cannot be had."""
    if release == "installed":
        return Runtime(None)
    folder = ROOT / "build" / "runtimes" / release
    if not folder.exists():
        install(release, folder)
    return Runtime(folder)


def install(release: str, folder: Path) -> None:
    """Fill a folder with one release and a numpy that it was built for."""
    if importlib.util.find_spec("pip") is None:
        pytest.skip("installing another onnxruntime needs pip")
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=folder.parent))
    wanted = ["onnxruntime", "numpy"] if release == "newest" else [f"onnxruntime=={release}", "numpy<2"]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, "--target", str(fresh), *wanted], check=False, capture_output=True, text=True, timeout=400
    )
    if done.returncode != 0:
        shutil.rmtree(fresh)
        pytest.skip(f"pip cannot install onnxruntime {release}: {done.stderr.strip().splitlines()[-1:]}")
    try:
        fresh.rename(folder)
    except OSError:  # another test process was faster
        shutil.rmtree(fresh)
