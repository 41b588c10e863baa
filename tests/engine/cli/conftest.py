"""What the tests of the command line share: small model files, and running a command in this process."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from graphrewrite.cli import main
from graphrewrite.ir import Builder, Model


@dataclass(frozen=True)
class Ran:
    """What one command did."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout; fails when there is more or less than one."""
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str | Path) -> Ran:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Ran(code, *capsys.readouterr())

    return call


def small_model(seed: int = 0) -> Model:
    """Two convolutions with a rectifier between them; the 8 channels in the middle may go.

    For one sample [1, 3, 8, 8]: 8*3*9*64 + 4*8*9*64 = 13824 + 18432 = 32256 MACs, 216+8+288+4 = 516 parameters.
    """
    b = Builder(seed=seed)
    x = b.input(["batch", 3, 8, 8], name="x")
    hidden = b.relu(b.conv(x, out=8, into=3, name="first"))
    return b.model(b.conv(hidden, out=4, into=8, name="second"))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.onnx"
    small_model().save(path)
    return path
