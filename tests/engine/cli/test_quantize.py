"""`graphrewrite quantize`: files, exit codes and the document it prints."""

import json
from argparse import _ArgumentGroup
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from graphrewrite import models
from graphrewrite.cli import main
from graphrewrite.cli.parser import parse
from graphrewrite.cli.quantizing import methods
from graphrewrite.cli.quantizing.static import Static
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.quant import InsertQdq, SmoothQuant
from graphrewrite.passes.quant.rounders.adaround import AdaRound
from tests.passes.quant.nets import net, served

DATA = "graphrewrite.models.digits:calibration"


@pytest.fixture
def out(tmp_path: Path) -> str:
    return str(tmp_path / "int8.onnx")


def quantise(out: str, *more: str) -> int:
    return main(["quantize", str(models.shipped("digits_resnet")), "-o", out, *more])


def test_a_model_is_quantised_and_described(out: str, capsys: pytest.CaptureFixture[str]) -> None:
    test = "graphrewrite.models.digits:test"

    assert (
        quantise(out, "--data", DATA, "--calibrate", "mse", "--test", test, "--skip", "/norm/*", "--json")
        == 0
    )

    told = json.loads(capsys.readouterr().out)
    assert told["verified"]["error"] <= 1e-5
    rows = {row["name"]: row["left"] for row in told["layers"]}
    assert sum(not why for why in rows.values()) == 15 and sum("/norm/*" in why for why in rows.values()) == 1
    assert Path(out).stat().st_size < 0.3 * models.shipped("digits_resnet").stat().st_size
    assert told["quality"]["after"]["correct"] >= 591


