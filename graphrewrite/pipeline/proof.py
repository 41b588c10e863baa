"""Checking each step of a pipeline against its claim, in order of price: structure, running, outputs, honesty.

The outputs of the model accepted last are kept, so a step costs one load and run of the new model for each world, and
another of the slow reference where its claim names one.
"""

import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from graphrewrite.errors import GraphRewriteError, InvalidConfig, InvalidData, InvalidModel, UnsupportedOp
from graphrewrite.ir import Array, Model, ShapeInfo, infer
from graphrewrite.ir.diff import is_same
from graphrewrite.ir.edit import all_graphs
from graphrewrite.ir.widen import is_narrow, widen_feeds, widened
from graphrewrite.pipeline import structure
from graphrewrite.pipeline.base import Bounded, Claim, Context, Note, Outcome, Same, SameAs
from graphrewrite.pipeline.bisect import first_difference
from graphrewrite.pipeline.metrics import metrics
from graphrewrite.pipeline.verify import StepError, Verified, compare, is_random, not_finite, tolerance
from graphrewrite.runtime import Feeds, candidates, fits, run_session, session, take_kept
from graphrewrite.runtime.stage import weight_bytes

if TYPE_CHECKING:
    import onnxruntime as ort

Level: TypeAlias = Literal["full", "structure", "off"]
Outputs: TypeAlias = dict[str, Array]

# Failing models above this are not written out for inspection: that would fill the disk.
_SAVED_BELOW = 2_000_000_000


