"""`graphrewrite binarize`: make convolutions binary, train them, and hand binary layers to operators for signs."""

from argparse import ArgumentParser, Namespace, _ArgumentGroup
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, cast

from graphrewrite.cli.left import show_left
from graphrewrite.cli.method import Applied, add_told, apply, layered, recorded, show_measured
from graphrewrite.cli.parser import add_patterns, add_rewriting, positive, whole
from graphrewrite.cli.rewriting import Job, show_check
from graphrewrite.cli.screen import Screen
from graphrewrite.cli.verbs import verbs
from graphrewrite.cli.working import check_training_data
from graphrewrite.errors import InvalidConfig
from graphrewrite.pipeline import Pass, Pipeline
from graphrewrite.pipeline.base import Json
from graphrewrite.report import Section


@verbs.register("binarize")
class Binarize:
    """Runs binarization, with or without training, lowering, or both over one model."""

    summary: ClassVar[str] = (
        "Make convolutions binary, ready to be trained; lower binary layers to operators that multiply signs."
    )
    examples: ClassVar[str] = """
        graphrewrite binarize model.onnx -o binary.onnx                 standard operators, to be trained
        graphrewrite binarize trained.onnx -o fast.onnx --lower-only    what is binary already, as BinaryConv
        graphrewrite binarize model.onnx -o fast.onnx --lower --skip 'stem*' --report report.html
        graphrewrite binarize model.onnx -o fast.onnx --method recu --data train.npz --epochs 60 --lower
        graphrewrite binarize model.onnx -o binary.onnx --method adam_bnn --data images/ --teacher big.onnx
    """

    def configure(self, parser: ArgumentParser) -> None:
        """Declare MODEL and what becomes binary."""
        parser.add_argument("model", metavar="MODEL", help="the ONNX file")
        add_rewriting(parser)
        what = parser.add_argument_group("what is done")
        one = what.add_mutually_exclusive_group()
        one.add_argument(
            "--lower", action="store_true", help="then turn binary layers into BinaryConv and BinaryMatMul"
        )
        one.add_argument(
            "--lower-only",
            action="store_true",
            help="make no layer binary, lower those that are: a trained net",
        )
        what.add_argument(
            "--zero-is-plus",
            action="store_true",
            help="when lowering, let the operator Sign give 1 at 0; without, it is lowered only where no sum is 0",
        )
        what.add_argument(
            "--always",
            action="store_true",
            help="when lowering, do not ask whether this machine is faster so (see calibrate)",
        )
        what.add_argument(
            "--tidy", action="store_true", help="tidy the graph first: fold computed weights into constants"
        )
        train = _add_training(parser)
        choice = parser.add_argument_group("choice of convolutions")
        choice.add_argument("--ends", action="store_true", help="the first and the last ones too")
        choice.add_argument(
            "--least-signs",
            type=whole(1),
            default=64,
            metavar="N",
            help="leave filters with fewer than N weights as they are (default 64)",
        )
        add_patterns(choice, "--skip", "leave convolutions and weights of these names as they are")
        add_told(parser, train, "samples to train on with --method, or to run the report's comparison on")

    def run(self, options: Namespace, screen: Screen) -> int:
        """Binarize, save, measure when asked, and print what was done."""
        reads = (options.teacher, options.validation, options.recipe)
        applied = apply(
            options, screen, _pipeline(options), recorded(lambda job: _asked(options, job), _sections), reads
        )
        found = {step.name: _layers(step.details) for step in applied.job.result.report.steps}
        _show(applied, found, screen)
        return applied.finish(options, screen, {"binary": cast(Json, found)})


def _add_training(parser: ArgumentParser) -> _ArgumentGroup:
    from graphrewrite.passes.binary.binarizers import binarizers

    train = parser.add_argument_group("training (with --method; needs --data and the extra train)")
    train.add_argument(
        "--method",
        choices=[*binarizers, "adam_bnn"],
        help="train signs this way instead of taking those there are (see: graphrewrite methods)",
    )
    train.add_argument(
        "--epochs",
        type=whole(1),
        metavar="N",
        help="how often every sample is seen (default 20), in each of adam_bnn's steps",
    )
    train.add_argument(
        "--rate",
        type=positive,
        metavar="R",
        help="learning rate at the start (default 0.1; 0.00125 for adam_bnn)",
    )
    train.add_argument(
        "--recipe", metavar="RECIPE.json", help="stages, losses and optimiser instead of these"
    )
    train.add_argument(
        "--teacher",
        metavar="MODEL",
        help="learn from this model's scores instead of labels; adam_bnn does, from MODEL itself if no other is named",
    )
    train.add_argument(
        "--validation", metavar="PATH", help="samples to judge epochs by, like --data; the best epoch is kept"
    )
    train.add_argument(
        "--workdir", metavar="FOLDER", help="states to go on from after an interruption of the training"
    )
    return train


