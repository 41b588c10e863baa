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


@pytest.mark.parametrize(
    ("asked", "start", "needed"),
    [
        (["--method", "float8"], 11, 19),
        (["--method", "float8"], 21, 21),
        (["--method", "weight_only", "--form", "dequantize"], 13, 21),
        (["--method", "weight_only"], 9, 11),
        (["--method", "dynamic"], 8, 11),
    ],
)
def test_the_operator_set_is_raised_as_far_as_needed_and_that_is_said(
    asked: list[str], start: int, needed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    b = Builder(opset=start, ir_version=9)
    soft = b.op("Softmax", b.op("MatMul", b.input(["N", 64], "x"), b.weight(64, 64), name="layer"), axis=-1)
    b.model(soft).save(tmp_path / "old.onnx")
    out = tmp_path / "small.onnx"

    assert main(["quantize", str(tmp_path / "old.onnx"), "-o", str(out), *asked]) == 0

    model, told = Model.load(out), capsys.readouterr().out
    assert model.opset == needed
    assert (f"from {start} to {needed}" in told) == (start != needed)
    assert any(tensor.dtype.itemsize == 1 for tensor in model.graph.initializers.values())


def test_a_model_that_cannot_be_raised_is_left_whole_with_both_reasons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    b = Builder(opset=9, ir_version=9)
    product = b.op("MatMul", b.input([2, 64], "x"), b.weight(64, 64), name="layer")
    kept, mask = b.op_all("Dropout", product, outputs=2, name="drop")
    b.model(kept, mask).save(tmp_path / "old.onnx")
    out = tmp_path / "same.onnx"

    assert main(["quantize", str(tmp_path / "old.onnx"), "-o", str(out), "--method", "float8"]) == 0

    assert Model.load(out).opset == 9
    told = " ".join(capsys.readouterr().out.split())
    assert "'drop' (Dropout): its mask is read" in told and "operator set is 9" in told


def test_float8_on_both_sides_of_products(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, samples = tmp_path / "small.onnx", "graphrewrite.models.digits:calibration"
    asked = ["--method", "float8", "--multiplied", "--float8", "e5m2"]

    assert main(["quantize", MODEL, "-o", str(out), *asked, "--data", samples, "--json"]) == 0

    told, model = json.loads(capsys.readouterr().out), Model.load(out)
    assert told["verified"]["error"] < 1e-5
    rows = [row for row in told["layers"] if not row["left"]]
    assert len(rows) == 15 and {row["activations"] for row in rows} == {"float8_e5m2"}
    assert model.opset == 19 and {"QuantizeLinear", "DequantizeLinear"} <= {node.op for node in model.nodes()}
    assert main(["quantize", MODEL, "-o", str(out), *asked]) == 2
    assert "there is no data" in capsys.readouterr().err


def test_bits_that_a_form_has_not_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--method", "weight_only", "--bits", "3", "--form", "matmul_nbits"]

    assert main(["quantize", MODEL, "-o", str(tmp_path / "small.onnx"), *asked]) == 2
    assert "it has 2, 4 and 8" in capsys.readouterr().err
