"""Every model of the corpus through the bridge: outputs beside onnxruntime's, what is trained, what comes back.

Run `python tests/bench/corpus_bridge.py [--only 'resnet*'] [--every N] [--write]`. A model is right when its outputs
equal onnxruntime's (graph not optimised) to 1e-4 of the largest; where they do not, a nudge of 1e-7 of the inputs, and
its optimised graph, tell whether the model itself is that sensitive. A model in half precision is held against
onnxruntime in single precision, where the two do not round differently, and its own outputs must be near. Writing back
without training must give the same bytes. Runs are kept in build/bench/, so an interrupted bench continues; `--fresh`
starts over, `--again` repeats what failed.
"""

import argparse
import fnmatch
import json
import os
import sys
import time
import warnings
import zlib
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.append(str(Path(__file__).resolve().parents[2]))

import numpy as np
import onnxruntime as ort
import torch

from graphrewrite.bridge import GraphModule, forms
from graphrewrite.bridge.numbers import Fed
from graphrewrite.bridge.weights import FROZEN, stored
from graphrewrite.ir import Array, Model
from graphrewrite.ir.widen import is_narrow, widen_feeds, widened
from graphrewrite.runtime import session
from tests.bench.common import RESULTS, ROOT, apart, clean_when_stopped, facts, say, table, tell
from tests.corpus.index import Entry, entries

LIMIT_SECONDS = 240
RTOL = 1e-4
HALF = 0.05  # how far layer upon layer of half precision may be from the same in single
PAGE = ROOT / "tests" / "corpus" / "BRIDGE.md"
RIGHT, SENSITIVE, WRONG, CHANGED, FAILED = "right", "sensitive", "wrong", "changed", "failed"


@dataclass(frozen=True)
class Row:
    """How one model went; `trained` is the share of its float weights that are parameters or running statistics."""

    model: str
    exporter: str
    source: str
    end: str
    why: str = ""
    error: float = 0.0
    trained: float = 0.0
    build: float = 0.0
    frozen: dict[str, int] = field(default_factory=dict)


