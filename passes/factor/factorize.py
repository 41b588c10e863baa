"""The pass that puts factors in the place of weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphrewrite.custom_ops.spec import OLDEST_OPSET
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model, Namer
from graphrewrite.ir.edit import add_constant, all_graphs, drop_unused, set_input, sort_nodes
from graphrewrite.passes.factor.ahead import write_ahead
from graphrewrite.passes.factor.factorizations import Factorization, Factors, Floats
from graphrewrite.passes.factor.factorizations.svd import Svd
from graphrewrite.passes.factor.factors import ConvolutionFactors, KernelFactorization
from graphrewrite.passes.factor.layers import Layer, Left, layers, with_weight
from graphrewrite.passes.factor.writer import Names, Writer
from graphrewrite.passes.patterns import as_tuples, check_weights_named, why_left
from graphrewrite.pipeline import Claim, Context, Note, Outcome, SameAs, passes
from graphrewrite.pipeline.base import Json


@passes.register("factorize")
@dataclass(frozen=True)
class Factorize:
    """Write layers with the factors of their weights, in standard operators.

    Args:
        by: how weights are factored.
        smallest: a weight with fewer numbers stays as it is.
        only: patterns (`*` is any text) of the nodes to factor; empty for all.
        skip: patterns of nodes to leave alone.
        ahead: work out weights of a loop's body once, ahead of the loop: many times as fast to train. `LowerWavelet`
            puts the factors where they belong.

    A layer whose factors hold as many numbers as its weight stays. Nodes in bodies of loops are layers like others, so
    the gates of a recurrent cell that is written out can be factored one by one. The claim is equality with the model
    whose weights are what the factors stand for: how far that is from the original is in the details, per layer.
    """

    by: Factorization = Svd()
    smallest: int = 4096
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    ahead: bool = False

    claim: ClassVar[Claim] = SameAs(1e-4, "the input model with the products of the factors as weights")

    def __post_init__(self) -> None:
        if isinstance(self.smallest, bool) or self.smallest < 0:
            raise InvalidConfig(
                f"Factorize.smallest is {self.smallest!r}; expected a whole number of at least 0"
            )
        as_tuples(self, "only", "skip")

    def run(self, model: Model, context: Context) -> Outcome:
        """Factor layer by layer."""
        if model.opset < OLDEST_OPSET:
            old = f"operator set {model.opset} is older than {OLDEST_OPSET}, which written-out factors need"
            return Outcome(model, False, (Note("skipped", "the whole model", old),))
        before, rng = model.clone(), context.rng()
        notes: list[Note] = []
        found = list(layers(model))
        check_weights_named((*self.only, *self.skip), [each.name for each in found])
        made: list[tuple[Layer, Factors | ConvolutionFactors]] = []
        for number, layer in enumerate(found):
            if context.progress is not None:
                context.progress("factorize", number, len(found))
            if isinstance(layer, Left):
                notes.append(Note("skipped", layer.name, layer.why))
                continue
            why = self._why_not(layer)
            if why is None:
                factors = self._factor(layer, rng)
                if factors.parameters < layer.weight.size:
                    made.append((layer, factors))
                    continue
                why = f"its factors hold {factors.parameters} numbers, its weight {layer.weight.size}"
            notes.append(Note("skipped", layer.name, why))
        if not made:
            return Outcome(model, False, tuple(notes), details={"layers": []})
        rows: list[Json] = [_row(layer, factors) for layer, factors in made]
        stands_for = {layer.place: (factors.expand(), layer.kernel) for layer, factors in made}
        self._write(model, made)
        notes.append(Note("done", "layers", f"factored {len(made)} of {len(found)}"))
        return Outcome(model, True, tuple(notes), lambda: expanded(before, stands_for), {"layers": rows})

    def _factor(self, layer: Layer, rng: np.random.Generator) -> "Factors | ConvolutionFactors":
        if layer.kernel and isinstance(self.by, KernelFactorization):
            return self.by.factor_kernels(layer.weight, int(np.prod(layer.kernel)), rng)
        return self.by.factor(layer.weight, rng)

    def _write(self, model: Model, made: list[tuple[Layer, Factors | ConvolutionFactors]]) -> None:
        names = Names(model)
        for layer, factors in made:
            writer = Writer(model, layer.graph, layer.name, names)
            x = layer.node.inputs[0]
            if layer.kernel:
                assert isinstance(factors, ConvolutionFactors)
                result = factors.write_convolution(writer, x, layer.bias, layer.kernel, layer.node)
            else:
                assert isinstance(factors, Factors)
                if self.ahead and write_ahead(model, layer, factors, names):
                    continue
                result = factors.write(writer, x, layer.bias)
            writer.take_place(layer.node, result)
        drop_unused(model.graph)

    def _why_not(self, layer: Layer) -> str | None:
        left = why_left(layer.name, self.only, self.skip, "factor")
        if left is not None:
            return left
        if layer.weight.size < self.smallest:
            return f"its weight has {layer.weight.size} numbers, fewer than {self.smallest}"
        if layer.kernel and not self.by.convolutions:
            return f"{type(self.by).__name__} factors no convolutions"
        return None


def _row(layer: Layer, factors: Factors | ConvolutionFactors) -> dict[str, Json]:
    norm = float(np.linalg.norm(layer.weight))
    away = float(np.linalg.norm(layer.weight - factors.expand()))
    row: dict[str, Json] = {
        "name": layer.name,
        "op": layer.node.op,
        "shape": [int(size) for size in layer.weight.shape],
        "kernel": [int(size) for size in layer.kernel],
        "parameters_before": int(layer.weight.size),
        "parameters_after": factors.parameters,
        "relative_error": away / norm if norm else 0.0,
    }
    if isinstance(factors, ConvolutionFactors):
        row["rank"] = factors.rank
    return row


def expanded(model: Model, stands_for: Mapping[int, tuple[Floats, tuple[int, ...]]]) -> Model:
    """Return a copy whose weights are replaced, by place of their nodes, by what factors stand for."""
    copy = model.clone()
    namer = Namer(copy.graph)
    place = -1
    for graph in all_graphs(copy.graph):
        for node in graph.nodes:
            place += 1
            if place in stands_for:
                weight = with_weight(node, *stands_for[place]).astype(np.float32)
                stem = f"{node.inputs[1].name or node.name}.expanded"
                set_input(node, 1, add_constant(graph, namer.fresh(stem), weight))
    drop_unused(copy.graph)
    sort_nodes(copy.graph)
    return copy


__all__ = ["Factorize", "expanded"]
