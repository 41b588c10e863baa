"""What pruning a 25 M parameter ResNet-50 to half its MACs costs, against loading and running it once.

Run `python tests/bench/prune_resnet50.py [--rounds N] [--threads 1 0] [--write]`. Both sides are measured in turns in
one process with the same number of threads: onnxruntime loading the file with its optimisations and running one 224 x
224 image; and this library loading the file, removing channels, proving the cut (`verify="full"`: three models, five
images each) and saving. Imports are done before. The bar is 3 times the former plus 5 seconds. The last line is the
whole command, interpreter start included.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.append(str(Path(__file__).resolve().parents[2]))

import numpy as np
import onnxruntime as ort

from graphrewrite import cost
from graphrewrite.ir import Model
from graphrewrite.passes.channels import MacsBelow, RemoveChannels
from graphrewrite.pipeline import Context, Pipeline, PipelineResult
from tests.bench.common import Spent, Stages, clean_when_stopped, facts, kept, middle, say, table, timed
from tests.bench.networks import resnet50
from tests.bench.stages import PRUNE

SLOWER, PLUS = 3.0, 5.0


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 0], help="0 stands for one per core")
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    options = parser.parse_args()
    clean_when_stopped()
    say(facts())
    with (
        kept("Pruning ResNet-50 against loading and running it", options.write),
        tempfile.TemporaryDirectory(prefix="graphrewrite-bench-") as scratch,
    ):
        path, out = Path(scratch) / "resnet50.onnx", Path(scratch) / "half.onnx"
        drawn = resnet50()
        drawn.save(path)
        table_of = cost.of(drawn)
        say(
            f"ResNet-50: {len(drawn.nodes())} nodes, {table_of.params / 1e6:.1f} M parameters, "
            f"{table_of.per_sample('macs') / 1e9:.2f} GMAC, file {path.stat().st_size / 1e6:.0f} MB"
        )
        del drawn
        _prune(path, out, 1)  # so that nothing is imported inside a measurement
        rows, splits = [], []
        for threads in options.threads:
            base, ours, stages, result = _measure(path, out, threads, options.rounds)
            name = str(threads) if threads else f"all {os.cpu_count()}"
            for kind in ("wall", "cpu"):
                a, b = getattr(base, kind), getattr(ours, kind)
                bar = SLOWER * a + PLUS
                verdict = "met" if b <= bar else "missed"
                rows.append((name, kind, f"{a:.2f}", f"{b:.2f}", f"{b / a:.1f}", f"{bar:.2f}", verdict))
            splits.append((name, stages, result))
        say()
        head = (
            "threads",
            "seconds",
            "load + run once",
            "prune, proved",
            "ratio",
            f"{SLOWER:g}x + {PLUS:g} s",
            "bar",
        )
        say(table(head, rows, left=2))
        for name, stages, result in splits:
            _tell_split(name, stages, result)
        say()
        _tell_command(path, out)
    return 0


def _measure(path: Path, out: Path, threads: int, rounds: int) -> tuple[Spent, Spent, Stages, PipelineResult]:
    image = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
    base, ours = [], []
    for _ in range(rounds):
        base.append(timed(lambda: _load_and_run(path, image, threads))[1])
        ours.append(timed(lambda: _prune(path, out, threads))[1])
    with Stages(PRUNE) as stages, stages.stage("rest"):
        result = _prune(path, out, threads)
    return middle(base), middle(ours), stages, result


def _load_and_run(path: Path, image: np.ndarray[tuple[int, ...], np.dtype[np.float32]], threads: int) -> None:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run(None, {"image": image})


def _prune(path: Path, out: Path, threads: int) -> PipelineResult:
    pipeline = Pipeline((RemoveChannels(budget=MacsBelow(0.5)),), verify="full")
    result = pipeline.run(Model.load(path), Context(threads=threads))
    result.model.save(out)
    return result


def _tell_split(threads: str, stages: Stages, result: PipelineResult) -> None:
    report = result.report
    total = sum(stages.spent.values())
    say()
    say(
        f"threads {threads}: MACs kept {report.after.macs / report.before.macs:.3f}, "
        f"parameters kept {report.after.params / report.before.params:.3f}, proof error {report.error:.1e}"
    )
    rows = [
        (name, f"{cpu:.3f}", f"{stages.wall[name]:.3f}", f"{100 * cpu / total:.0f} %")
        for name, cpu in sorted(stages.spent.items(), key=lambda item: -item[1])
    ]
    say(table(("stage", "CPU s", "wall s", "of CPU"), rows))


def _tell_command(path: Path, out: Path) -> None:
    """Measure the command as a user types it, and the same for a bare onnxruntime script."""
    script = (
        f"import numpy as np, onnxruntime as ort; s = ort.InferenceSession({str(path)!r}); "
        "s.run(None, {'image': np.zeros((1, 3, 224, 224), np.float32)})"
    )
    plain = _child([sys.executable, "-c", script])
    whole = _child(
        [sys.executable, "-m", "graphrewrite", "prune", str(path), "-o", str(out), "--macs", "0.5"]
    )
    say(
        f"as commands: `python -c` with onnxruntime, load + run {plain.wall:.1f} s wall, {plain.cpu:.1f} s CPU; "
        f"`graphrewrite prune --macs 0.5` {whole.wall:.1f} s wall, {whole.cpu:.1f} s CPU"
    )


def _child(command: list[str]) -> Spent:
    before = os.times()
    _, spent = timed(
        lambda: subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).resolve().parent)
    )
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Spent(spent.wall, cpu)


if __name__ == "__main__":
    sys.exit(main())
