"""Swapping layers for operators that skip blocks of zeros, where the machine is faster with them."""

from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from graphrewrite import custom_ops
from graphrewrite.cost.speeds import Speeds, Work, gain, positions
from graphrewrite.custom_ops.blocks.pack import density, pack
from graphrewrite.custom_ops.spec import OLDEST_OPSET, Value
from graphrewrite.ir import Model
from graphrewrite.ir.custom import declare
from graphrewrite.match import Draft
from graphrewrite.passes.sparse import options
from graphrewrite.passes.sparse.activations import activation_of
from graphrewrite.passes.sparse.align import aligned
from graphrewrite.passes.tidy.linear import Linear, bias_vector, read_linear
from graphrewrite.passes.tidy.reading import integer, integers, real, text
from graphrewrite.passes.when import UNSIZED
from graphrewrite.pipeline import Claim, Context, Note, Outcome, Same, passes
from graphrewrite.pipeline.base import Json
from graphrewrite.runtime.speeds import known_speeds

Floats: TypeAlias = npt.NDArray[np.float32]

WIDTHS = (32, 16, 8, 4)


@passes.register("lower_block_sparse")
@dataclass(frozen=True)
class LowerBlockSparse:
    """Write layers whose zeros come in blocks of outputs as BlockSparseConv and BlockSparseMatMul.

    Args:
        min_sparsity: the least share of blocks that must be zero for a layer to be looked at.
        when: "faster" swaps a layer only where the speeds measured on this machine (`graphrewrite calibrate`), or on
            the one this release was made on, foretell a gain; "always" swaps all, for files that are to be small or to
            run elsewhere.
        rearrange: first bring filters with zeros at the same places together, where the channel groups let them move
            and blocks gain by it; it changes no output.

    Bias and activation go into the node. Float32 convolutions in two dimensions without groups, Gemm and MatMul with
    constant weights. The claim is equality with the dense model.
    """

    min_sparsity: float = 0.5
    when: str = "faster"
    rearrange: bool = True

    claim: ClassVar[Claim] = Same(rtol=1e-5)

    def __post_init__(self) -> None:
        options.check("LowerBlockSparse", self.min_sparsity, self.when)

    def run(self, model: Model, context: Context) -> Outcome:
        """Look at every layer, swap those that gain, and say why the others stay."""
        speeds = known_speeds() if self.when == "faster" else None
        start, notes = aligned(model, self.min_sparsity) if self.rearrange else (model, [])
        draft = Draft(start)
        told: dict[str, Json] = {}
        for node in list(draft.nodes()):
            linear = read_linear(draft, node) if draft.is_alive(node) and node.op != "Add" else None
            if linear is None:
                continue
            name = node.name or linear.weight.name
            plan = self._plan(draft, linear, speeds)
            if isinstance(plan, str):
                notes.append(Note("skipped", name, plan))
                continue
            told[name] = plan.told()
            _write(draft, plan)
            notes.append(
                Note("done", name, f"{plan.op} with blocks of {plan.width}: {plan.share:.0%} of blocks left")
            )
        if not told:  # channels that moved gained nothing
            return Outcome(model, False, tuple(note for note in notes if note.kind != "done"))
        draft.close()
        for op in {str(entry["operator"]) for entry in told.values() if isinstance(entry, dict)}:
            declare(start, op)
        return Outcome(start, True, tuple(notes), details={"layers": told})

    def _plan(self, draft: Draft, linear: Linear, speeds: Speeds | None) -> "_Plan | str":
        weight = _matrix(draft, linear)
        obstacle = _obstacle(draft, linear)
        if weight is None or obstacle:
            return obstacle or "its weights are not float32"
        shares = {width: density(weight, width) for width in WIDTHS if width <= max(len(weight), WIDTHS[-1])}
        if 1 - min(shares.values()) < self.min_sparsity:
            if np.mean(weight == 0) < self.min_sparsity:
                return f"less than {self.min_sparsity:.0%} of its weights are zero"
            return f"its zeros make too few blocks: {_would(weight, min(shares))}"
        is_conv = linear.node.op == "Conv"
        op = "BlockSparseConv" if is_conv else "BlockSparseMatMul"
        if self.when == "always":
            width = min(shares, key=lambda w: (shares[w] * (1 + 1 / w), -w))
            return _Plan(linear, weight, op, width, shares[width], None)
        shape = draft.shape(linear.node.outputs[0])
        if shape is None:
            return UNSIZED
        places = positions(shape[2:] if is_conv else shape[:-1])
        taps = int(np.prod(weight.shape[2:]))

        def sparse(width: int) -> tuple[str, Work]:
            return f"{op}/{width}", Work(weight.shape[1], weight.shape[0], places, taps, shares[width])

        def seconds(width: int) -> float:
            found = None if speeds is None else speeds.seconds(*sparse(width))
            return float("inf") if found is None else found

        width = min(shares, key=seconds)
        dense = ("Conv" if is_conv else "MatMul", replace(sparse(width)[1], density=1.0))
        found = gain(speeds, dense, sparse(width))
        if isinstance(found, str):
            return f"{1 - shares[width]:.0%} of its blocks of {width} are zero, and {found}; it stays dense"
        return _Plan(linear, weight, op, width, shares[width], found)


