"""`graphrewrite teacher`."""

from pathlib import Path

import numpy as np
import pytest

from graphrewrite.ir import Builder
from tests.engine.cli.conftest import Run


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    b = Builder()
    b.model(b.op("Identity", b.input(["N", 3], "x"))).save(tmp_path / "big.onnx")
    return tmp_path / "big.onnx"


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    labels = np.array([0, 0, 1, 2])
    np.savez(tmp_path / "held.npz", x=np.eye(3, dtype=np.float32)[[0, 0, 1, 1]], labels=labels)
    return tmp_path / "held.npz"


def test_each_model_is_measured(run: Run, classifier: Path, samples: Path) -> None:
    ran = run("teacher", classifier, classifier, "--data", samples, "--json")
    assert ran.code == 0
    assert [row["model"] for row in ran.document["teachers"]] == [str(classifier)] * 2
    row = ran.document["teachers"][0]
    assert (row["accuracy"]["correct"], row["accuracy"]["total"]) == (3, 4)
    assert row["stability"] == pytest.approx(1.0)


def test_the_table_is_for_reading(run: Run, classifier: Path, samples: Path) -> None:
    ran = run("teacher", classifier, "--data", samples)
    assert "75.00 %" in ran.out and "4 samples" in ran.out


def test_without_labels_it_ends_with_one_line(run: Run, classifier: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "bare.npz", x=np.eye(3, dtype=np.float32))
    for words in (("--data", tmp_path / "bare.npz"), ()):
        ran = run("teacher", classifier, *words)
        assert ran.code == 2 and len(ran.err.strip().splitlines()) == 1
