"""Passes that stand for several, and what passes learn of the run around them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from graphrewrite.ir import Model
from graphrewrite.ir.diff import is_same
from graphrewrite.pipeline import Claim, Context, Free, Outcome, Pass, Pipeline
from tests.engine.pipeline.passes_for_tests import Nothing, ScaleFreely, residual, weight_of


@dataclass(frozen=True)
class Twice:
    """Stands for two scalings, and for whatever else it is given."""

    more: tuple[Pass, ...] = ()

    claim: ClassVar[Claim] = Free()

    def parts(self) -> Sequence[Pass]:
        return (ScaleFreely("a", 2.0), *self.more, ScaleFreely("b", 3.0))

    def run(self, model: Model, context: Context) -> Outcome:
        raise AssertionError("its parts are run in its place")


@dataclass(frozen=True)
class Looking:
    """Remembers the contexts it was run in."""

    seen: list[Context] = field(default_factory=list)

    claim: ClassVar[Claim] = Free()

    def run(self, model: Model, context: Context) -> Outcome:
        self.seen.append(context)
        return Outcome(model, False)


def test_parts_are_steps_of_their_own() -> None:
    model = residual()

    result = Pipeline([Nothing(), Twice((Twice(),))]).run(model)

    names = [step.name for step in result.report.steps]
    assert names == ["Nothing", *["ScaleFreely"] * 4]
    for node, factor in (("a", 4.0), ("b", 9.0)):
        name = weight_of(model, node)
        before, after = (np.asarray(each.weights[name], np.float64) for each in (model, result.model))
        np.testing.assert_allclose(after, factor * before, rtol=1e-6)


def test_an_interrupted_run_goes_on_between_parts(tmp_path: Path) -> None:
    pipeline = Pipeline([Twice(), Nothing()])
    told: list[int] = []

    def stop(step: str, done: int, total: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline.run(residual(), Context(progress=stop), workdir=tmp_path)
    again = pipeline.run(
        residual(), Context(progress=lambda step, done, total: told.append(done)), workdir=tmp_path
    )

    assert told == [1, 2, 3]
    assert is_same(again.model, pipeline.run(residual()).model)


def test_the_model_the_outermost_pipeline_began_with_is_known_to_all_steps() -> None:
    look, model = Looking(), residual()

    Pipeline([ScaleFreely("a", 2.0), look, Pipeline([ScaleFreely("b", 2.0), look])]).run(model)

    assert [context.original for context in look.seen] == [model, model]


def test_a_given_original_is_kept() -> None:
    look, teacher = Looking(), residual()

    Pipeline([look]).run(residual(), replace(Context(), original=teacher))

    assert look.seen[0].original is teacher


def test_every_step_of_a_run_with_a_folder_has_one_of_its_own(tmp_path: Path) -> None:
    look = Looking()

    Pipeline([look, Twice((look,))]).run(residual(), workdir=tmp_path)
    Pipeline([look]).run(residual())

    assert [context.folder for context in look.seen] == [tmp_path / "step-01", tmp_path / "step-03", None]
