"""Checking each step of a pipeline against its claim, in order of price: structure, running, outputs, honesty.

The outputs of the model accepted last are kept, so a step costs one load and run of the new model for each world, and
another of the slow reference where its claim names one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from graphrewrite.errors import GraphRewriteError, InvalidData, InvalidModel, UnsupportedOp
from graphrewrite.ir import Model, ShapeInfo, infer
from graphrewrite.ir.diff import is_same
from graphrewrite.ir.widen import is_narrow, widen_feeds, widened
from graphrewrite.pipeline import structure
from graphrewrite.pipeline.base import Bounded, Claim, Context, Note, Outcome, Same, SameAs
from graphrewrite.pipeline.case import Case, Compared, Outputs, sizes_text
from graphrewrite.pipeline.rounding import Pair
from graphrewrite.pipeline.verify import StepError, Verified, compare, is_random, not_finite, tolerance
from graphrewrite.runtime import Feeds, candidates, fits, run_session, session, take_kept
from graphrewrite.runtime.stage import weight_bytes

if TYPE_CHECKING:
    import onnxruntime as ort

Level: TypeAlias = Literal["full", "structure", "off"]

# Models with more weights than this are not loaded a second time just to try them.
_TRIED_BELOW = 1_000_000_000


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
        self._widened = ""  # why models are run in float32 instead of as they are, "" when they are not

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
        case = Case(before, outcome, step, earlier, self.context, self._seen)
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
        if self._widened:
            return f"not tried: {self._widened}"
        size = sum(weight_bytes(constant) for constant in model.graph.initializers.values())
        if size > _TRIED_BELOW:
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
        seen = self._seen(model)
        return [self._stable(outputs) for outputs in _run_all(seen, feeds, self.context.threads)]

    def _seen(self, model: Model) -> Model:
        """Return what is run in place of a model: itself, or the same in float32 where there are no kernels for it."""
        return widened(model) if self._widened else model

    def _first_run(self, before: Model) -> list[Outputs]:
        """Find inputs the model runs with in both sample worlds, and run it; fills `feeds`."""
        try:
            before, started = self._started(before)
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
            if accepted is not None and sizes_text(accepted[0]) not in map(sizes_text, self.feeds):
                self.feeds.append(accepted[0])
                found.append(accepted[1])
        if not self.feeds:
            text = "not verified by running: no sample input works; pass data that fits the model"
            self.notes.append(Note("warning", "model", text))
            return []
        self._first_feeds = self.feeds[0]
        if len(self.feeds) < len(worlds):
            text = f"checked with one size only, {sizes_text(self.feeds[0])}: it runs with no other that was tried"
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

    def _started(self, before: Model) -> tuple[Model, "ort.InferenceSession"]:
        """Load the model, in float32 if onnxruntime cannot have it in half precision; return what was loaded, too."""
        try:
            return before, session(before, threads=self.context.threads, optimize=False, spinning=False)
        except (UnsupportedOp, InvalidModel) as error:
            if not is_narrow(before):
                raise
            try:
                wide = widened(before)
                started = session(wide, threads=self.context.threads, optimize=False, spinning=False)
            except (UnsupportedOp, InvalidModel):
                raise error from None
            self._widened = f"onnxruntime cannot run it in half precision here ({error})"
            text = f"verified in float32: {self._widened}"
            self.notes.append(Note("warning", "model", text))
            return wide, started

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

    def _by_running(self, case: Case, claim: Claim) -> tuple[Verified, list[Outputs]]:
        assert self._outputs is not None
        model, ports = case.outcome.model, case.outcome.ports
        before = [take_kept(outputs, ports) for outputs in self._outputs]
        try:
            after = self._rerun(model, [take_kept(feeds, ports) for feeds in self.feeds])
        except (InvalidModel, UnsupportedOp) as error:
            raise case.failed(
                "run", f"the rewritten model does not run, the one before did: {error}"
            ) from error
        worlds = tuple(sizes_text(feeds) for feeds in self.feeds)
        for feeds, old, new in zip(self.feeds, before, after, strict=True):
            spoilt = not_finite(new) - not_finite(old)
            if spoilt:
                text = f"the output {sorted(spoilt)[0]!r} is no longer finite"
                pair = self._pair(case, case.before)
                raise case.failed("run", text, feeds, pair, any_shape=not isinstance(claim, SameAs))
        moved = max(
            (error for a, b in zip(before, after, strict=True) for error in compare(a, b).values()),
            default=0.0,
        )
        if isinstance(claim, Same):
            rtol = tolerance(claim.rtol, case.before)
            pair = self._pair(case, case.before)
            found = case.compared(before, after, pair, rtol, "the model before the step")
            verified = Verified(
                "same", found.error, found.rtol, found.errors, None, worlds, rounding=found.rounding
            )
        elif isinstance(claim, SameAs):
            reference = case.outcome.reference() if case.outcome.reference is not None else None
            if reference is None:
                raise case.failed("claim", "it claims SameAs but its outcome names no reference")
            found = self._against(case, claim, reference, after)
            verified = Verified(
                "reference",
                found.error,
                found.rtol,
                found.errors,
                moved,
                worlds,
                rounding=found.rounding,
                against=claim.what,
            )
            if moved == 0.0 and not is_same(reference, case.before):
                text = "the step moved no output at all, so equality with its reference says little"
                self.notes.append(Note("warning", case.step, text))
        elif isinstance(claim, Bounded):
            verified = Verified("bounded", movement=moved, worlds=worlds, metric=case.measured(claim))
        else:
            verified = Verified("runs", movement=moved, worlds=worlds)
        return verified, after

    def _pair(self, case: Case, reference: Model) -> Pair:
        """Return a step's model and what it must equal, as they are run."""
        model = self._seen(case.outcome.model)
        threads = self.context.threads
        return Pair(self._seen(reference), model, self.feeds, case.outcome.ports, threads=threads)

    def _against(self, case: Case, claim: SameAs, reference: Model, after: list[Outputs]) -> Compared:
        """Compare a step with its slow reference; half precision is widened on both sides: rounding hides nothing."""
        what = "the pass's own reference"
        pair = self._pair(case, reference)
        if is_narrow(case.before) and not self._widened:
            wide = self._wide(pair)
            try:
                expected = self._rerun(wide.reference, wide.feeds)
                found = self._rerun(wide.model, [take_kept(each, pair.ports) for each in wide.feeds])
            except (InvalidModel, UnsupportedOp):
                pass  # an operator that knows half precision only: compare as it is
            else:
                expected = [take_kept(outputs, pair.ports) for outputs in expected]
                what = f"{what}, both in float32"
                return case.compared(expected, found, wide, claim.rtol, what, any_shape=False)
        expected = [take_kept(outputs, pair.ports) for outputs in self._rerun(reference, self.feeds)]
        rtol = claim.rtol if self._widened else tolerance(claim.rtol, case.before)
        return case.compared(expected, after, pair, rtol, what, any_shape=False)

    @staticmethod
    def _wide(pair: Pair) -> Pair:
        feeds = [widen_feeds(each) for each in pair.feeds]
        return replace(pair, reference=widened(pair.reference), model=widened(pair.model), feeds=feeds)


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
