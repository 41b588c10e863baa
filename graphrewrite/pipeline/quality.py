"""Accuracy and agreement of two models on the same samples, in one pass over them and without keeping outputs."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from graphrewrite.data import DataSource
from graphrewrite.data.stats import fixed_batch
from graphrewrite.ir import Array, Model
from graphrewrite.runtime import Feeds, Ports, run_session, session, take_kept

_BATCH = 32
_NORMAL_95 = 1.959964


@dataclass(frozen=True)
class Accuracy:
    """Right answers among labelled samples; `low` and `high` bound the 95 % interval of Wilson (1927)."""

    correct: int
    total: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """Right answers by samples, 0..1."""
        return self.correct / self.total


@dataclass(frozen=True)
class Agreement:
    """How one output of the smaller model compares with the original's on the same samples.

    `gap` is max |difference| and `error` that by max |original|, over values finite on both sides; `snr` is the
    signal-to-noise ratio in decibels, infinite when equal; `same_top` is the share of samples whose largest score is in
    the same place, None for outputs that are no scores.
    """

    output: str
    gap: float
    error: float
    snr: float
    cosine: float
    same_top: float | None


@dataclass(frozen=True)
class Quality:
    """How the second model compares with the first on some samples.

    `before` and `after` are None when there are no labels, or no output that scores classes; `why_not` then says which.
    """

    samples: int
    agreement: tuple[Agreement, ...]
    before: Accuracy | None
    after: Accuracy | None
    why_not: str


def quality(
    before: Model,
    after: Model,
    feeds: Iterable[Feeds],
    labels: npt.NDArray[np.generic] | None = None,
    threads: int = 0,
    ports: Ports | None = None,
) -> Quality:
    """Run both models on all batches and compare; accuracy too, when there are whole-number labels, one a sample.

    The class is the place of the largest score in the first output of shape [samples, classes]. `ports` says which
    positions the second model still takes and gives of inputs and outputs that became shorter.

    Raises:
        InvalidModel: onnxruntime cannot run one of the models.
    """
    first = session(before, threads=threads)
    return against(((feed, run_session(first, feed)) for feed in feeds), after, labels, threads, ports)


def against(
    answered: Iterable[tuple[Feeds, Feeds]],
    after: Model,
    labels: npt.NDArray[np.generic] | None = None,
    threads: int = 0,
    ports: Ports | None = None,
) -> Quality:
    """Compare a model with the outputs that another one gave: batches with them, otherwise as `quality`.

    Raises:
        InvalidModel: onnxruntime cannot run the model.
    """
    second = session(after, threads=threads)
    sums: dict[str, _Sums] = {}
    truth = _class_labels(labels)
    score = ""
    right = [0, 0]
    done = 0
    for feed, outputs in answered:
        old = take_kept(outputs, ports or {})
        new = run_session(second, take_kept(feed, ports or {}))
        size = samples_in(feed)
        for name in old:
            if name in new:
                sums.setdefault(name, _Sums()).update(old[name], new[name], size)
        if truth is not None:
            score = score or next((name for name in old if _is_scores(old[name], size)), "")
            if score:
                wanted = truth[done : done + size]
                right[0] += int((old[score].argmax(axis=1) == wanted).sum())
                right[1] += int((new[score].argmax(axis=1) == wanted).sum())
        done += size
    agreement = tuple(found for name in sums if (found := sums[name].result(name)) is not None)
    if truth is None:
        return Quality(done, agreement, None, None, "the samples have no class labels")
    if not score:
        return Quality(done, agreement, None, None, "no output has the form [samples, classes]")
    return Quality(done, agreement, accuracy(right[0], done), accuracy(right[1], done), "")


def batches(model: Model, source: DataSource, seed: int = 0, size: int = _BATCH) -> Iterator[Feeds]:
    """Yield the samples in batches that the model takes; what does not fill a fixed batch is left out."""
    fixed = fixed_batch(model)
    for feed in source.batches(fixed or size, seed):
        if fixed is None or samples_in(feed) == fixed:
            yield feed


def samples_in(feed: Feeds) -> int:
    """Return how many samples one batch holds; 1 where no input has an axis."""
    return next((int(np.shape(array)[0]) for array in feed.values() if np.ndim(array)), 1)


def accuracy(correct: int, total: int) -> Accuracy:
    """Return right answers with their 95 % interval (Wilson 1927), which stays inside 0..1 for few samples too."""
    if total < 1:
        return Accuracy(correct, total, 0.0, 1.0)
    share, square = correct / total, _NORMAL_95**2
    middle = (share + square / (2 * total)) / (1 + square / total)
    spread = (
        _NORMAL_95 / (1 + square / total) * math.sqrt(share * (1 - share) / total + square / (4 * total**2))
    )
    return Accuracy(correct, total, max(0.0, middle - spread), min(1.0, middle + spread))


def agreement(before: Sequence[Array], after: Sequence[Array], name: str = "") -> Agreement | None:
    """Compare two runs of one output; None when it holds no real numbers or has other shapes."""
    sums = _Sums()
    for old, new in zip(before, after, strict=True):
        sums.update(old, new, len(old) if np.ndim(old) else 1)
    return sums.result(name)


@dataclass
class _Sums:
    """Running sums over batches of one output, in float64."""

    signal: float = 0.0
    noise: float = 0.0
    other: float = 0.0
    product: float = 0.0
    largest: float = 0.0
    worst: float = 0.0
    count: int = 0
    is_real: bool = True
    tops: list[int] = field(default_factory=list)
    rows: int = 0

    def update(self, before: Array, after: Array, size: int) -> None:
        if before.shape != after.shape or not _is_real(before) or not _is_real(after):
            self.is_real = False
        if not self.is_real or not before.size:
            return
        a, b = before.astype(np.float64), after.astype(np.float64)
        if _is_scores(before, size):
            self.tops.append(int((a.argmax(axis=1) == b.argmax(axis=1)).sum()))
            self.rows += size
        finite = np.isfinite(a) & np.isfinite(b)
        a, b = a[finite], b[finite]
        if not a.size:
            return
        gap = b - a
        self.signal += float(np.vdot(a, a))
        self.other += float(np.vdot(b, b))
        self.noise += float(np.vdot(gap, gap))
        self.product += float(np.vdot(a, b))
        self.largest = max(self.largest, float(np.abs(a).max()))
        self.worst = max(self.worst, float(np.abs(gap).max()))
        self.count += a.size

    def result(self, name: str) -> Agreement | None:
        if not self.is_real or not self.count:
            return None
        length = math.sqrt(self.signal * self.other)
        return Agreement(
            output=name,
            gap=self.worst,
            error=self.worst / self.largest if self.largest else self.worst,
            snr=math.inf
            if not self.noise
            else 10 * math.log10(self.signal / self.noise)
            if self.signal
            else -math.inf,
            cosine=self.product / length if length else 1.0 if self.signal == self.other else 0.0,
            same_top=sum(self.tops) / self.rows if self.rows else None,
        )


def _is_real(array: Array) -> bool:
    return array.dtype.kind in "fiub" or array.dtype.name in ("bfloat16", "float16")


def _is_scores(array: Array, size: int) -> bool:
    return array.ndim == 2 and array.shape[0] == size and array.shape[1] > 1 and array.dtype.kind == "f"


def _class_labels(labels: npt.NDArray[np.generic] | None) -> npt.NDArray[np.int64] | None:
    if labels is None or np.ndim(labels) != 1 or np.asarray(labels).dtype.kind not in "iu":
        return None
    return np.asarray(labels).astype(np.int64)
