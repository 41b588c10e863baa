"""`graphrewrite factorize`: write layers with the factors of their weights."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import ClassVar, cast

from graphrewrite.cli import collaborating
from graphrewrite.cli.left import show_left
from graphrewrite.cli.method import Applied, add_told, apply, layered, recorded, show_measured
from graphrewrite.cli.parser import add_patterns, add_rewriting, fraction, whole
from graphrewrite.cli.rewriting import Job, show_check
from graphrewrite.cli.screen import Screen
from graphrewrite.cli.verbs import verbs
from graphrewrite.errors import InvalidConfig
from graphrewrite.pipeline import Pass, Pipeline
from graphrewrite.pipeline.base import Json
from graphrewrite.report import Section, text

# Options that only some methods take, with the fields they set.
_FIELDS = {
    "svd": ("rank", "energy", "params"),
    "tucker": ("params", "rounds"),
    "wavelet": ("levels", "start", "taps", "permutation", "rounds", "diagonals"),
    "hadamard": ("permutation", "rounds"),
    collaborating.METHOD: collaborating.FIELDS,
}


@verbs.register("factorize")
class FactorizeVerb:
    """Runs a factorization over one model."""

    summary: ClassVar[str] = (
        "Write layers with the factors of their weights: low rank, Tucker, or diagonals around fast transforms."
    )
    examples: ClassVar[str] = """
        graphrewrite factorize model.onnx -o small.onnx --method svd --energy 0.95
        graphrewrite factorize model.onnx -o small.onnx --method svd --rank 32 --only 'blocks.*'
        graphrewrite factorize model.onnx -o small.onnx --method collaborative --macs 0.5 --data train.npz
        graphrewrite factorize model.onnx -o start.onnx --method wavelet --levels 5      to be trained
        graphrewrite factorize trained.onnx -o fast.onnx --lower-only                    what is written out, as our ops
        graphrewrite factorize gru.onnx -o start.onnx --method wavelet --gates           gates of recurrent layers too
        graphrewrite factorize gru.onnx -o start.onnx --method wavelet --permutation random --diagonals ones \\
            --mode state                      what new states are made of, to be trained: then finetune, --lower-only
    """

    def configure(self, parser: ArgumentParser) -> None:
        """Declare MODEL, the method and its options."""
        from graphrewrite.passes.factor.factorizations import factorizations

        parser.add_argument("model", metavar="MODEL", help="the ONNX file")
        add_rewriting(parser)
        what = parser.add_argument_group("what is done")
        one = what.add_mutually_exclusive_group(required=True)
        one.add_argument(
            "--method", metavar="NAME", help=f"how: {', '.join([*factorizations, collaborating.METHOD])}"
        )
        one.add_argument(
            "--lower-only",
            action="store_true",
            help="factor nothing, put our operators where a graph writes such layers out",
        )
        what.add_argument(
            "--plain", action="store_true", help="leave wavelet and Hadamard layers in standard operators"
        )
        what.add_argument(
            "--gates",
            action="store_true",
            help="write LSTM and GRU out first, so that the products of their gates are layers too",
        )
        what.add_argument(
            "--mode",
            metavar="MODE",
            help="factor nothing but what the state is multiplied with in LSTM and GRU, for training: state, gates, "
            "full, or one gate (update, reset; input, output, forget); the products stand ahead of the loop",
        )
        what.add_argument("--tidy", action="store_true", help="tidy the graph first")
        low = parser.add_argument_group("svd: the smallest of these ranks holds")
        low.add_argument("--rank", type=whole(1), metavar="R", help="at most R")
        low.add_argument(
            "--energy", type=fraction, metavar="E", help="so many that the share E of the squares stays"
        )
        low.add_argument(
            "--params",
            type=fraction,
            metavar="F",
            help="at most the share F of a weight's numbers (default 0.5; 1 with --rank or --energy)",
        )
        fast = parser.add_argument_group("wavelet and hadamard")
        fast.add_argument("--levels", type=whole(1), metavar="N", help="levels of the wavelet (default 4)")
        fast.add_argument("--taps", type=whole(2), metavar="N", help="length of the filters (default 6)")
        fast.add_argument("--start", metavar="NAME", help="the wavelet they start as: haar (default) or db2")
        fast.add_argument(
            "--permutation",
            metavar="HOW",
            help="matched to the weight (default), or random as published",
        )
        fast.add_argument(
            "--diagonals",
            metavar="HOW",
            help="fitted to the weight (default), or ones: the published start of training (wavelet only)",
        )
        fast.add_argument(
            "--rounds",
            type=whole(0),
            metavar="N",
            help="how often diagonals are fitted (default 3; the bases of tucker 2)",
        )
        collaborating.add_options(parser)
        choice = parser.add_argument_group("choice of layers")
        choice.add_argument(
            "--smallest",
            type=whole(0),
            default=4096,
            metavar="N",
            help="leave weights with fewer than N numbers as they are (default 4096)",
        )
        add_patterns(choice, "--only", "factor only nodes of these names")
        add_patterns(choice, "--skip", "leave alone nodes of these names")
        add_told(parser)

    def run(self, options: Namespace, screen: Screen) -> int:
        """Factor, save, measure when asked, and print what was done."""
        applied = apply(
            options,
            screen,
            _pipeline(options),
            recorded(lambda _: _asked(options), lambda job: (_section(options, job),)),
        )
        if options.method == collaborating.METHOD:
            found = collaborating.rows(applied.job)
            collaborating.show(applied, found, screen)
            show_left(applied.job.facts.left, screen)
        else:
            found = _factored(applied.job)
            _show(applied, found, screen)
        return applied.finish(options, screen, {"factored": cast(Json, found)})


def _pipeline(options: Namespace) -> Pipeline:
    _check_mode(options)
    from graphrewrite.passes.factor import FactorCells, Factorize, LowerWavelet, WriteOutGates
    from graphrewrite.passes.factor.factorizations import factorizations
    from graphrewrite.passes.tidy import Tidy

    fields = _fields(options)
    steps: list[Pass] = [Tidy()] if options.tidy else []
    if options.method == collaborating.METHOD:
        return Pipeline((*steps, collaborating.step(options)), verify=options.verify)
    if options.gates:
        steps.append(WriteOutGates())
    if options.method:
        by = factorizations.make(options.method, **fields)
        if options.mode:
            steps.append(FactorCells(by, options.mode, smallest=options.smallest))
        else:
            steps.append(Factorize(by, options.smallest, tuple(options.only), tuple(options.skip)))
    is_ours = options.method not in ("svd", "tucker") and not (options.plain or options.mode)
    if options.lower_only or is_ours:
        steps.append(LowerWavelet())
    return Pipeline(tuple(steps), verify=options.verify)


def _check_mode(options: Namespace) -> None:
    """Refuse options that --mode leaves without effect."""
    if not options.mode:
        return
    given = [
        f"--{name.replace('_', '-')}"
        for name in ("lower_only", "gates", "plain", "only", "skip")
        if getattr(options, name)
    ]
    if given:
        raise InvalidConfig(
            f"--mode chooses what is factored and writes it to be trained, so {given[0]} has no effect beside it; "
            "expected one of the two; leave one out"
        )


def _fields(options: Namespace) -> dict[str, object]:
    """Return the fields of the factorization that options set; refuse options of another method."""
    taken = _FIELDS.get(options.method or "", ())
    given = {
        name: getattr(options, name)
        for name in dict.fromkeys(name for names in _FIELDS.values() for name in names)
        if getattr(options, name) is not None
    }
    for name in given:
        if name not in taken and (options.method in _FIELDS or options.lower_only):
            method = f"--method {options.method}" if options.method else "--lower-only"
            owners = " or ".join(key for key, names in _FIELDS.items() if name in names)
            raise InvalidConfig(f"--{name} is an option of {owners}, not of {method}; leave it out")
    if options.method == "svd" and "params" not in given and ("rank" in given or "energy" in given):
        given["params"] = 1.0
    return given


def _factored(job: Job) -> list[Mapping[str, Json]]:
    for step in job.result.report.steps:
        if step.name in ("factorize", "factor_cells"):
            return cast("list[Mapping[str, Json]]", step.details.get("layers", []))
    return []


def _show(applied: Applied, found: list[Mapping[str, Json]], screen: Screen) -> None:
    job = applied.job
    show_measured(job, applied.measured, screen)
    more = []
    if found:
        errors = sorted(cast(float, row["relative_error"]) for row in found)
        more.append(("factored", text.plural(len(found), "layer")))
        more.append(("weights moved", f"{errors[0]:.3g} to {errors[-1]:.3g} of their norm"))
        more.append(
            ("compared with", "the input model with each weight replaced by what its factors multiply to")
        )
    show_check(job, screen, more)
    if screen.verbose and found:
        screen.line()
        table = [
            (
                str(row["name"]),
                " x ".join(map(str, cast("list[Json]", row["shape"]))),
                str(row["parameters_before"]),
                str(row["parameters_after"]),
                f"{cast(float, row['relative_error']):.3f}",
            )
            for row in found
        ]
        heads = ("layer", "weight", "numbers", "after", "moved")
        screen.table(heads, table, right=("numbers", "after", "moved"))
    show_left(job.facts.left, screen)


def _section(options: Namespace, job: Job) -> Section:
    """Return what the page says of each layer."""
    if options.method == collaborating.METHOD:
        return layered(job, collaborating.told(job))
    return layered(
        job,
        {
            str(row["name"]): {
                "rank": str(row.get("rank", "")),
                "weights moved": f"{cast(float, row['relative_error']):.3f}",
            }
            for row in _factored(job)
        },
    )


def _asked(options: Namespace) -> str:
    return f"weights factored by {options.method}" if options.method else "written-out layers lowered"
