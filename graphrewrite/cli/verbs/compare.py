"""`graphrewrite compare`: do two models compute the same, and if not, from which tensor on?"""

import math
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import numpy as np

from graphrewrite.cli.describe import as_json
from graphrewrite.cli.loading import load
from graphrewrite.cli.parser import add_data, add_seed, add_threads, tolerance, whole
from graphrewrite.cli.screen import Screen
from graphrewrite.cli.verbs import verbs
from graphrewrite.errors import InvalidModel, UnsupportedOp
from graphrewrite.ir import Array, Model
from graphrewrite.pipeline.quality import agreement, batches, samples_in
from graphrewrite.report import text
from graphrewrite.runtime import Feeds

_RTOL = 1e-4


@dataclass(frozen=True)
class OutputFacts:
    """One output of both models: `error` is relative and decides; cosine and signal-to-noise are for reading.

    The shapes are those of the first run, None where a model lacks the output; figures are None where there is nothing
    to compute.
    """

    name: str
    shape_a: tuple[int, ...] | None
    shape_b: tuple[int, ...] | None
    error: float | None
    largest_gap: float | None
    cosine: float | None
    snr: float | None
    equal: bool


@dataclass(frozen=True)
class FirstFacts:
    """The first tensor, in the order of the first model, that differs; `matched` before it agree."""

    tensor: str
    producer: str
    error: float
    matched: int
    detail: str


@dataclass(frozen=True)
class ComparisonFacts:
    """The verdict and what it rests on; `reasons` are differences that no figure can show."""

    a: str
    b: str
    equal: bool
    rtol: float
    samples: str
    runs: tuple[dict[str, tuple[int, ...]], ...]
    outputs: tuple[OutputFacts, ...]
    first_difference: FirstFacts | None
    reasons: tuple[str, ...]


@verbs.register("compare")
class Compare:
    """Runs two models on the same inputs and holds their outputs against each other."""

    summary: ClassVar[str] = (
        "Run two models on the same inputs and say whether, and from where on, they differ."
    )
    examples: ClassVar[str] = """
        graphrewrite compare model.onnx tidied.onnx
        graphrewrite compare model.onnx other.onnx --rtol 1e-3 --data samples.npz
        graphrewrite compare model.onnx other.onnx --json | jq .first_difference.tensor
    """

    def configure(self, parser: ArgumentParser) -> None:
        """Declare the two models and what they are fed."""
        parser.add_argument("a", metavar="A", help="the reference")
        parser.add_argument("b", metavar="B", help="the model that is held against it")
        parser.add_argument(
            "--rtol",
            type=tolerance,
            metavar="R",
            help=f"allowed max |A - B| / max |A| for each output (default {_RTOL:g}, more for 16-bit floats)",
        )
        add_data(parser, "inputs to run on (default: seeded random ones, at two batch sizes)")
        parser.add_argument(
            "--samples",
            type=whole(1),
            default=64,
            metavar="N",
            help="use at most N samples of --data (default 64)",
        )
        add_seed(parser)
        add_threads(parser)

    def run(self, options: Namespace, screen: Screen) -> int:
        """Compare, print, and return 1 when the models differ."""
        a, b = load(options.a), load(options.b)
        reasons = _interfaces(a, b)
        facts = _compare(a, b, options, screen, reasons)
        _show(facts, screen)
        screen.document(as_json(facts))
        return 0 if facts.equal else 1


def _interfaces(a: Model, b: Model) -> list[str]:
    """Say in what the two differ before they are run."""
    reasons = []
    for kind, first, second in (("input", a.inputs, b.inputs), ("output", a.outputs, b.outputs)):
        old, new = {tensor.name: tensor for tensor in first}, {tensor.name: tensor for tensor in second}
        reasons += [f"B has no {kind} {name!r}" for name in old if name not in new]
        reasons += [f"A has no {kind} {name!r}" for name in new if name not in old]
        for name in old:
            if (
                name in new
                and None not in (old[name].dtype, new[name].dtype)
                and old[name].dtype != new[name].dtype
            ):
                reasons.append(f"the {kind} {name!r} is {old[name].dtype} in A and {new[name].dtype} in B")
    return reasons


