"""Small passes, honest and dishonest, for the tests of the pipeline."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from graphrewrite.ir import Builder, Model
from graphrewrite.pipeline import Bounded, Claim, Context, Free, Note, Outcome, Same, SameAs


def residual() -> Model:
    """x -> conv a -> relu -> conv b -> (+ relu) -> pool -> linear, batch symbolic, all tensors named."""
    b = Builder(seed=3)
    x = b.input(["N", 3, 8, 8], "x")
    a = b.relu(b.conv(x, out=4, into=3, name="a"))
    joined = b.add(a, b.conv(a, out=4, into=4, name="b"))
    flat = b.op("Flatten", b.op("GlobalAveragePool", joined, name="pool"), axis=1)
    return b.model(b.linear(flat, out=5, into=4, name="head"))


def weight_of(model: Model, node: str) -> str:
    """Name of the weight of the node called so."""
    return str(next(n for n in model.graph.nodes if n.name == node).inputs[1].name)


@dataclass(frozen=True)
class Nothing:
    claim: ClassVar[Claim] = Same()

    def run(self, model: Model, context: Context) -> Outcome:
        return Outcome(model, False, (Note("skipped", "model", "nothing to do"),))


@dataclass(frozen=True)
class Scale:
    """Multiplies one weight; claims to change nothing, which holds for a factor of almost one."""

    node: str = "b"
    factor: float = 1.0 + 1e-6

    claim: ClassVar[Claim] = Same()

    def run(self, model: Model, context: Context) -> Outcome:
        name = weight_of(model, self.node)
        model.weights[name] = np.multiply(model.weights[name], np.float32(self.factor))
        return Outcome(model, True, (Note("done", name, "scaled"),))


@dataclass(frozen=True)
class ScaleFreely(Scale):
    claim: ClassVar[Claim] = Free()


@dataclass(frozen=True)
class ScaleBounded(Scale):
    claim: ClassVar[Claim] = Bounded("relative_error", 0.05)


@dataclass(frozen=True)
class ScaleAs(Scale):
    """Claims to equal a reference that scales by `promised`."""

    promised: float = 1.0

    claim: ClassVar[Claim] = SameAs()

    def run(self, model: Model, context: Context) -> Outcome:
        original = model.clone()
        outcome = super().run(model, context)

        def reference() -> Model:
            return Scale(self.node, self.promised).run(original, context).model

        return Outcome(outcome.model, True, reference=reference)


@dataclass(frozen=True)
class Edit:
    """Does anything to the model, and says what it is told to say."""

    edit: Callable[[Model], None] = field(repr=False)
    says_changed: bool = True

    claim: ClassVar[Claim] = Free()

    def run(self, model: Model, context: Context) -> Outcome:
        self.edit(model)
        return Outcome(model, self.says_changed)
