"""`graphrewrite sparsify`: zeros in blocks, and operators that skip them where that is faster."""

from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from collections.abc import Mapping
from typing import ClassVar, cast

from graphrewrite.cli.left import show_left
from graphrewrite.cli.method import Applied, add_told, apply, layered, recorded, show_measured
from graphrewrite.cli.parser import add_patterns, add_rewriting, positive, share, whole
from graphrewrite.cli.rewriting import Job, show_check
from graphrewrite.cli.screen import Screen
from graphrewrite.cli.verbs import verbs
from graphrewrite.cli.working import check_training_data
from graphrewrite.errors import InvalidConfig
from graphrewrite.pipeline import Pass, Pipeline
from graphrewrite.pipeline.base import Json

_COLUMNS = ("zeros", "|w| kept", "runs as", "foretold")


@verbs.register("sparsify")
class Sparsify:
    """Runs masks and the lowering of block-sparse layers over one model."""

    summary: ClassVar[str] = (
        "Set the weakest blocks of weights to zero, and skip them where that is faster on this machine."
    )
    examples: ClassVar[str] = """
        graphrewrite sparsify model.onnx -o sparse.onnx --pattern one_by_n:8 --sparsity 0.75
        graphrewrite sparsify model.onnx -o masked.onnx --pattern magnitude --sparsity 0.9 --lower never
        graphrewrite sparsify trained.onnx -o fast.onnx --sparsity 0      lower only: the zeros are there already
        graphrewrite sparsify model.onnx -o masked.onnx --pattern blocks:16x4 --lower never      before quantisation
        graphrewrite sparsify model.onnx -o fast.onnx --pattern one_by_n:4 --data train.npz --epochs 20 --rate 0.01
        graphrewrite sparsify model.onnx -o sparse.onnx --mask lottery_jackpot:30 --scope global --data train.npz
    """

    def configure(self, parser: ArgumentParser) -> None:
        """Declare MODEL, the pattern, and what becomes of the zeros."""
        from graphrewrite.passes.sparse.masks import masks

        parser.add_argument("model", metavar="MODEL", help="the ONNX file")
        add_rewriting(parser)
        what = parser.add_argument_group("zeros")
        what.add_argument(
            "--pattern",
            "--mask",
            default="one_by_n:8",
            metavar="NAME[:SIZE]",
            help=f"which weights go together: {', '.join(masks)} (default one_by_n:8); blocks:16x4, n_of_m:2:4",
        )
        what.add_argument(
            "--sparsity",
            type=share,
            default=0.75,
            metavar="F",
            help="the share of every layer's blocks that goes (default 0.75); 0 masks nothing, n_of_m needs none",
        )
        what.add_argument(
            "--scope",
            choices=("uniform", "global"),
            default="uniform",
            help="the same share of every layer (default), or one threshold of |w| over all of them",
        )
        what.add_argument(
            "--rearrange",
            action=BooleanOptionalAction,
            default=True,
            help="first bring strong filters together, which changes no output (default)",
        )
        what.add_argument("--ends", action="store_true", help="mask the first and the last layer too")
        add_patterns(what, "--skip", "leave layers and weights of these names as they are")
        what.add_argument(
            "--tidy",
            action="store_true",
            help="tidy the graph first: norms go into the layers; with --epochs after the training",
        )
        train = parser.add_argument_group("training what is left")
        train.add_argument(
            "--epochs",
            type=whole(0),
            default=0,
            metavar="N",
            help="train the weights for N epochs, zeros stay zeros; needs --data and the extra train (default 0)",
        )
        train.add_argument(
            "--rate",
            type=positive,
            default=0.01,
            metavar="R",
            help="learning rate at the start (default 0.01)",
        )
        train.add_argument(
            "--learn-from",
            choices=("labels", "targets", "teacher", "output"),
            default="labels",
            help="class labels of the samples (default), targets that are numbers, or MODEL as it was: as a teacher of "
            "classes, or its first output as numbers",
        )
        train.add_argument(
            "--workdir", metavar="FOLDER", help="states to go on from after an interruption of the training"
        )
        then = parser.add_argument_group("what becomes of them")
        then.add_argument(
            "--lower",
            choices=("faster", "always", "never"),
            default="faster",
            help="skip zero blocks where this machine is faster so (default; see calibrate), always, or never",
        )
        then.add_argument(
            "--least",
            type=share,
            default=0.5,
            metavar="F",
            help="lower layers of whose blocks at least the share F is zero (default 0.5)",
        )
        add_told(parser, train, "samples to train on, with labels where they are learned from")

    def run(self, options: Namespace, screen: Screen) -> int:
        """Mask, lower, save, measure when asked, and print what was done."""
        applied = apply(
            options,
            screen,
            _pipeline(options),
            recorded(lambda _: _asked(options), lambda job: (layered(job, _told(_found(job))),)),
        )
        found = _found(applied.job)
        _show(applied, found, screen)
        return applied.finish(options, screen, {"layers": cast(Json, found)})


