"""Few bits after a few images: more are made for the model, and the rounded net learns from the model on both."""

from dataclasses import dataclass, replace
from glob import escape
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from graphrewrite.bridge.optimisers import Optimiser
from graphrewrite.bridge.recipe import Recipe, Stage
from graphrewrite.bridge.transforms.base import check_bits
from graphrewrite.data import ArraySource, DataSource
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.match.view import View
from graphrewrite.passes.losses.cross_entropy import CrossEntropy
from graphrewrite.passes.losses.soft_labels import SoftLabels
from graphrewrite.passes.quant.aware import ends_of, is_layer
from graphrewrite.passes.quant.plan import name_of
from graphrewrite.passes.quant.recentre import recentre
from graphrewrite.passes.synth.synthesisers import Synthesiser
from graphrewrite.passes.synth.synthesisers.fdda import Fdda
from graphrewrite.passes.tidy import Tidy
from graphrewrite.passes.train.distill import before_softmax
from graphrewrite.passes.train.finetune import FineTune
from graphrewrite.pipeline import Claim, Context, Free, Note, Outcome
from graphrewrite.pipeline.registry import passes

if TYPE_CHECKING:
    from graphrewrite.bridge.transforms.base import WeightTransform

_OLDEST_OPSET = 13  # quantisers take a scale per channel from here on


@passes.register("fdda")
@dataclass(frozen=True)
class QuantizeFdda:
    """Quantise after a few labelled images and those made after them, learning from the model (Zhong et al. 2021).

    Args:
        weight_bits: of weights, whose spans are taken by output.
        activation_bits: of what layers read, whose spans are watched for the first fifth of the training.
        end_bits: of weights of the first and the last layer, and of what the last reads; 0 for the same as elsewhere.
        synthesiser: what makes samples.
        samples: how many it makes; the real ones are repeated to as many.
        epochs: of training on both. Published are 20000 steps.
        rate: at the start, falling along a cosine; published is 1e-6, for large nets.
        batch: samples in a step, about half of them real.
        temperature: what scores are softened by.
        alpha: weight of the softened scores beside the labels.

    The model must still have its batch norms; they are folded afterwards. Layers are products and convolutions with
    constant weights; the graph's own input stays in float. What comes out holds QuantizeLinear and DequantizeLinear; a
    layer that reads codes, and whose result is rounded or is no convolution's, computes in integers.
    """

    weight_bits: int = 4
    activation_bits: int = 4
    end_bits: int = 0
    synthesiser: Synthesiser = Fdda()
    samples: int = 512
    epochs: int = 10
    rate: float = 1e-4
    batch: int = 32
    temperature: float = 20.0
    alpha: float = 20.0

    claim: ClassVar[Claim] = Free()

    def __post_init__(self) -> None:
        for bits in (self.weight_bits, self.activation_bits, *([self.end_bits] if self.end_bits else [])):
            check_bits("QuantizeFdda", bits)
        if self.samples < 1:
            raise InvalidConfig(f"QuantizeFdda.samples is {self.samples}; expected 1 or more; correct it")
        self._recipe(None, {})  # what cannot be is said now

    def run(self, model: Model, context: Context) -> Outcome:
        """Make samples, fold norms, train and round.

        Raises:
            InvalidConfig: there is no data, or the model has no batch norms.
            InvalidData: samples are no labelled images of the model's classes.
            Diverged: a loss is no finite number.
        """
        if model.opset < _OLDEST_OPSET:
            why = f"its operator set is {model.opset}; scales per channel need {_OLDEST_OPSET}: convert it first"
            return Outcome(model, False, (Note("skipped", "the whole model", why),))
        if context.data is None:
            raise InvalidConfig(
                "there are no images to begin with; expected a labelled one for each class; give them with --data, or "
                "Context(data=...)"
            )
        made = self.synthesiser.synthesise(model, context.data, self.samples, context.seed, context.progress)
        student = Tidy().run(model.clone(), context).model
        wanted = self.places(student)
        step = FineTune(self._recipe(before_softmax(student), wanted))
        trained = step.run(student, replace(context, data=joined(context.data, made), original=model))
        integers = recentre(trained.model)
        told = f"learned from {len(context.data)} samples and {len(made)} made after them"
        notes = (
            Note("done", "layers", f"{len(wanted)} weights and activations rounded, {told}"),
            Note(
                "done", "integers", f"{len(integers)} layers compute in them: {', '.join(integers) or 'none'}"
            ),
        )
        return Outcome(trained.model, True, notes, details={**trained.details, "made": len(made)})

    def places(self, model: Model) -> "dict[str, WeightTransform]":
        """Return what stands behind each weight and each activation of a model whose norms are folded."""
        from graphrewrite.bridge.transforms.span import SpanQuantize

        view, found = View(model), dict[str, "WeightTransform"]()
        ends = ends_of(view)
        inputs = {tensor.name for tensor in model.inputs}
        for node in view.nodes():
            if not is_layer(view, node):
                continue
            name, (read, weight) = name_of(node), node.inputs[:2]
            is_last = name in ends.last
            bits = self.end_bits if self.end_bits and (is_last or name in ends.first) else self.weight_bits
            axis = 0 if node.op == "Conv" or int(node.attrs.get("transB", 0)) else 1
            found[weight.name] = SpanQuantize(bits, axis if weight.shape and len(weight.shape) > 1 else None)
            bits = self.end_bits if self.end_bits and is_last else self.activation_bits
            if read.name not in inputs:
                found.setdefault(read.name, SpanQuantize(bits, watch=0.2))
        return found

    def _recipe(self, scores: str | None, wanted: "dict[str, WeightTransform]") -> Recipe:
        losses = (
            CrossEntropy(tensor=scores),
            SoftLabels(self.temperature, tensor=scores, weight=self.alpha),
        )
        transforms = {escape(name): transform for name, transform in wanted.items()}
        stage = Stage(self.epochs, self.rate, losses, transforms=transforms, norms="frozen")
        sgd = Optimiser("sgd", {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-4})
        return Recipe((stage,), sgd, self.batch)


def joined(real: DataSource, made: ArraySource) -> ArraySource:
    """Return as many real samples, repeated in turn, as were made, and those."""
    assert real.labels is not None and made.labels is not None
    (whole,) = real.batches(len(real))
    turns = np.arange(len(made)) % len(real)
    arrays = {
        name: np.concatenate([np.asarray(whole[name])[turns], array]) for name, array in made.arrays.items()
    }
    return ArraySource(arrays, np.concatenate([np.asarray(real.labels)[turns], made.labels]))
