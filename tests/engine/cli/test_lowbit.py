"""`graphrewrite lowbit`: files, exit codes and the document it prints."""

import json
from pathlib import Path

import pytest

from graphrewrite.cli import main
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.lowbit import lower
from tests.support.speeds import quick


@pytest.fixture(autouse=True)
def quick_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is lowered must not depend on the machine that runs the tests."""
    monkeypatch.setattr(lower, "known_speeds", quick)


@pytest.fixture
def model(tmp_path: Path) -> str:
    b = Builder(seed=1)
    x = b.input(["N", 160], "x")
    hidden = b.relu(b.linear(x, out=160, into=160, name="one"))
    b_model = b.model(b.linear(hidden, out=12, into=160, name="head"))
    b_model.save(tmp_path / "model.onnx")
    return str(tmp_path / "model.onnx")


def test_a_model_is_lowered_and_described(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(Path(model).with_name("out.onnx"))

    assert main(["lowbit", model, "-o", out, "--bits", "4", "--group", "32", "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    (row,) = told["layers"]
    assert (row["name"], row["bits"], row["group"], row["levels"]) == ("one", 4, 32, 16)
    assert told["verified"]["error"] <= 1e-5
    (node,) = Model.load(out).nodes("LowBitMatMul")
    assert node.attrs["bits"] == 4
    assert Path(out).stat().st_size < 0.3 * Path(model).stat().st_size


def test_a_table_says_what_was_left(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(Path(model).with_name("out.onnx"))

    assert main(["lowbit", model, "-o", out, "-v"]) == 0

    shown = capsys.readouterr().out
    assert "lowered 1 of 2 to 2 bits" in shown
    assert "its weight has 1920 numbers" in shown


def test_always_lowers_what_is_not_faster(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lower, "known_speeds", lambda: None)
    out = str(Path(model).with_name("out.onnx"))

    assert main(["lowbit", model, "-o", out, "-v"]) == 0
    assert "graphrewrite calibrate" in capsys.readouterr().out
    assert not Model.load(out).nodes("LowBitMatMul")
    assert main(["lowbit", model, "-o", out, "--lower", "always"]) == 0
    assert len(Model.load(out).nodes("LowBitMatMul")) == 2


def test_nothing_to_lower_is_a_failure_when_strict(model: str) -> None:
    out = Path(model).with_name("out.onnx")

    assert main(["lowbit", model, "-o", str(out), "--strict", "--skip", "one"]) == 3
    assert not out.exists()


def test_bad_settings_are_one_line(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(Path(model).with_name("out.onnx"))

    assert main(["lowbit", model, "-o", out, "--group", "20"]) == 2
    assert "multiple of 16" in capsys.readouterr().err
    assert main(["lowbit", model, "-o", out, "--bits", "3"]) == 2


def test_recurrent_gates_are_lowered_on_request(tmp_path: Path) -> None:
    b = Builder(seed=2)
    x = b.input([5, "N", 160], "x")
    y = b.op(
        "GRU", x, b.weight(1, 480, 160), b.weight(1, 480, 160), b.weight(1, 960), hidden_size=160, name="gru"
    )
    b.model(y).save(tmp_path / "gru.onnx")

    assert main(["lowbit", str(tmp_path / "gru.onnx"), "-o", str(tmp_path / "out.onnx"), "--gates"]) == 0

    lowered = Model.load(tmp_path / "out.onnx")
    (scan,) = lowered.nodes("Scan")
    assert [node.op for node in scan.attrs["body"].nodes].count("LowBitMatMul") == 3
    assert len(lowered.nodes("LowBitMatMul")) == 3
