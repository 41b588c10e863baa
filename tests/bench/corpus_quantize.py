"""Every way of `graphrewrite quantize` over models of the corpus, or files of one's own, and what became of them.

Run `python -m tests.bench.corpus_quantize [--ways static dynamic ...] [--most 250] [--only 'resnet*'] [--files A.onnx]
[--rival]`. Per model and way: nothing fails, the result passes onnx.checker and loads, has the operator set, inputs and
outputs it had, gives finite outputs near the float model's, runs at another batch size where the model does, is no
larger, and every layer that stays in floats has its reason. `--rival` says how near onnxruntime's own tool stays, which
is asked anyway where ours is far: nets with random weights may be far from themselves. Models come smallest first, one
of each architecture and exporter. Runs are kept in build/bench/; `--again` repeats what was not fine, `--fresh` all.
"""

import argparse
import fnmatch
import json
import logging
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, cast

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort

from graphrewrite.cli.parser import parse
from graphrewrite.cli.quantizing import methods
from graphrewrite.data.source import Arrays
from graphrewrite.errors import GraphRewriteError
from graphrewrite.ir import Array, Model
from graphrewrite.match.view import is_default_domain
from graphrewrite.passes.quant.plan import name_of
from graphrewrite.pipeline import Context
from graphrewrite.pipeline.base import Json
from graphrewrite.runtime import Feeds, sample_inputs, session
from tests.bench.common import RESULTS, apart, clean_when_stopped, facts, say, table, tell
from tests.bench.models_common import dynamically_int8, prepared, statically_int8
from tests.corpus.index import Entry, entries

LIMIT_SECONDS = 150
WAYS = {  # most of these models are so small that times would leave them in floats
    "default": "",
    "static": "--times none",
    "few": "--times none --bits 4 --even-levels --store 4 --calibrate mse",
    "all": "--times none --attention --equalize --smooth --bits 7 --activations int8",
    "wide": "--times none --per-tensor --activations uint16 --calibrate entropy",
    "mixed": "--times none --mixed 0.03 --bits 4",
    "learned": "--times none --bits 3 --round adaround",
    "dynamic": "--method dynamic --cells",
    "convolutions": "--method dynamic --convolutions --per-tensor",
    "weight_only": "--method weight_only",
    "nbits": "--method weight_only --form matmul_nbits --bits 8 --asymmetric",
    "dequantize": "--method weight_only --form dequantize --bits 8 --block 0",
    "float8": "--method float8",
}
NEAR = {"few": 3.0, "learned": 2.0, "weight_only": 10.0, "mixed": 12.0}  # dB at least; 15 of others
RIVALS = {"static": statically_int8, "dynamic": dynamically_int8}
_SMALL = 100_000  # bytes of a file in which nodes may weigh more than what was saved on weights
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
FINE, FAR, FAILED, REFUSED = "fine", "far", "failed", "refused"


class Case(NamedTuple):
    """A model's file with inputs for it by batch size and seed; `sizes` are batch sizes that it takes."""

    name: str
    kind: str
    path: Path
    entry: Entry | None
    sizes: tuple[int, ...]

    def sample(self, model: Model, batch: int, seed: int) -> Feeds:
        """Return random inputs."""
        if self.entry is not None:
            return self.entry.sample(batch, seed)
        return sample_inputs(model, seed, batch - 1)  # its worlds differ in all sizes


class Batches(NamedTuple):
    """Batches as they are, whatever size is asked for; nobody knows labels."""

    given: Sequence[Feeds]

    def batches(self, size: int, seed: int = 0) -> Iterator[Arrays]:
        """Yield the batches."""
        yield from self.given

    def __len__(self) -> int:
        return len(self.given)

    @property
    def labels(self) -> None:
        """None."""
        return None


@dataclass(frozen=True)
class Row:
    """How one way went on one model; signals in dB, None where there was none to look at."""

    model: str
    kind: str
    way: str
    end: str
    why: str = ""
    signal: float | None = None
    rival: float | None = None
    size: float = 0.0
    rounded: int = 0
    layers: int = 0
    seconds: float = 0.0


