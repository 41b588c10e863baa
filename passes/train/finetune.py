"""Training as a step of a pipeline: the same graph goes on, with other numbers in its weights."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from graphrewrite.bridge.recipe import Recipe, Stage
from graphrewrite.bridge.statistics import part
from graphrewrite.bridge.train.log import Row, logs_of
from graphrewrite.bridge.weights import stored
from graphrewrite.data import DataSource, load
from graphrewrite.errors import InvalidConfig, VerificationError
from graphrewrite.ir import Model
from graphrewrite.ir.diff import changes
from graphrewrite.passes.losses.cross_entropy import CrossEntropy
from graphrewrite.pipeline import Claim, Context, Free, Note, Outcome
from graphrewrite.pipeline.base import Json
from graphrewrite.pipeline.registry import passes


@passes.register("finetune")
@dataclass(frozen=True)
class FineTune:
    """Train the weights on the context's data by a recipe.

    Args:
        recipe: losses, rates, stages; its seed is added to the context's.
        teacher: path of the model that losses learn from; by default the model the pipeline began with.
        validation: data to judge epochs by, as `graphrewrite.data.load` takes it; the best epoch of a stage is kept.

    What the outputs become is up to the recipe, so the claim is that the model runs. That nothing but numbers in
    trained weights has changed is checked here, unless the recipe attaches transforms, which change the graph.

    In a folder of its own (`Context.folder`) it keeps a log of the epochs and states to go on from.
    """

    recipe: Recipe = Recipe((Stage(losses=(CrossEntropy(),)),))
    teacher: str = ""
    validation: str = ""

    claim: ClassVar[Claim] = Free()

    def run(self, model: Model, context: Context) -> Outcome:
        """Train.

        Raises:
            InvalidConfig: the context has no data, or there is no teacher to be had.
            InvalidData: data, labels or teacher do not fit the model.
            UnsupportedOp: an operator has no torch form.
            Diverged: a loss is no finite number.
        """
        from graphrewrite.bridge.train import finetune

        if context.data is None:
            raise InvalidConfig(
                "training needs samples; expected data in the context; give it with --data, or Context(data=...)"
            )
        asks = self._asks_teacher()
        teacher = self._teacher(context) if any(asks) else None
        is_same_graph = not any(stage.transforms for stage in self.recipe.stages)
        if (
            teacher is not None
            and all(asks)
            and is_same_graph
            and next(changes(teacher, model), None) is None
        ):
            told = (
                "the teacher is this very model, so there is nothing to learn from it; train after a change"
            )
            return Outcome(model, False, (Note("skipped", "the whole model", told),))
        recipe = replace(self.recipe, seed=self.recipe.seed + context.seed)
        history = _History()
        trained = finetune(
            model,
            recipe,
            context.data,
            teacher,
            validation=self._validation(model),
            log=[*logs_of(context.folder), history],
            checkpoint=context.folder,
            progress=context.progress,
        )
        if is_same_graph:
            check_graph(model, trained)
        moved = changed_weights(model, trained)
        epochs = sum(stage.epochs for stage in recipe.stages)
        told = f"{epochs} epochs of {len(context.data)} samples; {len(moved)} weights have new numbers" + (
            ", nothing else has changed" if is_same_graph else ""
        )
        details: dict[str, Json] = {
            "epochs": epochs,
            "samples": len(context.data),
            "weights": [*moved],
            "history": [*history.rows],
        }
        return Outcome(trained, bool(moved), (Note("done", "weights", told),), details=details)

    def _asks_teacher(self) -> list[bool]:
        return [loss.needs.teacher is not None for stage in self.recipe.stages for loss in stage.losses]

    def _teacher(self, context: Context) -> Model:
        if self.teacher:
            return Model.load(self.teacher)
        if context.original is None:
            raise InvalidConfig(
                "a loss learns from a teacher, and there is none; expected a model; name its file in `teacher`, "
                "or run the step in a Pipeline, whose original model then teaches"
            )
        return context.original

    def _validation(self, model: Model) -> DataSource | None:
        return load(self.validation, model) if self.validation else None


class _History:
    """Remembers what is logged of each epoch, but for the time it took."""

    def __init__(self) -> None:
        self.rows: list[Json] = []

    def start(self, columns: Sequence[str], rows: int) -> None:
        """Nothing to prepare; epochs before an interruption are in the folder's log only."""

    def row(self, values: Row) -> None:
        """Take the row of an epoch."""
        self.rows.append({name: value for name, value in values.items() if name != "seconds"})


def check_graph(before: Model, after: Model) -> None:
    """Check that two models differ in nothing but numbers of floating weights.

    Statistics of norms that were stored once with something else may have got initializers of their own.

    Raises:
        VerificationError: they do; says where first.
    """
    back = after.clone()
    entries = stored(back)
    parted = before.clone()
    if entries.keys() & part(parted).keys():
        before = parted
    for name, entry in stored(before).items():
        if name in entries and entries[name].shape == entry.shape and entries[name].dtype == entry.dtype:
            entries[name].replace(entry.array.copy())
    first = next(changes(before, back), None)
    if first is not None:
        raise VerificationError(
            f"training changed more than weights ({first}); expected the very same graph; please report it"
        )


def changed_weights(before: Model, after: Model) -> list[str]:
    """Return the names of the floating weights whose numbers differ, in the order of the file."""
    entries = stored(after)
    return [
        name
        for name, entry in stored(before).items()
        if name not in entries or entries[name].array.tobytes() != entry.array.tobytes()
    ]
