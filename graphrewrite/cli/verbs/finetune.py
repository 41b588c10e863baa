"""`graphrewrite finetune`: train a model's weights by a recipe, and get the very same graph back."""

import os
from argparse import ArgumentParser, Namespace
from typing import ClassVar, cast

from graphrewrite.cli.left import show_left
from graphrewrite.cli.method import Applied, add_told, apply, layered, recorded, show_measured
from graphrewrite.cli.parser import add_rewriting
from graphrewrite.cli.rewriting import Job, show_check
from graphrewrite.cli.screen import Screen
from graphrewrite.cli.verbs import verbs
from graphrewrite.cli.working import check_training_data, work_folder
from graphrewrite.errors import InvalidConfig
from graphrewrite.pipeline import Pipeline
from graphrewrite.pipeline.base import Json
from graphrewrite.report import Section

_RIGHT = ("rate", "loss", "score")


@verbs.register("finetune")
class FineTuneVerb:
    """Runs a recipe over one model."""

    summary: ClassVar[str] = (
        "Train the weights by a recipe, with labels or a teacher; the graph stays the same."
    )
    examples: ClassVar[str] = """
        graphrewrite finetune small.onnx -o better.onnx --data train.npz --recipe recipe.json
        graphrewrite finetune small.onnx -o better.onnx --data images/ --recipe recipe.json --teacher big.onnx
        echo '{"stages": [{"epochs": 3, "losses": ["soft_labels"]}]}' > recipe.json      a teacher, no labels
    """

    def configure(self, parser: ArgumentParser) -> None:
        """Declare MODEL, the recipe and whom to learn from."""
        parser.add_argument("model", metavar="MODEL", help="the ONNX file")
        add_rewriting(parser)
        what = parser.add_argument_group("training")
        what.add_argument(
            "--recipe",
            metavar="RECIPE.json",
            required=True,
            help="stages with their losses, rates and epochs, the optimiser, the batch",
        )
        what.add_argument(
            "--teacher", metavar="MODEL", help="the model that losses such as soft_labels learn from"
        )
        what.add_argument(
            "--validation",
            metavar="PATH",
            help="samples to judge epochs by, like --data; the best epoch is kept",
        )
        what.add_argument(
            "--workdir",
            metavar="FOLDER",
            help="states and a log of the epochs; the same command goes on from there after an interruption "
            "(default: OUT.work, removed at the end)",
        )
        add_told(parser, what, "samples to train on, with labels where a loss needs them")

    def run(self, options: Namespace, screen: Screen) -> int:
        """Train, save, measure when asked, and print what was done."""
        check_training_data(options)
        pipeline = _pipeline(options)
        reads = (options.recipe, options.teacher, options.validation)
        asked = recorded(lambda _: f"trained by {options.recipe}", _sections)
        with work_folder(options) as folder:
            try:
                applied = apply(options, screen, pipeline, asked, reads)
            except KeyboardInterrupt:
                if any(folder.glob("*/state-*.json")):
                    screen.warn(f"the last state is in {folder}; the same command goes on from there")
                raise
        history = _history(applied.job)
        _show(applied, history, screen)
        return applied.finish(options, screen, {"history": cast(Json, history)})


def _pipeline(options: Namespace) -> Pipeline:
    from graphrewrite.bridge.recipe import Recipe
    from graphrewrite.passes.train import FineTune

    recipe = Recipe.load(options.recipe)
    asks = [loss for stage in recipe.stages for loss in stage.losses if loss.needs.teacher is not None]
    if asks and not options.teacher:
        raise InvalidConfig(
            f"{type(asks[0]).__name__} learns from a teacher, and none was named; expected an ONNX file; "
            "give it with --teacher"
        )
    if options.teacher and not asks:
        raise InvalidConfig(
            f"no loss of {options.recipe} learns from a teacher; expected one that does, such as soft_labels; "
            "add one to a stage, or leave --teacher out"
        )
    if options.teacher and not os.path.exists(options.teacher):
        raise InvalidConfig(
            f"there is no teacher at {options.teacher!r}; expected an ONNX file; check the path"
        )
    step = FineTune(recipe, options.teacher or "", options.validation or "")
    return Pipeline((step,), verify=options.verify)


def _history(job: Job) -> list[dict[str, Json]]:
    """Return what was logged of each epoch."""
    (step,) = job.result.report.steps
    return cast("list[dict[str, Json]]", step.details.get("history", []))


def _sections(job: Job) -> tuple[Section, ...]:
    """Return what the page says of the training: the course of losses and score."""
    from graphrewrite.report.curves import course

    history = _history(job)
    each = dict.fromkeys(name for row in history for name in row if name[:1].isupper())
    names = [*(["loss"] if len(each) != 1 else []), *each, "validation loss"]  # one loss is the sum itself
    losses = {name: [_number(row.get(name)) for row in history] for name in names}
    measure = next((str(row["measure"]) for row in history if row.get("measure")), "score")
    picture = course(losses, [_number(row.get("score")) for row in history], measure)
    training = (Section("Training", f"{len(history)} epochs", picture),) if picture else ()
    return (*training, layered(job))


def _number(value: Json) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _show(applied: Applied, history: list[dict[str, Json]], screen: Screen) -> None:
    show_measured(applied.job, applied.measured, screen)
    if history:
        titles = [
            "stage",
            "epoch",
            *(name for name in (*_RIGHT, "measure") if any(name in row for row in history)),
        ]
        screen.line()
        screen.table(titles, [[_cell(row.get(name)) for name in titles] for row in history], right=titles)
    told = [("trained", note.text) for note in applied.job.result.notes if note.kind == "done"]
    show_check(applied.job, screen, told)
    show_left(applied.job.facts.left, screen)


def _cell(value: Json) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
