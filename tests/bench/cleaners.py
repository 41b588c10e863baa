"""Compare the tidy family with onnxslim, onnxsim and onnxoptimizer: `python tests/bench/cleaners.py [--only PATTERN]`.

Every (tool, model) pair runs in a forked process with a time limit, so that a crash counts as a failure of that tool
on that model and nothing else. All tools get the same proto in memory and hand one back; reading the file is not
timed. What counts: nodes after (every graph of the model, `Constant` nodes left out), CPU seconds, and whether the
outputs equal the original's in onnxruntime, at two batch sizes where the batch is dynamic. Equal means: to 1e-4 of the
largest output (1e-2 with half-precision numbers), or to three times what onnxruntime itself changes by its own
optimisations of the original, where a model is so badly conditioned that this is more. A result with operators of a
domain the model did not use (com.microsoft) runs in one runtime only: it is marked * and does not set the bar.
"""

import argparse
import fnmatch
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.append(str(Path(__file__).resolve().parents[2]))

import numpy as np
import onnx

from tests.corpus.index import Entry, cache_folder, entries

OURS = "graphrewrite"
RIVALS = ("onnxslim", "onnxsim", "onnxoptimizer")
TOLERANCE = 1e-4
HALF_TOLERANCE = 1e-2
SECONDS_PER_RUN = 180


@dataclass(frozen=True)
class Row:
    """What one tool made of one model; `error` is the largest relative output error over all batches."""

    tool: str
    model: str
    nodes: int = -1
    seconds: float = 0.0
    error: float = float("nan")
    dynamic: bool = True
    failure: str = ""
    ops: dict[str, int] | None = None
    nodes_before: int = 0
    tolerance: float = TOLERANCE
    foreign: tuple[str, ...] = ()

    @property
    def correct(self) -> bool:
        """No failure, equal outputs, dynamic batch kept; operators of one runtime only are judged apart (`foreign`)."""
        return not self.failure and self.error <= self.tolerance and self.dynamic


def main() -> int:
    """Run what is asked for and print the table; 1 when we lose a model or fail one."""
    options = _options()
    chosen = [entry for entry in entries() if any(fnmatch.fnmatch(entry.name, p) for p in options.only)]
    if not chosen:
        print(
            f"no corpus model matches in {cache_folder()}; build it with tests/corpus/build.py",
            file=sys.stderr,
        )
        return 2
    known = _load(options.reuse) if options.reuse else {}
    rows: dict[tuple[str, str], Row] = {}
    for number, entry in enumerate(chosen, 1):
        for tool in options.tools:
            key = (tool, entry.name)
            reuse = tool != OURS and key in known
            rows[key] = known[key] if reuse else _run(tool, entry)
        if sys.stderr.isatty():
            print(f"\r{number}/{len(chosen)} {entry.name:60}", end="", file=sys.stderr)
        elif number % 20 == 0:
            print(f"{number}/{len(chosen)}", file=sys.stderr)
        if options.reuse and number % 20 == 0:
            _save(options.reuse, {**known, **rows})
    if options.reuse:
        _save(options.reuse, {**known, **rows})
    return _report(chosen, options.tools, rows, options.all)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Node counts, seconds and correctness of graph cleaners.")
    parser.add_argument(
        "--only", action="append", metavar="PATTERN", help="corpus names, such as 'resnet*.ts'"
    )
    parser.add_argument("--tools", default=",".join((OURS, *RIVALS)), help="comma-separated")
    parser.add_argument(
        "--reuse",
        type=Path,
        metavar="FILE",
        help="JSON of earlier rows; rivals found there are not run again",
    )
    parser.add_argument(
        "--all", action="store_true", help="print every model, not only those where a rival does better"
    )
    options = parser.parse_args()
    options.only = options.only or ["*"]
    options.tools = options.tools.split(",")
    return options


# ------------------------------------------------------------------------------------------------------------ tools


def _ours(proto: onnx.ModelProto) -> onnx.ModelProto:
    from graphrewrite import Context, Model
    from graphrewrite.passes.tidy import Tidy

    return Tidy().run(Model.from_proto(proto), Context()).model.to_proto()


def _onnxslim(proto: onnx.ModelProto) -> onnx.ModelProto:
    import onnxslim

    return onnxslim.slim(proto)


def _onnxsim(proto: onnx.ModelProto) -> onnx.ModelProto:
    import onnxsim

    return onnxsim.simplify(proto)[0]