def test_a_table_says_what_became_of_each_layer(out: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert quantise(out, "--data", DATA, "--per-tensor", "--skip", "/norm/*", "-v") == 0

    shown = capsys.readouterr().out
    assert "quantised 15 of 16, " in shown
    assert "named by the skip pattern '/norm/*'" in shown
    assert "10 x 128 " in shown and "weights moved" in shown


def test_a_page_has_the_layers_as_they_are_and_nothing_of_them_is_removed(out: str, tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    page = tmp_path / "page.html"
    assert quantise(out, "--data", DATA, "--report", str(page), "--threads", "1") == 0
    told = page.read_text(encoding="utf-8")
    assert "32 x 1 x 3 x 3" in told and "GlobalAveragePool" in told
    assert "removed" not in told


def test_ranges_are_kept(out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = tmp_path / "spans.json"

    assert quantise(out, "--data", DATA, "--cache", str(cache)) == 0
    kept = cache.read_bytes()
    first = Path(out).read_bytes()

    assert quantise(out, "--data", DATA, "--cache", str(cache)) == 0
    assert cache.read_bytes() == kept and len(json.loads(kept)["entries"]) == 1
    assert Path(out).read_bytes() == first


def test_without_data_it_says_what_is_missing(out: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert quantise(out) == 2

    assert "--data" in capsys.readouterr().err and not Path(out).exists()


def test_an_unknown_calibrator_is_told_with_close_names(out: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert quantise(out, "--data", DATA, "--calibrate", "entropi") == 2

    assert "entropy" in capsys.readouterr().err


def test_bits_that_there_are_none_of_and_methods_that_nobody_knows(
    out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quantise(out, "--data", DATA, "--bits", "9") == 2
    assert "expected a whole number from 2 to 8" in capsys.readouterr().err

    assert quantise(out, "--data", DATA, "--method", "statik") == 2
    assert "static" in capsys.readouterr().err


def test_what_a_method_does_not_heed_is_refused(
    out: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(Static):
        takes: ClassVar[frozenset[str]] = frozenset({"only", "skip"})

        def configure(self, group: _ArgumentGroup) -> None:
            group.add_argument("--other")

    assert "static" in methods  # files are looked for before one more is put there
    monkeypatch.setitem(methods._entries, "other", Other)

    assert quantise(out, "--method", "other", "--bits", "4", "--calibrate", "mse") == 2
    told = capsys.readouterr().err
    assert "does not heed --calibrate, --bits" in told
    assert quantise(out, "--other", "x") == 2
    assert "--method static does not heed --other" in capsys.readouterr().err


def test_channels_are_evened_out_first(out: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert quantise(out, "--data", DATA, "--per-tensor", "--equalize", "--json") == 0

    told = json.loads(capsys.readouterr().out)
    assert [step["name"] for step in told["steps"]][-3:] == ["equalize_channels", "insert_qdq", "weight_only"]


def test_loud_channels_are_moved_first(out: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert quantise(out, "--data", DATA, "--smooth", "--json") == 0

    told = json.loads(capsys.readouterr().out)
    assert [step["name"] for step in told["steps"]][-3:] == ["smooth_quant", "insert_qdq", "weight_only"]


def test_alphas_and_rounders_are_handed_on(out: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "quantize",
        "m.onnx",
        "-o",
        "n.onnx",
        "--smooth",
        "0.25",
        "0.5",
        "--round",
        "adaround",
        "--bits",
        "4",
    ]
    _, options = parse(words)
    *_, smooth, step, _ = methods.make("static").pipeline(options).steps

    assert isinstance(step, InsertQdq) and smooth == SmoothQuant(alphas=(0.25, 0.5), step=step)
    assert step.rounder == AdaRound() and step.weight_bits == 4
    assert quantise(out, "--data", DATA, "--round", "neerest") == 2
    assert "nearest" in capsys.readouterr().err
    assert quantise(out, "--data", DATA, "--smooth", "2") == 2
    assert "SmoothQuant.alphas" in capsys.readouterr().err


def test_the_dearest_layers_get_more_bits(
    out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, samples = str(tmp_path / "net.onnx"), str(tmp_path / "x.npz")
    net().save(model)
    np.savez(samples, x=np.random.default_rng(0).standard_normal((8, 3, 12, 12)).astype(np.float32))

    assert (
        main(["quantize", model, "-o", out, "--data", samples, "--mixed", "0.0001", "--times", "none", "-v"])
        == 0
    )

    shown = capsys.readouterr().out
    assert "of 8 layers have more bits; lost:" in shown
    assert "cost alone" in shown and "operator between layers" in shown


def test_what_is_left_in_floats_is_filed_in_few_bits_too(
    out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    b = Builder(opset=17, seed=1)
    y = b.relu(b.conv(b.input(["N", 3, 8, 8], "x"), 32, 3, name="first"))
    y = b.op("ConvTranspose", y, b.weight(32, 32, 2, 2), name="up", strides=[2, 2])
    steps = b.op("Reshape", y, b.constant(np.array([256, -1, 32])))
    gates = [b.weight(1, 256, 32), b.weight(1, 256, 64)]
    b.model(b.op("LSTM", steps, *gates, name="cell", hidden_size=64)).save(tmp_path / "net.onnx")
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype(np.float32))
    asked = [str(tmp_path / "net.onnx"), "-o", out, "--data", str(tmp_path / "x.npz")]

    assert main(["quantize", *asked, "--store", "none", "--json"]) == 0
    assert Path(out).stat().st_size > 0.9 * (tmp_path / "net.onnx").stat().st_size
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["layers"]}
    why = rows["up"]["left"]
    assert "no integer kernel of ConvTranspose" in why

    assert main(["quantize", *asked, "--json"]) == 0

    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["layers"]}
    assert (
        rows["up"]["bits"] == 8 and rows["up"]["floats"] == why
    )  # filed small, and why it computes in floats
    assert Path(out).stat().st_size < 0.4 * (tmp_path / "net.onnx").stat().st_size
    found = served(Model.load(out))
    assert found["LSTM"] == 1 and found["ConvTranspose"] == 1 and not found["Cast"]


def test_small_layers_stay_in_floats_unless_times_are_none(
    out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net().save(tmp_path / "net.onnx")
    np.savez(
        tmp_path / "x.npz", x=np.random.default_rng(0).standard_normal((8, 3, 12, 12)).astype(np.float32)
    )
    asked = ["quantize", str(tmp_path / "net.onnx"), "-o", out, "--data", str(tmp_path / "x.npz")]

    assert main([*asked, "--times", "none"]) == 0
    whole = served(Model.load(out))
    assert "quantised already" not in capsys.readouterr().out  # so the step that files the rest finds them
    assert main(asked) == 0
    assert "too small" in capsys.readouterr().out
    assert whole["QLinearConv"] == 6 > served(Model.load(out))["QLinearConv"]
    assert (
        main([*asked, "--bits", "4"]) == 0
    )  # asked for a small file, where codes of 4 bits are smaller than bytes
    assert served(Model.load(out))["QLinearConv"] == 6
    assert main([*asked, "--times", "nowhere"]) == 2
    assert "expected vnni" in capsys.readouterr().err


def test_a_target_with_kernels_of_its_own_computes_in_integers_throughout(
    out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quantise(out, "--data", DATA, "--target", "all", "--times", "vnni") == 2
    assert "leave --times away" in capsys.readouterr().err
    assert quantise(out, "--data", DATA, "--target", "all", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert not any(row["left"] for row in told["layers"])
    sums = Model.load(out).nodes("Add")
    assert sums and {user.op for node in sums for user in node.outputs[0].outputs} <= {
        "Relu",
        "QuantizeLinear",
    }

    assert quantise(out, "--data", DATA, "--target", "npu") == 2
    assert "expected all" in capsys.readouterr().err
