"""What a pass is, what it promises, and what it returns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from graphrewrite.data import DataSource
from graphrewrite.ir import Model
from graphrewrite.runtime import Ports
from graphrewrite.serial import Json as Json

Batch: TypeAlias = Mapping[str, npt.NDArray[np.generic]]


@dataclass(frozen=True)
class Claim:
    """A promise about the outputs of a rewritten model; the subclasses are the four kinds there are."""


@dataclass(frozen=True)
class Same(Claim):
    """Outputs equal those of the input model: max |difference| / max |reference| per output at most `rtol`."""

    rtol: float = 1e-4


@dataclass(frozen=True)
class SameAs(Claim):
    """Outputs equal those of a slow reference which the pass's outcome names (`Outcome.reference`).

    `what` says in words what that reference is, for reports.
    """

    rtol: float = 1e-4
    what: str = "a slow reference of the step's own"


@dataclass(frozen=True)
class Bounded(Claim):
    """A metric (registry name) stays within `limit` on the context's data."""

    metric: str
    limit: float


@dataclass(frozen=True)
class Free(Claim):
    """Only validity is promised: the model loads, runs and gives finite outputs."""


@dataclass(frozen=True)
class Note:
    """One thing a pass did or left alone: `subject` is the name of a node, tensor or group."""

    kind: str  # "done", "skipped", "warning"
    subject: str
    text: str


@dataclass(frozen=True)
class Outcome:
    """What a pass hands back.

    `reference` is the slow model that a `SameAs` claim is checked against: a function, so that it is only built when
    verification asks. `details` is the pass's own JSON for reports (for channel removal: kept positions, pins).
    `ports` says which positions are left of inputs and outputs that the pass was asked to make shorter: the new model
    is fed those positions of what the reference is fed, and its outputs are those positions of the reference's.
    """

    model: Model
    changed: bool
    notes: tuple[Note, ...] = ()
    reference: Callable[[], Model] | None = None
    details: Mapping[str, Json] = field(default_factory=dict)
    ports: Ports = field(default_factory=dict)


@dataclass(frozen=True)
class Context:
    """What passes may ask of their surroundings.

    `data` holds calibration batches; `seed` is the only source of randomness; `progress(step, done, total)` is called
    now and then so that a front end can draw a bar. `original` is the model that the outermost pipeline was given, for
    passes that learn from it; nobody changes it. `folder`, when there is one, is for this step alone: what it leaves
    there lets it go on after an interruption.
    """

    data: DataSource | None = None
    seed: int = 0
    threads: int = 0
    progress: Callable[[str, int, int], None] | None = None
    original: Model | None = None
    folder: Path | None = None

    def rng(self) -> np.random.Generator:
        """Return a generator seeded from the context."""
        return np.random.default_rng(self.seed)


@runtime_checkable
class Pass(Protocol):
    """A rewrite. Implementations are frozen dataclasses whose fields are the configuration."""

    claim: ClassVar[Claim]

    def run(self, model: Model, context: Context) -> Outcome:
        """Rewrite `model`, a clone that this pass owns, and say what was done."""
        ...


@runtime_checkable
class Composite(Protocol):
    """A pass that stands for several: a pipeline runs, checks, reports and keeps each part as a step of its own."""

    def parts(self) -> Sequence[Pass]:
        """Return the steps in order."""
        ...
