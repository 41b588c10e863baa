"""`graphrewrite tidy`."""

from pathlib import Path

import numpy as np
import pytest

from graphrewrite.ir import Builder, Model
from tests.engine.cli.conftest import Run


@pytest.fixture
def untidy(tmp_path: Path) -> Path:
    """Convolution, batch norm, two identities: one convolution is enough."""
    b = Builder()
    x = b.input(["n", 3, 4, 4], name="x")
    normed = b.batchnorm(b.conv(x, out=5, into=3), channels=5)
    path = tmp_path / "untidy.onnx"
    b.model(b.relu(b.op("Identity", b.op("Identity", normed)))).save(path)
    return path


def test_what_is_folded_is_counted_and_checked(run: Run, untidy: Path, tmp_path: Path) -> None:
    ran = run("tidy", untidy, "-o", tmp_path / "out.onnx", "--json")
    assert ran.code == 0
    told = ran.document
    assert (told["nodes_before"], told["nodes_after"]) == (5, 2)
    assert (told["verified"]["how"], told["verified"]["rtol"]) == ("same", 1e-4)
    assert told["verified"]["error"] < 1e-5
    assert {"op": "BatchNormalization", "before": 1, "after": 0} in told["operators"]
    assert sorted(node.op for node in Model.load(tmp_path / "out.onnx").nodes()) == ["Conv", "Relu"]


def test_text_has_the_table_of_operators(run: Run, untidy: Path, tmp_path: Path) -> None:
    lines = run("tidy", untidy, "-o", tmp_path / "out.onnx").out.splitlines()
    assert ["Identity", "2", "0", "-2"] in [line.split() for line in lines]
    assert any("outputs equal the input model's" in line for line in lines)


def test_batch_norms_stay_when_asked(run: Run, untidy: Path, tmp_path: Path) -> None:
    run("tidy", untidy, "-o", tmp_path / "out.onnx", "--keep-batchnorm")
    assert sorted(node.op for node in Model.load(tmp_path / "out.onnx").nodes()) == [
        "BatchNormalization",
        "Conv",
        "Relu",
    ]


def test_tidying_twice_changes_nothing_more(run: Run, untidy: Path, tmp_path: Path) -> None:
    assert run("tidy", untidy, "-o", tmp_path / "once.onnx", "--strict").code == 0
    ran = run("tidy", tmp_path / "once.onnx", "-o", tmp_path / "twice.onnx", "--strict")
    assert ran.code == 3
    assert not (tmp_path / "twice.onnx").exists()


def test_the_graph_alone_is_checked_when_asked(run: Run, untidy: Path, tmp_path: Path) -> None:
    told = run("tidy", untidy, "-o", tmp_path / "out.onnx", "--verify", "structure", "--json").document
    assert (told["verified"]["how"], told["verified"]["error"]) == ("structure", None)


def test_a_model_that_cannot_run_is_tidied_with_a_warning(run: Run, tmp_path: Path) -> None:
    b = Builder()
    x = b.input([2, 3], name="x")
    b.model(b.op("Mystery", b.op("Identity", x), domain="com.example")).save(tmp_path / "odd.onnx")
    ran = run("tidy", tmp_path / "odd.onnx", "-o", tmp_path / "out.onnx", "--json")
    assert ran.code == 0
    assert ran.document["verified"]["how"] == "structure"
    assert any("not verified by running" in warning for warning in ran.document["warnings"])
    assert "not verified by running" in ran.err


def test_outputs_are_kept_in_name_and_value(run: Run, untidy: Path, tmp_path: Path) -> None:
    run("tidy", untidy, "-o", tmp_path / "out.onnx")
    assert run("compare", untidy, tmp_path / "out.onnx", "--rtol", "1e-5").code == 0
    assert [tensor.name for tensor in Model.load(tmp_path / "out.onnx").outputs] == [
        tensor.name for tensor in Model.load(untidy).outputs
    ]
    assert np.dtype(np.float32) == Model.load(tmp_path / "out.onnx").outputs[0].dtype
