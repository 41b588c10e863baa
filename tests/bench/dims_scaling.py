"""What removing channels costs per node, and how it grows: with nodes (1k to 100k), with channels, with a node's arity.

Run `python tests/bench/dims_scaling.py [--sizes 1000 4000 16000 64000 100000] [--nets chain tower encoder] [--write]`.
Timed is `RemoveChannels(budget=MacsBelow(0.5)).run` on a model in memory: shapes, analysis, groups, cost before and
after, scores, the budget's choice, compensation, the cut itself. The reference of the proof and saving come apart. CPU
microseconds per node with the garbage collector as a program has it, the smallest of some runs below 20 000 nodes; the
exponent is that of the fit seconds ~ nodes ** p: 1 is linear. The second table grows other things than nodes.
`--write` puts both into the section "Speed" of RESULTS.md.
"""

import argparse
import contextlib
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.append(str(Path(__file__).resolve().parents[2]))

from graphrewrite.ir import Model
from graphrewrite.passes.channels import MacsBelow, RemoveChannels
from graphrewrite.pipeline import Context
from tests.bench.common import (
    Stages,
    clean_when_stopped,
    command,
    exponent,
    facts,
    say,
    table,
    tell,
    write_section,
)
from tests.bench.networks import GROWING, dense, fan, nested, shared, tied, tower, wide
from tests.bench.stages import ENGINE

REPEATED_BELOW = 20_000
RUNS = 3
BAR = 200.0
SUM = "analysis + budget + surgery"

# What grows, the model, and how large it becomes.
SHAPES: dict[str, tuple[Callable[[int], Model], tuple[int, ...]]] = {
    "channels of a layer": (wide, (4_096, 16_384, 65_536, 262_144)),
    "words of a tied table": (tied, (4_096, 16_384, 65_536, 262_144)),
    "branches of Split and Concat": (fan, (100, 1_000, 4_000)),
    "layers all read by the later ones": (dense, (25, 50, 100, 200)),
    "joins of one residual stream": (lambda n: tower(7 * n), (100, 1_000, 10_000)),
    "readers of one weight and one bias": (shared, (100, 1_000, 10_000)),
    "branches inside branches": (nested, (4, 8, 16, 30)),
}


def main() -> int:
    """Measure, print, and write the section when asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sizes = [1_000, 4_000, 16_000, 64_000, 100_000]
    parser.add_argument("--sizes", type=int, nargs="+", default=sizes, metavar="NODES")
    parser.add_argument("--nets", nargs="*", default=list(GROWING), choices=list(GROWING))
    parser.add_argument("--shapes", nargs="*", default=list(SHAPES), choices=list(SHAPES), metavar="SHAPE")
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    options = parser.parse_args()
    clean_when_stopped()
    say(facts())
    engine(GROWING["chain"](100))  # so that nothing is imported inside a measurement
    text = [
        f"{command()}; {facts()}",
        __doc__.split("\n\n", 1)[1].split("Timed is", 1)[1].split("`--write`")[0].strip(),
    ]
    text[1] = f"Timed is {text[1]} The bar is {BAR:.0f} us per node for the sum."
    for net in options.nets:
        text.append(f"### {net}\n\n{nodes_table(net, sorted(options.sizes))}")
        say(f"\n{text[-1]}")
    if options.shapes:
        text.append(f"### other things than nodes\n\n{shapes_table(options.shapes)}")
        say(f"\n{text[-1]}")
    if options.write:
        write_section("Speed", "\n\n".join(text))
    return 0


def engine(model: Model) -> dict[str, float]:
    """Return CPU seconds by stage of one cut, everything once; `model` stays as it is."""
    copy = model.clone()
    with Stages(ENGINE) as stages, stages.stage("rest"):
        outcome = RemoveChannels(budget=MacsBelow(0.5)).run(copy, Context())
    assert outcome.reference is not None, "nothing was cut"
    total = sum(stages.spent.values())
    with tempfile.TemporaryDirectory(prefix="graphrewrite-bench-") as scratch, Stages({}) as extra:
        with extra.stage("reference"):
            outcome.reference()
        with extra.stage("save"):
            outcome.model.save(Path(scratch) / "model.onnx")
    return {**stages.spent, SUM: total, **extra.spent}


def nodes_table(net: str, sizes: list[int]) -> str:
    """Return microseconds per node by stage and size."""
    found: dict[str, list[float]] = {}
    counts = []
    for size in sizes:
        tell(f"{net} of {size} nodes")
        model = GROWING[net](size)
        counts.append(len(model.nodes()))
        runs = [engine(model) for _ in range(RUNS if size < REPEATED_BELOW else 1)]
        for stage in runs[0]:
            found.setdefault(stage, []).append(min(run[stage] for run in runs))
        del model, runs
    rows = [
        [
            stage,
            *(f"{1e6 * s / n:.1f}" for n, s in zip(counts, spent, strict=True)),
            f"{exponent(counts, spent):.2f}",
        ]
        for stage, spent in found.items()
    ]
    return table(["us per node", *(f"{count:,}" for count in counts), "exponent"], rows)


def shapes_table(names: list[str]) -> str:
    """Return CPU seconds and peak memory for models in which something else than nodes grows."""
    rows = []
    for name in names:
        draw, sizes = SHAPES[name]
        spent, cells = [], []
        for size in sizes:
            tell(f"{name}: {size}")
            model = draw(size)
            before = _resident()
            _forget_peak()
            start = time.process_time()
            engine(model)
            spent.append(time.process_time() - start)
            grown = (_peak() - before) / 1e6
            cells.append(f"{size:,}: {spent[-1]:.2f} s, {grown:,.0f} MB")
            del model
        rows.append([name, "; ".join(cells), f"{exponent(sizes, spent):.2f}"])
    return table(["what grows", "size: CPU seconds, memory on top of the model", "exponent"], rows, left=2)


def _forget_peak() -> None:
    """Let the kernel start its high-water mark anew, where it can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> float:
    return _status("VmHWM") or 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _resident() -> float:
    return _status("VmRSS")


def _status(field: str) -> float:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), 0.0)


if __name__ == "__main__":
    sys.exit(main())
