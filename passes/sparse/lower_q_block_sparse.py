"""Swapping quantised layers for operators that skip blocks of 16 outputs x 4 inputs, where the machine is faster so."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.cost.speeds import Speeds, Work, gain, positions
from graphrewrite.custom_ops.quads import density
from graphrewrite.custom_ops.spec import OLDEST_OPSET
from graphrewrite.ir import Model
from graphrewrite.ir.custom import declare
from graphrewrite.match import Draft
from graphrewrite.passes.sparse import options
from graphrewrite.passes.sparse.byte_types import unsigned
from graphrewrite.passes.sparse.q_write import write_dense, write_sparse
from graphrewrite.passes.sparse.quantised_conv import QuantisedConv, read_quantised_conv
from graphrewrite.passes.sparse.quantised_product import (
    QuantisedProduct,
    read_float_product,
    read_quantised_product,
)
from graphrewrite.passes.when import UNSIZED
from graphrewrite.pipeline import Claim, Context, Note, Outcome, SameAs, passes
from graphrewrite.pipeline.base import Json
from graphrewrite.runtime.speeds import known_speeds


@passes.register("lower_q_block_sparse")
@dataclass(frozen=True)
class LowerQBlockSparse:
    """Write int8 layers whose zeros come in blocks of 16 outputs x 4 inputs as QBlockSparseConv and QBlockSparseMatMul.

    Args:
        min_sparsity: the least share of blocks that must be zero for a layer to be looked at.
        when: "faster" swaps a layer only where measured speeds foretell a gain (see LowerBlockSparse); "always" swaps
            all, for files that are to be small or to run elsewhere.
        round_floats: also swap products of floats; their weights are then rounded to 255 levels per output, and each
            row of their inputs too.

    Convolutions are read from QLinearConv, or from Conv between DequantizeLinear and QuantizeLinear with Relu or Clip
    in it; products from MatMulInteger behind DynamicQuantizeLinear and from DynamicQuantizeMatMul. Activations in int8
    become uint8 first. The claim is equality with the dense layers in standard operators: QLinearConv, which a Conv
    between quantisers equals up to one step where a sum lies between two; and products whose rows are quantised one by
    one, which is finer than DynamicQuantizeLinear when there are several and the same when there is one.
    """

    min_sparsity: float = 0.5
    when: str = "faster"
    round_floats: bool = False

    claim: ClassVar[Claim] = SameAs(1e-5, "the same layers, dense, in standard operators")

    def __post_init__(self) -> None:
        options.check("LowerQBlockSparse", self.min_sparsity, self.when)

    def run(self, model: Model, context: Context) -> Outcome:
        """Look at every layer, swap those that gain, and say why the others stay."""
        if model.opset < OLDEST_OPSET:
            why = f"its operator set is {model.opset}; the operators' function bodies need {OLDEST_OPSET}"
            return Outcome(model, False, (Note("skipped", "the whole model", why),))
        before = model.clone()
        told, notes, ops = self._lowered(model, is_dense=False)
        if not told:
            return Outcome(before, False, tuple(notes))
        for op in ops:
            declare(model, op)

        def slow() -> Model:
            dense = before.clone()
            self._lowered(dense, is_dense=True)
            return dense

        return Outcome(model, True, tuple(notes), slow, {"layers": told})

    def _lowered(self, model: Model, is_dense: bool) -> tuple[dict[str, Json], list[Note], set[str]]:
        speeds = known_speeds() if self.when == "faster" else None
        draft = Draft(model)
        notes: list[Note] = []
        turned = unsigned(draft)
        told: dict[str, Json] = {}
        ops: set[str] = set()
        for node in list(draft.nodes()):
            layer = self._read(draft, node) if draft.is_alive(node) else None
            if layer is None:
                continue
            name = node.name or node.outputs[0].name
            share = 1.0 if isinstance(layer, str) else density(layer.weight)
            gain = layer if isinstance(layer, str) else self._gain(draft, layer, share, speeds)
            if isinstance(layer, str) or isinstance(gain, str):
                notes.append(Note("skipped", name, str(gain)))
                continue
            if is_dense:
                write_dense(draft, layer)
                continue
            op = write_sparse(draft, layer)
            ops.add(op)
            notes.append(Note("done", name, f"{op}: {share:.0%} of its blocks of 16 x 4 are left"))
            told[name] = {
                "operator": op,
                "density": share,
                "outputs": layer.weight.shape[0],
                "inputs": layer.weight.shape[1],
                "foretold_gain": gain,
            }
        if turned and told:
            notes.append(
                Note("done", "activations", f"{turned} tensors of int8 are uint8, zero points 128 higher")
            )
        if told or is_dense:
            draft.close()
        return told, notes, ops

    def _read(self, draft: Draft, node: gs.Node) -> "QuantisedConv | QuantisedProduct | str | None":
        found = read_quantised_conv(draft, node) or read_quantised_product(draft, node)
        return read_float_product(draft, node) if found is None and self.round_floats else found

    def _gain(
        self, draft: Draft, layer: QuantisedConv | QuantisedProduct, share: float, speeds: Speeds | None
    ) -> float | None | str:
        """Return the foretold gain (None where nobody asks), or why the layer stays dense."""
        zeros = float(np.mean(layer.weight == 0))
        if 1 - share < self.min_sparsity:
            return (
                f"{zeros:.0%} of its weights and {1 - share:.0%} of its blocks of 16 x 4 are zero; "
                f"{self.min_sparsity:.0%} of blocks are asked for"
            )
        if self.when == "always":
            return None
        shape = draft.shape(layer.y)
        if shape is None:
            return UNSIZED
        is_conv = isinstance(layer, QuantisedConv)
        outputs, inputs = layer.weight.shape[:2]
        places, taps = positions(shape[2:] if is_conv else shape[:-1]), int(np.prod(layer.weight.shape[2:]))
        work = Work(inputs, outputs, places, taps)
        before, after = (
            ("QLinearConv", "QBlockSparseConv")
            if isinstance(layer, QuantisedConv)
            else (layer.dense, "QBlockSparseMatMul")
        )
        found = gain(speeds, (before, work), (after, replace(work, density=share)))
        if isinstance(found, str):
            return f"{1 - share:.0%} of its blocks of 16 x 4 are zero, and {found}; it stays dense"
        return found
