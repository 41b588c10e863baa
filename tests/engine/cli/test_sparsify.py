"""`graphrewrite sparsify` and `graphrewrite calibrate`."""

from pathlib import Path

import numpy as np
import pytest

from graphrewrite.ir import Builder, Model
from graphrewrite.runtime.workloads import dense
from tests.engine.cli.conftest import Run
from tests.support.kernels import needs_library


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """Four products in a row."""
    b = Builder(opset=17, seed=1)
    x = b.input(["n", 32], name="x")
    for name in ("one", "two", "three", "four"):
        x = b.relu(b.op("MatMul", x, b.weight(32, 32), name=name))
    path = tmp_path / "net.onnx"
    b.model(x).save(path)
    return path


def test_masks_and_lowers(run: Run, net: Path, tmp_path: Path) -> None:
    ran = run(
        "sparsify", net, "-o", tmp_path / "out.onnx", "--pattern", "one_by_n:4", "--lower", "always", "--json"
    )

    assert ran.code == 0
    layers = ran.document["layers"]
    assert {name: row["sparsity"] for name, row in layers["mask_blocks"].items()} == {
        "two": 0.75,
        "three": 0.75,
    }
    assert set(layers["lower_block_sparse"]) == {"two", "three"}
    ops = [node.op for node in Model.load(tmp_path / "out.onnx").nodes()]
    assert ops == ["MatMul", "Relu", "BlockSparseMatMul", "BlockSparseMatMul", "MatMul", "Relu"]
    assert ran.document["macs_after"] == ran.document["macs_before"] * (2 + 2 / 4) / 4


def test_zeros_that_are_there_are_used(run: Run, net: Path, tmp_path: Path) -> None:
    masked = tmp_path / "masked.onnx"
    assert run("sparsify", net, "-o", masked, "--sparsity", "0.9", "--lower", "never").code == 0
    assert all(node.op != "BlockSparseMatMul" for node in Model.load(masked).nodes())
    ran = run(
        "sparsify", masked, "-o", tmp_path / "out.onnx", "--sparsity", "0", "--lower", "always", "--json"
    )
    assert set(ran.document["layers"]["lower_block_sparse"]) == {"two", "three"}


def test_two_of_four(run: Run, net: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    assert run("sparsify", net, "-o", out, "--pattern", "n_of_m:2:4", "--ends", "--lower", "never").code == 0
    zeros = [float(np.mean(weight == 0)) for weight in Model.load(out).weights.values()]
    assert zeros == [0.5] * 4


def test_one_command_masks_trains_and_lowers(run: Run, net: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    rng = np.random.default_rng(0)
    data, out = tmp_path / "train.npz", tmp_path / "out.onnx"
    np.savez(data, x=rng.standard_normal((32, 32)).astype(np.float32), labels=rng.integers(0, 32, 32))
    words = ("--mask", "one_by_n:4", "--data", data, "--epochs", "2", "--tidy", "--lower", "always", "--json")

    document = run("sparsify", net, "-o", out, *words).document

    assert [step["name"] for step in document["steps"]] == [
        "mask_blocks",
        "train_sparse",
        "tidy",
        "lower_block_sparse",
        "lower_q_block_sparse",
    ]
    assert {node.op for node in Model.load(out).nodes()} >= {"BlockSparseMatMul"}
    before, after = (Model.load(path).weights for path in (net, out))
    last = next(node.inputs[1].name for node in Model.load(net).nodes() if node.name == "four")
    assert not np.array_equal(before[last], after[last])


def test_a_mask_is_searched(run: Run, net: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    data, out = tmp_path / "train.npz", tmp_path / "out.onnx"
    np.savez(data, x=np.random.default_rng(0).standard_normal((32, 32)).astype(np.float32))
    words = ("--mask", "lottery_jackpot:2", "--scope", "global", "--learn-from", "teacher", "--data", data)

    ran = run("sparsify", net, "-o", out, *words, "--sparsity", "0.9", "--lower", "never", "--json")

    layers = ran.document["layers"]["mask_blocks"]
    assert set(layers) == {"two", "three"}
    assert np.mean([row["sparsity"] for row in layers.values()]) == pytest.approx(0.9, abs=1e-3)
    assert ran.document["verified"]["how"] == "reference"


def test_a_table_for_people(run: Run, net: Path, tmp_path: Path) -> None:
    text = run("sparsify", net, "-o", tmp_path / "out.onnx", "--lower", "always").out
    assert "BlockSparseMatMul, blocks of 8" in text and "|w| kept" in text


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (("--pattern", "one_by_m:4"), "one_by_n"),
        (("--pattern", "one_by_n:none"), "whole number"),
        (("--sparsity", "0", "--lower", "never"), "nothing to do"),
        (("--skip", "nobody"), "names no layer"),
        (("--epochs", "1"), "--data"),
        (("--mask", "lottery_jackpot"), "--data"),
    ],
)
def test_bad_requests(run: Run, net: Path, tmp_path: Path, options: tuple[str, ...], match: str) -> None:
    ran = run("sparsify", net, "-o", tmp_path / "out.onnx", *options)
    assert ran.code == 2 and match in ran.err
    assert not (tmp_path / "out.onnx").exists()


@needs_library
def test_calibrate_writes_what_sparsify_reads(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "speeds.json"
    monkeypatch.setattr(dense, "MATRICES", ((256, 1), (256, 8)))
    told = run("calibrate", "--isa", "scalar", "--forms", "MatMul", "-o", path, "--json").document
    assert told["isa"] == "scalar" and told["forms"] == ["MatMul"] and path.is_file()
    monkeypatch.setenv("GRAPHREWRITE_SPEEDS", str(path))
    from graphrewrite.cost.speeds import Work, load_speeds

    speeds = load_speeds("scalar")
    assert speeds is not None
    found = speeds.seconds("MatMul", Work(128, 128, 1))
    assert found is not None and 0 < found < 1


def test_calibrate_wants_an_instruction_set_there_is(run: Run) -> None:
    ran = run("calibrate", "--isa", "mmx")
    assert ran.code == 2 and "mmx" in ran.err
