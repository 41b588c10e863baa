"""`graphrewrite prune`: remove channels, or whole blocks, until a budget is met."""

from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import ClassVar, cast

from graphrewrite.cli.depth import BLOCKS, remove_blocks, removed, show_blocks, wants_blocks
from graphrewrite.cli.left import show_left
from graphrewrite.cli.method import add_told, apply, layered, recorded, show_measured
from graphrewrite.cli.parser import add_patterns, add_rewriting, fraction, names, share, whole
from graphrewrite.cli.record import Measured, record
from graphrewrite.cli.rewriting import Job, show_check
from graphrewrite.cli.screen import Screen
from graphrewrite.cli.verbs import verbs
from graphrewrite.errors import InvalidConfig
from graphrewrite.pipeline import Pass, Pipeline
from graphrewrite.pipeline.base import Json
from graphrewrite.report import Layer, Record, layers, text

_ADVICE = (
    "advice: much of the accuracy comes back without training when removed channels are predicted from kept ones: "
    "--data SAMPLES --reconstruct least_squares"
)
_BUDGETS = {
    "macs": ("macs_below", "multiply-accumulates"),
    "params": ("params_below", "parameters"),
    "ratio": ("ratio", "channels of every group, rounded up"),
    "latency": ("latency_below", "latency, measured here"),
}


@verbs.register("prune")
class Prune:
    """Runs channel removal over one model."""

    summary: ClassVar[str] = (
        "Remove channels or whole blocks, with all that is coupled to them, until a budget is met; and prove it."
    )
    examples: ClassVar[str] = """
        graphrewrite prune model.onnx -o small.onnx --macs 0.5
        graphrewrite prune model.onnx -o small.onnx --macs 0.5 --data calibration.npz --reconstruct least_squares
        graphrewrite prune model.onnx -o small.onnx --params 0.3 --criterion l2 --multiple 8 --skip 'head.*' 'stem*'
        graphrewrite prune model.onnx -o small.onnx --macs 0.5 --test held_out.npz --report report.html
        graphrewrite prune model.onnx -o small.onnx --macs 0.7 --units heads,mlp
        graphrewrite prune model.onnx -o shallow.onnx --macs 0.7 --units blocks
        graphrewrite prune model.onnx -o small.onnx --ratio 0.5 --json | jq .kept
    """

    def configure(self, parser: ArgumentParser) -> None:
        """Declare MODEL, the budget, and how to choose."""
        from graphrewrite.dims.kinds import KINDS, OWN_DIMS
        from graphrewrite.passes.blocks.criteria import criteria as of_blocks
        from graphrewrite.passes.channels.criteria import criteria
        from graphrewrite.passes.channels.reconstruct import reconstructions

        parser.add_argument("model", metavar="MODEL", help="the ONNX file")
        add_rewriting(parser)
        budget = parser.add_argument_group("budget, as the fraction of the original to keep: one of")
        one = budget.add_mutually_exclusive_group(required=True)
        for name, (_, what) in _BUDGETS.items():
            one.add_argument(
                f"--{name}", type=fraction, metavar="F", help=f"keep at most F of the {what}, 0 < F <= 1"
            )
        choice = parser.add_argument_group("choice of channels")
        choice.add_argument(
            "--criterion",
            default="l2",
            metavar="NAME",
            help=f"what a channel is worth: {', '.join(criteria)} (default l2); a block: {', '.join(of_blocks)}",
        )
        choice.add_argument(
            "--multiple",
            type=whole(1),
            default=1,
            metavar="N",
            help="keep a multiple of N channels (default 1)",
        )
        choice.add_argument(
            "--scope",
            choices=("global", "uniform"),
            default="global",
            help="take channels where they cost least (default), or the same share everywhere",
        )
        choice.add_argument(
            "--floor",
            type=share,
            default=0.1,
            metavar="F",
            help="keep at least the share F of every group, or of the blocks of every stage (default 0.1)",
        )
        add_patterns(choice, "--skip", "leave tensors, nodes and groups of these names whole")
        choice.add_argument(
            "--units",
            type=names,
            default=(),
            metavar="KIND,KIND",
            help=f"remove units of these kinds only: {', '.join(KINDS)} (default all these); {OWN_DIMS} (other dims in "
            f"each head); or whole {BLOCKS}, alone",
        )
        add_patterns(
            choice, "--may-change", "let fixed lengths of these inputs and outputs shrink, such as a cache"
        )
        choice.add_argument(
            "--tidy", action="store_true", help="tidy the graph first; tensors may then have other names"
        )
        repair = parser.add_argument_group("making up for what was removed")
        repair.add_argument(
            "--absorb",
            action=BooleanOptionalAction,
            default=True,
            help="fold the constant part of removed channels into their readers' biases (default)",
        )
        repair.add_argument(
            "--reconstruct",
            metavar="NAME",
            help=f"predict removed channels from kept ones, needs --data: {', '.join(reconstructions)}",
        )
        add_told(parser, repair, "calibration samples for criteria, --absorb and --reconstruct")

    def run(self, options: Namespace, screen: Screen) -> int:
        """Prune, save, measure when asked, and print what was done."""
        applied = apply(options, screen, _pipeline(options), partial(_recorded, options))
        job, details = applied.job, _details(applied.job)
        _show(job, details, applied.measured, _asked(options), screen)
        if job.facts.changed and not options.reconstruct and "blocks" not in details:
            screen.line(_ADVICE)
        more: dict[str, Json] = {
            **details,
            "macs_before": job.facts.macs_before,
            "macs_after": job.facts.macs_after,
            "params_before": job.facts.params_before,
            "params_after": job.facts.params_after,
            "budget": {"asked": _asked(options), "kind": _kind(options), "fraction": _fraction(options)},
            "layers": cast(Json, [asdict(row) for row in _rows(job)]),
        }
        return applied.finish(options, screen, more)


