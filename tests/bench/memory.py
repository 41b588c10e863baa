"""Peak memory of `tidy` and `prune` on a model of 3 GB whose weights lie in an external file.

Run `python tests/bench/memory.py [--gigabytes 3.2] [--width 8192] [--folder DIR] [--write]`. The model is a stack of
square matrix products and rectifiers with random weights, written a tensor at a time and removed at the end; the folder
needs three times its size. Every command runs in a process of its own, whose memory is read every few milliseconds from
outside. Two figures are given: all that is resident, and the anonymous part of it. The rest are pages of files mapped
into memory, which the system takes back whenever it needs them. Bars: nothing to rewrite, 1.3 times the largest tensor
plus 500 MB; else 1.5 times the model.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.append(str(Path(__file__).resolve().parents[2]))

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.bench.common import Stages, clean_when_stopped, facts, kept, say, table, tell
from tests.bench.stages import COMMAND, PRUNE

INTERVAL = 0.004
MB = 1e6


@dataclass
class Peaks:
    """The highest figures of one process, bytes: resident, anonymous, mapped from files; and by stage."""

    resident: float = 0.0
    anonymous: float = 0.0
    mapped: float = 0.0
    stages: dict[str, tuple[float, float]] = field(default_factory=dict)
    seconds: float = 0.0


def main() -> int:
    """Measure and print; a child process of this script runs one command."""
    if len(sys.argv) > 1 and sys.argv[1] == "--child":
        return _child(Path(sys.argv[2]), sys.argv[3:])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=3.2)
    parser.add_argument(
        "--width", type=int, default=8192, help="one weight has width * width numbers (default 8192)"
    )
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--only", nargs="+", default=["tidy", "prune"], choices=["tidy", "prune"])
    parser.add_argument("--stages", action="store_true", help="print the peak of every stage too")
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    parser.add_argument("--verify", nargs="+", default=["off", "structure", "full"])
    options = parser.parse_args()
    clean_when_stopped()
    say(facts())
    largest = 4.0 * options.width**2
    layers = max(2, round(options.gigabytes * 1e9 / largest))
    needed, free = 3.2 * layers * largest, shutil.disk_usage(options.folder).free
    if free < needed:
        print(
            f"memory.py: {options.folder} has {free / 1e9:.1f} GB free; {needed / 1e9:.1f} GB are needed",
            file=sys.stderr,
        )
        return 2
    with (
        kept("Peak memory on a model of 3 GB", options.write),
        tempfile.TemporaryDirectory(prefix="graphrewrite-bench-", dir=options.folder) as scratch,
    ):
        path, out = Path(scratch) / "model.onnx", Path(scratch) / "out.onnx"
        tell(f"writing {layers} matrices of {largest / MB:.0f} MB")
        write_stack(path, layers, options.width)
        size = layers * largest
        say(
            f"model: {layers} x (MatMul {options.width} x {options.width}, Relu), {size / 1e9:.2f} GB of weights"
        )
        rows, more = [], []
        small, large = 1.3 * largest + 500 * MB, 1.5 * size
        plan = [(["tidy", "--verify", level], small) for level in options.verify]
        plan += [
            (["prune", "--macs", "0.5", "--threads", "1", "--verify", level], large)
            for level in options.verify
        ]
        for words, bar in plan:
            if words[0] not in options.only:
                continue
            name = " ".join(words)
            tell(name)
            peaks = watch([words[0], str(path), "-o", str(out), *words[1:]], Path(scratch))
            for left in Path(scratch).glob("out.onnx*"):
                left.unlink()
            rows.append(
                (
                    name,
                    f"{peaks.resident / MB:.0f}",
                    f"{peaks.anonymous / MB:.0f}",
                    f"{peaks.mapped / MB:.0f}",
                    f"{bar / MB:.0f}",
                    "met"
                    if peaks.resident <= bar
                    else "anonymous only"
                    if peaks.anonymous <= bar
                    else "missed",
                    f"{peaks.seconds:.0f}",
                )
            )
            more += [
                (name, stage, f"{resident / MB:.0f}", f"{anonymous / MB:.0f}")
                for stage, (resident, anonymous) in peaks.stages.items()
            ]
        say()
        say(table(("command", "resident MB", "anonymous MB", "mapped MB", "bar MB", "bar", "wall s"), rows))
        if options.stages:
            say()
            say(table(("command", "stage", "resident MB", "anonymous MB"), more, left=2))
    return 0


def write_stack(path: Path, layers: int, width: int) -> None:
    """Write the model and its data file; one matrix is in memory at a time."""
    rng = np.random.default_rng(0)
    scale = np.float32((2 / width) ** 0.5)
    nodes, weights, last = [], [], "x"
    with open(path.with_name("model.bin"), "wb") as file:
        for layer in range(layers):
            weight = TensorProto(name=f"w{layer}", data_type=TensorProto.FLOAT, dims=[width, width])
            weight.data_location = TensorProto.EXTERNAL
            for key, value in (
                ("location", "model.bin"),
                ("offset", file.tell()),
                ("length", 4 * width * width),
            ):
                weight.external_data.add(key=key, value=str(value))
            weights.append(weight)
            for _ in range(width):
                file.write((rng.standard_normal(width, dtype=np.float32) * scale).data)
            nodes.append(
                helper.make_node("MatMul", [last, f"w{layer}"], [f"m{layer}"], name=f"matmul{layer}")
            )
            nodes.append(helper.make_node("Relu", [f"m{layer}"], [f"r{layer}"], name=f"relu{layer}"))
            last = f"r{layer}"
    front = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", width]) for name in ("x", last)]
    graph = helper.make_graph(nodes, "stack", front[:1], front[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def watch(arguments: Sequence[str], scratch: Path) -> Peaks:
    """Run a command of the library in a process of its own and return its peaks.

    Raises:
        RuntimeError: the command failed.
    """
    notes, errors = scratch / "child.json", scratch / "child.txt"
    start = time.monotonic()
    with open(errors, "wb") as stream:
        child = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), "--child", str(notes), *arguments],
            stdout=subprocess.DEVNULL,
            stderr=stream,
        )
        samples = []
        try:
            while child.poll() is None:
                found = _status(child.pid)
                if found is not None:
                    samples.append((time.monotonic(), *found))
                time.sleep(INTERVAL)
        finally:
            child.kill()
    if child.returncode:
        raise RuntimeError(
            f"{' '.join(arguments)} failed with {child.returncode}: {errors.read_text()[-2000:]}"
        )
    told = json.loads(notes.read_text())
    peaks = Peaks(seconds=time.monotonic() - start)
    for moment, anonymous, mapped in samples:
        peaks.anonymous = max(peaks.anonymous, anonymous)
        peaks.mapped = max(peaks.mapped, mapped)
        stage = _stage_at(told["track"], moment)
        if stage is None:
            continue
        old = peaks.stages.get(stage, (0.0, 0.0))
        peaks.stages[stage] = (max(old[0], anonymous + mapped), max(old[1], anonymous))
    # The kernel's own high-water mark misses nothing between two samples.
    peaks.resident = told["high_water"]
    return peaks


def _stage_at(track: Sequence[tuple[str, float, float]], moment: float) -> str | None:
    """Return the innermost stage that ran then: the shortest one around it; None before and after all of them."""
    around = [(end - start, name) for name, start, end in track if start <= moment <= end]
    return min(around)[1] if around else None


def _status(pid: int) -> tuple[float, float] | None:
    """Return the anonymous and the mapped resident bytes of a process."""
    found = _fields(Path(f"/proc/{pid}/status"))
    if "RssAnon" not in found:
        return None
    return found["RssAnon"], found.get("RssFile", 0.0) + found.get("RssShmem", 0.0)


def _fields(path: Path) -> dict[str, float]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    pairs = [line.split(":", 1) for line in lines if line.endswith(" kB")]
    return {name: 1024.0 * int(value.split()[0]) for name, value in pairs}


def _child(notes: Path, arguments: Sequence[str]) -> int:
    """Run one command with its stages on record."""
    from graphrewrite.cli import main as command

    with (
        Stages({**PRUNE, **COMMAND}) as stages,
        stages.stage("rest"),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        code = command(arguments)
    high_water = _fields(Path("/proc/self/status"))["VmHWM"]
    notes.write_text(json.dumps({"track": stages.track, "high_water": high_water}))
    return code


if __name__ == "__main__":
    sys.exit(main())
