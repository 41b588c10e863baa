"""The main job on the shipped models, as `make demo` runs it."""

from pathlib import Path

import pytest

from graphrewrite import demo, models
from graphrewrite.ir import Model

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")


def test_every_shipped_model_is_demonstrated() -> None:
    assert set(models.names()) == {"digits_keras", "digits_resnet"}, "add the new one to the test below"


@pytest.mark.parametrize("name", ["digits_keras", pytest.param("digits_resnet", marks=pytest.mark.slow)])
def test_half_the_macs_cost_few_right_answers(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.main(["--out", str(tmp_path), "--model", name, "--seconds", "0.1"]) == 0
    out = capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.pruned.onnx", f"{name}.html"}

    right = {
        line[:30].strip(): int(line.rsplit(maxsplit=1)[-1].split("/")[0])
        for line in out.splitlines()
        if "/600" in line
    }
    card = models.card(name)
    assert right["original"] == right["tidied"] == card.correct, "the figure on the card"
    assert right["pruned, nothing made up for"] < 0.6 * card.correct, "else there is nothing to show"
    assert right["pruned, least squares: as writ"] > 0.95 * card.correct

    before, after = Model.load(models.shipped(name)), Model.load(tmp_path / f"{name}.pruned.onnx")
    assert [tensor.name for tensor in after.outputs] == [tensor.name for tensor in before.outputs]
    assert all(size % 16 == 0 for node in after.nodes("Conv")[:-1] for size in node.inputs[1].shape[:1])
    assert "verified" in out and "graphrewrite prune" in out