def _pipeline(options: Namespace) -> Pipeline:
    from graphrewrite.passes.tidy import Tidy

    deep = wants_blocks(options)
    remove = remove_blocks(options, _kind(options), _fraction(options)) if deep else _remove_channels(options)
    steps: tuple[Pass, ...] = (Tidy(), remove) if options.tidy else (remove,)
    return Pipeline(steps, verify=options.verify)


def _remove_channels(options: Namespace) -> Pass:
    from graphrewrite.passes.channels import RemoveChannels
    from graphrewrite.passes.channels.budgets import budgets
    from graphrewrite.passes.channels.criteria import criteria
    from graphrewrite.passes.channels.reconstruct import reconstructions

    if options.reconstruct and not options.data:
        raise InvalidConfig(
            f"--reconstruct {options.reconstruct} learns from activations; expected calibration samples; "
            "give them with --data"
        )
    return RemoveChannels(
        criterion=criteria.make(options.criterion),
        budget=budgets.make(_kind(options), fraction=_fraction(options)),
        multiple=options.multiple,
        absorb=options.absorb,
        reconstruct=reconstructions.make(options.reconstruct) if options.reconstruct else None,
        skip=tuple(options.skip),
        scope=options.scope,
        floor=options.floor,
        units=options.units,
        may_change=tuple(options.may_change),
    )


def _kind(options: Namespace) -> str:
    return _BUDGETS[_flag(options)][0]


def _fraction(options: Namespace) -> float:
    return float(getattr(options, _flag(options)))


def _flag(options: Namespace) -> str:
    return next(name for name in _BUDGETS if getattr(options, name) is not None)


def _asked(options: Namespace) -> str:
    """Return the request in words."""
    if wants_blocks(options):
        what = (
            "blocks of every stage, rounded up" if _flag(options) == "ratio" else _BUDGETS[_flag(options)][1]
        )
        return f"whole blocks, at most {_fraction(options):g} of the {what}, criterion {options.criterion}"
    repair = options.reconstruct or ("absorb" if options.absorb else "no compensation")
    what = _BUDGETS[_flag(options)][1]
    return f"at most {_fraction(options):g} of the {what}, criterion {options.criterion}, {repair}"


def _details(job: Job) -> Mapping[str, Json]:
    """Return what the removal reports: kept, pinned, groups, and so on; or blocks."""
    return job.result.report.steps[-1].details


def _show(job: Job, details: Mapping[str, Json], measured: Measured, asked: str, screen: Screen) -> None:
    show_measured(job, measured, screen)
    if "blocks" in details:
        show_check(job, screen, [("asked", asked), ("removed", removed(details))])
        if screen.verbose:
            show_blocks(details, screen)
    else:
        _show_groups(job, details, asked, screen)
    show_left(job.facts.left, screen)


def _show_groups(job: Job, details: Mapping[str, Json], asked: str, screen: Screen) -> None:
    groups = cast("list[Mapping[str, Json]]", details["groups"])
    units, kept = (sum(cast(int, row[key]) for row in groups) for key in ("units", "kept"))
    lost = f"{units - kept} of {text.plural(units, 'unit')} in {text.plural(len(groups), 'group')}"
    show_check(job, screen, [("asked", asked), ("removed", lost if groups else "nothing")])
    ports = cast("Mapping[str, Json]", details["ports"])
    for note in job.result.notes:
        if note.kind == "done" and note.subject in ports:
            screen.line(f"{note.subject}: {note.text}")
    if screen.verbose and groups:
        screen.line()
        rows = [(str(row["name"]), str(row["kind"]), str(row["units"]), str(row["kept"])) for row in groups]
        screen.table(("group", "kind", "units", "kept"), rows, right=("units", "kept"))


def _rows(job: Job) -> tuple[Layer, ...]:
    """Return every layer, those that could not be cut with the reason."""
    pinned = cast(Mapping[str, Json], _details(job).get("pinned", {}))
    reasons = {str(name): str(reason) for name, reason in pinned.items()}
    return layers(job.before, job.result.model, reasons)


def _recorded(options: Namespace, job: Job, measured: Measured) -> Record:
    """Return what the page shows: layers and, of channels, their groups and scores."""
    from graphrewrite.dims.explain import explain
    from graphrewrite.ir.inline import inlined
    from graphrewrite.passes.channels.criteria import criteria
    from graphrewrite.passes.tidy import Tidy
    from graphrewrite.report.scores import Kept, scores_of

    if wants_blocks(options):
        return recorded(lambda _: _asked(options), lambda done: (layered(done),))(job, measured)
    shown = record(job, _rows(job), measured, _asked(options), {})
    start = Pipeline((Tidy(),), verify="off").run(job.before).model if options.tidy else job.before
    kept = cast(Kept, _details(job)["kept"])
    criterion = criteria.make(options.criterion)
    left = {
        str(row["name"]): cast(int, row["kept"])
        for row in cast("list[Mapping[str, Json]]", _details(job)["groups"])
    }
    return replace(
        shown,
        scores=scores_of(start, criterion, kept, job.data, options.seed, options.threads),
        groups=explain(inlined(start)),
        kept=left,
    )