def _pipeline(options: Namespace) -> Pipeline:
    from graphrewrite.passes.sparse import LowerBlockSparse, LowerQBlockSparse, MaskBlocks
    from graphrewrite.passes.sparse.learned import Learned
    from graphrewrite.passes.sparse.masks import named

    steps: list[Pass] = []
    tidy = _tidy(options)
    if not options.epochs:
        steps += tidy
    mask = named(options.pattern)
    if isinstance(mask, Learned):
        check_training_data(options)
        mask = mask.taught_by(options.learn_from)
    masks_nothing = options.sparsity == 0 and not options.pattern.startswith("n_of_m")
    if not masks_nothing:
        sparsity = 0.0 if options.pattern.startswith("n_of_m") else options.sparsity
        skip = tuple(options.skip)
        steps.append(MaskBlocks(mask, sparsity, options.rearrange, options.ends, skip, options.scope))
    if options.epochs:
        steps += [_training(options), *tidy]
    if options.lower != "never":
        steps.append(LowerBlockSparse(options.least, options.lower))
        steps.append(LowerQBlockSparse(options.least, options.lower))
    if not steps:
        raise InvalidConfig(
            "a sparsity of 0 and --lower never leave nothing to do; expected zeros to make or to use; change one"
        )
    return Pipeline(tuple(steps), verify=options.verify)


def _tidy(options: Namespace) -> list[Pass]:
    from graphrewrite.passes.tidy import Tidy

    return [Tidy()] if options.tidy else []


def _training(options: Namespace) -> Pass:
    from graphrewrite.passes.sparse.train import TrainSparse

    check_training_data(options)
    return TrainSparse(options.epochs, options.rate, options.learn_from)


def _asked(options: Namespace) -> str:
    lowered = {"faster": "lowered where faster", "always": "lowered", "never": "not lowered"}[options.lower]
    trained = f", trained for {options.epochs} epochs" if options.epochs else ""
    return f"{options.sparsity:.0%} zeros, pattern {options.pattern}{trained}, {lowered}"


def _found(job: Job) -> dict[str, Mapping[str, Mapping[str, Json]]]:
    """Return what each step says of layers: name of the step -> name of the layer -> details."""
    return {
        step.name: cast("Mapping[str, Mapping[str, Json]]", step.details.get("layers", {}))
        for step in job.result.report.steps
    }


def _show(applied: Applied, found: Mapping[str, Mapping[str, Mapping[str, Json]]], screen: Screen) -> None:
    job = applied.job
    show_measured(job, applied.measured, screen)
    told = _told(found)
    if told:
        screen.line()
        rows = [(name, *(cells[title] for title in _COLUMNS)) for name, cells in told.items()]
        shown = rows if screen.verbose else rows[:20]
        screen.table(("layer", *_COLUMNS), shown, right=[name for name in _COLUMNS if name != "runs as"])
        if len(rows) > len(shown):
            screen.line(f"and {len(rows) - len(shown)} more (--verbose lists all)")
    show_check(job, screen, [(n.subject, n.text) for n in job.result.notes if n.subject == "weights"])
    show_left(job.facts.left, screen)


def _told(found: Mapping[str, Mapping[str, Mapping[str, Json]]]) -> dict[str, dict[str, str]]:
    """Return what is said of each layer: name -> title of a column -> text."""
    masked = found.get("mask_blocks", {})
    lowered = {**found.get("lower_block_sparse", {}), **found.get("lower_q_block_sparse", {})}
    return {
        name: dict(
            zip(
                _COLUMNS,
                (
                    _percent(masked.get(name, {}).get("sparsity")),
                    _percent(masked.get(name, {}).get("kept_mass")),
                    _runs_as(lowered.get(name)),
                    _gain(lowered.get(name)),
                ),
                strict=True,
            )
        )
        for name in dict.fromkeys((*masked, *lowered))
    }


def _percent(value: Json) -> str:
    return f"{value:.1%}" if isinstance(value, float) else ""


def _runs_as(entry: Mapping[str, Json] | None) -> str:
    return f"{entry['operator']}, blocks of {entry.get('width', '16x4')}" if entry else "dense"


def _gain(entry: Mapping[str, Json] | None) -> str:
    gain = entry.get("foretold_gain") if entry else None
    return f"{gain:.1f}x" if isinstance(gain, float) else ""
