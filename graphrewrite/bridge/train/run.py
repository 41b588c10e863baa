"""Fine-tuning a model by a recipe."""

from collections.abc import Sequence
from pathlib import Path

import numpy.typing as npt

from graphrewrite.bridge.recipe import Recipe
from graphrewrite.bridge.train.batches import Order
from graphrewrite.bridge.train.checkpoint import Checkpoints, clear, fingerprint, newest
from graphrewrite.bridge.train.feeder import Feeder
from graphrewrite.bridge.train.log import Log, Progress, logs_of, watching
from graphrewrite.bridge.train.loop import Course, Loop
from graphrewrite.bridge.train.samples import Data, Transform, samples_of
from graphrewrite.bridge.train.score import Metric, Scorer
from graphrewrite.bridge.train.stage import Carried, Setting
from graphrewrite.bridge.train.surroundings import accelerator_for, surroundings
from graphrewrite.bridge.transforms.folding import fold
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model


def finetune(
    model: Model,
    recipe: Recipe,
    data: Data,
    teacher: Model | None = None,
    *,
    labels: str | npt.ArrayLike | None = None,
    transform: Transform | None = None,
    validation: Data | None = None,
    metric: Metric | None = None,
    log: str | Path | Log | Sequence[Log] | None = None,
    checkpoint: str | Path | Checkpoints | None = None,
    resume: bool = True,
    progress: Progress | None = None,
    workers: int = 0,
) -> Model:
    """Train a model's weights and return a copy of the very same graph with the new ones.

    With validation data the weights of the best epoch of each stage are kept, else those of the last. The last stage's
    transforms are written into the graph. Under `accelerate launch` every process calls this with the same arguments
    and gets the same model.

    Args:
        model: stays as it is.
        recipe: what to do.
        data: samples to learn from; see `samples_of` for what can be given.
        teacher: a model to learn from; its outputs are paired with the model's by name.
        labels: the name of the column that holds them, or one for each sample; data may have its own.
        transform: changes each sample, given as arrays by name, with a random generator of its own.
        validation: samples to judge by, with labels in the same way; never transformed.
        metric: what is judged, larger is better; by default the share of labels that the first output scores highest,
            or, where there are none, the losses.
        log: a folder for `log.csv`, or logs of any kind.
        checkpoint: a folder for states of the run, or that and how often.
        resume: whether to go on from the last state in that folder; the result is the same to the last bit on a CPU.
        progress: called with a step's name, what is done and what there is; without it, bars on a terminal.
        workers: processes that read and transform samples ahead of time.

    Raises:
        InvalidData: data, teacher or checkpoint do not fit the model.
        InvalidConfig: the recipe asks for what cannot be.
        Diverged: a loss is no finite number; says where it arose.
        MissingExtra: Accelerate, or safetensors for checkpoints, is not installed.
    """
    if recipe.early_stop is not None and validation is None:
        raise InvalidConfig(
            "Recipe.early_stop needs something to judge by; expected validation data; give finetune's `validation`"
        )
    accelerator = accelerator_for(recipe)
    samples = samples_of(data, model, "the training data", labels, transform, recipe.seed)
    order = Order(
        len(samples),
        min(recipe.batch, len(samples)),
        recipe.seed,
        recipe.accumulate,
        accelerator.process_index,
        accelerator.num_processes,
    )
    column = labels if isinstance(labels, str) else None
    judged = None if validation is None else samples_of(validation, model, "the validation data", column)
    where = Checkpoints(checkpoint) if isinstance(checkpoint, (str, Path)) else checkpoint
    mark = "" if where is None else fingerprint(model, recipe, len(samples), teacher)
    if where is not None and not resume and accelerator.is_main_process:
        clear(where)
    saved = newest(where, mark) if where is not None and resume else None
    setting = Setting(model, recipe, accelerator, Feeder(samples, order, workers), teacher)
    scorer = None if judged is None else Scorer(judged, metric, accelerator)
    is_main = accelerator.is_main_process
    with (
        surroundings(recipe.seed + accelerator.process_index, accelerator.num_processes),
        watching(progress, is_main) as told,
    ):
        course = Course(scorer, where, mark, logs_of(log) if is_main else [], told)
        carried = Carried({}, {})
        first = 0 if saved is None else int(str(saved.rest["stage"]))
        for number, stage in list(enumerate(recipe.stages))[first:]:
            loop = Loop(setting, stage, number, carried, course, saved)
            carried, saved = loop.run(), None
        accelerator.free_memory()
    return fold(loop.stage.module, carried.state)
