"""Do both torch exporters' graphs of one network fall into the same channel groups? They should: the network is one.

Over-tying is invisible to every proof; a second drawing of the same network shows it. `python tests/corpus/agreement.py
[--write]` compares the plainest file of each exporter of every architecture: the multiset of (units of a group, MACs a
unit saves) must be the same. What either exporter may or may not do by itself is done to both before: constants are
folded, equal initializers and nodes merged. Parameters are not compared: a norm kept as a node has four numbers a
channel, a folded one has a bias. Runs are kept in build/bench/, `--fresh` starts over, `--write` fills AGREEMENT.md.
"""

import argparse
import fnmatch
import json
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.append(str(Path(__file__).resolve().parents[2]))

from graphrewrite import dims
from graphrewrite.ir import Model
from graphrewrite.ir.inline import inlined
from graphrewrite.passes.tidy.dedupe import MergeDuplicates
from graphrewrite.passes.tidy.fold_constants import FoldConstants
from graphrewrite.pipeline import Context
from tests.corpus.index import Entry, entries

HERE = Path(__file__).resolve().parent
JOURNAL = HERE.parents[1] / "build" / "bench" / "agreement.jsonl"
REASONS = HERE / "agreement_reasons.json"
PAGE = HERE / "AGREEMENT.md"

Saving: TypeAlias = tuple[int, float]  # units of a group, MACs that one unit saves


@dataclass(frozen=True)
class Pair:
    """Both exports of one network and what only one of them has; `failed` says why they could not be compared."""

    architecture: str
    script: str
    dynamo: str
    groups: int = 0
    only_script: tuple[str, ...] = ()
    only_dynamo: tuple[str, ...] = ()
    failed: str = ""

    @property
    def agrees(self) -> bool:
        """Whether both fall into the same groups."""
        return not (self.only_script or self.only_dynamo or self.failed)


def main() -> int:
    """Compare what was not compared before; 1 when less than 95 in 100 agree or a difference is unexplained."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN", help="architectures")
    parser.add_argument("--again", action="store_true", help="repeat the pairs that did not agree")
    parser.add_argument("--fresh", action="store_true", help="forget earlier runs")
    parser.add_argument("--write", action="store_true", help=f"fill {PAGE.name}")
    options = parser.parse_args()
    JOURNAL.parent.mkdir(parents=True, exist_ok=True)
    if options.fresh:
        JOURNAL.unlink(missing_ok=True)
    known = {pair.architecture: pair for pair in _read() if pair.agrees or not options.again}
    chosen = [p for p in pairs(entries()) if any(fnmatch.fnmatch(p[0].architecture, w) for w in options.only)]
    for script, dynamo in chosen:
        if script.architecture not in known:
            known[script.architecture] = pair = compare(script, dynamo)
            with JOURNAL.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(pair)) + "\n")
    found = [known[script.architecture] for script, _ in chosen]
    text = report(found, json.loads(REASONS.read_text(encoding="utf-8")))
    print(text)
    if options.write:
        PAGE.write_text(text + "\n", encoding="utf-8")
    return 0 if found and share(found) >= 0.95 else 1


def _read() -> Iterator[Pair]:
    if JOURNAL.is_file():
        for line in JOURNAL.read_text(encoding="utf-8").splitlines():
            values: dict[str, Any] = json.loads(line)
            values |= {side: tuple(values[side]) for side in ("only_script", "only_dynamo")}
            yield Pair(**values)


def pairs(found: Sequence[Entry]) -> list[tuple[Entry, Entry]]:
    """Return, for each network both exporters wrote, the file of each with the fewest specialities."""
    by_name: dict[str, dict[str, list[Entry]]] = defaultdict(lambda: defaultdict(list))
    for entry in found:
        if entry.exporter in ("ts", "dyn"):
            by_name[entry.architecture][entry.exporter].append(entry)
    both = [(kinds["ts"], kinds["dyn"]) for _, kinds in sorted(by_name.items()) if len(kinds) == 2]
    return [(min(a, key=_speciality), min(b, key=_speciality)) for a, b in both]


def _speciality(entry: Entry) -> tuple[int, str]:
    return len(entry.name.split(".")), entry.name


def compare(script: Entry, dynamo: Entry) -> Pair:
    """Group both files and take the multisets of savings from each other."""
    try:
        ours, theirs = savings(Model.load(script.path)), savings(Model.load(dynamo.path))
    except Exception as error:  # one file must not end the run
        reason = f"{type(error).__name__}: {error}"[:300]
        return Pair(script.architecture, script.name, dynamo.name, failed=reason)
    return Pair(
        script.architecture, script.name, dynamo.name, ours.total(), _texts(ours - theirs), _texts(theirs - ours)
    )  # fmt: skip


def savings(model: Model) -> Counter[Saving]:
    """Return the multiset of (units, MACs per unit) over the groups that save any, in the common form."""
    model = inlined(model)
    for step in (FoldConstants(), MergeDuplicates()):
        model = step.run(model, Context(threads=1)).model
    found = dims.groups(model)
    return Counter((g.units, round(g.macs_per_unit, 1)) for g in found if g.macs_per_unit >= 1)


def _texts(found: Counter[Saving]) -> tuple[str, ...]:
    return tuple(
        f"{n} x " * (n > 1) + f"{units} units of {macs:,.0f}" for (units, macs), n in sorted(found.items())
    )


def share(found: Sequence[Pair]) -> float:
    """Return which part of the pairs agrees."""
    return sum(pair.agrees for pair in found) / max(len(found), 1)


def report(found: Sequence[Pair], reasons: dict[str, str]) -> str:
    """Return the page: the share, and every pair that differs with what differs and why."""
    lines = [
        "# Both torch exporters, the same groups?",
        "",
        "Written by `python tests/corpus/agreement.py --write`. Compared are the units of each group and the MACs of",
        "one of them, after constants were folded and duplicates merged in both files.",
        "",
        f"{sum(p.agrees for p in found)} of {len(found)} architectures agree: {100 * share(found):.1f} % (bar 95 %).",
    ]
    apart = [pair for pair in found if not pair.agrees]
    if apart:
        lines += ["", "| architecture | only TorchScript | only dynamo | why |", "|---|---|---|---|"]
    for pair in apart:
        why = reasons.get(pair.architecture, "**not explained**") if not pair.failed else pair.failed
        mine, theirs = ("; ".join(side[:4]) + ("; ..." if len(side) > 4 else "") for side in (
            pair.only_script, pair.only_dynamo))  # fmt: skip
        lines.append(f"| {pair.architecture} | {mine} | {theirs} | {why} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
