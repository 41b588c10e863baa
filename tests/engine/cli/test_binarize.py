"""`graphrewrite binarize`."""

from pathlib import Path

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
