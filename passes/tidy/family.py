"""How the passes of this family run: rules by worklist, batches of constants between, until nothing changes."""

from collections import Counter
from dataclasses import dataclass, field

from graphrewrite.ir import Model
from graphrewrite.ir.garbage import paused
from graphrewrite.match import Draft, Engine, RuleSet
from graphrewrite.passes.tidy.dedupe import merge_initializers
from graphrewrite.passes.tidy.fold_constants import Folder
from graphrewrite.pipeline import Note, Outcome
from graphrewrite.pipeline.base import Json

# Constants that could be folded, and then rules that follow from them, alternate at most this often.
_ROUNDS = 12
_NAMED = 3


@dataclass
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
    left: list[Note] = field(default_factory=list)

    def add(self, kind: str, names: list[str]) -> None:
        if names:
            self.done.setdefault(kind, []).extend(names)


def tidy(model: Model, rules: RuleSet, steps: Steps) -> Outcome:
    """Run rules and steps over a model this pass owns and report what was done and what was left."""
    with paused():
        return _tidy(model, rules, steps)


def _tidy(model: Model, rules: RuleSet, steps: Steps) -> Outcome:
    record = _Record()
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
    return _outcome(model, draft, engine, folder, record)


def _outcome(model: Model, draft: Draft, engine: Engine, folder: Folder | None, record: _Record) -> Outcome:
    notes = [Note("done", kind, _counted(names)) for kind, names in record.done.items()]
    if folder is not None:
        notes += [
            Note("skipped", left.tensor, f"constant not folded: {left.reason}")
            for left in folder.left.values()
        ]
    reasons: Counter[tuple[str, str]] = Counter((miss.rule, miss.reason) for miss in engine.trace.misses)
    first = {(miss.rule, miss.reason): miss.node for miss in reversed(engine.trace.misses)}
    for (kind, reason), count in reasons.items():
        more = f" (and {count - 1} more)" if count > 1 else ""
        notes.append(Note("skipped", first[kind, reason], f"{kind}: {reason}{more}"))
    if engine.trace.exhausted:
        notes.append(
            Note(
                "warning",
                "tidy",
                f"stopped after {engine.trace.count} rewrites; the rules kept undoing each other",
            )
        )
    changed = draft.edits > 0 or any(record.done.values())
    done: Json = {kind: len(names) for kind, names in record.done.items()}
    return Outcome(model, changed, tuple(notes), details={"done": done})


def _counted(names: list[str]) -> str:
    listed = ", ".join(names[:_NAMED])
    return f"{len(names)}: {listed}" + (", ..." if len(names) > _NAMED else "")
