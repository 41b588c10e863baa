"""What a pipeline did, as data: per step the change in size, the time, the notes, and how the claim was checked."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from graphrewrite import cost
from graphrewrite.ir import Model
from graphrewrite.ir.edit import all_graphs
from graphrewrite.pipeline.base import Json, Note
from graphrewrite.pipeline.verify import Verified
from graphrewrite.serial import to_json


@dataclass(frozen=True)
class Facts:
    """The size of a model.

    Attributes:
        nodes: nodes of the graph and of all bodies in it.
        params: numbers in weights, each counted once.
        weight_bytes: bytes those numbers take in a file.
        macs: multiply-accumulates for one sample.
        uncounted: operators without a cost rule, and how many nodes have them; their MACs are missing from `macs`.
    """

    nodes: int
    params: int
    weight_bytes: int
    macs: int
    uncounted: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Model) -> "Facts":
        """Count a model."""
        table = cost.of(model)
        nodes = sum(len(graph.nodes) for graph in all_graphs(model.graph))
        uncounted = {operator: len(names) for operator, names in table.unknown.items()}
        return cls(nodes, table.params, table.weight_bytes, table.per_sample("macs"), uncounted)


@dataclass(frozen=True)
class StepReport:
    """One step: what went in, what came out, what was promised and how that was checked.

    `details` is the pass's own data (for channel removal: kept positions and pins); `steps` are the steps of a nested
    pipeline.
    """

    name: str
    changed: bool
    seconds: float
    check_seconds: float
    verified: Verified
    before: Facts
    after: Facts
    notes: tuple[Note, ...] = ()
    details: Mapping[str, Json] = field(default_factory=dict)
    steps: tuple["StepReport", ...] = ()


@dataclass(frozen=True)
class Report:
    """A whole run.

    Attributes:
        steps: one entry for each step, in order.
        before, after: sizes of the model that went in and of the one that came out.
        seconds: wall time of the run, checks included.
        notes: about the run as a whole (a model that could not be run, a pipeline that could not be stored).
        served: how the final model was tried the way it will be served, with onnxruntime's optimisations on.
    """

    steps: tuple[StepReport, ...]
    before: Facts
    after: Facts
    seconds: float = 0.0
    notes: tuple[Note, ...] = ()
    served: str = ""

    @property
    def changed(self) -> bool:
        """Whether any step changed the model."""
        return any(step.changed for step in self.steps)

    @property
    def error(self) -> float | None:
        """Largest error any step was found to have, None when nothing was compared."""
        found = [step.verified.error for step in _flat(self.steps) if step.verified.error is not None]
        return max(found) if found else None

    def to_json(self) -> dict[str, Json]:
        """Return the report as plain JSON types; `serial.from_json(document, Report)` builds it again."""
        return cast("dict[str, Json]", to_json(self))

    def table(self) -> list[list[str]]:
        """Return rows of text, the first being the headings: one row per step, inner steps indented, a total."""
        rows = [["step", "nodes", "params", "MACs", "error", "checked", "seconds"]]
        rows.extend(row for step in self.steps for row in _rows(step, ""))
        rows.append(
            [
                "total",
                _change(self.before.nodes, self.after.nodes),
                _change(self.before.params, self.after.params),
                _change(self.before.macs, self.after.macs),
                _error_text(self.error),
                "",
                f"{self.seconds:.2f}",
            ]
        )
        return rows


def _flat(steps: Sequence[StepReport]) -> list[StepReport]:
    return [inner for step in steps for inner in (step, *_flat(step.steps))]


def _rows(step: StepReport, indent: str) -> list[list[str]]:
    row = [
        f"{indent}{step.name}",
        _change(step.before.nodes, step.after.nodes),
        _change(step.before.params, step.after.params),
        _change(step.before.macs, step.after.macs),
        _error_text(step.verified.error),
        step.verified.how,
        f"{step.seconds + step.check_seconds:.2f}",
    ]
    return [row, *(inner for nested in step.steps for inner in _rows(nested, indent + "  "))]


def _change(before: int, after: int) -> str:
    return f"{_figure(before)} -> {_figure(after)}" if before != after else _figure(after)


def _figure(value: int) -> str:
    for size, letter in ((1_000_000_000, "G"), (1_000_000, "M"), (10_000, "k")):
        if value >= size:
            return f"{value / (size if letter != 'k' else 1000):.3g}{letter}"
    return str(value)


def _error_text(error: float | None) -> str:
    return "-" if error is None else "inf" if math.isinf(error) else f"{error:.1e}" if error else "0"
