"""`graphrewrite convert`."""

from pathlib import Path

from graphrewrite.ir import Builder, Model
from tests.engine.cli.conftest import Run


def saved(path: Path, opset: int = 11) -> Path:
    b = Builder(opset)
    b.model(b.op("Softmax", b.input(["N", 3, 4], "x"), name="soft")).save(path)
    return path


def test_nodes_that_are_rewritten_are_named_and_outputs_compared(run: Run, tmp_path: Path) -> None:
    ran = run("convert", saved(tmp_path / "old.onnx"), "-o", tmp_path / "new.onnx", "--opset", "21", "--json")

    assert ran.code == 0
    assert ran.document["opset"] == [11, 21]
    assert (ran.document["verified"]["how"], ran.document["nodes_after"]) == ("same", 4)
    assert Model.load(tmp_path / "new.onnx").opset == 21
    text = run("convert", tmp_path / "old.onnx", "-o", tmp_path / "new.onnx", "--opset", "13").out
    assert "from 11 to 13" in text and "1 in another form: soft" in text


def test_what_cannot_be_converted_is_refused(run: Run, tmp_path: Path) -> None:
    old = saved(tmp_path / "old.onnx", opset=13)
    ran = run("convert", old, "-o", tmp_path / "new.onnx", "--opset", "9")
    assert ran.code == 2 and not (tmp_path / "new.onnx").exists()
    assert "'soft' (Softmax)" in ran.err
    assert run("convert", old, "-o", tmp_path / "new.onnx", "--opset", "99").code == 2


def test_a_model_that_is_there_is_copied(run: Run, tmp_path: Path) -> None:
    asked = ("convert", saved(tmp_path / "old.onnx"), "-o", tmp_path / "same.onnx", "--opset", "11")
    assert run(*asked).code == 0 and Model.load(tmp_path / "same.onnx").opset == 11
    assert run(*asked, "--strict").code == 3
