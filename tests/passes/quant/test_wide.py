"""Activations of 16 bits: everywhere, for accelerators, or of layers by name, which then compute in floats."""

from typing import cast

import numpy as np
import pytest

from graphrewrite.errors import InvalidConfig, VerificationError
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.quant import InsertQdq
from graphrewrite.passes.quant.grid import GRIDS, Scale
from graphrewrite.passes.quant.write import OnGrid
from graphrewrite.runtime import run
from tests.passes.quant.nets import context, left, net, only, quantised, served


def two(opset: int = 17) -> Model:
    b = Builder(opset=opset, seed=1)
    x = b.input(["N", 3, 12, 12], "x")
    return b.model(b.conv(b.relu(b.conv(x, 8, 3, name="first")), 4, 8, name="second"))


def noise(model: Model, step: InsertQdq) -> float:
    """Return what an output is off by on samples of its own, of its norm."""
    around = context(seed=7)
    assert around.data is not None
    feeds = next(around.data.batches(8))
    exact, found = only(run(model, feeds)), only(run(quantised(model, step).model, feeds))
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


@pytest.mark.parametrize("opset", [17, 21])
@pytest.mark.parametrize("activations", ["uint16", "int16", "int16_symmetric"])
def test_sixteen_bits_leave_the_error_of_the_weights(opset: int, activations: str) -> None:
    result = quantised(two(opset), InsertQdq(activations=activations))

    (check,) = (step.verified for step in result.report.steps if step.name == "insert_qdq")
    assert check.error is not None and check.error <= 1e-6
    domains = {node.domain or "" for node in result.model.nodes("QuantizeLinear")}
    assert domains == ({"com.microsoft"} if opset == 17 else {""})
    codes = {node.inputs[2].dtype for node in result.model.nodes("QuantizeLinear")}
    assert codes == {GRIDS[activations].dtype}
    assert "slower than before" in " ".join(note.text for note in result.notes)
    few = InsertQdq(activations=activations, weight_bits=8)
    assert noise(two(opset), few) < 0.8 * noise(two(opset), InsertQdq())


def test_a_wide_layer_computes_in_floats_and_the_others_in_integers() -> None:
    result = quantised(net(), InsertQdq(wide=("six", "hidden")))

    found = served(result.model)
    assert found["QLinearConv"] == 5 and found["Conv"] + found["FusedConv"] == 1
    assert found["QGemm"] == 0 and found["Gemm"] + found["FusedGemm"] == 1
    assert "Cast" not in found  # the codes of its weights were expanded once, when the model was loaded
    rows = {
        row["name"]: row for row in cast("list[dict[str, str]]", result.report.steps[-1].details["layers"])
    }
    assert rows["six"]["activations"] == "uint16" and rows["gate"]["activations"] == "uint8"
    assert set(left(result)) <= {"deep"}


def test_what_a_wide_layer_gives_is_not_rounded() -> None:
    exact = InsertQdq(wide=("second",))
    result = quantised(two(), exact)

    assert [node.op for node in result.model.nodes("QuantizeLinear")] == ["QuantizeLinear"] * 2
    assert noise(two(), exact) < noise(two(), InsertQdq())
    # All wide: two roundings of 16 bits, and the weights' own, which are the most of it.
    assert noise(two(), InsertQdq(wide=("*",))) < 0.8 * noise(two(), InsertQdq())


def test_a_wide_layer_is_small_in_the_file() -> None:
    b = Builder(opset=17, seed=1)
    model = b.model(b.conv(b.input(["N", 64, 5, 5], "x"), 64, 64, name="first"))

    small = quantised(model, InsertQdq(wide=("first",)), context((2, 64, 5, 5))).model

    assert len(small.to_proto().SerializeToString()) < 0.3 * len(model.to_proto().SerializeToString())


def test_a_wide_tensor_has_a_span_of_its_own_beside_the_narrow_one() -> None:
    b = Builder(opset=17, seed=1)
    x = b.input(["N", 3, 12, 12], "x")
    model = b.model(b.add(b.conv(x, 4, 3, name="narrow"), b.conv(x, 4, 3, name="broad")))

    result = quantised(model, InsertQdq(wide=("broad",)))

    steps = sorted(float(node.inputs[1].values) for node in result.model.nodes("QuantizeLinear"))
    zeros = {node.inputs[2].dtype.name for node in result.model.nodes("QuantizeLinear")}
    assert zeros == {"uint8", "uint16"}
    assert steps[-1] / steps[0] > 100


def test_a_pattern_of_wide_layers_has_to_name_one() -> None:
    with pytest.raises(InvalidConfig, match="names no layer"):
        quantised(net(), InsertQdq(wide=("nothing",)))


def test_sixteen_bits_that_stand_for_something_else_break_the_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    simulated = OnGrid.simulated

    def clipped(self: OnGrid, *given: object) -> object:
        scale = Scale(self.scale.step * 0.5, self.scale.zero)
        return simulated(self._replace(scale=scale), *given)  # type: ignore[arg-type]

    monkeypatch.setattr(OnGrid, "simulated", clipped)
    with pytest.raises(VerificationError, match="the pass's own reference"):
        quantised(two(), InsertQdq(activations="uint16"))