def quantised(case: Case, way: str, rival: bool) -> Row:
    """Quantise a model and look at the result."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    ort.set_default_logger_severity(3)
    before = Model.load(case.path)
    size = max(case.sizes)
    seen = [case.sample(before, size, seed) for seed in range(3)]
    _, options = parse(["quantize", "in.onnx", "-o", "out.onnx", *WAYS[way].split()])
    started = time.monotonic()
    context = Context(data=Batches(seen), threads=1)
    result = methods.make(options.method).pipeline(options).run(before, context)
    spent = time.monotonic() - started
    after = result.model
    steps = result.report.steps
    left = {note.subject for note in result.notes if note.kind == "skipped"}
    told = [cast("list[Mapping[str, Json]]", step.details.get("layers", [])) for step in steps]
    rows: dict[str, Mapping[str, Json]] = {}
    for row in (row for each in told for row in each):
        if str(row["name"]) not in rows or not row["left"]:
            rows[str(row["name"])] = row
    left |= {name for name, row in rows.items() if row["left"]}
    held = {batch: [case.sample(before, batch, 100 + seed) for seed in range(2)] for batch in case.sizes}
    faults = [*_formal(before, after), *_silent(after, left)]
    signals = [_signal(*_both(before, after, feeds)) for feeds in held.values()]
    signal = signals[-1]
    near = NEAR.get(way, 15.0)
    other = None
    far = any(each is not None and each < near for each in signals)
    if way in RIVALS and signal is not None and (rival or far):
        other = _rival(before, way, seen, held[case.sizes[-1]])
    if any(each is not None and np.isnan(each) for each in signals):
        faults.append("outputs are not finite where they were")
    share = len(after.to_proto().SerializeToString()) / len(before.to_proto().SerializeToString())
    if share > 1.01 and before.to_proto().ByteSize() > _SMALL:
        faults.append(f"the file is {share:.3f} times as large")
    end = (
        FAILED
        if faults
        else FAR
        if far and (other is None or signal is None or signal < other - 0.3)
        else FINE
    )
    done = sum(not row["left"] for row in rows.values())
    why = "; ".join(faults) or (f"{signal:.1f} dB" if end == FAR else "")
    return Row(case.name, case.kind, way, end, why, signal, other, share, done, len(rows), spent)


def _formal(before: Model, after: Model) -> Iterator[str]:
    """Yield what is wrong with a result as a file."""
    one, two = before.to_proto(), after.to_proto()
    domains = {node.domain for node in two.graph.node}
    if domains <= {"", "ai.onnx", "ai.onnx.ml"}:
        try:
            onnx.checker.check_model(two)
        except onnx.checker.ValidationError as error:
            yield f"checker: {' '.join(str(error).split())[:200]}"
    if before.opset > after.opset:
        yield f"operator set {after.opset} after {before.opset}"
    for what in ("input", "output"):
        pairs = zip(_ports(one, what), _ports(two, what), strict=True)
        if any(a.name != b.name or a.type != b.type for a, b in pairs):
            yield f"another {what}"
    names = [node.name for node in two.graph.node if node.name]
    if len(names) != len(set(names)) and len({n.name for n in one.graph.node if n.name}) == len(
        [n.name for n in one.graph.node if n.name]
    ):
        yield "nodes share a name"


def _ports(proto: onnx.ModelProto, what: str) -> list[onnx.ValueInfoProto]:
    """Return inputs or outputs; old files list their weights among the former."""
    weights = {tensor.name for tensor in proto.graph.initializer} if proto.ir_version < 4 else set()
    return [port for port in getattr(proto.graph, what) if port.name not in weights]


def _silent(after: Model, left: set[str]) -> Iterator[str]:
    """Yield layers whose weight is still in floats and of which nothing is said."""
    if "the whole model" in left:
        return
    layers = [node for node in after.graph.nodes if node.op in _LAYERS and is_default_domain(node)]
    readers: dict[str, list[gs.Node]] = {}
    for node in layers:
        weight = node.inputs[1] if len(node.inputs) > 1 else None
        if isinstance(weight, gs.Constant) and weight.dtype == np.float32:
            readers.setdefault(weight.name, []).append(node)
    for nodes in readers.values():
        names = {name for node in nodes for name in (name_of(node), name_of(node).removesuffix(".floats"))}
        if not names & left:
            yield f"nothing is said of {name_of(nodes[0])}"


def _both(before: Model, after: Model, feeds: Sequence[Feeds]) -> tuple[list[list[Array]], list[list[Array]]]:
    found: list[list[list[Array]]] = []
    for model in (before, after):
        started = session(model, threads=1)
        found.append([_arrays(started.run(None, dict(each))) for each in feeds])
    return found[0], found[1]


def _arrays(outputs: Sequence[object]) -> list[Array]:
    flat: list[Array] = []
    for each in outputs:
        flat += (
            _arrays(each)
            if isinstance(each, list) and each and not np.isscalar(each[0])
            else [np.asarray(each)]
        )
    return flat


def _signal(wanted: Sequence[Sequence[Array]], found: Sequence[Sequence[Array]]) -> float | None:
    """Return by how many dB outputs are louder than what they moved by, every output as important as any other.

    None where no output is of floats, or none is anything but zero; NaN where one is not finite that was.
    """
    shares = []
    for exact, other in zip(zip(*wanted, strict=True), zip(*found, strict=True), strict=True):
        if exact[0].dtype.kind != "f" or any(a.shape != b.shape for a, b in zip(exact, other, strict=True)):
            continue  # the number of boxes found, say
        a, b = (np.concatenate([each.ravel() for each in many]).astype(np.float64) for many in (exact, other))
        usual = np.isfinite(a) & (np.abs(a) < 1e30)
        if not np.isfinite(b[usual]).all():
            return float("nan")
        power = float(np.square(a[usual]).sum())
        if power:
            shares.append(float(np.square(a[usual] - b[usual]).sum()) / power)
    if not shares:
        return None
    return float(-10 * np.log10(max(float(np.mean(shares)), 1e-12)))


def _rival(before: Model, way: str, seen: Sequence[Feeds], held: Sequence[Feeds]) -> float | None:
    """Return the signal of onnxruntime's own tool, None where it fails."""
    try:
        ready = prepared(before)
        theirs = statically_int8(ready, seen) if way == "static" else dynamically_int8(ready)
        return _signal(*_both(before, theirs, held))
    except Exception:  # of many kinds
        return None


