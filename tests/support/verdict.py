"""Everything that must hold of a cut, as a list of what does not.

`cut_faults` asks of one cut: is it a sound model, does it equal the masked original, do the shapes it declares agree
with what comes out, and did the analysis foretell its multiply-accumulates and parameters to the last one? The two
counts come from different code: `Groups` counts labels, `graphrewrite.cost` reads the shapes of the cut model.
"""

from collections.abc import Iterator, Sequence
from math import prod
from typing import NamedTuple

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite import cost
from graphrewrite.dims import Groups, Shrunk, groups, shrink
from graphrewrite.errors import BudgetError
from graphrewrite.ir import Model, infer
from graphrewrite.ir.check import check
from graphrewrite.ir.edit import all_graphs
from graphrewrite.passes.channels import MacsBelow, Ratio, RemoveChannels
from graphrewrite.pipeline import Context
from tests.support.oracles import (
    STEPS,
    Mask,
    is_rounding,
    random_dead,
    removal_error,
    run_all,
    worlds,
)
from tests.support.tolerances import FLOAT32, Array, largest


class Fault(NamedTuple):
    """What does not hold: `kind` in a word or two (a smaller graph with the same kind has the same fault)."""

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


def model_faults(model: Model, seed: int, cuts: int = 2, budget: bool = True) -> list[Fault]:
    """Return what is wrong with random cuts of a model, and with one chosen by a budget; an exception is a fault."""
    try:
        found = groups(model)
        rng = np.random.default_rng([seed, 5])
        faults = [fault for _ in range(cuts) for fault in cut_faults(model, found, random_dead(found, rng))]
        return faults + (list(budget_faults(model)) if budget else [])
    except Exception as error:
        return [Fault(f"raises {type(error).__name__}", str(error))]


def cut_faults(model: Model, found: Groups, dead: Mask) -> Iterator[Fault]:
    """Yield what does not hold of one cut."""
    shrunk = shrink(found.analysis, found.dead_labels(dead))
    yield from count_faults(model, found, dead, shrunk)
    yield from declared_faults(shrunk.model)
    error = removal_error(model, found, dead)
    if error > FLOAT32:
        yield Fault("differs", f"a cut of {int(dead.sum())} units is off by {error:.1e}")


def budget_faults(model: Model) -> Iterator[Fault]:
    """Yield what is wrong with a cut to half of the operations, or of half of every layer where that cannot be had."""
    try:
        outcome = RemoveChannels(budget=MacsBelow(0.5)).run(model.clone(), Context(threads=1))
    except BudgetError:
        outcome = RemoveChannels(budget=Ratio(0.5), scope="uniform").run(model.clone(), Context(threads=1))
    if outcome.reference is None:
        return
    check(outcome.model)
    slow = outcome.reference()
    error = _difference(outcome.model, slow, 0)
    if error > FLOAT32 and not is_rounding(error, worlds(model), outcome.model, slow):
        if any(node.op in STEPS for node in model.graph.nodes):
            error = min(error, _difference(outcome.model, slow, 1))
        if error > FLOAT32:
            yield Fault("budget differs", f"a cut to a budget is off by {error:.1e}")


def _difference(cut: Model, slow: Model, seed: int) -> float:
    data = worlds(cut, seed)
    return max(largest(got, want) for got, want in zip(run_all(cut, data), run_all(slow, data), strict=True))


# ------------------------------------------------------------------------------------------------ counts


def count_faults(model: Model, found: Groups, dead: Mask, shrunk: Shrunk) -> Iterator[Fault]:
    """Compare the counts that the labels foretell with a count of the cut model; both are whole numbers.

    What the analysis does not follow (a convolution it refuses, say) is the difference of the two on the uncut model,
    and must not change.
    """
    before, after = cost.of(model, found.analysis.info), cost.of(shrunk.model)
    if after.unsized and not before.unsized:
        yield Fault("unsized", f"no sizes are known of {', '.join(after.unsized)}")
        return
    macs = found.macs(dead) + before.macs - found.macs()
    if abs(macs - after.macs) > 0.5:
        yield Fault("macs", f"foretold {macs:.1f}, counted {after.macs}")
    params = found.params(dead) + before.params - found.params() + _of_copies(found, dead, shrunk)
    if abs(params - after.params) > 0.5:
        yield Fault("params", f"foretold {params:.1f}, counted {after.params}")


def _of_copies(found: Groups, dead: Mask, shrunk: Shrunk) -> int:
    """Return how many more numbers there are because one constant became several, each cut for its own readers.

    The analysis counts a constant once, as its first use keeps it.
    """
    total, left = 0, {name: array.size for name, array in _stored(shrunk.model).items()}
    for name in set(shrunk.copied_from.values()):
        use = next(use for use in found.analysis.weights.values() if use.name == name)
        dtype = np.dtype(found.analysis.info.dtype(name) or np.float32)
        if dtype.kind in "biuO" and not (dtype.kind in "iu" and dtype.itemsize <= 2):  # quantised ones count
            continue
        kept = [shrunk.kept_of(axis) for axis in use.axes]
        if use.per_group is not None:
            positions = shrunk.kept_of(use.per_group.axis)
            if positions is not None:
                kept = [np.unique(positions // (use.per_group.axis.sizes[0] // use.per_group.groups))]
        foretold = prod(
            axis.sizes[0] if positions is None else len(positions)
            for axis, positions in zip(use.axes, kept, strict=True)
        )
        copies = [copy for copy, source in shrunk.copied_from.items() if source == name]
        total += left.get(name, 0) + sum(left[copy] for copy in copies) - foretold
    return total


def _stored(model: Model) -> dict[str, Array]:
    stored: dict[str, Array] = {}
    for graph in all_graphs(model.graph):
        stored.update((name, constant.values) for name, constant in graph.initializers.items())
        for node in graph.nodes:
            if node.op == "Constant" and isinstance(node.attrs.get("value"), gs.Constant):
                stored[node.outputs[0].name] = node.attrs["value"].values
    return stored


# ------------------------------------------------------------------------------------------------ declared shapes


def declare(model: Model, share: float = 1.0, seed: int = 0) -> None:
    """Write inferred shapes and types on intermediate tensors, as exporters do; unknown sizes stay open."""
    rng, info = np.random.default_rng(seed), infer(model)
    for node in model.graph.nodes:
        for tensor in node.outputs:
            shape, dtype = info.shape(tensor.name), info.dtype(tensor.name)
            if not tensor.name or shape is None or dtype is None or rng.random() >= share:
                continue
            if not isinstance(tensor, gs.Variable) or tensor.shape is not None:
                continue
            tensor.shape = [size if isinstance(size, int) else None for size in shape]
            tensor.dtype = np.dtype(dtype)


def declared_faults(model: Model) -> Iterator[Fault]:
    """Yield tensors that come out with another shape than the model declares for them."""
    declared = {
        tensor.name: tensor.shape
        for tensor in _written(model)
        if tensor.shape is not None and tensor.dtype is not None
    }
    if not declared:
        return
    for values in run_all(model, worlds(model), sorted(declared)):
        for name, shape in declared.items():
            got = values[name].shape
            if len(got) != len(shape) or any(
                isinstance(size, int) and size != there for size, there in zip(shape, got, strict=True)
            ):
                yield Fault("declared shape", f"{name} is declared {list(shape)} and comes out {list(got)}")
                return


def _written(model: Model) -> Sequence[gs.Variable]:
    return [
        tensor
        for node in model.graph.nodes
        for tensor in node.outputs
        if isinstance(tensor, gs.Variable) and tensor.name
    ]
