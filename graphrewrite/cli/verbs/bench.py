"""`graphrewrite bench`: how fast models run in onnxruntime, measured against each other."""

from argparse import ArgumentParser, Namespace
from dataclasses import asdict, dataclass
from typing import ClassVar, cast

from graphrewrite.cli.loading import load
from graphrewrite.cli.parser import add_data, add_seed, add_threads, positive, whole
from graphrewrite.cli.screen import Screen
from graphrewrite.cli.verbs import verbs
from graphrewrite.errors import InvalidConfig, InvalidData
from graphrewrite.ir import Model
from graphrewrite.pipeline.base import Json
from graphrewrite.pipeline.quality import batches
from graphrewrite.report import text
from graphrewrite.report.measure import single
from graphrewrite.runtime import Feeds, fits, sample_inputs


@dataclass(frozen=True)
class TimingFacts:
    """Seconds for one run of one model; `ratio` is to the first model, of runs side by side."""

    model: str
    median: float
    p95: float
    fastest: float
    ratio: float
    runs: int
    load: float
    inputs: str


@verbs.register("bench")
class Bench:
    """Times models in turns, so that a slow moment of the machine hits all of them."""

    summary: ClassVar[str] = (
        "Time models against each other in onnxruntime, in turns: medians, and the ratio to the first."
    )
    examples: ClassVar[str] = """
        graphrewrite bench model.onnx small.onnx
        graphrewrite bench model.onnx small.onnx --threads 1 --batch 8 --seconds 30
        graphrewrite bench model.onnx small.onnx --json | jq '.models[1].ratio'
    """

    def configure(self, parser: ArgumentParser) -> None:
        """Declare the models and how long to measure."""
        parser.add_argument(
            "models", metavar="MODEL", nargs="+", help="ONNX files; the first is what others are held against"
        )
        parser.add_argument(
            "--batch",
            type=whole(1),
            metavar="N",
            help="samples in one run, where the model leaves it open (default 1)",
        )
        parser.add_argument(
            "--seconds", type=positive, default=10.0, metavar="S", help="how long to measure (default 10)"
        )
        add_data(parser, "inputs to run on (default: seeded random ones)")
        add_seed(parser)
        add_threads(parser)

    def run(self, options: Namespace, screen: Screen) -> int:
        """Measure and print."""
        from graphrewrite.runtime.bench import latency

        loaded = [load(path) for path in options.models]
        feeds = _feeds(loaded, options, screen)
        pairs = list(zip(options.models, loaded, strict=True))
        found = latency(pairs, feeds, threads=options.threads, budget=options.seconds)
        rows = [
            TimingFacts(
                entry.label,
                entry.median,
                entry.p95,
                entry.fastest,
                entry.ratio,
                len(entry.seconds),
                entry.load,
                entry.inputs,
            )
            for entry in found
        ]
        screen.table(
            ("model", "median", "p95", "fastest", "ratio", "load"),
            [
                (
                    row.model,
                    text.seconds(row.median),
                    text.seconds(row.p95),
                    text.seconds(row.fastest),
                    f"{row.ratio:.3f}",
                    text.seconds(row.load),
                )
                for row in rows
            ],
            right=("median", "p95", "fastest", "ratio", "load"),
        )
        for inputs in dict.fromkeys(row.inputs for row in rows):
            screen.line(f"inputs: {inputs}")
        threads = text.plural(options.threads, "thread") if options.threads else "one thread per core"
        screen.line(f"{rows[0].runs} runs each in turns, {threads}, {found[0].runtime}, {found[0].machine}")
        screen.document(
            {
                "models": cast(Json, [asdict(row) for row in rows]),
                "threads": options.threads,
                "runtime": found[0].runtime,
                "machine": found[0].machine,
            }
        )
        return 0


def _feeds(models: list[Model], options: Namespace, screen: Screen) -> list[Feeds]:
    """Return the same inputs for all models where they fit; what a model cannot take is replaced, and that is said."""
    first = _choose(models[0], options)
    feeds: list[Feeds] = [first]
    for path, model in zip(options.models[1:], models[1:], strict=True):
        try:
            fits(model, first)
            feeds.append(first)
        except InvalidData as error:
            if options.data:
                raise
            screen.warn(f"note: {path} is run on inputs of its own: {error}")
            feeds.append(_choose(model, options))
    return feeds


def _choose(model: Model, options: Namespace) -> Feeds:
    from graphrewrite.data import load as load_data

    size = options.batch or 1
    if options.data:
        feeds = next(iter(batches(model, load_data(options.data, model), options.seed, size)), None)
        if feeds is None:
            raise InvalidData(
                f"{options.data} does not fill one batch of the model; expected more samples; give more"
            )
    else:
        feeds = sample_inputs(model, options.seed)
    chosen = single(model, feeds, size)
    if options.batch and any(len(array) != size for array in chosen.values() if array.ndim):
        raise InvalidConfig(
            f"--batch {size} does not fit: the model's batch is fixed; leave --batch out, or export it anew"
        )
    return chosen