def bridged(entry: Entry) -> Row:
    """Run one model both ways."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    model = Model.load(entry.path)
    feeds = entry.sample()
    started = time.process_time()
    module = GraphModule(model).eval()
    built = time.process_time() - started
    found = module.run(feeds)
    names = [output.name for output in model.outputs]
    plain = session(model, threads=1, optimize=False)  # its fused operators are further from the truth
    wanted = dict(zip(names, plain.run(names, feeds), strict=True))
    error, why = worst(wanted, found)
    if is_narrow(model) and error <= HALF:
        wide, wide_feeds = widened(model), widen_feeds(feeds)
        single = dict(zip(names, session(wide, threads=1).run(names, wide_feeds), strict=True))
        error, why = worst(single, GraphModule(wide).eval().run(wide_feeds))
    end = RIGHT if error <= RTOL else WRONG
    if end == WRONG and 4 * own_rounding(model, plain, feeds, wanted) >= error:
        end = SENSITIVE
    back = module.write_back()
    if back.to_proto() != model.to_proto():
        end, why = CHANGED, "writing back without training changed the model"
    roles = module.record.roles
    sizes = {key: int(np.prod(entry.shape)) for key, entry in stored(model).items()}
    kept = Counter(role.why for key, role in roles.items() if role.kind == FROZEN and sizes.get(key, 0) > 1)
    total = sum(sizes.values())
    live = sum(sizes.get(key, 0) for key, role in roles.items() if role.kind != FROZEN)
    return Row(
        entry.name,
        entry.exporter,
        entry.source,
        end,
        why,
        error,
        live / total if total else 1.0,
        built,
        dict(kept),
    )


def own_rounding(
    model: Model, plain: ort.InferenceSession, feeds: dict[str, Array], wanted: dict[str, Fed]
) -> float:
    """Return how far onnxruntime is from itself: with inputs nudged by 1e-7, and with its graph optimised."""
    names, errors = list(wanted), []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        moved = {
            name: value * (1 + 1e-7 * rng.standard_normal(value.shape)).astype(value.dtype)
            if np.issubdtype(value.dtype, np.floating)
            else value
            for name, value in feeds.items()
        }
        errors.append(worst(wanted, dict(zip(names, plain.run(names, moved), strict=True)))[0])
    fused = session(model, threads=1).run(names, feeds)
    errors.append(worst(wanted, dict(zip(names, fused, strict=True)))[0])
    return max(error for error in errors if np.isfinite(error))


def worst(wanted: dict[str, Fed], found: dict[str, Fed]) -> tuple[float, str]:
    """Return the largest difference of any output, relative to its largest number, and which output that is."""
    error, why = 0.0, ""
    for name, one in wanted.items():
        pairs = zip(one, found[name], strict=True) if isinstance(one, list) else [(one, found[name])]  # type: ignore[arg-type]
        for a, b in pairs:
            this = distance(np.asarray(a), np.asarray(b))
            if this > error:
                error, why = this, f"{name} differs by {this:.2g}"
    return error, why


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return max |a - b| / max |a|; infinite when type, shape or what is not a number differ."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return float("inf")
    if a.dtype.kind not in "fc" and a.dtype.name != "bfloat16":
        return 0.0 if np.array_equal(a, b) else float("inf")
    one, two = a.astype(np.float64), b.astype(np.float64)
    if not np.array_equal(np.isfinite(one), np.isfinite(two)):
        return float("inf")
    usual = np.isfinite(one)
    if not usual.any():
        return 0.0
    return float(np.abs(one[usual] - two[usual]).max() / max(np.abs(one[usual]).max(), 1e-30))


def _apart(entry: Entry) -> Row:
    def work() -> Row:
        try:
            return bridged(entry)
        except Exception as error:
            why = f"{type(error).__name__}: {' '.join(str(error).split())}"
            return Row(entry.name, entry.exporter, entry.source, FAILED, why[:400])

    found = apart(work, LIMIT_SECONDS)
    return Row(entry.name, entry.exporter, entry.source, FAILED, found) if isinstance(found, str) else found


def report(rows: list[Row]) -> str:
    """Return the tables: ends by exporter and by source, then every model that is not right."""
    ends = (RIGHT, SENSITIVE, WRONG, CHANGED, FAILED)
    lines = []
    for title, key in (("exporter", "exporter"), ("source", "source")):
        groups = {"all": rows}
        for row in rows:
            groups.setdefault(getattr(row, key), []).append(row)
        body = [
            [name, str(len(several)), *(str(sum(r.end == end for r in several)) for end in ends),
             f"{np.median([r.trained for r in several if r.end != FAILED] or [0]):.3f}"]
            for name, several in groups.items()
        ]  # fmt: skip
        lines.append(table([title, "files", *ends, "share trained (median)"], body))
    bad = [row for row in rows if row.end not in (RIGHT, SENSITIVE)]
    lines += [f"- {row.model}: {row.end}: {row.why}" for row in sorted(bad, key=lambda row: row.why)]
    low = [row for row in rows if row.end != FAILED and row.trained < 0.9]
    lines += [
        f"- {row.model}: {row.trained:.2f} of the float weights are trained: {row.frozen}" for row in low
    ]
    return "\n\n".join(lines[:2]) + "\n\n" + "\n".join(lines[2:])


def main() -> int:
    """Run what is missing and print the tables; 1 when a model is wrong, changed or fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN")
    parser.add_argument("--every", type=int, default=1, metavar="N")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--again", action="store_true", help="repeat what was not right")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    options = parser.parse_args()
    clean_when_stopped()
    chosen = [e for e in entries() if any(fnmatch.fnmatch(e.name, p) for p in options.only)]
    chosen.sort(key=lambda entry: zlib.crc32(entry.name.encode()))
    chosen = chosen[:: options.every]
    RESULTS.mkdir(parents=True, exist_ok=True)
    journal = RESULTS / "corpus_bridge.jsonl"
    if options.fresh:
        journal.unlink(missing_ok=True)
    kept = (
        [Row(**json.loads(line)) for line in journal.read_text("utf-8").splitlines()]
        if journal.is_file()
        else []
    )
    known = {row.model: row for row in kept if not options.again or row.end in (RIGHT, SENSITIVE)}
    forms.known()
    for number, entry in enumerate(chosen, 1):
        if entry.name not in known:
            known[entry.name] = _apart(entry)
            with open(journal, "a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(known[entry.name])) + "\n")
            if number % 50 == 0:
                tell(f"{number} of {len(chosen)}")
    rows = [known[entry.name] for entry in chosen]
    text = report(rows)
    say(f"{facts()}\n\n{text}")
    if options.write:
        PAGE.write_text(f"# The corpus through the bridge\n\n{facts()}\n\n{text}\n", encoding="utf-8")
    return 1 if any(row.end in (WRONG, CHANGED, FAILED) for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
