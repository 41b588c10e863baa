"""Leave residual blocks out of the whole corpus and prove every cut: who has blocks, and what they hold.

Run `python tests/bench/corpus_blocks.py [--only 'resnet*'] [--every N]`. Every model goes through a pipeline with
`verify="full"` twice: a random half of the blocks of every stream, and all blocks there are (no floor). The result is
held against the original with the branches zeroed, at two batch sizes where the batch is dynamic.
"""

import argparse
import fnmatch
import os
import re
import sys
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import cast

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.append(str(Path(__file__).resolve().parents[2]))

from graphrewrite.errors import BudgetError, GraphRewriteError
from graphrewrite.ir import Model
from graphrewrite.passes.blocks import RemoveBlocks
from graphrewrite.passes.blocks.criteria.random import Random
from graphrewrite.passes.channels import MacsBelow, Ratio
from graphrewrite.pipeline import Context, Pipeline
from graphrewrite.pipeline.base import Json
from tests.bench.common import facts, say, table, tell
from tests.corpus.index import Entry, entries


@dataclass(frozen=True)
class Row:
    """One model, one way; shares are of the original, `error` the largest relative difference in the proof."""

    model: str
    family: str
    kind: str
    end: str
    blocks: int = 0
    removed: int = 0
    macs: float = 1.0
    params: float = 1.0
    error: float = 0.0
    movement: float = 0.0
    sizes: int = 0
    cpu: float = 0.0
    reason: str = ""


def main() -> int:
    """Run everything and print the tables; 1 when a result was wrong or a run failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN", help="corpus names")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="every Nth model only")
    options = parser.parse_args()
    chosen = [e for e in entries() if any(fnmatch.fnmatch(e.name, p) for p in options.only)]
    chosen.sort(
        key=lambda entry: zlib.crc32(entry.name.encode())
    )  # a run that is cut short is a sample of everything
    chosen = chosen[:: options.every]
    rows: list[Row] = []
    for number, entry in enumerate(chosen, 1):
        rows += [half(entry), everything(entry)]
        bad = [row for row in rows[-2:] if row.end == "failed"]
        for row in bad:
            tell(f"{row.model} {row.kind}: {row.reason}")
        if number % 100 == 0:
            tell(f"{number} of {len(chosen)}")
    say(facts())
    say(report(rows))
    return 1 if any(row.end == "failed" for row in rows) else 0


def half(entry: Entry) -> Row:
    """Leave a random half of every stream's blocks out."""
    return attempt(entry, "half", RemoveBlocks(Random(), Ratio(0.5), floor=0))


def everything(entry: Entry) -> Row:
    """Leave out all blocks there are: ask for nothing, then for what the answer says can be reached."""
    first = attempt(entry, "all", RemoveBlocks(Random(), MacsBelow(1e-9), floor=0))
    found = re.search(r"ask for ([\d.]+) or more", first.reason)
    if found is None:
        return first
    return attempt(entry, "all", RemoveBlocks(Random(), MacsBelow(min(float(found[1]), 1.0)), floor=0))


def attempt(entry: Entry, kind: str, step: RemoveBlocks) -> Row:
    """Run one pass over one model and prove what comes out."""
    model = Model.load(entry.path)
    begun = time.process_time()
    try:
        outcome = step.run(model.clone(), Context())
        seconds = time.process_time() - begun
        if not outcome.changed:
            blocks = len(cast("list[Json]", outcome.details["blocks"]))
            return Row(entry.name, entry.family, kind, "nothing to leave out", blocks, cpu=seconds)
        result = Pipeline((step,)).run(model, Context())
    except BudgetError as error:
        return Row(entry.name, entry.family, kind, "no block", reason=str(error))
    except GraphRewriteError as error:
        return Row(entry.name, entry.family, kind, "failed", reason=str(error))
    report, details = result.report.steps[0], outcome.details
    told = cast("list[dict[str, Json]]", details["blocks"])
    before, after = (cast(int, details[f"macs_{when}"]) for when in ("before", "after"))
    weights, fewer = (cast(int, details[f"params_{when}"]) for when in ("before", "after"))
    verified = report.verified
    return Row(
        entry.name,
        entry.family,
        kind,
        "proved" if verified.how == "reference" else "not compared",
        len(told),
        sum(bool(row["removed"]) for row in told),
        after / max(before, 1),
        fewer / max(weights, 1),
        verified.error or 0.0,
        verified.movement or 0.0,
        len(verified.worlds),
        seconds,
    )


def report(rows: Sequence[Row]) -> str:
    """Return a table by way and family, and one of ends."""
    lines = []
    for kind in ("half", "all"):
        mine = [row for row in rows if row.kind == kind]
        body = []
        for family in [*sorted({row.family for row in mine}), "all"]:
            of = [row for row in mine if family in (row.family, "all")]
            cut = [row for row in of if row.removed]
            body.append(
                (
                    family,
                    str(len(of)),
                    str(len(cut)),
                    str(sum(row.end == "proved" for row in cut)),
                    f"{median([row.macs for row in cut]):.2f}" if cut else "",
                    f"{median([row.params for row in cut]):.2f}" if cut else "",
                    f"{max((row.error for row in cut), default=0.0):.0e}",
                    str(sum(row.sizes > 1 for row in cut)),
                    str(sum(row.movement == 0 for row in cut)),
                    f"{median([row.cpu for row in of]):.3f}",
                    f"{max((row.cpu for row in of), default=0.0):.2f}",
                )
            )
        titles = (
            "family",
            "files",
            "cut",
            "proved",
            "macs",
            "params",
            "worst",
            "2 sizes",
            "unmoved",
            "cpu",
            "max cpu",
        )
        lines += [f"\n{kind} of the blocks", table(titles, body)]
        lines += [
            f"{row.model}: {row.end}: {row.reason}" for row in mine if row.end in ("failed", "not compared")
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