class _Plan(NamedTuple):
    linear: Linear
    weight: Floats  # [outputs, inputs, *kernel]
    op: str
    width: int
    share: float  # of blocks that are left
    gain: float | None

    def told(self) -> dict[str, Json]:
        """Return it for a report."""
        return {
            "operator": self.op,
            "width": self.width,
            "density": self.share,
            "outputs": self.weight.shape[0],
            "inputs": self.weight.shape[1],
            "foretold_gain": self.gain,
        }


def _matrix(draft: Draft, linear: Linear) -> Floats | None:
    """Return the weight as [outputs, inputs, *kernel], alpha of a Gemm included; None unless it is float32."""
    stored = draft.constant(linear.weight)
    if stored is None or stored.dtype != np.float32:
        return None
    values = stored.astype(np.float32, copy=False)
    if linear.node.op == "Conv":
        return values
    if linear.node.op == "MatMul" or not integer(linear.node, "transB", 0):
        values = values.T
    alpha = real(linear.node, "alpha", 1.0) if linear.node.op == "Gemm" else 1.0
    return np.ascontiguousarray(values * np.float32(alpha))


def _would(weight: Floats, width: int) -> str:
    """Say what would give a layer with scattered zeros its blocks: how much of it lies in nearly empty ones."""
    grid = np.abs(weight.reshape(len(weight), -1).astype(np.float64))
    padded = np.zeros((-(-len(grid) // width) * width, grid.shape[1]))
    padded[: len(grid)] = grid
    blocks = padded.reshape(-1, width, grid.shape[1])
    filled = (blocks != 0).sum(axis=1)
    nearly = (filled > 0) & (filled <= max(1, width // 4))
    lost = blocks.sum(axis=1)[nearly].sum() / (grid.sum() or 1.0)
    return (
        f"{(filled == 0).mean():.0%} of blocks of {width} are zero; without what is left in nearly empty ones, "
        f"{lost:.0%} of |w|, it would be {((filled == 0) | nearly).mean():.0%}"
    )


def _obstacle(draft: Draft, linear: Linear) -> str:
    node = linear.node
    if draft.opset < OLDEST_OPSET:
        return (
            f"the model's operator set is {draft.opset}; the operators' function bodies need {OLDEST_OPSET}"
        )
    if node.op == "ConvTranspose":
        return "transposed convolutions stay dense"
    if node.op == "Conv":
        if integer(node, "group", 1) != 1:
            return "grouped and depthwise convolutions stay dense"
        if draft.rank(linear.weight) != 4:
            return "only convolutions in two dimensions have a kernel"
        if text(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
            return f"its padding is {text(node, 'auto_pad', '')}; tidy the model first, which writes it out"
    if node.op == "Gemm" and integer(node, "transA", 0):
        return "it transposes its input"
    if node.op == "MatMul" and (node.inputs[1] is not linear.weight or (draft.rank(node.inputs[0]) or 2) < 2):
        return "its constant is not the right-hand matrix"
    return ""


def _write(draft: Draft, plan: _Plan) -> None:
    linear, node = plan.linear, plan.linear.node
    draft.anchor = node
    bias = bias_vector(draft, linear)
    end = node.outputs[0]
    adder = draft.sole_user(end) if node.op == "MatMul" else None
    if adder is not None and adder.op == "Add":
        whole = read_linear(draft, adder)
        if whole is not None and whole.node is node:
            bias, end = bias_vector(draft, whole), adder.outputs[0]
    active = activation_of(draft, end)
    outputs, inputs = plan.weight.shape[:2]
    attributes: dict[str, Value] = {"activation": active.number, "low": active.low, "high": active.high}
    if plan.op == "BlockSparseConv":
        attributes |= {
            "in_channels": inputs,
            "out_channels": outputs,
            "kernel_shape": [int(size) for size in plan.weight.shape[2:]],
            "strides": integers(draft, node, "strides", 9) or [1, 1],
            "dilations": integers(draft, node, "dilations", 9) or [1, 1],
            "pads": integers(draft, node, "pads", 9) or [0, 0, 0, 0],
        }
    else:
        attributes |= {"in_features": inputs, "out_features": outputs}
    blocks = pack(plan.weight, plan.width)
    stem = linear.weight.name
    made = draft.op(
        plan.op,
        node.inputs[0],
        draft.add_constant(
            blocks.blocks, f"{stem}_blocks", (linear.weight, "the blocks that are not zero of")
        ),
        draft.add_constant(blocks.positions, f"{stem}_positions"),
        draft.add_constant(bias.astype(np.float32), f"{stem}_bias"),
        like=active.output,
        domain=custom_ops.DOMAIN,
        attrs=custom_ops.find(plan.op).filled(attributes),
    )
    draft.replace(active.output, made)
