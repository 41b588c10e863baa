"""What every bench needs: facts of the machine, clocks, the split of a run into stages, tables of text.

Numbers of a shared machine wander, so benches report CPU seconds, and ratios of things measured in turns.
"""

import contextlib
import functools
import importlib
import io
import math
import multiprocessing
import os
import platform
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any, TypeVar, cast

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "build" / "bench"

T = TypeVar("T")


@dataclass(frozen=True)
class Spent:
    """Seconds of one measurement."""

    wall: float
    cpu: float


def timed(run: Callable[[], T]) -> tuple[T, Spent]:
    """Return what a function returns, and what it took; the CPU seconds are those of all threads."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = run()
    return result, Spent(time.perf_counter() - wall, time.process_time() - cpu)


def middle(values: Sequence[Spent]) -> Spent:
    """Return the median wall and the median CPU seconds."""
    return Spent(median(v.wall for v in values), median(v.cpu for v in values))


class Stages:
    """Splits a run into stages by timing public functions; every moment belongs to the innermost stage only.

    `places` names the functions of each stage as "module:function" or "module:Class.method". A function is wrapped
    where it is looked up, so name the module that calls it when that imported it by name.

    Attributes:
        spent: CPU seconds of each stage that ran, in the order of first entry.
        wall: the same in wall seconds.
        track: (stage, start, end) on the machine-wide monotonic clock, for readers in other processes.
    """

    def __init__(self, places: Mapping[str, Sequence[str]]) -> None:
        self._places = places
        self._undo: list[Callable[[], None]] = []
        self._stack: list[str] = []
        self._mark = Spent(0.0, 0.0)
        self.spent: dict[str, float] = {}
        self.wall: dict[str, float] = {}
        self.track: list[tuple[str, float, float]] = []

    def __enter__(self) -> "Stages":
        for stage, places in self._places.items():
            for place in places:
                self._wrap(stage, place)
        return self

    def __exit__(self, *_: object) -> None:
        while self._undo:
            self._undo.pop()()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the block as part of a stage."""
        self._charge()
        self._stack.append(name)
        self.spent.setdefault(name, 0.0)
        self.wall.setdefault(name, 0.0)
        start = time.monotonic()
        try:
            yield
        finally:
            self._charge()
            self._stack.pop()
            self.track.append((name, start, time.monotonic()))

    def _charge(self) -> None:
        now = Spent(time.perf_counter(), time.process_time())
        if self._stack:
            self.wall[self._stack[-1]] += now.wall - self._mark.wall
            self.spent[self._stack[-1]] += now.cpu - self._mark.cpu
        self._mark = now

    def _wrap(self, stage: str, place: str) -> None:
        owner, name = owner_of(place)
        original = vars(owner)[name]
        plain: Any = original.__func__ if isinstance(original, (classmethod, staticmethod)) else original

        @functools.wraps(plain)
        def counted(*args: object, **kwargs: object) -> object:
            with self.stage(stage):
                return plain(*args, **kwargs)

        kind: Any = type(original) if isinstance(original, (classmethod, staticmethod)) else None
        setattr(owner, name, kind(counted) if kind else counted)
        self._undo.append(lambda: setattr(owner, name, original))


def apart(work: Callable[[], T], limit: float) -> T | str:
    """Return what a forked process of at most `limit` seconds makes, or why there is none: a crash costs no more."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)

    def child() -> None:
        theirs.send(work())

    process = context.Process(target=child)
    process.start()
    theirs.close()
    try:
        return cast(T, ours.recv()) if ours.poll(limit) else f"no result after {limit:g} s"
    except EOFError:
        process.join()
        return f"the process died, exit code {process.exitcode}"
    finally:
        process.kill()
        process.join()


def owner_of(place: str) -> tuple[object, str]:
    """Return the module or class that holds the function `place` names, and its name there.

    Raises:
        AttributeError: there is no such function; the bench must follow the code.
    """
    module, _, path = place.partition(":")
    *outer, name = path.split(".")
    owner: object = importlib.import_module(module)
    for part in outer:
        owner = getattr(owner, part)
    if name not in vars(owner):
        raise AttributeError(f"the stage at {place!r} is gone; name the function that does its work now")
    return owner, name


def exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Return the power p of the least-squares fit seconds ~ size ** p; NaN with fewer than two sizes."""
    points = [(math.log(n), math.log(s)) for n, s in zip(sizes, seconds, strict=True) if s > 0]
    if len(points) < 2:
        return math.nan
    x0, y0 = sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)
    return sum((x - x0) * (y - y0) for x, y in points) / sum((x - x0) ** 2 for x, _ in points)


def facts() -> str:
    """Return the machine and the versions on two lines."""
    names = ("onnx", "onnxruntime", "onnx-graphsurgeon", "numpy", "scipy", "protobuf")
    found = ", ".join(f"{name} {_version(name)}" for name in names)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg()) if hasattr(os, "getloadavg") else "?"
    return (
        f"{_processor()}, {os.cpu_count()} cores, {_memory()}; {platform.system()} {platform.release()}; load {load}\n"
        f"Python {platform.python_version()}, {found}"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Return aligned columns as Markdown; the first `left` columns are aligned left, the others right."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]

    def text(line: Sequence[str]) -> str:
        cells = [
            c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))
        ]
        return f"| {' | '.join(cells)} |"

    rule = [f"{'-' * (w + 1)}-" if i < left else f"{'-' * (w + 1)}:" for i, w in enumerate(widths)]
    return "\n".join([text(lines[0]), f"|{'|'.join(rule)}|", *map(text, lines[1:])])


def command() -> str:
    """Return the line that starts this bench, for whoever wants to see the numbers again."""
    return f"`{' '.join(['python', f'tests/bench/{Path(sys.argv[0]).name}', *sys.argv[1:]])}`"


@contextmanager
def kept(title: str, wanted: bool) -> Iterator[None]:
    """Print as usual what the block says; when wanted, put it into a section of RESULTS.md too."""
    text = io.StringIO()
    shown = sys.stdout

    class Both(io.TextIOBase):
        def write(self, words: str) -> int:
            shown.write(words)
            return text.write(words)

        def flush(self) -> None:
            shown.flush()

    with contextlib.redirect_stdout(Both()):
        yield
    if wanted:
        write_section(title, f"{command()}; {facts()}\n\n{text.getvalue()}")


def write_section(title: str, text: str, path: Path | None = None) -> None:
    """Replace or add one section ("## title") of a page, RESULTS.md by default, leaving the others as they are."""
    path = path or Path(__file__).with_name("RESULTS.md")
    old = path.read_text(encoding="utf-8") if path.is_file() else "# Measured\n"
    parts = re.split(r"^(?=## )", old, flags=re.MULTILINE)
    head, sections = parts[0].rstrip(), {p.split("\n", 1)[0][3:].strip(): p.rstrip() for p in parts[1:]}
    sections[title] = f"## {title}\n\n{text.rstrip()}"
    path.write_text("\n\n".join([head, *sections.values()]) + "\n", encoding="utf-8")


def clean_when_stopped() -> None:
    """Leave through the usual doors when the process is told to end, so that temporary folders are removed."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def say(text: str = "") -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)


def tell(text: str) -> None:
    """Print progress on stderr."""
    print(text, file=sys.stderr, flush=True)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "-"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (ValueError, OSError, AttributeError):
        return "memory unknown"
