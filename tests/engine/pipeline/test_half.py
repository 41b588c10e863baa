"""Half-precision models that onnxruntime has no kernels for are proved in single precision, wrong steps caught."""

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphrewrite.cli.entry import main
from graphrewrite.ir import Model
from graphrewrite.ir.edit import all_graphs
from graphrewrite.passes.channels import Ratio, RemoveChannels
from graphrewrite.pipeline import Pipeline, StepError
from graphrewrite.runtime import session
from tests.engine.pipeline.passes_for_tests import ScaleAs, residual

HALVES = {"bf16": np.dtype(ml_dtypes.bfloat16), "fp16": np.dtype(np.float16)}


def halved(model: Model, dtype: "np.dtype[np.generic]") -> Model:
    """The model with every float32 weight, input and output in half precision."""
    copy = model.clone()
    for graph in all_graphs(copy.graph):
        for name, values in list(copy.weights.items()):
            if values.dtype == np.float32:
                copy.weights[name] = values.astype(dtype)
        for tensor in (*graph.inputs, *graph.outputs, *(t for node in graph.nodes for t in node.outputs)):
            if isinstance(tensor, gs.Variable) and tensor.dtype == np.float32:
                tensor.dtype = dtype
    return copy


def test_there_is_no_kernel_for_the_model_as_it_stands() -> None:
    """Were there one, the tests below would say nothing about widening."""
    with pytest.raises(Exception, match="no CPU kernel|cannot run"):
        session(halved(residual(), HALVES["bf16"]))


@pytest.mark.parametrize("name", HALVES)
def test_a_cut_in_half_precision_is_proved(name: str) -> None:
    model = halved(residual(), HALVES[name])

    result = Pipeline([RemoveChannels(budget=Ratio(0.5))]).run(model)

    verified = result.report.steps[0].verified
    assert verified.how == "reference" and verified.error is not None
    assert verified.error <= 1e-5 and verified.rtol == 1e-4  # not the 16 units of a half
    assert verified.movement is not None and verified.movement > 0.01
    assert result.model.inputs[0].dtype == HALVES[name]


def test_a_wrong_step_in_bfloat16_is_caught() -> None:
    """The step scales a layer by 1.02, about two units of bfloat16, of which 16 would pass for rounding."""
    with pytest.raises(StepError, match="differs from the pass's own reference") as error:
        Pipeline([ScaleAs("b", 1.02, promised=1.0)]).run(halved(residual(), HALVES["bf16"]))

    assert error.value.stage == "claim"


def test_prune_prints_the_proof(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "half.onnx"
    halved(residual(), HALVES["bf16"]).save(source)

    code = main(["prune", str(source), "-o", str(tmp_path / "cut.onnx"), "--macs", "0.6"])

    text = " ".join("".join(capsys.readouterr()).split())
    assert code == 0, text
    assert "outputs equal those of the input model with what was removed masked: error" in text
    assert "verified in float32" in text
