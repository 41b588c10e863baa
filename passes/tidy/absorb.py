"""Maps per channel (batch norms, products with and sums of constant vectors) move into linear neighbours.

Exact in real arithmetic: new numbers are computed in float64 and rounded once.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Array, Model
from graphrewrite.match import FEW, Draft, Rule, RuleSet, refuse, rule
from graphrewrite.match.rules import Result
from graphrewrite.passes.tidy.family import tidy
from graphrewrite.passes.tidy.linear import (
    Affine,
    Linear,
    answer_to,
    bias_vector,
    input_channels,
    is_inference_batchnorm,
    is_padded,
    read_affine,
    read_linear,
    rebuild,
    scaled,
    scaled_inputs,
)
from graphrewrite.passes.tidy.reading import bytes_of, ends_gelu, integer, real, source
from graphrewrite.pipeline import Claim, Context, Outcome, Same, passes

_ARITHMETIC = ("Mul", "Div", "Add", "Sub")


class _Absorbing(Rule):
    """Common to both directions: how much a copy of a shared weight may cost."""

    def __init__(self, ops: tuple[str, ...], name: str, max_copy: int) -> None:
        self.ops = frozenset(ops)
        self.name = name
        self.reach = 3
        self.max_copy = max_copy

    def check_copy(self, draft: Draft, linear: Linear) -> None:
        """Refuse where a weight with other readers would have to be copied and is large."""
        size = bytes_of(draft, linear.weight) or 0
        if draft.use_count(linear.weight) > 1 and size > self.max_copy:
            refuse(
                f"the weight {linear.weight.name!r} ({size / 1e6:.1f} MB) has other readers and would be copied"
            )


class AbsorbAfter(_Absorbing):
    """A linear node takes over the map per channel behind it."""

    def apply(self, draft: Draft, node: gs.Node) -> Result:
        """Fold the map at `node` into what feeds it."""
        for side in range(min(2, len(node.inputs))):
            linear = read_linear(draft, draft.producer(node.inputs[side]))
            if linear is None:
                continue
            affine = read_affine(draft, node, side, linear.axis, linear.channels)
            if affine is None:
                continue
            return self._fold(draft, node, linear, affine)
        return False

    def _fold(self, draft: Draft, node: gs.Node, linear: Linear, affine: Affine) -> Result:
        pure = affine.is_pure_scale
        if not pure and not linear.takes_shift():
            return False
        if not draft.feeds_only(linear.output, node):
            refuse(f"the output of {linear.last.name or linear.last.op} has other readers")
        self.check_copy(draft, linear)
        bias = (
            None if pure and linear.bias is None else bias_vector(draft, linear) * affine.scale + affine.shift
        )
        weight = scaled(draft, linear, affine.scale)
        _check_range(draft, linear, weight, bias)
        how = f"{node.op} folded in"
        new = rebuild(draft, linear, linear.node.inputs[0], weight, bias, node.outputs[0], how)
        return draft.replace(node.outputs[0], new)


class AbsorbBefore(_Absorbing):
    """Linear nodes take over the map per channel before them; all readers of it have to."""

    def __init__(self, ops: tuple[str, ...], name: str, max_copy: int) -> None:
        super().__init__(("Conv", "ConvTranspose", "Gemm", "MatMul"), name, max_copy)
        self.maps = frozenset(ops)

    def apply(self, draft: Draft, node: gs.Node) -> Result:
        """Fold the map that feeds the linear node `node` into it."""
        maker = draft.producer(node.inputs[0])
        if maker is None or maker.op not in self.maps or ends_gelu(draft, maker):
            return False
        users = draft.users(maker.outputs[0])
        if draft.is_output(maker.outputs[0]) or len(users) > FEW:
            return False
        found = [self._foldable(draft, maker, user) for user in users]
        if not all(found):
            return False
        own = next(pair for pair, user in zip(found, users, strict=True) if user is node)
        assert own is not None
        linear, affine, x = own
        if read_linear(draft, maker) is not None:
            return False  # a bias behind a MatMul stays one with it
        self.check_copy(draft, linear)
        bias = None
        if linear.bias is not None or not affine.is_pure_scale:
            bias = bias_vector(draft, linear)
            if not affine.is_pure_scale:
                bias = bias + answer_to(draft, linear, affine.shift)
        weight = scaled_inputs(draft, linear, affine.scale) * (
            real(node, "alpha", 1.0) if node.op == "Gemm" else 1.0
        )
        _check_range(draft, linear, weight, bias)
        new = rebuild(draft, linear, x, weight, bias, linear.output, f"{maker.op} before it folded in")
        return draft.replace(linear.output, new)

    def _foldable(
        self, draft: Draft, maker: gs.Node, user: gs.Node
    ) -> tuple[Linear, Affine, gs.Tensor] | None:
        linear = read_linear(draft, user)
        if linear is None or user.inputs[0] is not maker.outputs[0] or user.inputs[1] is maker.outputs[0]:
            return None
        if user.op == "MatMul":
            follower = draft.sole_user(user.outputs[0])
            linear = (
                read_linear(draft, follower) if follower is not None and follower.op == "Add" else None
            ) or linear
        if user.op == "Gemm" and integer(user, "transA", 0):
            return None
        axis = linear.axis if user.op in ("Gemm", "MatMul") else 1 - len(draft.shape(linear.weight) or ())
        for side in range(min(2, len(maker.inputs))):
            affine = read_affine(draft, maker, side, axis, input_channels(draft, linear))
            if affine is None:
                continue
            if affine.is_pure_scale:
                return linear, affine, maker.inputs[side]
            # A shifted input and padding with zeros do not mix: at the edge the shift would be missing.
            if (
                linear.takes_shift()
                and (user.op != "Conv" or not is_padded(user))
                and user.op != "ConvTranspose"
            ):
                return linear, affine, maker.inputs[side]
        return None


def _check_range(draft: Draft, linear: Linear, weight: Array, bias: Array | None) -> None:
    dtype = draft.dtype(linear.weight)
    for values in (weight, bias):
        with np.errstate(over="ignore"):
            fits = values is None or bool(np.all(np.isfinite(values.astype(dtype))))
        if not fits:
            refuse(f"the folded numbers of {linear.weight.name!r} leave the range of {dtype}")


# -------------------------------------------------------------------------------- maps into norms and each other


@rule(*_ARITHMETIC, name="product or sum folded into a norm", reach=2)
def into_norm(draft: Draft, node: gs.Node) -> Result:
    """Let gain and offset of a norm take over what follows it."""
    for side in (0, 1):
        norm = draft.producer(node.inputs[side])
        if (
            norm is None
            or norm.op not in _NORM_INPUTS
            or norm.domain
            or not draft.feeds_only(norm.outputs[0], node)
        ):
            continue
        rank = draft.rank(norm.inputs[0])
        gain = source(norm, _NORM_INPUTS[norm.op][0])
        if rank is None or gain is None or not draft.is_constant(gain):
            continue
        if norm.op == "BatchNormalization" and not is_inference_batchnorm(draft, norm):
            continue
        result = _norm_with(draft, node, side, norm, gain, rank)
        if result is not None:
            return draft.replace(node.outputs[0], result)
    return False


# Positions of gain and offset among the inputs.
_NORM_INPUTS = {
    "BatchNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "GroupNormalization": (1, 2),
}


def _norm_with(
    draft: Draft, node: gs.Node, side: int, norm: gs.Node, gain: gs.Tensor, rank: int
) -> gs.Tensor | None:
    sizes = draft.shape(gain)
    offset = source(norm, 2)
    if sizes is None or (
        offset is not None and (not draft.is_constant(offset) or draft.shape(offset) != sizes)
    ):
        return None
    if norm.op == "GroupNormalization" and draft.opset < 21:
        return None  # gain per group, not per channel
    if norm.op == "LayerNormalization":
        if len(sizes) != 1 or integer(norm, "axis", -1) % rank != rank - 1:
            return None
        axis = -1
    else:
        axis = 1 - rank
    affine = read_affine(draft, node, side, axis, int(sizes[0]))  # type: ignore[arg-type]
    if affine is None:
        return None
    scale, dtype = draft.constant(gain), draft.dtype(gain)
    shift = np.zeros(1) if offset is None else draft.constant(offset)
    assert scale is not None and shift is not None
    new_gain: Array = (scale.astype(np.float64) * affine.scale).astype(dtype)
    new_shift: Array = (shift.astype(np.float64) * affine.scale + affine.shift).astype(dtype)
    inputs = list(norm.inputs)
    inputs[1] = draft.add_constant(new_gain, gain.name, (gain, f"{node.op} folded in"))
    stem = gain.name if offset is None else offset.name
    added = draft.add_constant(new_shift, stem, None if offset is None else (offset, f"{node.op} folded in"))
    if len(inputs) > 2:
        inputs[2] = added
    else:
        inputs.append(added)
    return draft.op(norm.op, *inputs, like=node.outputs[0], attrs=norm.attrs)


@rule(*_ARITHMETIC, name="constants merged", reach=3)
def constants(draft: Draft, node: gs.Node) -> Result:
    """Add or multiply once with what two constants come to."""
    outer = _constant_side(draft, node)
    if outer is None:
        return False
    side, values, power = outer
    inner_node = draft.producer(node.inputs[side])
    if inner_node is None or not draft.feeds_only(inner_node.outputs[0], node):
        return False
    inner = _constant_side(draft, inner_node)
    product = node.op in ("Mul", "Div")
    if inner is None or product != (inner_node.op in ("Mul", "Div")):
        return False
    x, dtype = inner_node.inputs[inner[0]], draft.dtype(node.inputs[1 - side])
    a, b = inner[1].astype(np.float64), values.astype(np.float64)
    joined = np.asarray(a ** inner[2] * b**power if product else inner[2] * a + power * b).astype(dtype)
    rank = draft.rank(x)
    # The joined constant must not be larger than both, nor have more axes than what it is applied to.
    if joined.size > max(a.size, b.size) or (joined.ndim and (rank is None or joined.ndim > rank)):
        return False
    if not np.all(np.isfinite(joined)):
        return False
    constant = draft.add_constant(joined, f"{node.outputs[0].name}_constant")
    made = draft.op("Mul" if product else "Add", x, constant, like=node.outputs[0])
    return draft.replace(node.outputs[0], made)


def _constant_side(draft: Draft, node: gs.Node) -> tuple[int, Array, int] | None:
    """Return (position of the other input, the constant, +1 or for Sub and Div -1) of an arithmetic node."""
    if node.op not in _ARITHMETIC or node.domain:
        return None
    for side in (0, 1):
        constant = node.inputs[1 - side]
        if not draft.is_constant(constant) or draft.is_constant(node.inputs[side]):
            continue
        dtype = draft.dtype(constant)
        if (
            dtype is None
            or dtype not in (np.float32, np.float64)
            or (side == 1 and node.op in ("Sub", "Div"))
        ):
            continue
        values = draft.constant(constant)
        if values is not None:
            return side, values, -1 if node.op in ("Sub", "Div") else 1
    return None


def rules(max_copy: int, keep_batchnorm: bool) -> RuleSet:
    """Return the rules of this family."""
    maps = _ARITHMETIC if keep_batchnorm else ("BatchNormalization", *_ARITHMETIC)
    found = RuleSet.of(
        AbsorbAfter(_ARITHMETIC, "product or sum folded into a linear node", max_copy),
        AbsorbBefore(maps, "map before a linear node folded into it", max_copy),
        into_norm,
        constants,
    )
    if not keep_batchnorm:
        found = RuleSet.of(AbsorbAfter(("BatchNormalization",), "batch norm folded", max_copy)) + found
    return found


@passes.register("fold_batchnorm")
@dataclass(frozen=True)
class FoldBatchNorm:
    """Fold inference batch norms into the linear nodes before or behind them.

    `max_copy_bytes` is how large a shared weight may be that has to be copied for it.
    """

    claim: ClassVar[Claim] = Same()

    max_copy_bytes: int = 1 << 20

    def run(self, model: Model, context: Context) -> Outcome:
        """Fold them."""
        norms = ("BatchNormalization",)
        found = RuleSet.of(
            AbsorbAfter(norms, "batch norm folded", self.max_copy_bytes),
            AbsorbBefore(norms, "batch norm folded", self.max_copy_bytes),
        )
        return tidy(model, lambda: found)


@passes.register("absorb_constants")
@dataclass(frozen=True)
class AbsorbConstants:
    """Fold products with and sums of constant vectors into linear nodes, norms and each other.

    `max_copy_bytes` is how large a shared weight may be that has to be copied for it.
    """

    claim: ClassVar[Claim] = Same()

    max_copy_bytes: int = 1 << 20

    def run(self, model: Model, context: Context) -> Outcome:
        """Fold them."""
        return tidy(model, lambda: rules(self.max_copy_bytes, keep_batchnorm=True))