def _pipeline(options: Namespace) -> Pipeline:
    from graphrewrite.passes.binary import BinarizeConv, LowerBinaryConv
    from graphrewrite.passes.tidy import Tidy

    tidy: list[Pass] = [Tidy()] if options.tidy else []
    choice = {"ends": options.ends, "least_signs": options.least_signs, "skip": tuple(options.skip)}
    steps: list[Pass] = [] if options.method else tidy
    if options.method:
        _check_training(options)
        steps.append(_training(options, choice))
    elif not options.lower_only:
        _check_training(options)
        steps.append(BinarizeConv(**choice))
    if options.lower or options.lower_only:
        steps.append(LowerBinaryConv(options.zero_is_plus, "always" if options.always else "faster"))
    # Norms that are folded away cannot be trained.
    return Pipeline((*steps, *(tidy if options.method else [])), verify=options.verify)


def _check_training(options: Namespace) -> None:
    given = [name for name in ("epochs", "rate", "recipe", "teacher", "validation") if getattr(options, name)]
    if not options.method and given:
        raise InvalidConfig(
            f"--{given[0]} is about training, and nothing is trained; expected a way to train; add --method recu, "
            f"or leave --{given[0]} out"
        )
    if options.method and options.lower_only:
        raise InvalidConfig(
            "--method makes layers binary and --lower-only makes none; expected one of them; leave the other out"
        )
    if options.method:
        check_training_data(options)
    clash = [name for name in ("epochs", "rate") if getattr(options, name)]
    if options.recipe and (clash or options.method == "adam_bnn"):
        raise InvalidConfig(
            f"--recipe says how to train, and so does {f'--{clash[0]}' if clash else 'adam_bnn'}; expected one of "
            "them; leave the other out"
        )


def _training(options: Namespace, choice: dict[str, Any]) -> Pass:
    from graphrewrite.bridge.recipe import Recipe
    from graphrewrite.passes.binary import TrainBinary
    from graphrewrite.passes.binary.binarizers import binarizers
    from graphrewrite.passes.losses.soft_labels import SoftLabels
    from graphrewrite.passes.recipes.adam_bnn import AdamBnn

    epochs = options.epochs or 20
    told = {"teacher": options.teacher or "", "validation": options.validation or "", **choice}
    if options.method == "adam_bnn":
        return AdamBnn(epochs=(epochs, epochs), **({"rate": options.rate} if options.rate else {}), **told)
    recipe = TrainBinary().recipe
    (stage,) = recipe.stages
    if options.recipe:
        recipe = Recipe.load(options.recipe)
    else:
        stage = replace(stage, epochs=epochs, rate=options.rate or stage.rate)
        stage = replace(stage, losses=(SoftLabels(1.0),)) if options.teacher else stage
        recipe = replace(recipe, stages=(stage,))
    return TrainBinary(binarizers.make(options.method), recipe, **told)


def _layers(details: Mapping[str, Json]) -> list[Mapping[str, Json]]:
    return cast("list[Mapping[str, Json]]", details.get("layers", []))


def _show(applied: Applied, found: Mapping[str, list[Mapping[str, Json]]], screen: Screen) -> None:
    job = applied.job
    show_measured(job, applied.measured, screen)
    done = [
        (note.subject, note.text)
        for note in job.result.notes
        if note.kind == "done" and "binar" in note.text + note.subject
    ]
    show_check(job, screen, done)
    rows = [
        (
            str(row["name"]),
            str(row.get("operator", "Conv")),
            ", ".join(map(str, cast("list[Json]", row.get("folded", [])))),
        )
        for step in found.values()
        for row in step
    ]
    if screen.verbose and rows:
        screen.line()
        screen.table(("layer", "operator", "folded in"), rows)
    show_left(job.facts.left, screen)


def _sections(job: Job) -> tuple[Section, ...]:
    """Return what the page says of each layer."""
    told: dict[str, dict[str, str]] = {}
    for step in job.result.report.steps:
        for row in _layers(step.details):
            folded = ", ".join(map(str, cast("list[Json]", row.get("folded", []))))
            told[str(row["name"])] = {"bits": "1", "folded in": folded}
    return (layered(job, told),)


def _asked(options: Namespace, job: Job) -> str:
    asked = "binary layers lowered" if options.lower_only else "convolutions made binary"
    if options.method:
        asked += f", trained by {options.method}"
    if options.lower:
        asked += " and lowered"
    done = [note.text for note in job.result.notes if note.kind == "done" and note.subject == "binary layers"]
    return f"{asked}: {done[-1]}" if done else asked
