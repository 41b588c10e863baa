"""Prune the whole corpus through `RemoveChannels` and prove every cut; what stays whole is listed with its reason.

Run `python tests/bench/corpus_prune.py [--macs 0.5] [--ratio 0.5] [--only 'resnet*'] [--core]`. Every model goes
through a pipeline with `verify="full"`: the result is checked for structure, and its outputs are held against those of
the masked original at two batch sizes. Runs are kept in build/bench/, so an interrupted bench continues and a second
one prints at once; `--fresh` starts over. CPU seconds: analysis, budget, surgery.
"""

import argparse
import fnmatch
import importlib
import json
import os
import sys
import zlib
from collections import Counter
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.append(str(Path(__file__).resolve().parents[2]))

from tests.bench.common import RESULTS, ROOT, apart, clean_when_stopped, facts, say, tell
from tests.bench.corpus_report import (
    BUDGET,
    FAILED,
    INVALID,
    NOTHING,
    PROVED,
    RUNS,
    WRONG,
    Row,
    page,
    read,
    report,
)
from tests.corpus.index import Entry, cache_folder, entries

if TYPE_CHECKING:
    from graphrewrite.ir import Model

LIMIT_SECONDS = 300
PAGE = ROOT / "tests" / "corpus" / "RESULTS.md"


def main() -> int:
    """Run what is missing and print the tables; 1 when a model came out invalid, wrong or not at all."""
    options = _options()
    clean_when_stopped()
    chosen = [e for e in entries() if any(fnmatch.fnmatch(e.name, p) for p in options.only)]
    if options.core:
        chosen = [e for e in chosen if e.core]
    # In an order that has nothing to do with names: a run that is cut short is a sample of everything.
    chosen.sort(key=lambda entry: zlib.crc32(entry.name.encode()))
    chosen = chosen[:: options.every]
    if not chosen:
        print(
            f"no corpus model matches in {cache_folder()}; build it with tests/corpus/build.py",
            file=sys.stderr,
        )
        return 2
    say(facts())
    RESULTS.mkdir(parents=True, exist_ok=True)
    journal = RESULTS / "corpus_prune.jsonl"
    if options.fresh:
        journal.unlink(missing_ok=True)
    known = {(row.model, row.kind, row.fraction): row for row in read(journal)}
    if options.again:
        known = {key: row for key, row in known.items() if row.end == PROVED}
    # Imported before the fork: a second less per model, and one version of the code for the whole run.
    for module in ("passes.channels", "dims.rules", "pipeline.verify", "runtime"):
        importlib.import_module(f"graphrewrite.{module}")
    bad = 0
    budgets = []
    for kind, fraction in options.budgets:
        rows = []
        for number, entry in enumerate(chosen, 1):
            key = (entry.name, kind, fraction)
            if key not in known:
                known[key] = _apart(entry, kind, fraction)
                with open(journal, "a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(known[key])) + "\n")
                if number % 50 == 0:
                    tell(f"{kind} {fraction}: {number} of {len(chosen)}")
            rows.append(known[key])
        say(f"\n{kind} {fraction:g}: {len(rows)} files\n")
        say(report(rows))
        budgets.append(rows)
        bad += sum(row.end in (WRONG, INVALID, FAILED) for row in rows)
    if options.write:
        PAGE.write_text(page(budgets, options.note), encoding="utf-8")
    return 1 if bad else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--macs", type=float, nargs="*", default=None, metavar="F")
    parser.add_argument("--ratio", type=float, nargs="*", default=None, metavar="F")
    parser.add_argument(
        "--only", nargs="+", default=["*"], metavar="PATTERN", help="corpus names, such as 'resnet*.ts'"
    )
    parser.add_argument("--core", action="store_true", help="the small first set of the corpus only")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="every Nth model only")
    parser.add_argument("--fresh", action="store_true", help="forget earlier runs")
    parser.add_argument("--again", action="store_true", help="repeat the runs that were not proved")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    parser.add_argument("--note", default="", help="a line for that page: machine, commit, what was left out")
    options = parser.parse_args()
    options.budgets = [("macs", f) for f in options.macs or []] + [("ratio", f) for f in options.ratio or []]
    if not options.budgets:
        options.budgets = [("macs", 0.5), ("ratio", 0.5)]
    return options


