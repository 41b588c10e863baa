"""Norms and reductions that exporters spell out become single operators, where the operator set has them."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Model
from graphrewrite.match import Draft, Op, Pattern, PatternRule, RuleSet
from graphrewrite.match.matcher import Match
from graphrewrite.match.pattern import Drawer
from graphrewrite.passes.tidy.family import tidy
from graphrewrite.passes.tidy.reading import axes, integer
from graphrewrite.pipeline import Claim, Context, Outcome, Same, passes

_NAME = "norm fused"
# Beyond this many elements a gain of ones would cost more than the nodes it saves.
_LARGEST_GAIN = 1 << 16


def _square(p: Drawer, x: Pattern) -> Pattern:
    return p.one_of(p.Pow(x, p.number(2.0)), p.Mul(x, x))


def _deviation(p: Drawer, squares: Pattern, name: str) -> Op:
    """Draw sqrt(mean(squares) + epsilon)."""
    return p.Sqrt(p.Add(p.ReduceMean(squares, ...).named(name), p.number(name="epsilon")))


def _normalised(m: Match, *names: str) -> tuple[int, ...] | None:
    """Return the sizes of the axes that all the named reductions keep and average: the last ones, all static."""
    shape = m.draft.shape(m.tensor("x"))
    if shape is None:
        return None
    chosen = [axes(m.draft, m.node(name), len(shape)) for name in names]
    first = chosen[0]
    if not first or any(other != first for other in chosen):
        return None
    if first != list(range(first[0], len(shape))) or not all(
        integer(m.node(name), "keepdims", 1) for name in names
    ):
        return None
    sizes = shape[first[0] :]
    if not all(isinstance(size, int) for size in sizes):
        return None
    return tuple(int(size) for size in sizes)  # type: ignore[arg-type]


def _require_norm(m: Match, *names: str) -> None:
    sizes = _normalised(m, *names)
    m.require(sizes is not None, "it does not average the last axes")
    m.require(int(np.prod(sizes or ())) <= _LARGEST_GAIN, "the gain it needs would be large")
    m.require(m.draft.dtype(m.tensor("x")) in (np.float32, np.float64), "not float32 or float64")
    m.require(m.draft.constant(m.tensor("epsilon")) is not None, "epsilon is not constant")


class LayerNorm(PatternRule):
    """(x - mean) / sqrt(variance + epsilon); gain and offset, if any, move in afterwards."""

    name = _NAME
    opsets = range(17, 1 << 16)

    def find(self, p: Drawer) -> Op:
        """Draw it."""
        centred = p.Sub(p.x, p.ReduceMean(p.x, ...).named("mean")).named("centred")
        return p.Div(centred, _deviation(p, _square(p, centred), "variance"))

    def where(self, m: Match) -> None:
        """Over the last axes, all of static size."""
        _require_norm(m, "mean", "variance")

    def build(self, b: Draft, m: Match) -> gs.Tensor:
        """Make the LayerNormalization with a gain of ones."""
        sizes = _normalised(m, "mean", "variance") or ()
        out = m.root.outputs[0]
        gain = b.add_constant(np.ones(sizes, dtype=b.dtype(m.tensor("x"))), f"{out.name}_gain")
        return b.op(
            "LayerNormalization", m.tensor("x"), gain, like=out, axis=-len(sizes), epsilon=m.number("epsilon")
        )


class RmsNorm(PatternRule):
    """x / sqrt(mean(x^2) + epsilon); a gain, if any, moves in afterwards."""

    name = _NAME
    opsets = range(23, 1 << 16)

    def find(self, p: Drawer) -> Op:
        """Draw it."""
        return p.Div(p.x, _deviation(p, _square(p, p.x), "power"))

    def where(self, m: Match) -> None:
        """Over the last axes, all of static size."""
        _require_norm(m, "power")

    def build(self, b: Draft, m: Match) -> gs.Tensor:
        """Make the RMSNormalization with a gain of ones."""
        sizes = _normalised(m, "power") or ()
        out = m.root.outputs[0]
        gain = b.add_constant(np.ones(sizes, dtype=b.dtype(m.tensor("x"))), f"{out.name}_gain")
        return b.op(
            "RMSNormalization", m.tensor("x"), gain, like=out, axis=-len(sizes), epsilon=m.number("epsilon")
        )


class _Reduction(PatternRule):
    name = "reduction fused"
    into = ""

    def where(self, m: Match) -> None:
        """Only where nothing else reads what lies between."""
        m.require(m.draft.dtype(m.tensor("x")) in (np.float32, np.float64), "not float32 or float64")
        inner = m.node("reduction") if m.has("reduction") else m.root
        before = m.draft.producer(inner.inputs[0])
        m.require(
            (inner is m.root or m.draft.feeds_only(inner.outputs[0], m.root))
            and before is not None
            and m.draft.feeds_only(before.outputs[0], inner),
            "what lies between has other readers",
        )

    def build(self, b: Draft, m: Match) -> gs.Tensor:
        """Make the reduction with the axes of the one it replaces, in the form of its own version."""
        inner = m.node("reduction") if m.has("reduction") else m.root
        attrs = dict(inner.attrs)
        inputs = list(inner.inputs)[1:]
        # ReduceSum takes axes as an input since version 13, the others since 18.
        if b.opset < 18 and inputs:
            chosen = axes(b, inner, b.rank(m.tensor("x")) or 0)
            if chosen is not None:
                attrs["axes"] = chosen
            attrs.pop("noop_with_empty_axes", None)
            inputs = []
        return b.op(self.into, m.tensor("x"), *inputs, like=m.root.outputs[0], attrs=attrs)


class _FromSum(_Reduction):
    def where(self, m: Match) -> None:
        """Also: the axes are known where they have to be written as an attribute."""
        super().where(m)
        inner = m.node("reduction") if m.has("reduction") else m.root
        rank = m.draft.rank(m.tensor("x"))
        given = len(inner.inputs) > 1 and not inner.inputs[1].is_empty()
        known = rank is not None and axes(m.draft, inner, rank) is not None
        m.require(not given or m.draft.opset >= 18 or known, "its axes are not known")
        m.require(
            not integer(inner, "noop_with_empty_axes", 0)
            or (given and known and bool(axes(m.draft, inner, rank or 0))),
            "it may reduce nothing",
        )


class ReduceL2(_FromSum):
    """sqrt(sum(x^2))."""

    into = "ReduceL2"

    def find(self, p: Drawer) -> Op:
        """Draw it."""
        return p.Sqrt(p.ReduceSum(_square(p, p.x), ...).named("reduction"))


class ReduceL1(_FromSum):
    """sum(|x|)."""

    into = "ReduceL1"

    def find(self, p: Drawer) -> Op:
        """Draw it."""
        return p.ReduceSum(p.Abs(p.x), ...)


class ReduceSumSquare(_FromSum):
    """sum(x^2)."""

    into = "ReduceSumSquare"

    def find(self, p: Drawer) -> Op:
        """Draw it."""
        return p.ReduceSum(_square(p, p.x), ...)

    def where(self, m: Match) -> None:
        """Also: no root of it is taken, which would be a better fit."""
        super().where(m)
        user = m.draft.sole_user(m.root.outputs[0])
        m.require(user is None or user.op != "Sqrt", "it is part of a ReduceL2")


class ReduceLogSumExp(_FromSum):
    """log(sum(exp(x)))."""

    into = "ReduceLogSumExp"

    def find(self, p: Drawer) -> Op:
        """Draw it."""
        return p.Log(p.ReduceSum(p.Exp(p.x), ...).named("reduction"))


RULES = RuleSet.of(LayerNorm(), RmsNorm(), ReduceL2(), ReduceL1(), ReduceLogSumExp(), ReduceSumSquare())


@passes.register("fuse_norms")
@dataclass(frozen=True)
class FuseNorms:
    """Write spelled-out norms and reductions as the operators the model has for them."""

    claim: ClassVar[Claim] = Same()

    def run(self, model: Model, context: Context) -> Outcome:
        """Fuse them."""
        return tidy(model, lambda: RULES)