class Prover:
    """Holds what the accepted model looks like and computes, and checks the next step against it.

    `notes` collects what could not be checked and why.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self.notes: list[Note] = []
        self.feeds: list[Feeds] = []  # of the accepted model, one for each world
        self._first_feeds: Feeds = {}  # of the model that came in
        self._front: structure.Front | None = None
        self._outputs: list[Outputs] | None = None
        self._unstable: set[str] = set()

    def check(
        self, before: Model, outcome: Outcome, claim: Claim, level: Level, step: str, earlier: Sequence[str]
    ) -> Verified:
        """Check one step; `before` is the model it was given (the pass worked on a clone of it).

        Raises:
            StepError: the step broke its promise; the message names it, the steps before it, and the first tensor
                that differs.
            InvalidModel: onnxruntime cannot run the model that came in.
            InvalidConfig: the claim needs data that the context does not have.
        """
        if level == "off":
            self._accept(outcome, None)
            return Verified("off")
        case = _Case(self, before, outcome, step, earlier)
        same = is_same(before, outcome.model)
        if same == outcome.changed:
            told, found = ("a change", "none") if outcome.changed else ("no change", "a difference")
            raise case.failed("changed", f"it reports {told}, but comparing the models shows {found}")
        if same:
            return Verified("unchanged")
        self._front = self._front or self._first_look(before)
        problem = structure.problem_of(outcome.model, self._front.narrowed(outcome.ports))
        if problem:
            raise case.failed("structure", f"the rewritten model is not sound: {problem}")
        if level == "structure":
            self._accept(outcome, None)
            return Verified("structure")
        if self._outputs is None:
            self._outputs = self._rerun(before, self.feeds) if self.feeds else self._first_run(before)
        if not self.feeds:
            self._accept(outcome, self._outputs)
            return Verified("structure")
        verified, outputs = self._by_running(case, claim)
        self._accept(outcome, outputs)
        return verified

    def _accept(self, outcome: Outcome, outputs: list[Outputs] | None) -> None:
        """Go on from the rewritten model: what it computed (None if it was not run), what it looks like and is fed."""
        self._outputs = outputs
        if outcome.ports:
            self._front = self._front.narrowed(outcome.ports) if self._front is not None else None
            self.feeds = [take_kept(feeds, outcome.ports) for feeds in self.feeds]

    def served(self, model: Model, original: Model) -> str:
        """Try the final model as it will be served, with onnxruntime's optimisations on; return what was done."""
        if self._outputs is None or not self.feeds:
            return ""
        size = sum(weight_bytes(constant) for constant in model.graph.initializers.values())
        if size > _SAVED_BELOW // 2:
            return f"not tried with optimisations: {size / 1e9:.1f} GB of weights would be copied"
        try:
            run_session(session(model, threads=self.context.threads, spinning=False), self.feeds[0])
        except GraphRewriteError as error:
            try:
                started = session(original, threads=self.context.threads, spinning=False)
                run_session(started, self._first_feeds)
            except GraphRewriteError:
                return "onnxruntime's optimisations fail on this model and on the one that came in"
            raise StepError(
                f"the rewritten model runs as it stands but not with onnxruntime's optimisations, with which the model "
                f"that came in runs: {error}",
                "pipeline",
                "run",
                None,
                None,
            ) from error
        return "runs with onnxruntime's optimisations"

    def _first_look(self, before: Model) -> structure.Front:
        front = structure.Front.of(before)
        if front.fault:
            text = (
                f"the model that came in is not sound, so soundness is not held against steps: {front.fault}"
            )
            self.notes.append(Note("warning", "model", text))
        return front

    def _rerun(self, model: Model, feeds: Sequence[Feeds]) -> list[Outputs]:
        return [self._stable(outputs) for outputs in _run_all(model, feeds, self.context.threads)]

    def _first_run(self, before: Model) -> list[Outputs]:
        """Find inputs the model runs with in both sample worlds, and run it; fills `feeds`."""
        try:
            started = session(before, threads=self.context.threads, optimize=False, spinning=False)
        except UnsupportedOp as error:
            self.notes.append(Note("warning", "model", f"not verified by running: {error}"))
            return []
        except InvalidModel as error:
            raise InvalidModel(
                f"the model cannot be verified by running it: {error} (or rewrite with verify='structure')"
            ) from error
        found: list[Outputs] = []
        info = infer(before)
        worlds = (0, 1) if _has_symbols(before) else (0,)
        for world in worlds:
            accepted = self._one_world(before, started, world, info)
            if accepted is not None and _sizes_text(accepted[0]) not in map(_sizes_text, self.feeds):
                self.feeds.append(accepted[0])
                found.append(accepted[1])
        if not self.feeds:
            text = "not verified by running: no sample input works; pass data that fits the model"
            self.notes.append(Note("warning", "model", text))
            return []
        self._first_feeds = self.feeds[0]
        if len(self.feeds) < len(worlds):
            text = f"checked with one size only, {_sizes_text(self.feeds[0])}: it runs with no other that was tried"
            self.notes.append(Note("warning", "model", text))
        if is_random(before):
            again = [run_session(started, feeds) for feeds in self.feeds]
            self._unstable = {
                n for a, b in zip(found, again, strict=True) for n, e in compare(a, b).items() if e
            }
            text = "draws random numbers: not compared"
            self.notes.extend(Note("warning", name, text) for name in sorted(self._unstable))
        stable = [self._stable(outputs) for outputs in found]
        if not any(
            np.isfinite(a.astype(np.float64)).any() if a.dtype.kind in "fiu" else a.size
            for o in stable
            for a in o.values()
        ):
            text = "no output holds a finite number on the sample inputs, so comparing them proves little; pass data"
            self.notes.append(Note("warning", "model", text))
        return stable

    def _one_world(
        self, model: Model, started: "ort.InferenceSession", world: int, info: ShapeInfo
    ) -> tuple[Feeds, Outputs] | None:
        for feeds in self._choices(model, world, info):
            try:
                return feeds, run_session(started, feeds)
            except InvalidModel:
                continue
        return None

    def _choices(self, model: Model, world: int, info: ShapeInfo) -> Iterator[Feeds]:
        """Yield invented inputs, then a batch of the context's data."""
        try:
            yield from candidates(model, self.context.seed, world, info)
        except InvalidData as error:
            if self.context.data is None:
                self.notes.append(Note("warning", "model", str(error)))
        if self.context.data is not None:
            fixed = {d for t in model.inputs for d in (t.shape or [])[:1] if isinstance(d, int)}
            for batch in self.context.data.batches(max(fixed, default=2 + world), self.context.seed):
                try:
                    fits(model, batch)
                except InvalidData:
                    return
                yield batch
                return

    def _stable(self, outputs: Outputs) -> Outputs:
        return {name: array for name, array in outputs.items() if name not in self._unstable}

    def _by_running(self, case: "_Case", claim: Claim) -> tuple[Verified, list[Outputs]]:
        assert self._outputs is not None
        model, ports = case.outcome.model, case.outcome.ports
        before = [take_kept(outputs, ports) for outputs in self._outputs]
        try:
            after = self._rerun(model, [take_kept(feeds, ports) for feeds in self.feeds])
        except (InvalidModel, UnsupportedOp) as error:
            raise case.failed(
                "run", f"the rewritten model does not run, the one before did: {error}"
            ) from error
        worlds = tuple(_sizes_text(feeds) for feeds in self.feeds)
        for feeds, old, new in zip(self.feeds, before, after, strict=True):
            spoilt = not_finite(new) - not_finite(old)
            if spoilt:
                text = f"the output {sorted(spoilt)[0]!r} is no longer finite"
                raise case.failed("run", text, feeds, case.before, any_shape=not isinstance(claim, SameAs))
        moved = max(
            (error for a, b in zip(before, after, strict=True) for error in compare(a, b).values()),
            default=0.0,
        )
        if isinstance(claim, Same):
            rtol = tolerance(claim.rtol, case.before)
            errors = case.compared(before, after, case.before, rtol, "the model before the step")
            verified = Verified("same", max(errors.values(), default=0.0), rtol, errors, None, worlds)
        elif isinstance(claim, SameAs):
            reference = case.outcome.reference() if case.outcome.reference is not None else None
            if reference is None:
                raise case.failed("claim", "it claims SameAs but its outcome names no reference")
            rtol, errors = self._against(case, claim, reference, after)
            verified = Verified("reference", max(errors.values(), default=0.0), rtol, errors, moved, worlds)
            if moved == 0.0:
                text = "the step moved no output at all, so equality with its reference says little"
                self.notes.append(Note("warning", case.step, text))
        elif isinstance(claim, Bounded):
            verified = Verified("bounded", movement=moved, worlds=worlds, metric=case.measured(claim))
        else:
            verified = Verified("runs", movement=moved, worlds=worlds)
        return verified, after

    def _against(
        self, case: "_Case", claim: SameAs, reference: Model, after: list[Outputs]
    ) -> tuple[float, dict[str, float]]:
        """Compare a step with its slow reference; half precision is widened on both sides: rounding hides nothing."""
        what = "the pass's own reference"
        ports = case.outcome.ports
        if is_narrow(case.before):
            feeds = [widen_feeds(each) for each in self.feeds]
            try:
                wide = self._rerun(widened(reference), feeds)
                found = self._rerun(widened(case.outcome.model), [take_kept(each, ports) for each in feeds])
            except (InvalidModel, UnsupportedOp):
                pass  # an operator that knows half precision only: compare as it is
            else:
                expected = [take_kept(outputs, ports) for outputs in wide]
                return claim.rtol, case.compared(
                    expected, found, reference, claim.rtol, f"{what}, both in float32", any_shape=False
                )
        expected = [take_kept(outputs, ports) for outputs in self._rerun(reference, self.feeds)]
        rtol = tolerance(claim.rtol, case.before)
        return rtol, case.compared(expected, after, reference, rtol, what, any_shape=False)


