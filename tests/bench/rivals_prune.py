"""Channel removal side by side with its rivals: graphrewrite, torch-pruning and onnxsim on the same networks.

Run `python tests/bench/rivals_prune.py [--only 'resnet*'] [--every 5] [--write]`; needs the corpus with torch, timm,
transformers, and the extra `rivals`. Each network is one that the corpus builds from a torch module: torch-pruning
gets the module, the others the plainest export of it. Asked are ratio 0.5 and, where that leaves more than half the
MACs, 0.7 and 0.9 for a rival; a MACs budget of 0.5 for us. A result counts when it runs at two batch sizes with
finite outputs of the old shapes; ours must also be proved equal to its reference. Every tool runs in a forked process
with limits of time and memory. Rows are kept in build/bench/, `--fresh` starts over, `--write` fills RESULTS_RIVALS.md.
"""

import argparse
import fnmatch
import importlib
import json
import os
import resource
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.append(str(Path(__file__).resolve().parents[2]))

from tests.bench.common import RESULTS, apart, clean_when_stopped, facts, say, tell
from tests.bench.rivals_report import FAILED, PRUNED, WHOLE, Row, page
from tests.corpus.index import Entry, cache_folder, entries
from tests.corpus.spec import Spec

LIMIT_SECONDS = 120
LIMIT_BYTES = 12 * 2**30
RATIOS = (0.5, 0.7, 0.9)
SOURCES = (
    "plain_convs",
    "plain_images",
    "plain_generators",
    "plain_recurrent",
    "plain_attention",
    "plain_tables",
    "torchvision_models",
    "timm_models",
    "transformers_models",
)
PRELOADED = (
    "torch_pruning",
    "onnxsim",
    "graphrewrite.passes.channels",
    "graphrewrite.dims.rules",
    "graphrewrite.pipeline.verify",
    "graphrewrite.runtime",
)
PAGE = Path(__file__).with_name("RESULTS_RIVALS.md")
JOURNAL = RESULTS / "rivals_prune.jsonl"


