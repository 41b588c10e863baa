"""Small graphs, what a tidy pass must make of them, and the proof that outputs stayed the same."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite import Context, Model, Outcome, Pass
from graphrewrite.ir import Builder
from graphrewrite.ir.check import check
from graphrewrite.pipeline import compare
from graphrewrite.runtime import run, sample_inputs

# float32, sums in another order.
CLOSE = 1e-5


@dataclass(frozen=True)
class Case:
    """A graph drawn by `draw` and the operators that are left of it, in any order, as one text."""

    name: str
    draw: Callable[[Builder], gs.Tensor | Sequence[gs.Tensor]]
    after: str
    opset: int = 17
    dtypes: tuple[npt.DTypeLike, ...] | None = None
    ir_version: int = 8

    def model(self) -> Model:
        """The drawn model."""
        b = Builder(self.opset, ir_version=self.ir_version)
        drawn = self.draw(b)
        outputs = [drawn] if isinstance(drawn, gs.Tensor) else list(drawn)
        return b.model(*outputs, dtypes=self.dtypes)

    def __str__(self) -> str:
        return self.name


def operators(model: Model) -> str:
    """The operators of the main graph, sorted, as one text."""
    return " ".join(sorted(node.op for node in model.graph.nodes))


def tidied(model: Model, step: Pass) -> Outcome:
    """Run a pass over a clone and prove what every tidy pass promises; the original is not touched."""
    before = model.to_proto().SerializeToString(deterministic=True)
    outcome = step.run(model.clone(), Context())
    assert model.to_proto().SerializeToString(deterministic=True) == before, "the input model was changed"
    prove_same(model, outcome.model)
    assert outcome.changed == (model.to_proto() != outcome.model.to_proto()), "`changed` is not honest"
    return outcome


def prove_same(model: Model, result: Model, tolerance: float = CLOSE) -> None:
    """Same interface, sound graph, equal outputs at two sets of sizes."""
    check(result)
    for name in ("inputs", "outputs"):
        old, new = getattr(model, name), getattr(result, name)
        assert [(t.name, t.dtype, t.shape) for t in old] == [(t.name, t.dtype, t.shape) for t in new]
    for world in (0, 1):
        feeds = sample_inputs(model, seed=7, world=world)
        errors = compare(run(model, feeds), run(result, feeds))
        assert max(errors.values()) <= tolerance, errors


def verify(case: Case, step: Pass) -> None:
    """The pass leaves exactly the operators the case names, equal outputs, and nothing to do for a second run."""
    outcome = tidied(case.model(), step)
    assert operators(outcome.model) == " ".join(sorted(case.after.split()))
    again = step.run(outcome.model.clone(), Context())
    assert not again.changed and again.details["done"] == {}


def names_of(model: Model) -> Counter[str]:
    """How often each operator occurs."""
    return Counter(node.op for node in model.graph.nodes)


def floats(*shape: int, seed: int = 3) -> npt.NDArray[np.float32]:
    """Random numbers that are neither 0 nor 1."""
    return (np.random.default_rng(seed).standard_normal(shape) + 3.0).astype(np.float32)


def ints(*values: int) -> npt.NDArray[np.int64]:
    """A vector of int64."""
    return np.asarray(values, dtype=np.int64)
