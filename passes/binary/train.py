"""Training a binary net: a dense one goes in, one of signs in standard operators comes out."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from glob import escape
from typing import ClassVar

import numpy as np

from graphrewrite.bridge.optimisers import Optimiser
from graphrewrite.bridge.recipe import Recipe, Stage
from graphrewrite.bridge.weights import stored
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Array, Model
from graphrewrite.passes.binary.binarizer import Binarizer
from graphrewrite.passes.binary.binarizers.recu import Recu
from graphrewrite.passes.binary.choice import OLDEST_OPSET, Choice, too_old
from graphrewrite.passes.binary.flips import c2i_ratio
from graphrewrite.passes.binary.prepare import Prepared, prepare, settle
from graphrewrite.passes.losses.cross_entropy import CrossEntropy
from graphrewrite.passes.train.finetune import FineTune
from graphrewrite.pipeline import Claim, Context, Free, Note, Outcome
from graphrewrite.pipeline.base import Json
from graphrewrite.pipeline.registry import passes


def _recipe() -> Recipe:
    decaying = Optimiser("sgd", {"momentum": 0.9, "weight_decay": 5e-4})
    return Recipe((Stage(10, 0.1, (CrossEntropy(),), warmup=1.0),), decaying)


@passes.register("train_binary")
@dataclass(frozen=True)
class TrainBinary(Choice):
    """Train convolutions to weights and inputs of +1 and -1, by one of the binarizers.

    What comes out is written in standard operators, sums of signs with all else behind them, as `LowerBinaryConv` wants
    it. Weights and statistics start from the model's own.

    Args:
        method: how signs are trained, and what is put around each layer.
        recipe: losses, rates, stages; the transforms of the method join those of each stage.
        real_stages: in how many stages from the first on weights stay real while activations are signs already.
        teacher: path of the model that losses learn from; by default the model the pipeline began with.
        validation: data to judge epochs by, as for `FineTune`.
        ends: the first and the last convolutions too, as for `BinarizeConv`.
        least_signs: leave filters with fewer weights as they are.
        skip: patterns (`*` is any text) of convolutions or weights to leave as they are.
    """

    method: Binarizer = Recu()
    recipe: Recipe = field(default_factory=_recipe)
    real_stages: int = 0
    teacher: str = ""
    validation: str = ""

    claim: ClassVar[Claim] = Free()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.real_stages < len(self.recipe.stages):
            raise InvalidConfig(
                f"TrainBinary.real_stages is {self.real_stages}, of {len(self.recipe.stages)} stages; the last one "
                "must train signs of weights; lower it or add a stage"
            )

    def run(self, model: Model, context: Context) -> Outcome:
        """Prepare, train, and write what was trained.

        Raises:
            InvalidConfig: the context has no data, a pattern names nothing, or there is no teacher to be had.
            InvalidData: data, labels or teacher do not fit the model.
            UnsupportedOp: an operator has no torch form.
            Diverged: a loss is no finite number.
        """
        if model.opset < OLDEST_OPSET:
            return Outcome(model, False, (too_old(model),))
        prepared = prepare(model, self, self.method)
        if not prepared.weights:
            return Outcome(model, False, prepared.notes)
        if context.original is None and not self.teacher:
            context = replace(context, original=model)
        inner = FineTune(self.recipe_for(prepared), self.teacher, self.validation)
        trained = inner.run(prepared.model, context)
        rows = self._rows(prepared, trained.model)
        done = Note("done", "binary convolutions", f"{len(rows)} trained as signs, {trained.notes[0].text}")
        details = {**trained.details, "layers": rows}
        return Outcome(settle(trained.model, prepared.marks), True, (done, *prepared.notes), details=details)

    def recipe_for(self, prepared: Prepared) -> Recipe:
        """Return the recipe with the method's transforms, and with what decay is to leave alone."""
        from graphrewrite.bridge import GraphModule

        module = GraphModule(prepared.model, trainable=self.recipe.trainable)
        state = module.state_dict(keep_vars=True)
        ranks = {name: tensor.ndim for name, tensor in state.items() if tensor.requires_grad}
        undecayed = self.method.undecayed(list(prepared.weights.values()), ranks)
        stages = []
        for number, stage in enumerate(self.recipe.stages):
            wanted = {escape(mark): self.method.activation(stage) for mark in prepared.marks}
            if number >= self.real_stages:
                weights = map(escape, prepared.weights.values())
                wanted |= {name: self.method.weight(stage) for name in weights}
            left = (*stage.undecayed, *map(escape, undecayed))
            stages.append(replace(stage, transforms={**stage.transforms, **wanted}, undecayed=left))
        return replace(self.recipe, stages=tuple(stages))

    def _rows(self, prepared: Prepared, trained: Model) -> list[Json]:
        """Return for each layer how many of its signs are those it would have had untrained."""
        before, after = stored(prepared.model), stored(trained)
        stage = self.recipe.stages[-1]
        rows: list[Json] = []
        for layer, name in prepared.weights.items():
            first = _signs(self.method, stage, before[name].array)
            last = after[name].array
            rows.append(
                {
                    "name": layer,
                    "filters": len(last),
                    "signs": int(np.prod(last.shape[1:])),
                    "as at first": round(c2i_ratio(first, last), 4),
                }
            )
        return rows


def _signs(method: Binarizer, stage: Stage, weight: Array) -> Array:
    """Return the signs that a method takes of a weight before it is trained."""
    import torch

    transform = method.weight(stage)
    form = transform.module(torch.from_numpy(np.array(weight, np.float32)))
    state: Mapping[str, Array] = {name: tensor.numpy() for name, tensor in form.state_dict().items()}
    found = transform.lower(weight, state).weight
    assert found is not None
    return found