def main() -> int:
    """Run what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN", help="architectures")
    parser.add_argument("--tools", nargs="+", default=list(TOOLS), choices=list(TOOLS))
    parser.add_argument("--every", type=int, default=1, metavar="N", help="every Nth architecture only")
    parser.add_argument("--again", action="store_true", help="repeat what these tools did not prune")
    parser.add_argument("--known", action="store_true", help="run nothing: the tables of what was run before")
    parser.add_argument("--fresh", action="store_true", help="forget earlier runs")
    parser.add_argument("--write", action="store_true", help=f"fill {PAGE.name}")
    options = parser.parse_args()
    clean_when_stopped()
    JOURNAL.parent.mkdir(parents=True, exist_ok=True)
    if options.fresh:
        JOURNAL.unlink(missing_ok=True)
    known = {(row.architecture, row.tool): row for row in _read()}
    if options.again:
        known = {k: row for k, row in known.items() if row.end == PRUNED or row.tool not in options.tools}
    # Not in the order of names: a run that is cut short is a sample of everything.
    chosen = sorted(_networks(), key=lambda pair: zlib.crc32(pair[0].architecture.encode()))[:: options.every]
    chosen = [pair for pair in chosen if any(fnmatch.fnmatch(pair[0].architecture, p) for p in options.only)]
    if not chosen:
        print(
            f"no network of the corpus in {cache_folder()}; build it with tests/corpus/build.py",
            file=sys.stderr,
        )
        return 2
    for module in (
        "torch_pruning",
        "onnxsim",
        "graphrewrite.passes.channels",
        "graphrewrite.pipeline.verify",
    ):
        importlib.import_module(module)
    for number, (spec, entry) in enumerate(chosen, 1):
        for tool in options.tools:
            if (entry.architecture, tool) not in known and not options.known:
                known[entry.architecture, tool] = row = _apart(tool, spec, entry)
                with JOURNAL.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(row)) + "\n")
        if number % 20 == 0 and not options.known:
            tell(f"{number} of {len(chosen)}")
    wanted = {entry.architecture for _, entry in chosen}
    complete = [name for name in wanted if all((name, tool) in known for tool in TOOLS)]
    text = page([known[name, tool] for name in sorted(complete) for tool in TOOLS], facts(), tuple(TOOLS))
    say(text)
    if options.write:
        PAGE.write_text(text + "\n", encoding="utf-8")
    return 0


def _read() -> Iterator[Row]:
    if JOURNAL.is_file():
        for line in JOURNAL.read_text(encoding="utf-8").splitlines():
            yield Row(**json.loads(line))


def _networks() -> list[tuple[Spec, Entry]]:
    """The specs of torch modules with the plainest export of each that lies in the cache."""
    plainest: dict[str, Entry] = {}
    for entry in entries():
        if entry.exporter in ("ts", "dyn"):
            old = plainest.get(entry.architecture)
            if old is None or _speciality(entry) < _speciality(old):
                plainest[entry.architecture] = entry
    specs: dict[str, Spec] = {}
    for source in SOURCES:
        for spec in importlib.import_module(f"tests.corpus.{source}").specs_of_source():
            specs.setdefault(spec.architecture, spec)
    return [(specs[name], entry) for name, entry in plainest.items() if name in specs]


def _speciality(entry: Entry) -> tuple[bool, int, bool]:
    return not entry.dynamic_batch, len(entry.name.split(".")), entry.exporter != "ts"


def _apart(tool: str, spec: Spec, entry: Entry) -> Row:
    found = apart(lambda: _limited(tool, spec, entry), LIMIT_SECONDS)
    return _row(tool, entry, end=FAILED, reason=found) if isinstance(found, str) else found


def _limited(tool: str, spec: Spec, entry: Entry) -> Row:
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    try:
        return TOOLS[tool](spec, entry)
    except BaseException as error:
        return _row(tool, entry, end=FAILED, reason=_short(error))


def _row(tool: str, entry: Entry, **more: object) -> Row:
    return Row(entry.architecture, entry.family, entry.source, tool, **more)  # type: ignore[arg-type]


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split())[:160]
    return text if isinstance(error, RuntimeError) else f"{type(error).__name__}: {text}"


def _with_us(spec: Spec, entry: Entry) -> Row:
    from graphrewrite.errors import BudgetError
    from graphrewrite.ir import Model
    from graphrewrite.passes.channels import MacsBelow, Ratio, RemoveChannels
    from graphrewrite.pipeline import Context, Pipeline
    from tests.bench.common import Stages

    stages = Stages({"pass": ("graphrewrite.passes.channels.remove:RemoveChannels.run",)})
    with stages:
        report = Pipeline((RemoveChannels(budget=Ratio(RATIOS[0])),)).run(
            Model.load(entry.path), Context(threads=1)
        ).report  # fmt: skip
    macs = report.after.macs / max(report.before.macs, 1)
    params = report.after.params / max(report.before.params, 1)
    proved = report.steps[0].verified.error is not None
    try:
        budget = Pipeline((RemoveChannels(budget=MacsBelow(RATIOS[0])),))
        half = budget.run(Model.load(entry.path), Context(threads=1)).report
        reached = half.after.macs <= (RATIOS[0] + 1e-3) * half.before.macs
        proved_half = half.steps[0].verified.error is not None
    except BudgetError:
        reached = proved_half = False
    return _row(
        "graphrewrite", entry, end=PRUNED if report.changed and proved else WHOLE, macs=macs, params=params,
        half=reached and proved_half, seconds=stages.spent["pass"], setting="ratio" if proved else "not proved",
    )  # fmt: skip


def _with_torch_pruning(spec: Spec, entry: Entry) -> Row:
    from tests.bench import rival_torch_pruning as rival
    from tests.corpus.torch_nets import drawn

    net = drawn(spec)
    assert net is not None
    return _climb("torch-pruning", entry, lambda ratio: _figures(rival.prune(net, ratio)))


def _with_onnxsim(spec: Spec, entry: Entry) -> Row:
    from tests.bench import rival_onnxsim as rival

    return _climb("onnxsim", entry, lambda ratio: _figures(rival.prune(entry, ratio)))


def _figures(found: object) -> dict[str, object]:
    return {name: getattr(found, name) for name in ("macs", "params", "seconds", "setting")}


def _climb(tool: str, entry: Entry, prune: Callable[[float], dict[str, object]]) -> Row:
    """Ask for half the channels, then for more until half the MACs are gone; the first answer is what is compared."""
    first = prune(RATIOS[0])
    macs = float(first["macs"])  # type: ignore[arg-type]
    for ratio in RATIOS[1:]:
        if macs <= RATIOS[0] + 1e-3:
            break
        try:
            macs = min(macs, float(prune(ratio)["macs"]))  # type: ignore[arg-type]
        except RuntimeError:  # what ran at the lower ratio stands
            break
    changed = float(first["params"]) < 0.99 or float(first["macs"]) < 0.99  # type: ignore[arg-type]
    return _row(tool, entry, end=PRUNED if changed else WHOLE, half=macs <= RATIOS[0] + 1e-3, **first)


TOOLS: dict[str, Callable[[Spec, Entry], Row]] = {
    "graphrewrite": _with_us,
    "torch-pruning": _with_torch_pruning,
    "onnxsim": _with_onnxsim,
}

if __name__ == "__main__":
    sys.exit(main())
