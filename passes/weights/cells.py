"""The pass that lets LSTMs multiply bytes, by onnxruntime's own operator."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.custom_ops.spec import OLDEST_OPSET
from graphrewrite.ir import Model, constant_value
from graphrewrite.ir.edit import all_graphs, all_nodes, drop_unused
from graphrewrite.ir.garbage import paused
from graphrewrite.passes.factor.gates import why_kept, write_out
from graphrewrite.passes.factor.writer import Names, Writer
from graphrewrite.passes.patterns import as_tuples, check_weights_named, why_left
from graphrewrite.passes.quant.plan import name_of
from graphrewrite.passes.tidy.reading import source
from graphrewrite.passes.weights.blocks import rounded
from graphrewrite.passes.weights.forms import MICROSOFT
from graphrewrite.passes.weights.integers import Floats, in_bytes, write
from graphrewrite.passes.weights.outcomes import outcome, row, too_old
from graphrewrite.passes.weights.sites import Left, Site, sites
from graphrewrite.pipeline import Claim, Context, Outcome, SameAs, passes
from graphrewrite.pipeline.base import Json

_BITS = 8
# What samples that share a range differ by from samples that have one each; wrong codes or steps differ by far more.
_APART = 5e-3


@passes.register("dynamic_quantize_cells")
@dataclass(frozen=True)
class DynamicQuantizeCells:
    """Let LSTMs multiply bytes: weights rounded to int8, inputs and states to uint8 with a range found at each step.

    Args:
        smallest: units of a state below which a cell stays in floats; narrow ones gain nothing.
        only: patterns (`*` is any text) of the cells to round; empty for all.
        skip: patterns of cells to leave in float.

    The operator is onnxruntime's DynamicQuantizeLSTM; there is none for GRU. The claim is equality with the cells
    written out in floats, step by step, with every rounding. On several threads it holds to few digits only: there the
    operator gives each thread some of the samples, and finds a range for these alone.
    """

    smallest: int = 64
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    claim: ClassVar[Claim] = SameAs(
        _APART, "the input model with cells and their roundings written out in floats"
    )

    def __post_init__(self) -> None:
        as_tuples(self, "only", "skip")

    @paused()
    def run(self, model: Model, context: Context) -> Outcome:
        """Round every LSTM that can be, and say why the others stay."""
        if model.opset < OLDEST_OPSET:
            old = f"its operator set is {model.opset}; cells are written out for the proof in {OLDEST_OPSET}"
            return too_old(model, old)
        before, names = model.clone(), Names(model)
        cells: dict[int, list[Site]] = {}
        left: list[Left] = []
        for site in sites(model, {"LSTM"}):
            if isinstance(site, Left):
                left.append(site)
            else:
                cells.setdefault(site.place, []).append(site)
        for place, pair in list(cells.items()):
            why = self._why_not(pair[0].node)
            if why is not None:
                left.append(Left(pair[0].name, why))
                del cells[place]
        named = [pair[0].name for pair in cells.values()] + [each.name for each in left]
        check_weights_named((*self.only, *self.skip), named)
        rows = [each for pair in cells.values() for each in _put(model, pair, names)]
        if rows:
            model.opsets.setdefault(MICROSOFT, 1)
            drop_unused(model.graph)
        told = f"quantised {len(cells)} of {len(cells) + len(left)} cells"
        return outcome(model, rows, left, told, "it has no LSTM", partial(_slow, before, list(cells)))

    def _why_not(self, node: gs.Node) -> str | None:
        why = why_left(name_of(node), self.only, self.skip, "round") or why_kept(node)
        if why is not None:
            return why
        weight, recurrent = (constant_value(node.inputs[slot]) for slot in (1, 2))
        assert weight is not None and recurrent is not None
        if recurrent.shape[2] < self.smallest:
            return f"its state has {recurrent.shape[2]} units, fewer than {self.smallest}"
        finite = np.isfinite(weight).all() and np.isfinite(recurrent).all()
        return None if finite else "its weights hold numbers that are not finite"


def _put(model: Model, pair: Sequence[Site], names: Names) -> list[dict[str, Json]]:
    """Put DynamicQuantizeLSTM in the place of an LSTM, and return what the details say of its two weights."""
    node = pair[0].node
    writer = Writer(model, pair[0].graph, pair[0].name, names)
    codes: list[gs.Tensor] = []
    scales: list[gs.Tensor] = []
    told: list[dict[str, Json]] = []
    for site, stem in zip(pair, ("input", "state"), strict=True):
        directions, gates, width = site.rows.split
        values = constant_value(site.weight)
        assert values is not None
        rows = site.rows.of(values)
        blocks = rounded(rows, _BITS, 0, negative=False)
        turned = blocks.codes.reshape(directions, gates, width).transpose(0, 2, 1)
        codes.append(writer.constant(np.ascontiguousarray(turned), f"{stem}_codes"))
        steps = blocks.steps.reshape(directions, gates)
        scales.append(writer.floats(steps, f"{stem}_steps"))
        scales.append(writer.constant(np.zeros(steps.shape, np.int8), "zeros"))
        told.append(row(site, _BITS, int(steps.size), blocks.away(rows)))
    others = [source(node, slot) or gs.Variable.empty() for slot in range(3, 8)]
    results = [writer.variable("lstm") if not out.is_empty() else gs.Variable.empty() for out in node.outputs]
    name = names.nodes.fresh(f"{pair[0].name}.bytes")
    operands = [node.inputs[0], *codes, *others, *scales]
    writer.made.append(gs.Node("DynamicQuantizeLSTM", name, dict(node.attrs), operands, results, MICROSOFT))
    writer.take_place(node, *(out for out in results if not out.is_empty()))
    return told


def _slow(before: Model, places: list[int]) -> Model:
    """Return the model with cells at these places written out, and what their products read rounded in floats."""
    model = before.clone()
    names = Names(model)
    every = [(graph, node) for graph in all_graphs(model.graph) for node in graph.nodes]
    old = {id(node) for _, node in every}
    for place in places:
        write_out(model, *every[place], names)
    kept = [node for node in all_nodes(model.graph) if id(node) not in old]  # alive, so that ids stay theirs
    fresh = {id(node) for node in kept}
    found = [site for site in sites(model, {"MatMul"}) if isinstance(site, Site) and id(site.node) in fresh]
    write(model, [in_bytes(site, _BITS, True) for site in found], Floats())
    return model


__all__ = ["DynamicQuantizeCells"]
