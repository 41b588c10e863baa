"""`graphrewrite bench`."""

from pathlib import Path

import numpy as np

from graphrewrite.ir import Builder
from tests.engine.cli.conftest import Run

QUICK = ["--seconds", "0.05", "--threads", "1"]


def test_models_are_held_against_the_first(run: Run, small: Path) -> None:
    ran = run("bench", small, small, *QUICK, "--json")
    assert ran.code == 0
    first, second = ran.document["models"]
    assert first["ratio"] == 1.0
    assert 0 < first["fastest"] <= first["median"] <= first["p95"]
    assert first["runs"] == second["runs"] >= 5
    assert first["inputs"] == "x [1, 3, 8, 8]", "one sample, where the model leaves the batch open"
    assert ran.document["threads"] == 1
    assert ran.document["runtime"].startswith("onnxruntime")


def test_a_slower_model_has_a_larger_ratio(run: Run, tmp_path: Path) -> None:
    for name, size in (("small", 8), ("large", 600)):
        b = Builder()
        x = b.input([1, size], name="x")
        for _ in range(4):
            x = b.linear(x, out=size, into=size)
        b.model(x).save(tmp_path / f"{name}.onnx")
    ran = run("bench", tmp_path / "small.onnx", tmp_path / "large.onnx", *QUICK, "--json")
    assert ran.document["models"][1]["ratio"] > 2, "5600 times the work"
    assert "inputs of its own" in ran.err


def test_the_batch_can_be_chosen_where_it_is_open(run: Run, small: Path, tmp_path: Path) -> None:
    assert "x [8, 3, 8, 8]" in run("bench", small, *QUICK, "--batch", "8").out
    b = Builder()
    b.model(b.relu(b.input([2, 3], name="x"))).save(tmp_path / "fixed.onnx")
    assert "x [2, 3]" in run("bench", tmp_path / "fixed.onnx", *QUICK).out
    ran = run("bench", tmp_path / "fixed.onnx", *QUICK, "--batch", "8")
    assert (ran.code, ran.err.count("\n")) == (2, 1)


def test_given_data_is_what_is_run(run: Run, small: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.zeros((5, 3, 8, 8), dtype=np.float32))
    assert (
        "x [4, 3, 8, 8]" in run("bench", small, *QUICK, "--data", tmp_path / "data.npz", "--batch", "4").out
    )


def test_text_says_how_it_was_measured(run: Run, small: Path) -> None:
    out = run("bench", small, small, *QUICK).out
    assert "runs each in turns, 1 thread, onnxruntime" in out
    assert out.splitlines()[0].split() == ["model", "median", "p95", "fastest", "ratio", "load"]
