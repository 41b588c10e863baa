"""A run that is killed continues from its last finished step and ends with the same model."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.ir.diff import diff
from graphrewrite.pipeline import Claim, Context, Free, Outcome, Pipeline
from tests.engine.pipeline.passes_for_tests import Nothing, Scale, residual, weight_of

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Count:
    """Adds one to a weight's name tag, and writes down that it ran."""

    log: str
    name: str
    fails: bool = False

    claim: ClassVar[Claim] = Free()

    def run(self, model: Model, context: Context) -> Outcome:
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(f"{self.name}\n")
        if self.fails and Path(self.log).read_text(encoding="utf-8").count(self.name) == 1:
            raise RuntimeError("interrupted")
        weight = weight_of(model, "b")
        model.weights[weight] = np.add(model.weights[weight], np.float32(0.125))
        model.origin[weight] = ("before", self.name)
        return Outcome(model, True, details={"ran": self.name})


def test_a_failed_run_continues_without_repeating_finished_steps(tmp_path: Path) -> None:
    log, work = tmp_path / "log", tmp_path / "work"
    model = residual()
    pipeline = Pipeline(
        [Count(str(log), "one"), Nothing(), Count(str(log), "two", fails=True), Count(str(log), "three")]
    )

    with pytest.raises(RuntimeError, match="interrupted"):
        pipeline.run(model, workdir=work)
    result = pipeline.run(model, workdir=work)

    assert log.read_text(encoding="utf-8").split() == ["one", "two", "two", "three"]
    straight = pipeline.run(model)
    assert diff(straight.model, result.model) == ""
    assert result.model.origin == straight.model.origin
    assert [s.name for s in result.report.steps] == [s.name for s in straight.report.steps]
    assert [s.details for s in result.report.steps] == [s.details for s in straight.report.steps]


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    model = residual()
    pipeline = Pipeline([Count(str(log), "one")])

    first = pipeline.run(model, workdir=tmp_path / "work")
    second = pipeline.run(model, workdir=tmp_path / "work")

    assert log.read_text(encoding="utf-8").split() == ["one"]
    assert diff(first.model, second.model) == ""
    assert second.report.steps == first.report.steps


@pytest.mark.parametrize("what", ["pipeline", "seed", "weights", "graph"])
def test_the_journal_of_another_run_is_refused(tmp_path: Path, what: str) -> None:
    model = residual()
    Pipeline([Scale()]).run(model, workdir=tmp_path)
    pipeline, context = Pipeline([Scale()]), Context()
    if what == "pipeline":
        pipeline = Pipeline([Scale(factor=1.000002)])
    elif what == "seed":
        context = Context(seed=1)
    elif what == "weights":
        name = weight_of(model, "a")
        model.weights[name] = np.multiply(model.weights[name], np.float32(2))
    else:
        model.nodes("Relu")[0].name = "renamed"

    with pytest.raises(InvalidConfig, match="the journal of another run"):
        pipeline.run(model, context, workdir=tmp_path)


def test_a_damaged_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal.json").write_text("{", encoding="utf-8")

    with pytest.raises(InvalidConfig, match="cannot be read"):
        Pipeline([Scale()]).run(residual(), workdir=tmp_path)


def test_a_killed_process_leaves_a_journal_that_continues(tmp_path: Path) -> None:
    script = textwrap.dedent(
        f"""
        import os, signal, sys
        sys.path.append({str(ROOT)!r})
        from tests.engine.pipeline.passes_for_tests import Edit, Scale, residual
        from graphrewrite.pipeline import Pipeline
        from dataclasses import dataclass

        class Deadly(Scale):
            def run(self, model, context):
                if not os.path.exists({str(tmp_path / "alive")!r}):
                    os.kill(os.getpid(), signal.SIGKILL)
                return super().run(model, context)

        result = Pipeline([Scale("a"), Deadly("b")]).run(residual(), workdir={str(tmp_path / "work")!r})
        result.model.save({str(tmp_path / "out.onnx")!r})
        """
    )

    def start() -> int:
        return subprocess.run([sys.executable, "-c", script], timeout=120, check=False).returncode

    assert start() == -signal.SIGKILL
    book = json.loads((tmp_path / "work" / "journal.json").read_text(encoding="utf-8"))
    assert [entry["report"]["name"] for entry in book["entries"]] == ["Scale"]
    assert not [name for name in os.listdir(tmp_path / "work") if name.endswith(".part")]

    (tmp_path / "alive").touch()
    assert start() == 0
    straight = Pipeline([Scale("a"), Scale("b")]).run(residual())
    assert diff(straight.model, Model.load(tmp_path / "out.onnx")) == ""
