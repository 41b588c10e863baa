"""How long a layer takes on a machine, foretold from layers that were measured there.

A pass that swaps a layer for another form asks whether that is faster. Counting operations does not tell: kernels reach
a share of the machine's speed that depends on sizes and sparsity. So layers of many sizes are measured once
(`graphrewrite calibrate`) and what lies between is interpolated: the speed, in operations a second, between the nearest
points, on logarithmic scales. One thread; times are what a layer adds inside a network.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from graphrewrite.errors import InvalidConfig
from graphrewrite.ir.symbols import Dim

# Where set, the file to read and write instead of the one in the user's cache folder.
OVERRIDE = "GRAPHREWRITE_SPEEDS"
# What was measured is a chain of like layers; a network adds a little on both sides, so a narrow win counts as none.
_MARGIN = 0.9
# Where the kernels for a set are those for another one: nothing uses the matrix tiles of AMX yet.
_KERNELS_OF = {"amx": "avx512"}
_FORMAT = 1
_NEIGHBOURS = 4
# A step in density or taps changes a speed more than a step of the same size in channels or positions.
_WEIGHTS = np.array([1.0, 1.0, 1.5, 2.0])


@dataclass(frozen=True)
class Work:
    """A layer's size: `outputs` sums of `inputs` * `taps` products at each of `positions`; `density` are not zero."""

    inputs: int
    outputs: int
    positions: int
    taps: int = 1
    density: float = 1.0

    @property
    def operations(self) -> float:
        """Products that are not with zero."""
        return self.inputs * self.outputs * self.positions * self.taps * max(self.density, 1e-4)

    @property
    def features(self) -> npt.NDArray[np.float64]:
        """Where the layer lies among others: logarithms of channels, positions, taps, density."""
        channels = math.sqrt(self.inputs * self.outputs)
        values = np.array([channels, self.positions, self.taps, max(self.density, 1e-4)])
        return np.asarray(np.log2(np.maximum(values, 1e-4)) * _WEIGHTS)


def positions(sizes: Sequence[Dim], unknown: int = 1) -> int:
    """Return at how many positions a layer computes, from the sizes of its output that count them.

    Sizes that depend on the inputs count as `unknown` all together. At least 1.
    """
    known = [size for size in sizes if isinstance(size, int)]
    return max(1, math.prod(known) * (unknown if len(known) < len(sizes) else 1))


@dataclass(frozen=True)
class Point:
    """One measurement: `form` says what did the work, such as "Conv" or "BlockSparseConv/8"."""

    form: str
    work: Work
    seconds: float


@dataclass(frozen=True)
class Speeds:
    """Measured layers of one machine and instruction set; `machine` and `runtime` say where they are from."""

    isa: str
    machine: str
    runtime: str
    points: tuple[Point, ...] = field(repr=False)

    def seconds(self, form: str, work: Work) -> float | None:
        """Return how long a layer takes in a form, None where nothing of that form was measured."""
        known = self._by_form().get(form)
        if known is None:
            return None
        features, rates = known
        distance = np.sqrt(((features - work.features) ** 2).sum(axis=1))
        near = np.argsort(distance, kind="stable")[:_NEIGHBOURS]
        if distance[near[0]] < 1e-9:
            return float(work.operations / math.exp(rates[near[0]]))
        weights = 1 / distance[near] ** 2
        return float(work.operations / math.exp(float((weights * rates[near]).sum() / weights.sum())))

    def forms(self) -> list[str]:
        """Return the forms that were measured."""
        return sorted(self._by_form())

    def _by_form(self) -> Mapping[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
        return _grouped(self.points)

    def save(self, path: Path) -> None:
        """Write the file in one step.

        Raises:
            InvalidConfig: it cannot be written.
        """
        content = {
            "format": _FORMAT,
            "isa": self.isa,
            "machine": self.machine,
            "runtime": self.runtime,
            "points": [
                {"form": p.form, **asdict(p.work), "seconds": float(f"{p.seconds:.7g}")} for p in self.points
            ],
        }
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = path.with_name(f"{path.name}.part")
            beside.write_text(_a_line_each(content), encoding="utf-8")
            beside.replace(path)
        except OSError as error:
            raise InvalidConfig(
                f"the speeds cannot be written to {str(path)!r} ({error.strerror}); expected a folder one may "
                f"write to; name another file with {OVERRIDE}"
            ) from error


def _a_line_each(content: dict[str, object]) -> str:
    """Write JSON with a line for every point: short, and a difference of two files can be read."""
    points = ",\n".join(json.dumps(point) for point in cast("list[object]", content["points"]))
    head = json.dumps({key: value for key, value in content.items() if key != "points"})
    return f'{head[:-1]}, "points": [\n{points}\n]}}\n'


def gain(speeds: Speeds | None, before: tuple[str, Work], after: tuple[str, Work]) -> float | str:
    """Return how many times as fast a layer is in another form, if that is worth it; else why it is not.

    Both forms come with what they have to do; `speeds` are None where there are none for this machine.
    """
    if speeds is None:
        return "no speeds are known for this machine (measure them with: graphrewrite calibrate)"
    old, new = speeds.seconds(*before), speeds.seconds(*after)
    if old is None or new is None:
        missing = before[0] if old is None else after[0]
        return f"no speeds of {missing} are known for this machine (run: graphrewrite calibrate)"
    if old / new * _MARGIN > 1:
        return old / new
    return f"it would run {old / new:.2f} times as fast on {speeds.machine} ({speeds.isa})"


def speeds_path(isa: str) -> Path:
    """Return where the speeds of this machine are kept for an instruction set."""
    override = os.environ.get(OVERRIDE)
    if override:
        return Path(override)
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "graphrewrite" / f"speeds-{isa}.json"


def load_speeds(isa: str) -> Speeds | None:
    """Return the speeds for an instruction set: measured here, else those of the machine this release was made on.

    None where there are neither: nobody knows then what is faster.

    Raises:
        InvalidConfig: the file of this machine is damaged.
    """
    path = speeds_path(isa)
    if path.is_file():
        return read_speeds(path.read_text(encoding="utf-8"), str(path))
    shipped = resources.files("graphrewrite.cost") / "measured" / f"{_KERNELS_OF.get(isa, isa)}.json"
    return read_speeds(shipped.read_text(encoding="utf-8"), shipped.name) if shipped.is_file() else None


def read_speeds(text: str, what: str) -> Speeds:
    """Return the speeds in the text of a file that errors call `what`.

    Raises:
        InvalidConfig: there are none in it.
    """
    try:
        content = json.loads(text)
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']}")
        points = tuple(
            Point(
                entry["form"],
                Work(*(entry[k] for k in ("inputs", "outputs", "positions", "taps", "density"))),
                float(entry["seconds"]),
            )
            for entry in content["points"]
        )
        if any(not point.seconds > 0 for point in points):
            raise ValueError("a time that is not positive")
        return Speeds(content["isa"], content["machine"], content["runtime"], points)
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidConfig(
            f"{what!r} holds no speeds that can be read ({error}); expected what `graphrewrite calibrate` writes; "
            "run it again, or delete the file"
        ) from error


@cache
def _grouped(
    points: tuple[Point, ...],
) -> Mapping[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    return {
        form: (
            np.array([p.work.features for p in _of(points, form)]),
            np.array([math.log(p.work.operations / p.seconds) for p in _of(points, form)]),
        )
        for form in {point.form for point in points}
    }


def _of(points: Iterable[Point], form: str) -> list[Point]:
    return [point for point in points if point.form == form]