def _apart(case: Case, way: str, rival: bool) -> Row:
    def work() -> Row:
        try:
            return quantised(case, way, rival)
        except GraphRewriteError as error:
            return Row(case.name, case.kind, way, REFUSED, f"{type(error).__name__}: {error}"[:600])
        except Exception as error:
            why = f"{type(error).__name__}: {' '.join(str(error).split())}"
            return Row(case.name, case.kind, way, FAILED, why[:600])

    found = apart(work, LIMIT_SECONDS)
    return Row(case.name, case.kind, way, FAILED, found) if isinstance(found, str) else found


def cases(only: Sequence[str], most: int, files: Sequence[Path]) -> list[Case]:
    """Return files, or else the smallest models of the corpus, one for each architecture and exporter."""
    if files:
        return [Case(path.stem, "file", path, None, (1, 2)) for path in files]
    found: dict[tuple[str, str, int], Case] = {}
    for entry in sorted(entries(), key=lambda each: each.path.stat().st_size):
        if any(fnmatch.fnmatch(entry.name, pattern) for pattern in only):
            sizes = (3, 4) if entry.dynamic_batch else (1,)
            case = Case(entry.name, entry.exporter, entry.path, entry, sizes)
            found.setdefault((entry.architecture, entry.exporter, entry.opset), case)
    return list(found.values())[:most]


def report(rows: Sequence[Row]) -> str:
    """Return ends by way, how we stand beside onnxruntime, and all that is not fine."""
    ends = (FINE, FAR, FAILED, REFUSED)
    body = []
    for way in dict.fromkeys(row.way for row in rows):
        own = [row for row in rows if row.way == way]
        both = [(r.signal, r.rival) for r in own if r.signal is not None and r.rival is not None]
        ahead = [a - b for a, b in both]
        lower = sum(each < -0.3 for each in ahead)
        signals = [row.signal for row in own if row.signal is not None]
        body.append(
            [way, str(len(own)), *(str(sum(r.end == end for r in own)) for end in ends),
             f"{np.median(signals):.1f}" if signals else "-",
             f"{np.median([r.size for r in own if r.size] or [1]):.2f}",
             f"{len(both)}", f"{np.median(ahead):+.1f}" if ahead else "-", str(lower)]
        )  # fmt: skip
    columns = ["way", "models", *ends, "dB", "size", "with a rival", "dB ahead", "behind by 0.3"]
    lines = [table(columns, body), ""]
    for row in sorted(rows, key=lambda row: (row.end, row.way, row.why)):
        if row.end != FINE:
            beside = "" if row.rival is None else f" (onnxruntime's {row.rival:.1f})"
            lines.append(f"- {row.way} {row.model}: {row.end}: {row.why}{beside}")
    behind = [r for r in rows if r.signal is not None and r.rival is not None and r.signal < r.rival - 0.3]
    lines += [f"- {r.way} {r.model}: {r.signal:.1f} dB, onnxruntime's {r.rival:.1f}" for r in behind]
    return "\n".join(lines)


def main() -> int:
    """Run what is missing and print the tables; 1 when something failed or is far off."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS, metavar="WAY")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN")
    parser.add_argument("--most", type=int, default=250, metavar="N")
    parser.add_argument("--every", type=int, default=1, metavar="N")
    parser.add_argument("--files", nargs="+", type=Path, default=[], metavar="FILE")
    parser.add_argument("--rival", action="store_true")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--again", action="store_true", help="repeat what was not fine")
    options = parser.parse_args()
    clean_when_stopped()
    RESULTS.mkdir(parents=True, exist_ok=True)
    journal = RESULTS / "corpus_quantize.jsonl"
    if options.fresh:
        journal.unlink(missing_ok=True)
    lines = journal.read_text("utf-8").splitlines() if journal.is_file() else []
    kept: Mapping[tuple[str, str], Row] = {
        (row.model, row.way): row for row in (Row(**json.loads(line)) for line in lines)
    }
    known = {key: row for key, row in kept.items() if not options.again or row.end == FINE}
    chosen = cases(options.only, options.most, options.files)[:: options.every]
    for number, case in enumerate(chosen, 1):
        for way in options.ways:
            if (case.name, way) not in known:
                known[case.name, way] = _apart(case, way, options.rival)
                with open(journal, "a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(known[case.name, way])) + "\n")
        if number % 50 == 0:
            tell(f"{number} of {len(chosen)}")
    rows = [known[case.name, way] for case in chosen for way in options.ways]
    say(f"{facts()}\n{dict(Counter(case.kind for case in chosen))}\n\n{report(rows)}")
    return 1 if any(row.end in (FAR, FAILED) for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
