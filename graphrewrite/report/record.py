"""What one run of channel removal measured: the same record becomes the table, the JSON document and the page."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from graphrewrite.dims.explanation import Explanation
from graphrewrite.pipeline.quality import Accuracy, Agreement
from graphrewrite.report.layers import Layer

# Group -> the scores of its units, and which of them were kept.
Scores: TypeAlias = Mapping[str, tuple[tuple[float, ...], tuple[int, ...]]]


@dataclass(frozen=True)
class Latency:
    """Seconds for one run of the batch, models taking turns; `ratio` to the first model is of runs side by side."""

    median: float
    p95: float
    ratio: float
    runs: int


@dataclass(frozen=True)
class Side:
    """A model before or after: where it lies, how large it is, what it costs for one sample."""

    path: str
    bytes: int
    sha256: str
    nodes: int
    macs: int
    params: int
    accuracy: Accuracy | None = None
    latency: Latency | None = None


@dataclass(frozen=True)
class Check:
    """One verified step: what it claims, how that was checked, the error found and the error allowed."""

    step: str
    how: str
    error: float | None
    limit: float | None


@dataclass(frozen=True)
class Left:
    """Something that was left alone, and why."""

    subject: str
    reason: str


@dataclass(frozen=True)
class Section:
    """A part of a page that one command has and others do not: words, a picture as SVG text, a table.

    `numbers` are the titles of columns that hold figures.
    """

    title: str
    told: str = ""
    picture: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    numbers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Record:
    """Everything a report page shows.

    `samples` says what accuracy and agreement were measured on, `timing` how latency was measured. `scores` maps a
    group to its units' scores and the positions kept. `groups` explains the groups of the model before, `kept` has the
    units that each kept. `sections` are the command's own. `facts` are further lines for the foot: seed, versions,
    machine. Where no step found anything to do the model `is_unchanged`.
    """

    title: str
    command: str
    before: Side
    after: Side
    asked: str
    checks: tuple[Check, ...]
    layers: tuple[Layer, ...]
    left: tuple[Left, ...]
    seconds: float
    samples: str = ""
    timing: str = ""
    agreement: tuple[Agreement, ...] = ()
    scores: Scores = field(default_factory=dict)
    groups: Explanation | None = None
    kept: Mapping[str, int] = field(default_factory=dict)
    sections: tuple[Section, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    is_unchanged: bool = False