class _Case:
    """One step under examination: knows how to say what went wrong."""

    def __init__(
        self, prover: Prover, before: Model, outcome: Outcome, step: str, earlier: Sequence[str]
    ) -> None:
        self.prover = prover
        self.before = before
        self.outcome = outcome
        self.step = step
        self.earlier = earlier

    def compared(
        self,
        expected: Sequence[Outputs],
        found: Sequence[Outputs],
        reference: Model,
        rtol: float,
        what: str,
        any_shape: bool = True,
    ) -> dict[str, float]:
        """Return the largest error of each output over all worlds; raises when one exceeds `rtol`."""
        worst: dict[str, float] = {}
        for feeds, a, b in zip(self.prover.feeds, expected, found, strict=True):
            errors = compare(a, b)
            wrong = {name: error for name, error in errors.items() if not error <= rtol}
            if wrong:
                name = max(wrong, key=lambda key: wrong[key])
                text = (
                    f"the output {name!r} differs from {what} by {wrong[name]:.3g} relative "
                    f"(allowed {rtol:.3g}) for {_sizes_text(feeds)}"
                )
                raise self.failed("claim", text, feeds, reference, any_shape, rtol)
            worst = {name: max(error, worst.get(name, 0.0)) for name, error in errors.items()}
        return worst

    def measured(self, claim: Bounded) -> float:
        """Measure a `Bounded` claim on the context's data; raises when it does not hold."""
        data, context = self.prover.context.data, self.prover.context
        if data is None:
            raise InvalidConfig(
                f"the step {self.step} claims {claim.metric} <= {claim.limit}, which is measured on data; "
                "expected Context(data=...); pass data or use verify='structure'"
            )
        value = metrics.make(claim.metric).measure(self.before, self.outcome.model, data, context.threads)
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
        reference: Model | None = None,
        any_shape: bool = True,
        rtol: float = 1e-4,
    ) -> StepError:
        """Find the first tensor that differs, save the evidence, and return the error to raise."""
        where = None
        model = self.outcome.model
        if feeds is not None and reference is not None:
            try:
                where = first_difference(
                    reference,
                    model,
                    feeds,
                    rtol,
                    any_shape,
                    self.prover.context.threads,
                    take_kept(feeds, self.outcome.ports),
                )
            except GraphRewriteError:
                where = None  # the failure itself is what matters
        folder = self._save(feeds, reference)
        after = f"after {', '.join(self.earlier)}" if self.earlier else "the first"
        first = f"; the first tensor that differs is {where}" if where else ""
        saved = f"; both models are in {folder}" if folder else ""
        return StepError(
            f"the step {self.step} ({after}) broke its promise: {text}{first}{saved}. This is a defect of the pass; "
            "leave the step out, or report it with the saved models",
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
            with zipfile.ZipFile(folder / "inputs.npz", "w") as archive:  # np.savez reserves some names
                for name, value in feeds.items():
                    with archive.open(f"{name}.npy", "w") as member:
                        np.lib.format.write_array(member, np.asarray(value))
        return str(folder)


def _run_all(model: Model, feeds: Sequence[Feeds], threads: int) -> list[Outputs]:
    """Run every world in one session; it is gone afterwards, so two models are never loaded at once.

    Here and above threads sleep while they wait: a proof runs a model two or three times, so there is nothing to be won
    by spinning, and on a shared machine it costs a quarter of the time.
    """
    started = session(model, threads=threads, optimize=False, spinning=False)
    return [run_session(started, one) for one in feeds]


def _has_symbols(model: Model) -> bool:
    return any(
        tensor.shape is None or any(not isinstance(dim, int) or dim < 0 for dim in tensor.shape)
        for tensor in model.inputs
    )


def _model_bytes(model: Model) -> int:
    return sum(
        weight_bytes(constant)
        for graph in all_graphs(model.graph)
        for constant in graph.initializers.values()
    )


def _sizes_text(feeds: Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]) -> str:
    return ", ".join(f"{name} {list(np.shape(array))}" for name, array in feeds.items())
