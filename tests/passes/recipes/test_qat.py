"""Quantization-aware training as a step of a pipeline, and from the command line."""

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from graphrewrite.bridge import Optimiser, Recipe, Stage
from graphrewrite.cli import main
from graphrewrite.data import ArraySource
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.losses.cross_entropy import CrossEntropy
from graphrewrite.passes.quant.quantizers import Quantizer
from graphrewrite.passes.quant.quantizers.lsq import Lsq
from graphrewrite.passes.quant.quantizers.n2uq import N2uq
from graphrewrite.passes.quant.quantizers.pams import Pams
from graphrewrite.passes.recipes.qat import QuantizeAware
from graphrewrite.passes.train import Distill, FineTune, PruneLoop
from graphrewrite.pipeline import Context, Pipeline, PipelineResult
from graphrewrite.runtime import run
from graphrewrite.serial import from_json, to_json
from tests.engine.bridge.train.digits import accuracy, held_out, net, training

ADAM = Optimiser("adam")


@lru_cache
def taught() -> Model:
    """A net that knows the digits."""
    step = FineTune(Recipe((Stage(8, 0.01, (CrossEntropy(),)),), ADAM))
    return Pipeline([step]).run(net(), Context(data=training())).model


def quantised(quantizer: Quantizer, epochs: int = 4) -> PipelineResult:
    """Train a copy for a few epochs on scans without labels."""
    labelled = training()
    step = QuantizeAware(quantizer, Distill(epochs, 0.003, optimiser=ADAM), last_bits=quantizer.bits)
    return Pipeline([step]).run(taught(), Context(data=ArraySource(labelled.arrays)))


@pytest.mark.parametrize("quantizer", [Lsq(2), Pams(4), N2uq(2)], ids=str)
def test_a_net_learns_to_live_with_its_grids(quantizer: Quantizer) -> None:
    result = quantised(quantizer)

    step = result.report.steps[-1]
    assert step.verified.how == "reference" and step.verified.error == 0.0
    assert accuracy(taught()) > 0.94
    assert accuracy(result.model) > accuracy(taught()) - 0.05
    assert [row["bits"] for row in step.details["layers"]] == [8, quantizer.bits]  # type: ignore[union-attr,index,call-overload]
    assert "2 of 2 in integers, " in result.notes[0].text


def test_kernels_score_as_the_graph_does() -> None:
    model = quantised(Lsq(4), 1).model
    feeds = dict(held_out().arrays)
    plain, kernels = (run(model, feeds, ["scores"], optimize=on)["scores"] for on in (False, True))
    assert (np.asarray(plain).argmax(1) == np.asarray(kernels).argmax(1)).mean() > 0.998


def test_its_fields_survive_json() -> None:
    step = QuantizeAware(Pams(3), FineTune(Recipe((Stage(losses=(CrossEntropy(),)),))), skip=("head*",))
    assert from_json(json.loads(json.dumps(to_json(step))), QuantizeAware) == step


def test_what_cannot_be_trained_is_refused_and_what_is_quantised_left() -> None:
    with pytest.raises(InvalidConfig, match="expected Distill or FineTune"):
        QuantizeAware(training=PruneLoop())
    with pytest.raises(InvalidConfig, match="there is no data"):
        Pipeline([QuantizeAware()]).run(taught())
    again = Pipeline([QuantizeAware()]).run(quantised(Lsq(4), 1).model, Context(data=training()))
    assert "holds quantisers already" in again.notes[0].text
    b = Builder(opset=12)
    old = b.model(b.linear(b.input(["N", 4], "x"), 2, 4))
    assert "operator set is 12" in Pipeline([QuantizeAware()]).run(old).notes[0].text


@pytest.mark.parametrize("method", ["lsq", "pams", "n2uq"])
def test_the_command_line_trains(method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    taught().save(tmp_path / "net.onnx")
    x = training().arrays["image"][:128]
    np.savez(tmp_path / "x.npz", image=x)
    common = [str(tmp_path / "net.onnx"), "-o", str(tmp_path / "out.onnx"), "--data", str(tmp_path / "x.npz")]

    assert main(["quantize", *common, "--method", method, "--bits", "4", "--epochs", "2", "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert [row["bits"] for row in told["layers"]] == [8, 8]  # the one is the first, the other the last
    assert told["verified"]["error"] == 0.0 and (tmp_path / "out.onnx").exists()
    assert main(["quantize", *common, "--method", method, "--calibrate", "mse"]) == 2
    assert main(["quantize", *common, "--epochs", "2"]) == 2
    assert "does not heed --epochs" in capsys.readouterr().err


def test_norms_learn_behind_their_layers_and_are_gone_at_the_end() -> None:
    b = Builder(seed=0)
    hidden = b.conv(b.input(["N", 1, 8, 8], "image"), 4, 1, bias=False, name="a")
    ones, zeros = np.ones(4, np.float32), np.zeros(4, np.float32)
    gain, *others = (b.constant(each) for each in (-ones, zeros, zeros, ones))
    hidden = b.relu(b.op("BatchNormalization", hidden, gain, *others, name="norm"))
    model = b.model(b.linear(b.op("Flatten", hidden), 10, 256, name="scores"))
    labelled = training()
    data = Context(data=ArraySource({"image": labelled.arrays["image"][:64].reshape(-1, 1, 8, 8)}))

    step = QuantizeAware(Lsq(4), Distill(1, 0.01, optimiser=ADAM))
    result = Pipeline([step]).run(model, data)

    assert result.report.steps[-1].verified.error == 0.0
    assert "1 learned behind their layers" in result.notes[1].text
    assert not result.model.nodes("BatchNormalization")
    rows = result.report.steps[-1].details["layers"]
    assert [row["scales"] for row in rows] == [4, 10]  # type: ignore[union-attr,index,call-overload]
