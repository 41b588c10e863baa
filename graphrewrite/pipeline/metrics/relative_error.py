"""How far outputs move on data."""

from dataclasses import dataclass

from graphrewrite.data import DataSource
from graphrewrite.ir import Model
from graphrewrite.pipeline.metrics import batches_for, metrics
from graphrewrite.pipeline.verify import compare
from graphrewrite.runtime import run_session, session


@metrics.register("relative_error")
@dataclass(frozen=True)
class RelativeError:
    """The largest max |difference| / max |output before| over all batches and outputs.

    `batch` is the number of samples per run.
    """

    batch: int = 64

    def measure(self, before: Model, after: Model, data: DataSource, threads: int = 0) -> float:
        """Return the error, 0 when nothing moved, infinite when an output has another shape or type."""
        one, two = session(before, threads=threads), session(after, threads=threads)
        batches = batches_for(before, data, self.batch)
        return max(
            (e for x in batches for e in compare(run_session(one, x), run_session(two, x)).values()),
            default=0.0,
        )
