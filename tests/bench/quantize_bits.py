"""Weights of 4, 3 and 2 bits, activations of 8: what each way to round keeps of a net, beside onnxruntime's own.

`python -m tests.bench.quantize_bits [--rounds 30] [--draws 3] [--only NAME ...] [--write]` quantises the shipped models
on 256 training images, in as many draws, and measures on the 600 test images: right answers, the same answers as in
floats, signal to noise; right answers also on these images spoilt in five ways, where nets in floats err at times.
Where draws differ the table has the mean and, in brackets, the lowest and the highest. Seconds
are CPU time to quantise, tidying and proof included. Milliseconds are of one sample, in turns, medians: what kernels
take does not hang on how weights were rounded, so each number of bits is timed once. Two bits have three levels, or
four where it says so. The last lines compare right answers on spoilt images: 95 % intervals over the 600 originals, all
draws together.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from onnxruntime.quantization import QuantType

from graphrewrite import models
from graphrewrite.data import ArraySource, load
from graphrewrite.ir import Array, Model
from graphrewrite.passes.quant import InsertQdq
from graphrewrite.passes.quant.rounders.adaround import AdaRound
from graphrewrite.passes.tidy import Tidy
from graphrewrite.pipeline import Context, Pipeline
from graphrewrite.pipeline.quality import agreement
from graphrewrite.runtime import Feeds
from tests.bench.common import kept, say, tell, timed
from tests.bench.corrupted import corrupted
from tests.bench.kernels_common import head, options_of, row, session
from tests.bench.models_common import measure, prepared, statically_int8

COLUMNS = (
    "model",
    "weights",
    "rounded",
    "right answers, %",
    "on spoilt images, %",
    "as in floats, %",
    "signal to noise, dB",
    "kB",
    "ms",
    "seconds",
)
_IMAGES, _BATCH, _DRAWS = 256, 16, 1000


class Case(NamedTuple):
    """A shipped model, its training images, test images, these spoilt, and the right answers of the test images."""

    name: str
    model: Model
    seen: dict[str, Array]
    held: Feeds
    spoilt: Feeds
    labels: Array

    def draw(self, number: int) -> ArraySource:
        """Return the images of one draw."""
        (count, *_) = {len(each) for each in self.seen.values()}
        chosen = np.random.default_rng(number).permutation(count)[:_IMAGES]
        return ArraySource({name: values[chosen] for name, values in self.seen.items()})


class Way(NamedTuple):
    """One way to round; `timed_as` names those whose files take the same time."""

    weights: str
    rounded: str
    timed_as: str
    make: Callable[[Model, ArraySource], Model]


class Scored(NamedTuple):
    """What one draw came to; `right` [images] and `spoilt` [ways, images] say of which the answer is right."""

    model: Model
    right: npt.NDArray[np.bool_]
    spoilt: npt.NDArray[np.bool_]
    same: float
    signal: float
    seconds: float


def cases(only: Sequence[str]) -> Iterator[Case]:
    """Yield the shipped models that were asked for."""
    for name in models.names():
        if only and name not in only:
            continue
        card, model = models.card(name), Model.load(models.shipped(name))
        seen = load(card.calibration.replace("calibration", "train"), model)
        test = load(card.test, model)
        assert test.labels is not None
        whole = {key: np.asarray(values) for key, values in next(seen.batches(len(seen))).items()}
        held = {key: np.asarray(values) for key, values in next(test.batches(len(test))).items()}
        spoilt = {key: corrupted(np.asarray(values, np.float32)) for key, values in held.items()}
        yield Case(name, model, whole, held, spoilt, test.labels)


def ours(step: InsertQdq, model: Model, data: ArraySource) -> Model:
    """Return a model quantised and proved."""
    return Pipeline((Tidy(), step)).run(model, Context(data=data, threads=1)).model


def rivals(weights: QuantType, model: Model, data: ArraySource) -> Model:
    """Return what onnxruntime's static quantisation makes of a model."""
    return statically_int8(prepared(model), list(data.batches(_BATCH)), weights)


def ways() -> Iterator[Way]:
    """Yield all of them, those of fewer bits later."""
    for bits, kind in ((8, QuantType.QInt8), (4, QuantType.QInt4)):
        yield Way(f"{bits} bits", "onnxruntime", f"onnxruntime, {bits}", partial(rivals, kind))
        if bits == 8:
            yield Way("8 bits", "nearest", "8", partial(ours, InsertQdq()))
    for bits, even in ((4, False), (3, False), (2, False), (2, True)):
        told = f"{bits} bits" + (", four levels" if even else "")
        plain = InsertQdq(weight_bits=bits, even_levels=even)
        for rounded, step in (
            ("nearest, biases kept", InsertQdq(weight_bits=bits, even_levels=even, correct_bias=False)),
            ("nearest", plain),
            ("adaround", InsertQdq(weight_bits=bits, even_levels=even, rounder=AdaRound())),
        ):
            yield Way(told, rounded, told, partial(ours, step))


