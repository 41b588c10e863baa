"""One step of a pipeline under examination: is it off by more than rounding, and what to say and save when it is."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from graphrewrite.data.save import as_npz
from graphrewrite.errors import GraphRewriteError, InvalidConfig
from graphrewrite.ir import Array, Model
from graphrewrite.ir.edit import all_graphs
from graphrewrite.pipeline.base import Bounded, Context, Outcome
from graphrewrite.pipeline.bisect import first_difference
from graphrewrite.pipeline.metrics import metrics
from graphrewrite.pipeline.rounding import Pair, judge
from graphrewrite.pipeline.verify import StepError, compare
from graphrewrite.runtime import Feeds, take_kept
from graphrewrite.runtime.stage import weight_bytes

Outputs: TypeAlias = dict[str, Array]

# Failing models above this are not written out for inspection: that would fill the disk.
_SAVED_BELOW = 2_000_000_000


class Compared(NamedTuple):
    """Errors by output, what they were held against, and what was said of rounding ("" when nothing had to be)."""

    rtol: float
    errors: Mapping[str, float]
    rounding: str

    @property
    def error(self) -> float:
        """The largest error."""
        return max(self.errors.values(), default=0.0)


@dataclass(frozen=True)
class Case:
    """One step under examination: knows how to say what went wrong.

    Attributes:
        before: the model the step was given.
        outcome: what it handed back.
        step, earlier: its name, and the names of the steps before it.
        context: data and threads.
        seen: how a model looks to the runtime: itself, or widened where there are no kernels for it.
    """

    before: Model
    outcome: Outcome
    step: str
    earlier: Sequence[str]
    context: Context
    seen: Callable[[Model], Model]

    def compared(
        self,
        expected: Sequence[Outputs],
        found: Sequence[Outputs],
        pair: Pair,
        rtol: float,
        what: str,
        any_shape: bool = True,
    ) -> Compared:
        """Compare the outputs over all worlds; raises when one is off by more than `rtol` and rounding is no excuse.

        `pair` is what computed them. `expected` and `found` are what is left to compare.
        """
        worst: dict[str, float] = {}
        first: tuple[str, Feeds] | None = None
        for feeds, a, b in zip(pair.feeds, expected, found, strict=True):
            errors = compare(a, b)
            wrong = {name: error for name, error in errors.items() if not error <= rtol}
            if wrong and first is None:
                name = max(wrong, key=lambda key: wrong[key])
                text = f"the output {name!r} differs from {what} by {wrong[name]:.3g} relative (allowed {rtol:.3g})"
                first = f"{text} for {sizes_text(feeds)}", feeds
            worst = {name: max(error, worst.get(name, 0.0)) for name, error in errors.items()}
        if first is None:
            return Compared(rtol, worst, "")
        verdict = judge(replace(pair, names=frozenset().union(*expected)), worst, rtol)
        if verdict.kind == "rounding":
            return Compared(verdict.rtol, verdict.errors, verdict.text)
        text, feeds = first
        if verdict.kind == "undecidable":
            text = f"whether it keeps it is not decidable: {text}; {verdict.text}"
            raise self.failed("claim", text, feeds, pair, any_shape, rtol, decided=False)
        raise self.failed("claim", f"{text}; {verdict.text}", feeds, pair, any_shape, rtol)

    def measured(self, claim: Bounded) -> float:
        """Measure a `Bounded` claim on the context's data; raises when it does not hold."""
        data = self.context.data
        if data is None:
            raise InvalidConfig(
                f"the step {self.step} claims {claim.metric} <= {claim.limit}, which is measured on data; "
                "expected Context(data=...); pass data or use verify='structure'"
            )
        before, after = self.seen(self.before), self.seen(self.outcome.model)
        value = metrics.make(claim.metric).measure(before, after, data, self.context.threads)
        if not value <= claim.limit:
            raise self.failed(
                "claim", f"{claim.metric} is {value:.4g} on the data, its claim allows {claim.limit:.4g}"
            )
        return value

    def failed(
        self,
        stage: str,
        text: str,
        feeds: Feeds | None = None,
        pair: Pair | None = None,
        any_shape: bool = True,
        rtol: float = 1e-4,
        decided: bool = True,
    ) -> StepError:
        """Find the first tensor that differs, save the evidence, and return the error to raise."""
        where = None
        if feeds is not None and pair is not None:
            try:
                kept = take_kept(feeds, self.outcome.ports)
                where = first_difference(
                    pair.reference, pair.model, feeds, rtol, any_shape, pair.threads, kept
                )
            except GraphRewriteError:
                where = None  # the failure itself is what matters
        folder = self._save(feeds, pair.reference if pair is not None else None)
        after = f"after {', '.join(self.earlier)}" if self.earlier else "the first"
        first = f"; the first tensor that differs is {where}" if where else ""
        saved = f"; both models are in {folder}" if folder else ""
        done = "broke its promise" if decided else "made a promise"
        advice = (
            "This is a defect of the pass; leave the step out, or report it with the saved models"
            if decided
            else "A trained model is rarely so sensitive; give trained weights, or rewrite with verify='structure'"
        )
        return StepError(
            f"the step {self.step} ({after}) {done}: {text}{first}{saved}. {advice}",
            self.step,
            stage,
            where.tensor if where else None,
            folder,
        )

    def _save(self, feeds: Feeds | None, reference: Model | None) -> str | None:
        if sum(map(_model_bytes, (self.before, self.outcome.model))) > _SAVED_BELOW:
            return None
        folder = Path(tempfile.mkdtemp(prefix="graphrewrite-failed-"))
        for name, model in (("before", self.before), ("after", self.outcome.model), ("reference", reference)):
            if model is not None and (name != "reference" or model is not self.before):
                try:
                    model.save(folder / f"{name}.onnx")
                except Exception as error:  # a broken model may be impossible to write; say so instead
                    (folder / f"{name}.txt").write_text(f"could not be written: {error}", encoding="utf-8")
        if feeds is not None:
            arrays = {name: np.asarray(value) for name, value in feeds.items()}
            (folder / "inputs.npz").write_bytes(as_npz(arrays))
        return str(folder)


def _model_bytes(model: Model) -> int:
    return sum(
        weight_bytes(constant)
        for graph in all_graphs(model.graph)
        for constant in graph.initializers.values()
    )


def sizes_text(feeds: Feeds) -> str:
    """Return the inputs of one run by name and shape."""
    return ", ".join(f"{name} {list(np.shape(array))}" for name, array in feeds.items())
