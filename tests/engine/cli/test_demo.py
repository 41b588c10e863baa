"""The main job on the shipped models, as `make demo` runs it."""

from pathlib import Path

import numpy as np
import pytest

from graphrewrite import demo, models
from graphrewrite.ir import Model

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")
pytest.importorskip("accelerate")


def test_every_shipped_model_is_demonstrated() -> None:
    assert set(models.names()) == {"digits_keras", "digits_resnet"}, "add the new one to the test below"


@pytest.mark.parametrize("name", ["digits_keras", pytest.param("digits_resnet", marks=pytest.mark.slow)])
def test_half_the_macs_cost_few_right_answers(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.main(["--out", str(tmp_path), "--model", name, "--seconds", "0.1"]) == 0
    out = capsys.readouterr().out
    ends = (
        "pruned.onnx",
        "html",
        "small.onnx",
        "recipe.json",
        "recovered.onnx",
        "int8.onnx",
        "small_int8.onnx",
    )
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.{end}" for end in ends}

    right = {
        line[:30].strip(): int(line.rsplit(maxsplit=1)[-1].split("/")[0])
        for line in out.splitlines()
        if "/600" in line
    }
    card = models.card(name)
    assert right["original"] == right["tidied"] == card.correct, "the figure on the card"
    assert right["pruned, nothing made up for"] < 0.6 * card.correct, "else there is nothing to show"
    assert right["pruned, least squares: as writ"] > 0.95 * card.correct

    assert right["... after 5 epochs of the orig"] > 0.97 * card.correct
    assert right["... after 5 epochs of the orig"] > 1.2 * right["pruned to 30% of the MACs"]
    # Five epochs are enough from random weights where norms are left in the graph, and far too few where not.
    ahead = {"digits_keras": 300, "digits_resnet": -6}[name]
    assert right["... after 5 epochs of the orig"] > right["same shape, random weights, 5"] + ahead
    assert right["original in 8 bits"] >= card.correct - 3
    assert right["pruned, taught, in 8 bits"] >= right["pruned, taught by the original"] - 6
    before, after = Model.load(models.shipped(name)), Model.load(tmp_path / f"{name}.pruned.onnx")
    assert [tensor.name for tensor in after.outputs] == [tensor.name for tensor in before.outputs]
    assert all(size % 16 == 0 for node in after.nodes("Conv")[:-1] for size in node.inputs[1].shape[:1])
    assert "verified" in out and "graphrewrite prune" in out


def test_a_net_from_scratch_has_the_graph_and_none_of_the_knowledge() -> None:
    model = Model.load(models.shipped("digits_resnet"))

    fresh = demo.from_scratch(model, seed=1)

    assert [node.op for node in fresh.graph.nodes] == [node.op for node in model.graph.nodes]
    first = fresh.nodes("Conv")[0].inputs[1].name
    drawn, trained = (np.asarray(each.weights[first], np.float64) for each in (fresh, model))
    assert drawn.shape == trained.shape and fresh.weights[first].dtype == model.weights[first].dtype
    assert abs(float(np.corrcoef(drawn.ravel(), trained.ravel())[0, 1])) < 0.2
    fan = np.prod(drawn.shape[1:])
    assert float(drawn.std()) == pytest.approx(float(np.sqrt(2 / fan)), rel=0.15)
    for norm in fresh.nodes("BatchNormalization"):  # some share numbers, handed on by Identity
        behind = [tensor.inputs[0].inputs[0] if tensor.inputs else tensor for tensor in norm.inputs[1:]]
        assert [float(np.unique(fresh.weights[tensor.name]).item()) for tensor in behind] == [1, 0, 0, 1]
