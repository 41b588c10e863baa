"""Every verb that applies a method tells the accuracy on held-out samples when --test names some."""

from pathlib import Path

import numpy as np
import pytest

from graphrewrite.ir import Builder
from tests.engine.cli.conftest import Run


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A net of convolutions and a product that always says class 0, and four samples of which two are of it."""
    b = Builder(opset=17, seed=1)
    x = b.relu(b.conv(b.input(["n", 2, 6, 6], name="x"), 8, 2))
    x = b.relu(b.conv(b.relu(b.conv(x, 8, 8)), 8, 8))
    scores = b.linear(b.op("Flatten", b.op("GlobalAveragePool", x)), 3, 8)
    b.model(b.add(scores, b.constant(np.array([1000, 0, 0], np.float32)))).save(tmp_path / "net.onnx")
    images = np.random.default_rng(0).standard_normal((4, 2, 6, 6)).astype(np.float32)
    np.savez(tmp_path / "test.npz", x=images, labels=np.array([0, 0, 1, 2]))
    return tmp_path / "net.onnx", tmp_path / "test.npz"


@pytest.mark.parametrize(
    "options",
    [
        ("prune", "--ratio", "0.5"),
        ("sparsify", "--lower", "never"),
        ("factorize", "--method", "svd", "--smallest", "8"),
        ("lowbit", "--lower", "always"),
        ("binarize",),
    ],
    ids=lambda options: options[0],
)
def test_accuracy_is_told(
    run: Run, files: tuple[Path, Path], tmp_path: Path, options: tuple[str, ...]
) -> None:
    model, test = files
    ran = run(options[0], model, "-o", tmp_path / "out.onnx", "--test", test, *options[1:])

    assert ran.code == 0, ran.err
    (row,) = (line.split() for line in ran.out.splitlines() if line.startswith("accuracy"))
    assert row == ["accuracy", "50.00", "%", "50.00", "%", "+0.00", "points"]
    assert "same top score for 100.0 %" in ran.out
