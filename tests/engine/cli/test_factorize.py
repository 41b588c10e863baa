"""`graphrewrite factorize`."""

from pathlib import Path

import numpy as np
import pytest

from graphrewrite.ir import Builder, Model
from tests.engine.cli.conftest import Run


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """Two products, the first of rank 8."""
    b = Builder(opset=18, seed=1)
    x = b.input(["n", 64], name="x")
    thin = b.rng.standard_normal((2, 64, 8)).astype(np.float32)
    hidden = b.relu(b.op("MatMul", x, b.constant(thin[0] @ thin[1].T), name="thin"))
    path = tmp_path / "net.onnx"
    b.model(b.linear(hidden, out=80, into=64, name="full")).save(path)
    return path


@pytest.fixture
def cell(tmp_path: Path) -> Path:
    """A GRU with a state of 32."""
    b = Builder(opset=17, seed=1)
    x = b.input(["t", "n", 16], name="x")
    path = tmp_path / "cell.onnx"
    b.model(b.op("GRU", x, b.weight(1, 96, 16), b.weight(1, 96, 32), name="gru", hidden_size=32)).save(path)
    return path


def test_low_rank_keeps_the_energy_it_was_told(run: Run, net: Path, tmp_path: Path) -> None:
    ran = run(
        "factorize", net, "-o", tmp_path / "out.onnx", "--method", "svd", "--energy", "0.9999", "--json"
    )

    assert ran.code == 0
    rows = {row["name"]: row for row in ran.document["factored"]}
    assert rows["thin"]["rank"] == 8
    assert rows["thin"]["relative_error"] < 1e-5
    assert "full" not in rows and any(left["subject"] == "full" for left in ran.document["left"])
    assert [node.op for node in Model.load(tmp_path / "out.onnx").nodes()].count("MatMul") == 2


@pytest.mark.parametrize(("method", "op"), [("wavelet", "WaveletLinear"), ("hadamard", "HadamardLinear")])
def test_transforms_become_our_operators(run: Run, net: Path, tmp_path: Path, method: str, op: str) -> None:
    told = run("factorize", net, "-o", tmp_path / "out.onnx", "--method", method, "--json").document

    assert [node.op for node in Model.load(tmp_path / "out.onnx").nodes()] == [op, "Relu", op]
    assert told["params_after"] < told["params_before"] / 8
    # The last step changes nothing, but the result is not what the input model computes.
    assert told["verified"]["how"] == "reference"
    assert told["verified"]["movement"] > 0.01


def test_plain_leaves_standard_operators_which_can_be_lowered_later(
    run: Run, net: Path, tmp_path: Path
) -> None:
    plain, lowered = tmp_path / "plain.onnx", tmp_path / "lowered.onnx"
    run("factorize", net, "-o", plain, "--method", "wavelet", "--plain", "--levels", "2")
    assert not {node.domain for node in Model.load(plain).nodes()} - {"", None}

    told = run("factorize", plain, "-o", lowered, "--lower-only", "--json").document

    assert told["verified"]["how"] == "same"
    assert [node.op for node in Model.load(lowered).nodes()] == ["WaveletLinear", "Relu", "WaveletLinear"]


def test_gates_of_a_recurrent_layer_are_layers_when_asked(run: Run, cell: Path, tmp_path: Path) -> None:
    words = ["--method", "wavelet", "--gates", "--smallest", "0", "--only", "gru.state.*", "--json"]

    told = run("factorize", cell, "-o", tmp_path / "out.onnx", *words).document

    assert [row["name"] for row in told["factored"]] == ["gru.state.z", "gru.state.r", "gru.state.h"]


def test_a_mode_writes_the_start_of_a_training_which_lowering_finishes(
    run: Run, cell: Path, tmp_path: Path
) -> None:
    start, fast = tmp_path / "start.onnx", tmp_path / "fast.onnx"
    words = ["--method", "wavelet", "--permutation", "random", "--diagonals", "ones", "--smallest", "0"]

    told = run("factorize", cell, "-o", start, *words, "--mode", "state", "--json").document

    assert [row["name"] for row in told["factored"]] == ["gru.state.h"]
    assert not {node.domain for node in Model.load(start).nodes()} - {"", None}
    told = run("factorize", start, "-o", fast, "--lower-only", "--json").document
    assert told["verified"]["how"] == "same" and told["changed"]


def test_the_page_and_the_table_are_written(run: Run, net: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    ran = run("factorize", net, "-o", tmp_path / "out.onnx", "--method", "svd", "-v", "--report", page)

    assert "low" not in ran.err and "factored" in ran.out
    assert ["full", "64", "x", "80"] in [line.split()[:4] for line in ran.out.splitlines()]
    assert "svd" in page.read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "svd", "--levels", "3"], "--levels is an option of wavelet"),
        (["--lower-only", "--rank", "3"], "--rank is an option of svd, not of --lower-only"),
        (["--method", "svb"], "did you mean svd"),
        (["--method", "svd", "--mode", "all"], "state_update"),
        (["--method", "svd", "--mode", "state", "--gates"], "--gates has no effect beside it"),
        (["--method", "wavelet", "--taps", "5"], "an even number"),
        (["--method", "svd", "--skip", "nobody"], "names no layer"),
        ([], "one of the arguments --method --lower-only is required"),
    ],
)
def test_bad_requests_are_one_line(
    run: Run, net: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    ran = run("factorize", net, "-o", tmp_path / "out.onnx", *words)

    assert ran.code == 2
    assert message in ran.err and ran.err.count("\n") == 1
    assert not (tmp_path / "out.onnx").exists()


def test_strict_writes_nothing_where_nothing_changes(run: Run, net: Path, tmp_path: Path) -> None:
    words = ["--method", "svd", "--smallest", "100000", "--strict"]

    assert run("factorize", net, "-o", tmp_path / "out.onnx", *words).code == 3
    assert not (tmp_path / "out.onnx").exists()


def test_channels_and_rank_together(run: Run, small: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    data, out = tmp_path / "data.npz", tmp_path / "out.onnx"
    np.savez(data, x=np.random.default_rng(0).standard_normal((16, 3, 8, 8)).astype(np.float32))
    words = ("factorize", small, "-o", out, "--method", "collaborative", "--loss", "outputs", "--data", data)

    told = run(*words, "--macs", "0.8", "--json").document

    (row,) = told["factored"]
    assert row["name"] == "second" and row["channels_after"] < row["channels_before"]
    assert told["macs_after"] <= 0.8 * told["macs_before"] and told["verified"]["how"] == "reference"
    assert "second" in run(*words, "--macs", "0.8").out


def test_collaborative_needs_samples_and_its_own_options(run: Run, small: Path, tmp_path: Path) -> None:
    words = ("factorize", small, "-o", tmp_path / "out.onnx", "--method", "collaborative")
    assert "--data" in run(*words).err
    ran = run(*words, "--rank", "3", "--data", small)
    assert ran.code == 2 and "--rank is an option of svd" in ran.err
