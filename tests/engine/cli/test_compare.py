"""`graphrewrite compare`."""

from pathlib import Path

import numpy as np
import pytest

from graphrewrite.ir import Builder, Model
from tests.engine.cli.conftest import Run, small_model


def saved(model: Model, path: Path) -> Path:
    model.save(path)
    return path


def shifted(by: float) -> Model:
    """The small model with `by` added to every bias of the second convolution, so outputs move by just that."""
    model = small_model()
    bias = model.nodes("Conv")[1].inputs[2].name
    model.weights[bias] = np.add(model.weights[bias], np.float32(by))
    return model


def test_a_model_agrees_with_itself(run: Run, small: Path) -> None:
    ran = run("compare", small, small, "--json")
    assert ran.code == 0
    assert ran.document["equal"] is True
    assert [entry["x"] for entry in ran.document["runs"]] == [[2, 3, 8, 8], [3, 3, 8, 8]], "two batch sizes"
    (row,) = ran.document["outputs"]
    assert (row["name"], row["error"], row["largest_gap"]) == ("second_out", 0.0, 0.0)
    assert row["cosine"] == pytest.approx(1.0)


def test_a_shift_is_measured_and_exits_with_one(run: Run, small: Path, tmp_path: Path) -> None:
    ran = run("compare", small, saved(shifted(0.5), tmp_path / "b.onnx"), "--json")
    assert ran.code == 1
    (row,) = ran.document["outputs"]
    assert row["largest_gap"] == pytest.approx(0.5, rel=1e-4)
    assert 0 < row["error"] < 0.5, "the outputs' largest value is above one"
    assert row["cosine"] < 1


def test_the_tolerance_decides(run: Run, small: Path, tmp_path: Path) -> None:
    other = saved(shifted(1e-3), tmp_path / "b.onnx")
    assert run("compare", small, other).code == 1
    assert run("compare", small, other, "--rtol", "0.01").code == 0


def test_the_first_tensor_that_differs_is_named(run: Run, small: Path, tmp_path: Path) -> None:
    model = small_model()
    bias = model.nodes("Conv")[0].inputs[2].name
    model.weights[bias] = np.add(model.weights[bias], np.float32(1))
    ran = run("compare", small, saved(model, tmp_path / "b.onnx"))
    assert "first tensor that differs: first_out (made by Conv first;" in ran.out
    assert "0 tensors before it agree" in ran.out


def test_models_of_other_inputs_differ_without_a_run(run: Run, small: Path, tmp_path: Path) -> None:
    b = Builder()
    other = saved(b.model(b.relu(b.input([1, 3, 8, 8], name="image"))), tmp_path / "b.onnx")
    ran = run("compare", small, other)
    assert ran.code == 1
    assert "B has no input 'x'" in ran.out
    assert "neither was run" in ran.out


def test_an_output_of_another_shape_differs(run: Run, small: Path, tmp_path: Path) -> None:
    b = Builder()
    x = b.input(["batch", 3, 8, 8], name="x")
    ran = run("compare", small, saved(b.model(b.conv(x, out=5, into=3, name="second")), tmp_path / "b.onnx"))
    assert ran.code == 1
    assert "[2, 4, 8, 8]" in ran.out and "[2, 5, 8, 8]" in ran.out


def test_an_extra_output_is_a_difference(run: Run, small: Path, tmp_path: Path) -> None:
    model = small_model()
    hidden = model.nodes("Relu")[0].outputs[0]
    hidden.dtype = np.dtype(np.float32)
    model.graph.outputs.append(hidden)
    ran = run("compare", small, saved(model, tmp_path / "b.onnx"))
    assert ran.code == 1
    assert "A has no output" in ran.out


def test_given_data_is_what_is_run(run: Run, small: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((70, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x)
    ran = run("compare", small, small, "--data", tmp_path / "data.npz", "--samples", "40", "--json")
    assert ran.document["samples"].startswith("64 of 70 samples"), "whole batches of 32"
    assert ran.code == 0


def test_a_random_model_is_warned_about(run: Run, tmp_path: Path) -> None:
    b = Builder()
    x = b.input([2, 3], name="x")
    path = saved(b.model(b.add(x, b.op("RandomNormalLike", x))), tmp_path / "r.onnx")
    ran = run("compare", path, path)
    assert "draws random numbers" in ran.err


def test_a_model_that_cannot_run_is_named(run: Run, small: Path, tmp_path: Path) -> None:
    b = Builder()
    x = b.input(["batch", 3, 8, 8], name="x")
    odd = saved(b.model(b.op("Mystery", x, domain="com.example", name="second")), tmp_path / "odd.onnx")
    ran = run("compare", small, odd)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "odd.onnx" in ran.err and "Mystery" in ran.err
