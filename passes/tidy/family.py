"""How the passes of this family run: rules by worklist, batches of constants between, until nothing changes."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from graphrewrite.ir import Model
from graphrewrite.ir.garbage import paused
from graphrewrite.match import Draft, Engine, NearMiss, RuleSet
from graphrewrite.pipeline import Note, Outcome
from graphrewrite.pipeline.base import Json

# Constants that could be folded, and then rules that follow from them, alternate at most this often.
_ROUNDS = 12
# Nodes out of a body have no inferred shapes; after a fresh inference they are looked at like others.
_PASSES = 3
_NAMED = 3


class Batch(Protocol):
    """Work on many nodes at once, done whenever the rules have come to rest; one object per draft.

    Attributes:
        kind: what reports call it.
        left: what it could not do: name -> reason.
    """

    kind: str
    left: dict[str, str]

    def run(self) -> list[str]:
        """Do it; return the names of what was changed."""
        ...


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


def tidy(
    model: Model, rules: Callable[[], RuleSet], batches: Sequence[Callable[[Draft], Batch]] = ()
) -> Outcome:
    """Run rules and batches over a model this pass owns and report what was done and what was left.

    `rules` is called for every run, since some rules remember what they have seen.
    """
    record = _Record()
    stored = set(model.graph.initializers)
    with paused():
        for _ in range(_PASSES):
            if not _run(model, rules(), batches, record):
                break
    # Constants that were made on the way and went again are nobody's business.
    dropped = stored & set(record.done.pop("unused initializer", [])) - set(model.graph.initializers)
    record.add("unused initializer", sorted(dropped))
    return _outcome(model, record)


def _run(model: Model, rules: RuleSet, batches: Sequence[Callable[[Draft], Batch]], record: _Record) -> bool:
    """Tidy once; return whether nodes came out of bodies, so that a fresh look may find more."""
    draft = Draft(model)
    record.add("dead node", draft.bury_unused())
    present = [make(draft) for make in batches]
    engine = Engine(draft, rules)
    for _ in range(_ROUNDS):
        changed = 0
        for batch in present:
            names = batch.run()
            record.add(batch.kind, names)
            changed += len(names)
        if not engine.run() and not changed:
            break
    dead, unused = draft.close()
    for kind, names in engine.trace.done.items():
        record.add(kind, names)
    record.add("dead node", dead)
    record.add("unused initializer", unused)
    record.edits += draft.edits
    record.misses = engine.trace.misses
    record.exhausted = engine.trace.exhausted
    record.unfolded = {
        name: f"not {batch.kind}: {why}" for batch in present for name, why in batch.left.items()
    }
    return draft.adopted > 0


def _outcome(model: Model, record: _Record) -> Outcome:
    notes = [Note("done", kind, _counted(names)) for kind, names in record.done.items()]
    notes += [Note("skipped", name, reason) for name, reason in record.unfolded.items()]
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
