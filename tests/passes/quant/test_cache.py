"""Spans kept in a file: used again for the same question, not for another one, and refused when they are none."""

import json
from pathlib import Path

import numpy as np
import pytest

from graphrewrite.data import ArraySource
from graphrewrite.errors import InvalidData
from graphrewrite.ir import Builder, Model
from graphrewrite.ir.diff import is_same
from graphrewrite.passes.quant import InsertQdq, measure
from graphrewrite.passes.quant.cache import CalibrationCache, key_of
from graphrewrite.passes.quant.calibrators import calibrators
from graphrewrite.passes.quant.grid import Span
from graphrewrite.pipeline import Context


def net(seed: int = 0) -> Model:
    b = Builder(opset=17, seed=seed)
    return b.model(b.conv(b.relu(b.conv(b.input(["N", 3, 6, 6], "x"), 4, 3)), 4, 4))


def context(samples: int = 4) -> Context:
    x = np.random.default_rng(0).standard_normal((samples, 3, 6, 6)).astype(np.float32)
    return Context(data=ArraySource({"x": x}))


def test_a_second_run_reads_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = InsertQdq(cache=str(tmp_path / "spans.json"))
    first = step.run(net(), context())

    def never(*_: object) -> None:
        raise AssertionError("the data was read again")

    monkeypatch.setattr(measure, "collect", never)
    assert is_same(step.run(net(), context()).model, first.model)
    with pytest.raises(AssertionError):
        InsertQdq(cache=step.cache, calibrator=calibrators.make("mse")).run(net(), context())


def test_a_key_is_of_one_model_method_and_number_of_samples() -> None:
    keys = {
        key_of(net(seed), method, samples) for seed in (0, 1) for method in ("a", "b") for samples in (1, 2)
    }

    assert len(keys) == 8
    assert key_of(net(), "a", 1) == key_of(net(), "a", 1)


def test_spans_of_other_keys_stay(tmp_path: Path) -> None:
    path = tmp_path / "spans.json"
    CalibrationCache(path).keep("one", {"x": Span(-1.5, 2.0)}, {"x": np.array([0.5, 0.25])})
    CalibrationCache(path).keep("two", {"y": Span(0.0, 0.1)}, {})

    assert CalibrationCache(path).spans("one") == {"x": Span(-1.5, 2.0)}
    assert CalibrationCache(path).means("one")["x"].tolist() == [0.5, 0.25]
    assert CalibrationCache(path).spans("two") == {"y": Span(0.0, 0.1)}
    assert CalibrationCache(path).means("three") == {}


@pytest.mark.parametrize("content", [json.dumps({"version": 0}), json.dumps([1])])
def test_another_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "spans.json"
    path.write_text(content)

    with pytest.raises(InvalidData, match="no calibration cache"):
        CalibrationCache(path)
