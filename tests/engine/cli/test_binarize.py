"""`graphrewrite binarize`."""

from pathlib import Path

import numpy as np
import pytest

from graphrewrite.ir import Builder, Model
from graphrewrite.passes.binary import lower
from tests.engine.cli.conftest import Run
from tests.support.speeds import quick


@pytest.fixture(autouse=True)
def quick_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is lowered must not depend on the machine that runs the tests."""
    monkeypatch.setattr(lower, "known_speeds", quick)


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    """Three convolutions, of which one is neither the first nor the last layer."""
    b = Builder()
    x = b.input(["n", 8, 6, 6], name="x")
    one = b.relu(b.conv(x, out=16, into=8, name="one"))
    two = b.relu(b.batchnorm(b.conv(one, out=16, into=16, name="two", bias=False), 16))
    path = tmp_path / "dense.onnx"
    b.model(b.conv(two, out=4, into=16, name="three")).save(path)
    return path


def ops(path: Path) -> list[str]:
    return [node.op for node in Model.load(path).graph.nodes]


def test_standard_operators_at_first(run: Run, dense: Path, tmp_path: Path) -> None:
    ran = run("binarize", dense, "-o", tmp_path / "out.onnx", "--json")

    assert ran.code == 0
    assert ran.document["binary"]["binarize"] == [{"name": "two", "filters": 16, "signs": 144}]
    assert ran.document["verified"]["how"] == "runs"
    assert "Where" in ops(tmp_path / "out.onnx")


def test_and_lowered(run: Run, dense: Path, tmp_path: Path) -> None:
    ran = run(
        "binarize", dense, "-o", tmp_path / "out.onnx", "--lower", "--report", tmp_path / "r.html", "-v"
    )

    assert ran.code == 0, ran.err
    assert ops(tmp_path / "out.onnx") == ["Conv", "BinaryConv", "Relu", "Conv"]
    assert "Mul, BatchNormalization" in ran.out and "BinaryConv" in ran.out
    assert "BinaryConv" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_always_lowers_what_is_not_known_to_be_faster(
    run: Run, dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lower, "known_speeds", lambda: None)
    ran = run("binarize", dense, "-o", tmp_path / "out.onnx", "--lower", "-v")
    assert "graphrewrite calibrate" in ran.out and "BinaryConv" not in ops(tmp_path / "out.onnx")

    assert run("binarize", dense, "-o", tmp_path / "out.onnx", "--lower", "--always").code == 0
    assert ops(tmp_path / "out.onnx") == ["Conv", "BinaryConv", "Relu", "Conv"]


def test_lower_only_makes_nothing_binary(run: Run, dense: Path, tmp_path: Path) -> None:
    made = tmp_path / "made.onnx"
    assert run("binarize", dense, "-o", made).code == 0
    ran = run("binarize", made, "-o", tmp_path / "out.onnx", "--lower-only", "--json")

    assert ran.code == 0
    assert list(ran.document["binary"]) == ["lower_binary"]
    assert ops(tmp_path / "out.onnx") == ["Conv", "BinaryConv", "Relu", "Conv"]
    assert run("binarize", dense, "-o", tmp_path / "none.onnx", "--lower-only", "--strict").code == 3


def test_what_is_left_is_said(run: Run, dense: Path, tmp_path: Path) -> None:
    ran = run("binarize", dense, "-o", tmp_path / "out.onnx", "--skip", "two", "--json")

    assert {entry["subject"]: entry["reason"] for entry in ran.document["left"]} == {
        "one": "it is the first layer",
        "two": "named by the skip pattern 'two'",
        "three": "it is the last layer",
    }


@pytest.fixture
def scored(tmp_path: Path) -> tuple[Path, Path]:
    """A net of three convolutions that scores three classes, and samples with labels."""
    pytest.importorskip("accelerate")
    b = Builder()
    one = b.relu(b.conv(b.input(["n", 2, 6, 6], name="x"), out=8, into=2, name="one"))
    two = b.relu(b.batchnorm(b.conv(one, out=8, into=8, name="two", bias=False), 8))
    flat = b.op("Flatten", b.op("GlobalAveragePool", two), axis=1)
    b.model(b.linear(flat, out=3, into=8)).save(tmp_path / "net.onnx")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((24, 2, 6, 6)).astype(np.float32)
    np.savez(tmp_path / "train.npz", x=x, labels=rng.integers(0, 3, 24))
    return tmp_path / "net.onnx", tmp_path / "train.npz"


def test_training_and_lowering(run: Run, scored: tuple[Path, Path], tmp_path: Path) -> None:
    given = ("binarize", scored[0], "--data", scored[1], "--epochs", "1")
    ran = run(*given, "-o", tmp_path / "recu.onnx", "--method", "recu", "--lower", "--json")

    assert ran.code == 0, ran.err
    (row,) = ran.document["binary"]["train_binary"]
    assert row["name"] == "two" and row["signs"] == 72 and 0 < row["as at first"] <= 1
    assert "BinaryConv" in ops(tmp_path / "recu.onnx")
    taught = run(
        *given, "-o", tmp_path / "a.onnx", "--method", "siman", "--teacher", scored[0], "--tidy", "-v"
    )
    assert taught.code == 0 and "trained as signs" in taught.out
    # Without another teacher the two steps of adam_bnn learn from the model itself.
    both = run(*given, "-o", tmp_path / "b.onnx", "--method", "adam_bnn", "--json")
    assert both.code == 0 and list(both.document["binary"]) == ["adam_bnn"]
    assert {"PRelu", "Where"} <= set(ops(tmp_path / "b.onnx"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--method", "recu"], "--data"),
        (["--epochs", "3"], "--method"),
        (["--method", "recu", "--lower-only", "--data", "DATA"], "--lower-only"),
        (["--method", "recu", "--data", "DATA", "--recipe", "R", "--rate", "1"], "--recipe"),
        (["--method", "none"], "invalid choice"),
    ],
)
def test_training_that_cannot_be_is_told(
    run: Run, scored: tuple[Path, Path], tmp_path: Path, words: list[str], told: str
) -> None:
    given = [str(scored[1]) if word == "DATA" else word for word in words]

    ran = run("binarize", scored[0], "-o", tmp_path / "out.onnx", *given)

    assert ran.code == 2 and told in ran.err and "Traceback" not in ran.err
    assert not (tmp_path / "out.onnx").exists()