def scores(model: Model, held: Feeds) -> Array:
    """Return the first output for all test images."""
    return np.asarray(session(model.to_proto()).run(None, dict(held))[0])


def answers(model: Model, case: Case) -> npt.NDArray[np.bool_]:
    """Return which answers on spoilt images are right, [ways, images]."""
    return scores(model, case.spoilt).argmax(axis=-1).reshape(-1, len(case.labels)) == case.labels


def scored(case: Case, way: Way, number: int, exact: Array) -> Scored:
    """Quantise by one way on one draw, and measure."""
    made, spent = timed(partial(way.make, case.model, case.draw(number)))
    given = scores(made, case.held)
    found = agreement([exact], [given])
    assert found is not None and found.same_top is not None
    right = given.argmax(axis=-1) == case.labels
    return Scored(made, right, answers(made, case), found.same_top, found.snr, spent.cpu)


def table(case: Case, draws: int, rounds: int, threads: int) -> list[str]:
    """Return the lines of one model, and those that compare ways image by image."""
    exact = scores(case.model, case.held)
    right, spoilt = exact.argmax(axis=-1) == case.labels, answers(case.model, case)
    found: dict[Way, list[Scored]] = {}
    for way in ways():
        found[way] = [scored(case, way, number, exact) for number in range(draws)]
        tell(f"{case.name}: {way.weights}, {way.rounded}")
    selves = {"float": case.model, **{way.timed_as: each[0].model for way, each in found.items()}}
    took = measure(selves, rounds, threads)
    size = len(case.model.to_proto().SerializeToString()) / 1000
    lines = [
        row(
            [
                case.name,
                "float",
                "",
                f"{100 * right.mean():.2f}",
                f"{100 * spoilt.mean():.2f}",
                "",
                "",
                f"{size:.0f}",
                f"{took['float'].wall * 1e3:.3f}",
                "",
            ]
        )
    ]
    for way, each in found.items():
        cells = [
            _told([100 * one.right.mean() for one in each], 2),
            _told([100 * one.spoilt.mean() for one in each], 2),
            _told([100 * one.same for one in each], 2),
            _told([one.signal for one in each], 1),
            f"{len(each[0].model.to_proto().SerializeToString()) / 1000:.0f}",
            f"{took[way.timed_as].wall * 1e3:.3f}",
            f"{np.mean([one.seconds for one in each]):.1f}",
        ]
        lines.append(row([case.name, way.weights, way.rounded, *cells]))
    return lines + ["", *_compared(case, found, spoilt)]


def _compared(case: Case, found: dict[Way, list[Scored]], exact: npt.NDArray[np.bool_]) -> Iterator[str]:
    by_name = {
        (way.weights, way.rounded): np.stack([one.spoilt for one in each]) for way, each in found.items()
    }
    floats = np.stack([exact] * len(next(iter(by_name.values()))))
    own = by_name["4 bits", "adaround"]
    pairs = {
        "4 bits: adaround less onnxruntime": (own, by_name["4 bits", "onnxruntime"]),
        "4 bits: adaround less nearest": (own, by_name["4 bits", "nearest"]),
        "4 bits: adaround less floats": (own, floats),
        "2 bits: adaround less floats": (by_name["2 bits", "adaround"], floats),
        "2 bits, four levels: adaround less floats": (by_name["2 bits, four levels", "adaround"], floats),
    }
    for name, (one, other) in pairs.items():
        apart = 100 * (one.astype(float) - other).mean(axis=(0, 1))  # [images]
        chosen = np.random.default_rng(0).integers(0, len(apart), (_DRAWS, len(apart)))
        low, high = np.percentile(apart[chosen].mean(axis=1), [2.5, 97.5])
        yield f"- {case.name}, {name}: {apart.mean():+.2f} points [{low:+.2f}, {high:+.2f}]"


def _told(values: Sequence[float], digits: int) -> str:
    text = f"{np.mean(values):.{digits}f}"
    if max(values) - min(values) < 0.5 * 10**-digits:
        return text
    return f"{text} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


def main() -> None:
    """Print the table."""
    logging.disable(logging.WARNING)  # the quantiser says something about every node
    parser = options_of(__doc__, rounds=30)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--write", action="store_true", help="put the table into tests/bench/RESULTS.md")
    chosen = parser.parse_args()
    for case in cases(chosen.only):
        with kept(f"Few bits: {case.name}", chosen.write):
            say("\n".join([*head(COLUMNS), *table(case, chosen.draws, chosen.rounds, chosen.threads)]))


if __name__ == "__main__":
    main()
