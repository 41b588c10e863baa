"""Fine-tuning a model by a recipe."""

from collections.abc import Callable

import numpy.typing as npt
import torch

from graphrewrite.bridge.recipe import Recipe
from graphrewrite.bridge.train.batches import Order
from graphrewrite.bridge.train.samples import Data, Transform, samples_of
from graphrewrite.bridge.train.score import Metric, Score, Scorer
from graphrewrite.bridge.train.stage import Setting, StageRun
from graphrewrite.bridge.train.surroundings import accelerator_for, surroundings
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model

Progress = Callable[[str, int, int], None]


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
    progress: Progress | None = None,
) -> Model:
    """Train a model's weights and return a copy of the very same graph with the new ones.

    With validation data the weights of the best epoch of each stage are kept, else those of the last.

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
        progress: called with a step's name, what is done and what there is, to draw a bar.

    Raises:
        InvalidData: data or teacher do not fit the model.
        InvalidConfig: the recipe asks for what cannot be.
        Diverged: a loss is no finite number; says where it arose.
        MissingExtra: Accelerate is not installed.
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
    setting = Setting(model, recipe, accelerator, samples, order, teacher)
    scorer = None if judged is None else Scorer(judged, metric, accelerator)
    with surroundings(recipe.seed + accelerator.process_index, accelerator.num_processes):
        state: dict[str, torch.Tensor] = {}
        for number, stage in enumerate(recipe.stages):
            run = StageRun(setting, stage, number, state)
            state = _run(run, scorer, progress)
        accelerator.free_memory()
    return run.module.write_back(state)


def _run(run: StageRun, scorer: Scorer | None, progress: Progress | None) -> dict[str, torch.Tensor]:
    """Run a stage to its end and return what it leaves."""
    steps, epochs = run.setting.order.steps, run.stage.epochs
    best: Score | None = None
    kept: dict[str, torch.Tensor] = {}
    worse = 0
    stop = run.setting.recipe.early_stop
    for epoch in range(epochs):
        run.train()
        for step in range(steps):
            run.step(epoch, step)
            if progress is not None:
                progress(f"stage {run.number + 1}", epoch * steps + step + 1, epochs * steps)
        if scorer is None:
            continue
        score = scorer(run)
        if best is None or score.value > best.value + (stop.least if stop is not None else 0.0):
            best, kept, worse = score, run.result(), 0
        else:
            worse += 1
        if stop is not None and worse >= stop.patience:
            break
    return kept if best is not None else run.result()
