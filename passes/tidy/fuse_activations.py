"""Activations that exporters spell out become the operators the model's operator set has for them."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Model
from graphrewrite.match import Draft, Op, Pattern, PatternRule, RuleSet
from graphrewrite.match.matcher import Match
from graphrewrite.match.pattern import Drawer
from graphrewrite.passes.tidy.family import tidy
from graphrewrite.passes.tidy.reading import integer, real
from graphrewrite.pipeline import Claim, Context, Outcome, Same, passes

_NAME = "activation fused"
_HALF = math.sqrt(0.5)
_TANH_SCALE = math.sqrt(2.0 / math.pi)
_CUBIC = 0.044715


class _Gelu(PatternRule):
    name = _NAME
    opsets = range(20, 1 << 16)
    approximate = "none"

    def inner(self, p: Drawer) -> Pattern:
        """Draw 1 + erf(x / sqrt 2), or its approximation."""
        scaled = p.one_of(p.Div(p.x, p.number(1 / _HALF)), p.Mul(p.x, p.number(_HALF)))
        return p.Add(p.Erf(scaled), p.number(1.0))

    def where(self, m: Match) -> None:
        """Floats of the same type all through."""
        m.require(m.draft.dtype(m.tensor("x")) in (np.float16, np.float32, np.float64), "not a float type")

    def build(self, b: Draft, m: Match) -> gs.Tensor:
        """Make the Gelu."""
        return b.op("Gelu", m.tensor("x"), like=m.root.outputs[0], approximate=self.approximate)


class GeluHalfLast(_Gelu):
    """(x * (1 + erf)) * 0.5."""

    def find(self, p: Drawer) -> Op:
        """Draw it."""
        return p.Mul(p.Mul(p.x, self.inner(p)), p.number(0.5))


class GeluHalfOnX(_Gelu):
    """(x * 0.5) * (1 + erf)."""

    def find(self, p: Drawer) -> Op:
        """Draw it."""
        return p.Mul(p.Mul(p.x, p.number(0.5)), self.inner(p))


class GeluHalfInside(_Gelu):
    """x * (0.5 * (1 + erf))."""

    def find(self, p: Drawer) -> Op:
        """Draw it."""
        return p.Mul(p.x, p.Mul(self.inner(p), p.number(0.5)))


class _GeluTanh(_Gelu):
    approximate = "tanh"

    def inner(self, p: Drawer) -> Pattern:
        """Draw 1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))."""
        cube = p.one_of(p.Pow(p.x, p.number(3.0)), p.Mul(p.x, p.Mul(p.x, p.x)))
        polynomial = p.Add(p.x, p.Mul(cube, p.number(_CUBIC)))
        return p.Add(p.Tanh(p.Mul(polynomial, p.number(_TANH_SCALE))), p.number(1.0))


class GeluTanhHalfLast(_GeluTanh, GeluHalfLast):
    """(x * (1 + tanh)) * 0.5."""


class GeluTanhHalfOnX(_GeluTanh, GeluHalfOnX):
    """(x * 0.5) * (1 + tanh)."""


class GeluTanhHalfInside(_GeluTanh, GeluHalfInside):
    """x * (0.5 * (1 + tanh))."""


def _is_gate(m: Match, name: str) -> bool:
    """Tell whether a HardSigmoid is the gate of HardSwish: slope 1/6, offset 1/2."""
    node = m.node(name)
    return abs(real(node, "alpha", 0.2) - 1 / 6) < 1e-6 and abs(real(node, "beta", 0.5) - 0.5) < 1e-6


class HardSwish(PatternRule):
    """x * HardSigmoid(x)."""

    name = _NAME
    opsets = range(14, 1 << 16)

    def find(self, p: Drawer) -> Op:
        """Draw it."""
        return p.Mul(p.x, p.HardSigmoid(p.x).named("gate"))

    def where(self, m: Match) -> None:
        """Only with the slope and offset HardSwish has."""
        m.require(_is_gate(m, "gate"), "another slope or offset than HardSwish has")
        m.require(m.draft.dtype(m.tensor("x")) == np.float32, "not float32")

    def build(self, b: Draft, m: Match) -> gs.Tensor:
        """Make the HardSwish."""
        return b.op("HardSwish", m.tensor("x"), like=m.root.outputs[0])


class _ClipGate(PatternRule):
    name = _NAME
    opsets = range(11, 1 << 16)

    def clip(self, p: Drawer) -> Op:
        """Draw the clip of x + 3 to 0 and 6."""
        return p.Clip(p.Add(p.x, p.number(3.0)), p.number(0.0), p.number(6.0))

    def where(self, m: Match) -> None:
        """Only in single precision."""
        m.require(m.draft.dtype(m.tensor("x")) == np.float32, "not float32")


class HardSigmoid(_ClipGate):
    """clip(x + 3, 0, 6) / 6."""

    def find(self, p: Drawer) -> Op:
        """Draw it."""
        return p.Div(self.clip(p), p.number(6.0))

    def build(self, b: Draft, m: Match) -> gs.Tensor:
        """Make the HardSigmoid."""
        return b.op("HardSigmoid", m.tensor("x"), like=m.root.outputs[0], alpha=1 / 6, beta=0.5)


class HardSwishClip(_ClipGate):
    """x * clip(x + 3, 0, 6) / 6."""

    opsets = range(14, 1 << 16)

    def find(self, p: Drawer) -> Op:
        """Draw it."""
        return p.Div(p.Mul(p.x, self.clip(p)), p.number(6.0))

    def build(self, b: Draft, m: Match) -> gs.Tensor:
        """Make the HardSwish."""
        return b.op("HardSwish", m.tensor("x"), like=m.root.outputs[0])


class Mish(PatternRule):
    """x * tanh(softplus(x))."""

    name = _NAME
    opsets = range(18, 1 << 16)

    def find(self, p: Drawer) -> Op:
        """Draw it."""
        return p.Mul(p.x, p.Tanh(p.Softplus(p.x)))

    def where(self, m: Match) -> None:
        """Only in single precision."""
        m.require(m.draft.dtype(m.tensor("x")) == np.float32, "not float32")

    def build(self, b: Draft, m: Match) -> gs.Tensor:
        """Make the Mish."""
        return b.op("Mish", m.tensor("x"), like=m.root.outputs[0])


class LogSoftmax(PatternRule):
    """log(softmax(x))."""

    name = _NAME

    def find(self, p: Drawer) -> Op:
        """Draw it."""
        return p.Log(p.Softmax(p.x).named("softmax"))

    def where(self, m: Match) -> None:
        """Only where nothing else reads the softmax."""
        m.require(m.draft.feeds_only(m.node("softmax").outputs[0], m.root), "the softmax has other readers")

    def build(self, b: Draft, m: Match) -> gs.Tensor:
        """Make the LogSoftmax, along the same axis."""
        default = 1 if b.opset < 13 else -1
        axis = integer(m.node("softmax"), "axis", default)
        return b.op("LogSoftmax", m.tensor("x"), like=m.root.outputs[0], axis=axis)


class Difference(PatternRule):
    """a + (-b)."""

    name = "sign or inverse merged"

    def find(self, p: Drawer) -> Op:
        """Draw it."""
        return p.Add(p.a, p.Neg(p.b))

    def build(self, b: Draft, m: Match) -> gs.Tensor:
        """Make the Sub."""
        return b.op("Sub", m.tensor("a"), m.tensor("b"), like=m.root.outputs[0])


class Quotient(PatternRule):
    """a * (1 / b)."""

    name = "sign or inverse merged"

    def find(self, p: Drawer) -> Op:
        """Draw it."""
        return p.Mul(p.a, p.one_of(p.Reciprocal(p.b), p.Div(p.number(1.0, "one"), p.b)))

    def where(self, m: Match) -> None:
        """Only for floats: whole numbers divide otherwise."""
        dtype = m.draft.dtype(m.tensor("b"))
        m.require(dtype is not None and dtype.kind == "f", "not a float type")
        m.require(not m.has("one") or m.draft.shape(m.tensor("one")) == (), "the one has axes of its own")

    def build(self, b: Draft, m: Match) -> gs.Tensor:
        """Make the Div."""
        return b.op("Div", m.tensor("a"), m.tensor("b"), like=m.root.outputs[0])


RULES = RuleSet.of(
    GeluHalfLast(),
    GeluHalfOnX(),
    GeluHalfInside(),
    GeluTanhHalfLast(),
    GeluTanhHalfOnX(),
    GeluTanhHalfInside(),
    HardSwishClip(),
    HardSwish(),
    HardSigmoid(),
    Mish(),
    LogSoftmax(),
    Difference(),
    Quotient(),
)


@passes.register("fuse_activations")
@dataclass(frozen=True)
class FuseActivations:
    """Write spelled-out activations as the operators the model has for them."""

    claim: ClassVar[Claim] = Same()

    def run(self, model: Model, context: Context) -> Outcome:
        """Fuse them."""
        return tidy(model, lambda: RULES)
