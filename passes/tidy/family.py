"""How the passes of this family run: rules by worklist, batches of constants between, until nothing changes."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from graphrewrite.ir import Model
from graphrewrite.ir.garbage import paused
from graphrewrite.match import Draft, Engine, NearMiss, RuleSet
from graphrewrite.passes.tidy.dedupe import merge_initializers
from graphrewrite.passes.tidy.fold_constants import Folder
from graphrewrite.pipeline import Note, Outcome
from graphrewrite.pipeline.base import Json

# Constants that could be folded, and then rules that follow from them, alternate at most this often.
_ROUNDS = 12
# Nodes out of a body have no inferred shapes; after a fresh inference they are looked at like others.
_PASSES = 3
_NAMED = 3


@dataclass(frozen=True)
class Steps:
    """What to do besides the rules.

    Attributes:
        fold_up_to: bytes a folded constant may have beyond what it replaces; None folds nothing.
        merge_weights: store equal initializers once.
    """

    fold_up_to: int | None = None
    merge_weights: bool = False


@dataclass
class _Record:
    done: dict[str, list[str]] = field(default_factory=dict)
    unfolded: dict[str, str] = field(default_factory=dict)
    misses: list[NearMiss] = field(default_factory=list)
    edits: int = 0
    exhausted: bool = False

    def add(self, kind: str, names: list[str]) -> None:
        if names:
            self.done.setdefault(kind, []).extend(names)


def tidy(model: Model, rules: Callable[[], RuleSet], steps: Steps | None = None) -> Outcome:
    """Run rules and steps over a model this pass owns and report what was done and what was left.

    `rules` is called for every run, since some rules remember what they have seen.
    """
    record = _Record()
    stored = set(model.graph.initializers)
    with paused():
        for _ in range(_PASSES):
            if not _run(model, rules(), steps or Steps(), record):
                break
    # Constants that were made on the way and went again are nobody's business.
    dropped = stored & set(record.done.pop("unused initializer", [])) - set(model.graph.initializers)
    record.add("unused initializer", sorted(dropped))
    return _outcome(model, record)


def _run(model: Model, rules: RuleSet, steps: Steps, record: _Record) -> bool:
    """Tidy once; return whether nodes came out of bodies, so that a fresh look may find more."""
    draft = Draft(model)
    draft.bury_unused()
    if steps.merge_weights:
        record.add("equal initializer", [name for name, _ in merge_initializers(draft)])
    engine = Engine(draft, rules)
    folder = Folder(draft, steps.fold_up_to) if steps.fold_up_to is not None else None
    for _ in range(_ROUNDS):
        rewritten = engine.run()
        folded = folder.run() if folder is not None else []
        record.add("constant folded", folded)
        if not folded and not rewritten:
            break
    if steps.merge_weights:
        record.add("equal initializer", [name for name, _ in merge_initializers(draft)])
        engine.run()
    dead, unused = draft.close()
    for kind, names in engine.trace.done.items():
        record.add(kind, names)
    record.add("dead node", dead)
    record.add("unused initializer", unused)
    record.edits += draft.edits
    record.misses = engine.trace.misses
    record.exhausted = engine.trace.exhausted
    record.unfolded = {} if folder is None else {left.tensor: left.reason for left in folder.left.values()}
    return draft.adopted > 0


def _outcome(model: Model, record: _Record) -> Outcome:
    notes = [Note("done", kind, _counted(names)) for kind, names in record.done.items()]
    notes += [
        Note("skipped", name, f"constant not folded: {reason}") for name, reason in record.unfolded.items()
    ]
    reasons = Counter((miss.rule, miss.reason) for miss in record.misses)
    first = {(miss.rule, miss.reason): miss.node for miss in reversed(record.misses)}
    for (kind, reason), count in reasons.items():
        more = f" (and {count - 1} more)" if count > 1 else ""
        notes.append(Note("skipped", first[kind, reason], f"{kind}: {reason}{more}"))
    if record.exhausted:
        notes.append(
            Note("warning", "tidy", "stopped at the bound on rewrites; rules kept undoing each other")
        )
    done: Json = {kind: len(names) for kind, names in record.done.items()}
    return Outcome(model, record.edits > 0 or bool(record.done), tuple(notes), details={"done": done})


def _counted(names: list[str]) -> str:
    listed = ", ".join(names[:_NAMED])
    return f"{len(names)}: {listed}" + (", ..." if len(names) > _NAMED else "")