def _onnxoptimizer(proto: onnx.ModelProto) -> onnx.ModelProto:
    import onnxoptimizer

    return onnxoptimizer.optimize(proto, fixed_point=True)


TOOLS: dict[str, Callable[[onnx.ModelProto], onnx.ModelProto]] = {
    OURS: _ours,
    "onnxslim": _onnxslim,
    "onnxsim": _onnxsim,
    "onnxoptimizer": _onnxoptimizer,
}


def _run(tool: str, entry: Entry) -> Row:
    reader, writer = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(
        target=_work, args=(tool, entry, writer), daemon=True
    )
    process.start()
    writer.close()
    row = Row(tool, entry.name, failure=f"more than {SECONDS_PER_RUN} s")
    if reader.poll(SECONDS_PER_RUN):
        try:
            row = reader.recv()
        except EOFError:
            process.join()
            row = Row(tool, entry.name, failure=f"crashed, exit code {process.exitcode}")
    process.kill()
    process.join()
    return row


def _work(tool: str, entry: Entry, writer: Connection) -> None:
    _silence()
    row = Row(tool, entry.name)
    try:
        original = onnx.load(entry.path)
        before = sum(count_nodes(original).values())
        proto = onnx.ModelProto()
        proto.CopyFrom(original)
        _warm(tool)
        start = time.process_time()
        cleaned = TOOLS[tool](proto)
        seconds = time.process_time() - start
        ops = count_nodes(cleaned)
        row = Row(tool, entry.name, sum(ops.values()), seconds, ops=dict(ops), nodes_before=before)
        row = Row(**{**asdict(row), "foreign": tuple(sorted(_domains(cleaned) - _domains(original)))})
        error = max(
            _error(original, cleaned, entry, batch) for batch in ((2, 3) if entry.dynamic_batch else (2,))
        )
        row = Row(**{**asdict(row), "error": error, "dynamic": _keeps_symbols(original, cleaned)})
        if row.error > TOLERANCE:
            row = Row(**{**asdict(row), "tolerance": _tolerance(original, entry)})
    except Exception as problem:
        row = Row(**{**asdict(row), "failure": f"{type(problem).__name__}: {problem}"[:200]})
    writer.send(row)


def _warm(tool: str) -> None:
    """Import the tool and let it load its libraries, on a graph of one node."""
    x = onnx.helper.make_tensor_value_info("x", 1, [1])
    y = onnx.helper.make_tensor_value_info("y", 1, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    TOOLS[tool](onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8))


def _silence() -> None:
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)


# ----------------------------------------------------------------------------------------------------------- checks


def count_nodes(proto: onnx.ModelProto) -> Counter[str]:
    """Op type -> nodes, bodies of If, Loop and Scan included, Constant nodes left out."""
    found: Counter[str] = Counter()
    stack = [proto.graph]
    while stack:
        for node in stack.pop().node:
            if node.op_type != "Constant":
                found[node.op_type] += 1
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    stack.append(attribute.g)
                stack.extend(attribute.graphs)
    return found


def _tolerance(original: onnx.ModelProto, entry: Entry) -> float:
    half = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    if any(tensor.data_type in half for tensor in original.graph.initializer):
        return HALF_TOLERANCE
    feeds = entry.sample(2)
    return max(TOLERANCE, 3 * _distance(_outputs(original, feeds, plain=True), _outputs(original, feeds)))


def _domains(proto: onnx.ModelProto) -> set[str]:
    return {node.domain for node in proto.graph.node} - {"", "ai.onnx"}


def _error(original: onnx.ModelProto, cleaned: onnx.ModelProto, entry: Entry, batch: int) -> float:
    feeds = entry.sample(batch)
    return _distance(_outputs(original, feeds), _outputs(cleaned, feeds))


