"""Quantization-aware training: rounding is part of the net while it learns, and what comes out runs on integers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from glob import escape
from typing import TYPE_CHECKING, ClassVar

from graphrewrite.bridge.optimisers import Optimiser
from graphrewrite.bridge.recipe import Recipe
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.passes.patterns import as_tuples
from graphrewrite.passes.quant.aware import Placed, Scheme, place
from graphrewrite.passes.quant.learned import Learned, read, written
from graphrewrite.passes.quant.norms import Norm, fold_in, put_back, take_away
from graphrewrite.passes.quant.plan import name_of
from graphrewrite.passes.quant.quantizers import Quantizer
from graphrewrite.passes.quant.quantizers.lsq import Lsq
from graphrewrite.passes.train.distill import Distill
from graphrewrite.passes.train.finetune import FineTune
from graphrewrite.pipeline import Claim, Context, Note, Outcome, Pass, SameAs
from graphrewrite.pipeline.base import Json
from graphrewrite.pipeline.registry import passes

if TYPE_CHECKING:
    from graphrewrite.bridge.transforms.base import WeightTransform

_OLDEST_OPSET = 13  # quantisers take a scale per channel from here on
_QUANTISERS = frozenset({"DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear"})


def _training() -> Pass:
    return Distill(epochs=10, rate=0.001, optimiser=Optimiser("adam"))


@passes.register("quantize_aware")
@dataclass(frozen=True)
class QuantizeAware:
    """Train weights with the grids that they and activations are rounded to, and write integers (Jacob et al. 2018).

    Args:
        quantizer: how numbers are rounded, and what of it is learned.
        training: a `Distill` or `FineTune`; by default the model learns from itself as it was before, without labels.
        first_bits: of layers that no other comes before, by learned steps; 32 leaves them in float.
        last_bits: the same of layers that no other comes behind.
        between_bits: of tensors that sums and the like read, which have no weights.
        only: patterns (`*` is any text) of the layers to quantise; empty for all.
        skip: patterns of layers to leave in float.

    Layers are chosen as by `InsertQdq`. Batch norms behind layers learn too, unless `Tidy` folded them before: weights
    are rounded in front of them, and at the end they become part of the weights' steps and of biases. The claim is
    equality with the trained net in which every rounding is written out in floats. Codes are those of training; biases
    are rounded at the end, to units of the input's step times the weight's.
    """

    quantizer: Quantizer = Lsq()
    training: Pass = field(default_factory=_training)
    first_bits: int = 8
    last_bits: int = 8
    between_bits: int = 8
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    claim: ClassVar[Claim] = SameAs(1e-5, "the trained net with every rounding written out in floats")

    def __post_init__(self) -> None:
        as_tuples(self, "only", "skip")
        if not isinstance(self.training, Distill | FineTune):
            raise InvalidConfig(
                f"QuantizeAware.training is a {type(self.training).__name__}; expected Distill or FineTune, which "
                "train by a recipe; give one of them"
            )
        self.scheme  # noqa: B018  what cannot be is said now

    @property
    def scheme(self) -> Scheme:
        """Which layers get how many bits."""
        return Scheme(
            self.quantizer, self.first_bits, self.last_bits, self.between_bits, self.only, self.skip
        )

    def run(self, model: Model, context: Context) -> Outcome:
        """Choose, train, and write what was learned.

        Raises:
            InvalidConfig: the context has no data, or a shared weight is asked to be rounded in two ways.
            InvalidData: data, labels or teacher do not fit the model.
            UnsupportedOp: an operator has no torch form.
            Diverged: a loss is no finite number.
        """
        from graphrewrite.bridge import GraphModule

        why = _why_not(model)
        if why:
            return Outcome(model, False, (Note("skipped", "the whole model", why),))
        if context.data is None:
            raise InvalidConfig(
                "QuantizeAware trains on samples, and there is no data; expected Context(data=...), or --data on the "
                "command line; labels are not needed by default"
            )
        if context.original is None:
            context = replace(context, original=model.clone())
        recipe, bare = self._recipe(model), model.clone()
        norms = take_away(bare, context)
        placed = place(bare, self.scheme, GraphModule(bare, trainable=recipe.trainable).frozen)
        left = [Note("skipped", name, reason) for name, reason in placed.choice.left.items()]
        if not placed.bits:
            nothing = Note(
                "skipped", "the whole model", "it has no layer with a weight that can be quantised"
            )
            return Outcome(model, False, (*left, nothing))
        trainee = put_back(placed.model, norms)
        gains = self._gains(norms, GraphModule(trainee, trainable=recipe.trainable).frozen)
        trained = self._trainer(recipe, {**placed.transforms, **gains}).run(trainee, context)
        learned = read(placed, fold_in(trained.model, norms))
        told = f"{len(placed.bits)} of {len(placed.bits) + len(left)} in integers, {trained.notes[0].text}"
        return Outcome(
            written(placed, learned, integers=True),
            True,
            (Note("done", "layers", told), *_folded(norms), *left),
            lambda: written(placed, learned, integers=False),
            {**trained.details, "layers": _rows(placed, learned)},
        )

    def _recipe(self, model: Model) -> Recipe:
        assert isinstance(self.training, Distill | FineTune)
        if isinstance(self.training, Distill):
            return self.training.recipe_for(model)
        return self.training.recipe

    def _gains(self, norms: Sequence[Norm], frozen: Mapping[str, str]) -> "dict[str, WeightTransform]":
        """Keep factors of norms, which go over into steps at the end, from falling below zero."""
        from graphrewrite.bridge.transforms.magnitude import Magnitude

        return {norm.gain: Magnitude() for norm in norms if norm.gain not in frozen}

    def _trainer(self, recipe: Recipe, transforms: "Mapping[str, WeightTransform]") -> FineTune:
        """Return the training with the quantizer in every stage of its recipe."""
        assert isinstance(self.training, Distill | FineTune)
        wanted = {escape(name): transform for name, transform in transforms.items()}
        stages = tuple(
            replace(
                stage,
                transforms={**stage.transforms, **wanted},
                transform_rate=stage.transform_rate * self.quantizer.transform_rate,
            )
            for stage in recipe.stages
        )
        return FineTune(replace(recipe, stages=stages), self.training.teacher, self.training.validation)


def _why_not(model: Model) -> str:
    if model.opset < _OLDEST_OPSET:
        return f"its operator set is {model.opset}; scales per channel need {_OLDEST_OPSET}: convert it first"
    if any(node.op in _QUANTISERS for node in model.graph.nodes):
        return "it holds quantisers already; train the model it was made from"
    return ""


def _folded(norms: Sequence[Norm]) -> list[Note]:
    if not norms:
        return []
    return [Note("done", "norms", f"{len(norms)} learned behind their layers and were folded at the end")]


def _rows(placed: Placed, learned: Learned) -> list[Json]:
    rows: list[Json] = []
    for layer in placed.choice.layers.values():
        weight, name = learned.weights[layer.node.inputs[1].name], name_of(layer.node)
        rows.append(
            {
                "name": name,
                "op": layer.node.op,
                "shape": [int(size) for size in weight.codes.shape],
                "bits": placed.bits[name],
                "scales": int(weight.steps.size),
                "left": "",
            }
        )
    rows += [{"name": name, "left": reason} for name, reason in placed.choice.left.items()]
    return rows
