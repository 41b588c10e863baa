"""Products of diagonals, transforms and a permutation become one node of our own."""

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.custom_ops.spec import OLDEST_OPSET
from graphrewrite.ir import Model
from graphrewrite.ir.edit import all_graphs, drop_unused
from graphrewrite.passes.factor.ahead import is_unit
from graphrewrite.passes.factor.chain import beside, maker
from graphrewrite.passes.factor.factors import Floats
from graphrewrite.passes.factor.hadamard_product import HadamardProduct, read_hadamard
from graphrewrite.passes.factor.wavelet_product import WaveletProduct, read_wavelet
from graphrewrite.passes.factor.writer import Names, Writer
from graphrewrite.pipeline import Claim, Context, Note, Outcome, Same, passes

Product: TypeAlias = WaveletProduct | HadamardProduct


@passes.register("lower_wavelet")
@dataclass(frozen=True)
class LowerWavelet:
    """Put `WaveletLinear` and `HadamardLinear` nodes where a graph writes such layers out.

    What is recognised is the form that `Factorize` writes; a bias behind it goes into the node. The nodes carry their
    function bodies, so the model still runs anywhere, and runs fast where our library is registered.
    """

    claim: ClassVar[Claim] = Same()

    def run(self, model: Model, context: Context) -> Outcome:
        """Recognise and replace."""
        if model.opset < OLDEST_OPSET:
            why = f"operator set {model.opset} is older than {OLDEST_OPSET}, which our operators need"
            return Outcome(model, False, (Note("skipped", "the whole model", why),))
        names, notes = Names(model), []
        for graph in list(all_graphs(model.graph)):
            for node in [node for node in graph.nodes if node.op == "MatMul"]:
                ahead = _read_ahead(node)
                if ahead is not None:
                    notes.append(_put(model, names, graph, node, ahead, node.inputs[0]))
        if notes:
            drop_unused(model.graph)  # what was worked out ahead of loops
        for graph in list(all_graphs(model.graph)):
            for node in [node for node in graph.nodes if node.op == "Mul"]:
                found = _read(node)
                if found is not None:
                    notes.append(_put(model, names, graph, node, *found))
        if notes:
            drop_unused(model.graph)
        return Outcome(model, bool(notes), tuple(notes))


def _read(last: gs.Node) -> tuple[Product, gs.Tensor] | None:
    """Return the product that ends in the Mul `last`, and what it is applied to."""
    return read_wavelet(last) or read_hadamard(last)


def _read_ahead(node: gs.Node) -> Product | None:
    """Return the product that a MatMul's weight is worked out from ahead of a loop."""
    last = maker(node.inputs[1], "Mul")
    found = _read(last) if last is not None else None
    return found[0] if found is not None and is_unit(found[1], len(found[0].before)) else None


def _put(model: Model, names: Names, graph: gs.Graph, node: gs.Node, product: Product, x: gs.Tensor) -> Note:
    """Put one of our nodes in the place of `node`, and of the bias behind it."""
    last, bias = _with_bias(graph, node, len(product.after))
    name = str(last.name or last.outputs[0].name)
    writer = Writer(model, graph, name, names)
    writer.take_place(last, product.lowered(writer, x, bias))
    kind = "WaveletLinear" if isinstance(product, WaveletProduct) else "HadamardLinear"
    return Note("done", name, f"{len(product.before)} -> {len(product.after)} as {kind}")


def _with_bias(graph: gs.Graph, node: gs.Node, width: int) -> tuple[gs.Node, Floats | None]:
    """Return the sum behind a product and its constant vector, or the product alone where there is none."""
    out = node.outputs[0]
    if len(out.outputs) != 1 or any(out is tensor for tensor in graph.outputs):
        return node, None
    reader = out.outputs[0]
    found = beside(reader) if reader.op == "Add" and any(reader is each for each in graph.nodes) else None
    if found is None or found[0] is not out or len(found[1]) != width:
        return node, None
    return reader, np.asarray(found[1], np.float64)


__all__ = ["LowerWavelet"]