def _distance(expected: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> float:
    if len(expected) != len(found):
        return float("inf")
    worst = 0.0
    for name, a in expected.items():
        b = found.get(name)
        if b is None or a.shape != b.shape or a.dtype != b.dtype:
            return float("inf")
        if a.size == 0:
            continue
        if not np.array_equal(np.isfinite(a), np.isfinite(b)):
            return float("inf")
        a, b = np.nan_to_num(a.astype(np.float64)), np.nan_to_num(b.astype(np.float64))
        worst = max(worst, float(np.abs(a - b).max() / max(float(np.abs(a).max()), 1e-12)))
    return worst


def _outputs(
    proto: onnx.ModelProto, feeds: dict[str, np.ndarray], plain: bool = False
) -> dict[str, np.ndarray]:
    import onnxruntime as ort

    settings = ort.SessionOptions()
    if plain:
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 4
    session = ort.InferenceSession(proto.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    wanted = {tensor.name for tensor in session.get_inputs()}
    names = [tensor.name for tensor in session.get_outputs()]
    values = session.run(names, {name: value for name, value in feeds.items() if name in wanted})
    return dict(zip(names, values, strict=True))


def _keeps_symbols(original: onnx.ModelProto, cleaned: onnx.ModelProto) -> bool:
    """Every symbolic dimension of a graph input is still symbolic."""

    def symbolic(proto: onnx.ModelProto) -> dict[str, list[bool]]:
        return {
            tensor.name: [not dim.HasField("dim_value") for dim in tensor.type.tensor_type.shape.dim]
            for tensor in proto.graph.input
        }

    after = symbolic(cleaned)
    return all(after.get(name) == dims for name, dims in symbolic(original).items() if any(dims))


# ----------------------------------------------------------------------------------------------------------- report


def _report(chosen: list[Entry], tools: list[str], rows: dict[tuple[str, str], Row], everything: bool) -> int:
    lost, failed = 0, 0
    print(
        f"{'model':44}{'before':>7}"
        + "".join(f"{tool:>15}" for tool in tools)
        + "   what the best rival has less of"
    )
    for entry in chosen:
        line = {tool: rows[tool, entry.name] for tool in tools}
        rivals = [row for tool, row in line.items() if tool != OURS and row.correct and not row.foreign]
        best = min(rivals, key=lambda row: row.nodes, default=None)
        mine = line.get(OURS)
        worse = mine is not None and best is not None and mine.nodes > best.nodes
        broken = mine is not None and not mine.correct
        lost, failed = lost + worse, failed + broken
        if not (worse or broken or everything):
            continue
        cells = "".join(f"{_cell(line[tool]):>15}" for tool in tools)
        before = max(row.nodes_before for row in line.values())
        remark = (
            mine.failure if mine is not None and mine.failure else _difference(mine, best) if worse else ""
        )
        print(f"{entry.name:44}{before:7d}{cells}   {remark}")
    print()
    for tool in tools:
        mine_rows = [rows[tool, entry.name] for entry in chosen]
        right = [row for row in mine_rows if row.correct]
        seconds = sorted(row.seconds for row in mine_rows if row.nodes >= 0)
        print(
            f"{tool:14} correct {len(right)}/{len(chosen)}  failures {sum(bool(row.failure) for row in mine_rows)}  "
            f"wrong {sum(not row.failure and not row.error <= row.tolerance for row in mine_rows)}  "
            f"batch lost {sum(not row.dynamic for row in mine_rows)}  "
            f"tied to one runtime {sum(bool(row.foreign) for row in mine_rows)}  "
            f"CPU seconds total {sum(seconds):.1f} median {seconds[len(seconds) // 2] if seconds else 0:.3f}"
        )
    common = [entry.name for entry in chosen if all(rows[tool, entry.name].nodes >= 0 for tool in tools)]
    totals = "  ".join(f"{tool} {sum(rows[tool, name].nodes for name in common)}" for tool in tools)
    before = sum(max(rows[tool, name].nodes_before for tool in tools) for name in common)
    print(f"nodes on the {len(common)} models that all tools could write: before {before}  {totals}")
    if OURS in tools:
        print(
            f"models where a correct rival has fewer nodes than {OURS}: {lost}; where {OURS} is not correct: {failed}"
        )
    return 1 if lost or failed else 0


def _cell(row: Row) -> str:
    if row.failure:
        return "fails"
    mark = ("" if row.correct else "!wrong" if row.dynamic else "!static") + ("*" if row.foreign else "")
    return f"{row.nodes}{mark}"


def _difference(mine: Row | None, best: Row | None) -> str:
    if mine is None or best is None:
        return ""
    a, b = Counter(mine.ops or {}), Counter(best.ops or {})
    parts = [f"{op} {a[op] - b[op]:+d}" for op in sorted(set(a) | set(b)) if a[op] != b[op]]
    return f"{best.tool}: " + " ".join(parts)


def _load(path: Path) -> dict[tuple[str, str], Row]:
    if not path.is_file():
        return {}
    return {(record["tool"], record["model"]): Row(**record) for record in json.loads(path.read_text())}


def _save(path: Path, rows: dict[tuple[str, str], Row]) -> None:
    path.write_text(json.dumps([asdict(row) for row in rows.values()]))


if __name__ == "__main__":
    sys.exit(main())