def _compare(a: Model, b: Model, options: Namespace, screen: Screen, reasons: list[str]) -> ComparisonFacts:
    from graphrewrite.pipeline.bisect import first_difference
    from graphrewrite.pipeline.verify import is_random, relative_error
    from graphrewrite.pipeline.verify import tolerance as widened

    rtol = options.rtol if options.rtol is not None else widened(_RTOL, a, b)
    for name, model in ((options.a, a), (options.b, b)):
        if is_random(model):
            screen.warn(f"warning: {name} draws random numbers when it runs; two runs of it may differ")
    if {tensor.name for tensor in a.inputs} != {tensor.name for tensor in b.inputs}:
        return ComparisonFacts(options.a, options.b, False, rtol, "", (), (), None, tuple(reasons))
    feeds, samples = _feeds(a, options)
    old, new = _outputs(a, feeds, options, options.a), _outputs(b, feeds, options, options.b)
    rows = []
    for name in dict.fromkeys(key for run in (*old, *new) for key in run):
        left, right = [run[name] for run in old if name in run], [run[name] for run in new if name in run]
        if len(left) != len(right):  # an output, or an entry of a sequence, that only one of them has
            rows.append(OutputFacts(name, _shape(left), _shape(right), None, None, None, None, False))
            continue
        error = max(relative_error(x, y) for x, y in zip(left, right, strict=True))
        found = agreement(left, right)
        rows.append(
            OutputFacts(
                name,
                _shape(left),
                _shape(right),
                error,
                found.gap if found else None,
                found.cosine if found else None,
                found.snr if found else None,
                error <= rtol,
            )
        )
    equal = not reasons and all(row.equal for row in rows)
    first = None
    if not all(row.equal for row in rows):
        for feed in feeds:
            difference = first_difference(a, b, feed, rtol, threads=options.threads)
            if difference is not None:
                first = FirstFacts(
                    difference.tensor,
                    difference.producer,
                    difference.error,
                    difference.matched,
                    difference.detail,
                )
                break
    sizes = tuple({name: tuple(np.shape(array)) for name, array in feed.items()} for feed in feeds)
    return ComparisonFacts(
        options.a, options.b, equal, rtol, samples, sizes, tuple(rows), first, tuple(reasons)
    )


def _feeds(model: Model, options: Namespace) -> tuple[list[Feeds], str]:
    """Return the inputs of each run, and where they come from in words."""
    if options.data is None:
        from graphrewrite.runtime import sample_inputs

        worlds: list[Feeds] = [sample_inputs(model, seed=options.seed, world=world) for world in (0, 1)]
        shapes = [{name: np.shape(array) for name, array in feed.items()} for feed in worlds]
        return worlds[: 1 if shapes[0] == shapes[1] else 2], f"random inputs of seed {options.seed}"
    from graphrewrite.data.load import load as load_data

    source = load_data(options.data, model)
    feeds = list(_first(batches(model, source, options.seed), options.samples))
    used = sum(map(samples_in, feeds))
    return feeds, f"{used} of {text.plural(len(source), 'sample')} of {options.data}"


def _first(feeds: Iterator[Feeds], samples: int) -> Iterator[Feeds]:
    """Yield batches until there are enough samples."""
    taken = 0
    for feed in feeds:
        if taken >= samples:
            return
        yield feed
        taken += samples_in(feed)


def _outputs(model: Model, feeds: Sequence[Feeds], options: Namespace, name: str) -> list[dict[str, Array]]:
    from graphrewrite.runtime import run_session, session

    try:
        started = session(model, threads=options.threads, optimize=False)
        return [run_session(started, feed) for feed in feeds]
    except (InvalidModel, UnsupportedOp) as error:
        raise type(error)(f"{name!r}: {error}") from error


def _shape(arrays: Sequence[Array]) -> tuple[int, ...] | None:
    return tuple(arrays[0].shape) if arrays else None


def _show(facts: ComparisonFacts, screen: Screen) -> None:
    if facts.outputs:
        screen.table(
            ("output", "shape in A", "shape in B", "error", "largest gap", "cosine", "signal/noise", ""),
            [
                (
                    row.name,
                    "none" if row.shape_a is None else text.shape(row.shape_a),
                    "none" if row.shape_b is None else text.shape(row.shape_b),
                    text.error(row.error),
                    text.error(row.largest_gap),
                    "" if row.cosine is None else f"{row.cosine:.6f}",
                    ""
                    if row.snr is None
                    else f"{row.snr:.1f} dB"
                    if math.isfinite(row.snr)
                    else f"{row.snr:g}",
                    "equal" if row.equal else "differs",
                )
                for row in facts.outputs
            ],
            right=("error", "largest gap", "cosine", "signal/noise"),
        )
    for reason in facts.reasons:
        screen.line(f"differs: {reason}")
    found = facts.first_difference
    if found is not None:
        screen.line(
            f"first tensor that differs: {found.tensor} (made by {found.producer}; {found.detail}; "
            f"{text.plural(found.matched, 'tensor')} before it agree)"
        )
    elif facts.outputs and not facts.equal:
        screen.line("no tensor that both models name differs before the outputs do")
    if facts.runs:
        screen.line(f"on {facts.samples}{_sizes(facts.runs)}")
    else:
        screen.line("neither was run: they do not take the same inputs")
    screen.line(f"the models {'agree' if facts.equal else 'differ'} (allowed error {facts.rtol:g})")


def _sizes(runs: Sequence[Mapping[str, Sequence[int]]]) -> str:
    shapes = "; ".join(
        ", ".join(f"{name} {text.shape(shape)}" for name, shape in run.items()) for run in islice(runs, 2)
    )
    more = ", ..." if len(runs) > 2 else ""
    return f": {shapes}{more}" if shapes else ""
