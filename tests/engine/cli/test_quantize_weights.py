"""`graphrewrite quantize` with the methods that round weights by themselves: no data, one row for each layer."""

import json
from pathlib import Path

import pytest

from graphrewrite import models
from graphrewrite.cli import main
from graphrewrite.ir import Builder, Model

MODEL = str(models.shipped("digits_resnet"))


def test_weights_are_filed_in_few_bits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "small.onnx"

    assert (
        main(["quantize", MODEL, "-o", str(out), "--method", "weight_only", "--block", "64", "--json"]) == 0
    )

    told = json.loads(capsys.readouterr().out)
    assert told["verified"]["error"] < 1e-4
    assert {row["bits"] for row in told["layers"] if not row["left"]} == {4}
    assert out.stat().st_size < 0.18 * Path(MODEL).stat().st_size


def test_products_are_rounded_and_the_rest_is_filed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "small.onnx"

    assert main(["quantize", MODEL, "-o", str(out), "--method", "dynamic", "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in told["layers"]}
    assert len(rows) == len(told["layers"]) == 16
    made = {node.op for node in Model.load(out).nodes()}
    assert rows["/head/Gemm"]["left"] == "" and "MatMulInteger" in made and "Conv" in made
    assert out.stat().st_size < 0.3 * Path(MODEL).stat().st_size


def test_float8_asks_for_a_newer_operator_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "small.onnx"

    assert main(["quantize", MODEL, "-o", str(out), "--method", "float8"]) == 0
    assert "operator set is 17" in capsys.readouterr().out

    b = Builder(opset=19, ir_version=9)
    b.model(b.op("MatMul", b.input(["N", 64], "x"), b.weight(64, 64))).save(tmp_path / "new.onnx")
    assert main(["quantize", str(tmp_path / "new.onnx"), "-o", str(out), "--method", "float8"]) == 0
    assert any(tensor.dtype.name == "float8_e4m3fn" for tensor in Model.load(out).graph.initializers.values())


def test_bits_that_a_form_has_not_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--method", "weight_only", "--bits", "3", "--form", "matmul_nbits"]

    assert main(["quantize", MODEL, "-o", str(tmp_path / "small.onnx"), *asked]) == 2
    assert "it has 2, 4 and 8" in capsys.readouterr().err
