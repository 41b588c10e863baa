"""`graphrewrite synthesise`."""

from pathlib import Path

import numpy as np
import pytest

from graphrewrite.data import load
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.tidy import Tidy
from graphrewrite.pipeline import Pipeline
from graphrewrite.runtime import run as run_model
from tests.engine.cli.conftest import Run

pytest.importorskip("torch")


@pytest.fixture
def net(tmp_path: Path) -> Path:
    b = Builder(seed=1)
    y = b.relu(b.batchnorm(b.conv(b.input(["N", 1, 6, 6], "file"), 4, 1, name="one"), 4))
    path = tmp_path / "net.onnx"
    b.model(b.linear(b.op("Flatten", b.op("GlobalAveragePool", y)), 3, 4)).save(path)
    return path


@pytest.fixture
def few(net: Path, tmp_path: Path) -> Path:
    model = Model.load(net)
    images = np.random.default_rng(0).standard_normal((6, 1, 6, 6)).astype(np.float32)
    (scores,) = run_model(model, {"file": images}).values()
    path = tmp_path / "few.npz"
    np.savez(path, arr_0=images, labels=np.asarray(scores).argmax(axis=1))
    return path


SHORT = ("--samples", "5", "--epochs", "1", "--steps", "1")


def test_what_it_writes_is_data_for_other_verbs(run: Run, net: Path, few: Path, tmp_path: Path) -> None:
    out = tmp_path / "made.npz"

    told = run("synthesise", net, "-o", out, "--data", few, *SHORT, "--json").document

    made = load(str(out), Model.load(net))
    assert told["samples"] == len(made) == 5 and told["inputs"] == {"file": [5, 1, 6, 6]}
    assert made.labels is not None and len(made.labels) == 5
    assert run("quantize", net, "-o", tmp_path / "int8.onnx", "--data", out).code == 0


def test_the_table_says_what_was_made(run: Run, net: Path, few: Path, tmp_path: Path) -> None:
    ran = run("synthesise", net, "-o", tmp_path / "made.npz", "--data", few, *SHORT)

    assert ran.code == 0 and "5 samples of" in ran.out and "5 x 1 x 6 x 6" in ran.out


def test_bad_requests_are_one_line(run: Run, net: Path, few: Path, tmp_path: Path) -> None:
    folded, out = tmp_path / "folded.onnx", tmp_path / "made.npz"
    Pipeline([Tidy()]).run(Model.load(net)).model.save(folded)
    for words, message in (
        ([net, "-o", out], "give them with --data"),
        ([net, "-o", few, "--data", few], "is the input itself"),
        ([net, "-o", out, "--data", few, "--method", "fda"], "did you mean fdda"),
        ([folded, "-o", out, "--data", few, *SHORT], "no BatchNormalization"),
    ):
        ran = run("synthesise", *words)

        assert ran.code == 2 and message in ran.err and ran.err.count("\n") == 1
        assert not out.exists()
