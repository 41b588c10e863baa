"""How the cost of rewriting grows with the size of the graph: chains and residual towers of 1k to 100k nodes.

Run `python tests/bench/scaling.py [--sizes 1000 10000 100000] [--nets chain tower]`. A whole pipeline (`RemoveChannels`
to half the MACs, checked for structure) is split into stages; the slow reference, tidying, loading and saving come on
top. Each figure is CPU seconds, the smallest of three runs below 20 000 nodes. The exponent p is that of the fit
seconds ~ nodes^p over all sizes, and over the last two: 1 is linear.
"""

import argparse
import os
import resource
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.append(str(Path(__file__).resolve().parents[2]))

from graphrewrite.ir import Model
from graphrewrite.ir.check import check
from graphrewrite.passes.channels import MacsBelow, RemoveChannels
from graphrewrite.passes.tidy import Tidy
from graphrewrite.pipeline import Context, Pipeline
from tests.bench.common import Stages, clean_when_stopped, exponent, facts, say, table, tell
from tests.bench.networks import GROWING
from tests.bench.stages import PRUNE

REPEATED_BELOW = 20_000
RUNS = 3


def main() -> int:
    """Measure and print a table for each net."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000], metavar="NODES")
    parser.add_argument("--nets", nargs="+", default=list(GROWING), choices=list(GROWING))
    options = parser.parse_args()
    clean_when_stopped()
    say(facts())
    split(GROWING["chain"](100))  # so that nothing is imported inside a measurement
    for net in options.nets:
        found: dict[str, dict[int, float]] = {}
        counts = []
        for size in sorted(options.sizes):
            tell(f"{net} of {size} nodes")
            drawn = GROWING[net](size)
            counts.append(len(drawn.nodes()))
            runs = [split(drawn) for _ in range(RUNS if size < REPEATED_BELOW else 1)]
            for stage in runs[0]:
                found.setdefault(stage, {})[counts[-1]] = min(run[stage] for run in runs)
            del drawn, runs
        say(f"\n{net}")
        say(report(found, counts))
    say(f"\npeak memory of the whole bench {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")
    return 0


def split(model: Model) -> dict[str, float]:
    """Return CPU seconds by stage for one model, everything once."""
    with tempfile.TemporaryDirectory(prefix="graphrewrite-bench-") as scratch, Stages(PRUNE) as stages:
        path = Path(scratch) / "model.onnx"
        model.save(path)
        stages.spent.clear()
        loaded = Model.load(path)
        with stages.stage("check"):
            check(loaded)
        with stages.stage("rest of pipeline"):
            result = Pipeline((RemoveChannels(budget=MacsBelow(0.5)),), verify="structure").run(
                loaded, Context()
            )
        before, after = result.report.before, result.report.after
        assert after.macs <= 0.5 * before.macs, f"the budget was missed: {after.macs} of {before.macs}"
        result.model.save(path)
        pruning = sum(seconds for stage, seconds in stages.spent.items() if stage != "check")
        outcome = RemoveChannels(budget=MacsBelow(0.5)).run(model.clone(), Context())
        assert outcome.reference is not None
        with Stages({}) as extra:
            with extra.stage("reference"):
                outcome.reference()
            copy = model.clone()
            with extra.stage("tidy"):
                Tidy().run(copy, Context())
    return {**stages.spent, "load + prune + save": pruning, **extra.spent}


def report(found: dict[str, dict[int, float]], counts: list[int]) -> str:
    """Return the table of one net."""
    head = ["stage"]
    for count in counts:
        head += [f"{count:,} nodes, s", "us/node"]
    rows = []
    for stage, seconds in found.items():
        values = [seconds[count] for count in counts]
        cells = [c for n, s in zip(counts, values, strict=True) for c in (f"{s:.3f}", f"{1e6 * s / n:.1f}")]
        rows.append(
            [stage, *cells, f"{exponent(counts, values):.2f}", f"{exponent(counts[-2:], values[-2:]):.2f}"]
        )
    return table([*head, "exponent", "last two"], rows)


if __name__ == "__main__":
    sys.exit(main())