def _apart(entry: Entry, kind: str, fraction: float) -> Row:
    found = apart(lambda: prune(entry, kind, fraction), LIMIT_SECONDS)
    return _row(entry, kind, fraction, FAILED, reason=found) if isinstance(found, str) else found


def _row(entry: Entry, kind: str, fraction: float, end: str, **more: object) -> Row:
    return Row(entry.name, entry.family, entry.exporter, entry.source, kind, fraction, end, **more)  # type: ignore[arg-type]


def prune(entry: Entry, kind: str, fraction: float) -> Row:
    """Prune and prove one model."""
    from graphrewrite.errors import BudgetError, GraphRewriteError
    from graphrewrite.ir import Model
    from graphrewrite.passes.channels import MacsBelow, Ratio, RemoveChannels
    from graphrewrite.pipeline import Context, Pipeline
    from graphrewrite.pipeline.verify import StepError
    from tests.bench.common import Stages

    step = RemoveChannels(budget=MacsBelow(fraction) if kind == "macs" else Ratio(fraction))
    stages = Stages({"pass": ("graphrewrite.passes.channels.remove:RemoveChannels.run",)})

    def ended(end: str, **more: object) -> Row:
        return _row(entry, kind, fraction, end, cpu=stages.spent.get("pass", 0.0), **more)

    try:
        model = Model.load(entry.path)
        with stages:
            report = Pipeline((step,)).run(model, Context(threads=1)).report
    except BudgetError as error:
        return ended(BUDGET, reason=str(error), obstacle=_obstacle(model))
    except StepError as error:
        return ended(WRONG if error.stage == "claim" else INVALID, reason=str(error))
    except GraphRewriteError as error:
        return ended(FAILED, reason=f"{type(error).__name__}: {error}")
    except Exception as error:  # a bench lists what broke and goes on
        return ended(FAILED, reason=f"{type(error).__name__}: {error}")
    found = report.steps[0].verified
    details = report.steps[0].details
    size = {
        "macs": report.after.macs / max(report.before.macs, 1),
        "params": report.after.params / max(report.before.params, 1),
        "nodes": report.before.nodes,
    }
    if not report.changed:
        pins = Counter(str(reason) for reason in dict(details["pinned"]).values())  # type: ignore[arg-type]
        why = "; ".join(f"{reason} ({n})" for reason, n in pins.most_common(2))
        return ended(NOTHING, reason=why or "no weight axis may lose anything", **size)
    proof = {"movement": found.movement or 0.0, "sizes": len(found.worlds)}
    if found.error is None:
        return ended(RUNS, reason="; ".join(note.text for note in report.notes), **size, **proof)
    short = kind == "macs" and size["macs"] > fraction + 1e-3
    reason = f"left {size['macs']:.3f} of the MACs" if short else ""
    return ended(PROVED if not short else BUDGET, error=found.error, reason=reason, **size, **proof)


def _obstacle(model: "Model") -> str:
    """Name what holds most of a model: operators without a rule, then the reasons of the largest pinned weights."""
    from graphrewrite import dims
    from graphrewrite.ir.inline import inlined

    found = dims.groups(inlined(model))
    sizes: Counter[str] = Counter()
    for place, reason in found.pinned.items():
        shape = found.analysis.info.sizes(place.partition("[")[0]) or ()
        sizes[reason] += prod(shape)
    told = [f"{op}: {reasons[0]}" for op, reasons in found.analysis.refused.items()]
    told += [reason for reason, _ in sizes.most_common(3)]
    return "; ".join(dict.fromkeys(told[:4]))


if __name__ == "__main__":
    sys.exit(main())
