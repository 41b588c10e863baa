"""Shapes, element types and small values of every tensor, with symbolic sizes, in one forward sweep.

`infer(model)` costs some ten microseconds per node and runs nothing. A size is an int (the same for all inputs) or a
`Sym`. A value is known when it hangs on the sizes of the inputs only, never on their contents.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from graphrewrite.ir.check import check_recursion
from graphrewrite.ir.garbage import paused
from graphrewrite.ir.model import Model
from graphrewrite.ir.shape_rules import Functions, Sweep
from graphrewrite.ir.shape_rules.call import VALUE_LIMIT, Elements, Fact, Shape
from graphrewrite.ir.shape_rules.evaluate import in_world
from graphrewrite.ir.symbols import Dim, Real, Sym, Symbols, sample_of
from graphrewrite.ir.values import Array
from graphrewrite.ir.worlds import declare_inputs, first_sizes, other_sizes

# How often other sample sizes are tried when the first ones contradict the graph.
_TRIALS = 24

# Sizes and type of each element of a sequence.
Parts: TypeAlias = tuple[tuple[tuple[int, ...], np.dtype[np.generic] | None], ...]
NO_LISTS: Mapping[str, Parts] = MappingProxyType({})


@paused()
def infer(model: Model, lists: Mapping[str, Parts] = NO_LISTS) -> "ShapeInfo":
    """Find out the shapes, types and small values of all tensors of the main graph.

    The sample sizes of symbolic inputs are chosen so that they fit the graph as far as a few trials can tell: a
    convolution's input is made large enough, an axis that meets a constant one gets its size.

    `lists` says of inputs that are sequences what each of their elements is: a declaration knows one type for all.

    Raises:
        InvalidModel: a local function calls itself.
    """
    check_recursion(model.functions)
    functions = Functions(model.functions)
    sizes = first_sizes(model.inputs)
    tried = [sizes]
    best: Sweep | None = None
    best_sizes = sizes
    for _ in range(_TRIALS):
        symbols = Symbols()
        sweep = Sweep(symbols, model.opsets, functions)
        sweep.declare(model.graph.initializers.values())
        declare_inputs(sweep, model.inputs, sizes)
        sweep.sequences |= {
            name: Elements(tuple(Fact(*part) for part in parts)) for name, parts in lists.items()
        }
        sweep.run(model.graph.nodes)
        for tensor in model.graph.outputs:
            sweep.settle(tensor)
        for name, known in sweep.inside.items():
            if name not in sweep.dtypes and name not in sweep.shapes:
                sweep.assume(name, known)
        improved = best is None or _trouble(sweep) < _trouble(best)
        if improved:
            best, best_sizes = sweep, sizes
        if not _trouble(sweep):
            break
        changed = other_sizes(symbols, tried, improved)
        if changed is None:
            break
        tried.append(changed)
        sizes = changed
    assert best is not None
    inputs = {tensor.name: best.shapes.get(tensor.name) for tensor in model.inputs}
    return ShapeInfo(best, inputs, best_sizes)


def _trouble(sweep: Sweep) -> int:
    return len(sweep.symbols.conflicts) + len(sweep.symbols.remainders) + sweep.symbols.too_small


class ShapeInfo:
    """What `infer` found, by tensor name.

    Of a tensor inside a body it tells what holds in every round; where bodies share a name, what holds for all of them.

    Attributes:
        problems: nodes whose rule stumbled, as "node: reason" (their outputs are unknown or as declared).
        samples: symbolic input size -> its number in world 0 and in world 1.
    """

    def __init__(
        self, sweep: Sweep, inputs: Mapping[str, Shape | None], samples: Mapping[str, tuple[int, int]]
    ) -> None:
        self._sweep = sweep
        self._inputs = inputs
        self.problems: tuple[str, ...] = tuple(sweep.problems)
        self.samples: dict[str, tuple[int, int]] = dict(samples)

    def shape(self, name: str) -> tuple[Dim, ...] | None:
        """Return a tensor's shape, None when its rank is unknown; sizes known to vary are Syms."""
        return self._sweep.shapes.get(name)

    def elements(self, name: str) -> tuple[list[tuple[Dim, ...] | None], bool] | None:
        """Return the shapes of what a sequence (or optional) holds, and whether these are all; None when unknown.

        When they are not all, nobody knows how many there are, and the one shape listed is that of any of them.
        """
        found = self._sweep.sequences.get(name)
        return None if found is None else ([fact.shape for fact in found.facts], found.counted)

    def item(self, name: str, world: int = 0) -> tuple[tuple[int, ...], np.dtype[np.generic] | None] | None:
        """Return sizes and type that everything in a sequence has, None when they differ or are not known."""
        found = self._sweep.sequences.get(name)
        facts = () if found is None else found.facts
        if not facts or any(fact.shape is None or fact.shape != facts[0].shape for fact in facts):
            return None
        sizes = [sample_of(dim, world) for dim in facts[0].shape or ()]
        return None if None in sizes else (tuple(size or 0 for size in sizes), facts[0].dtype)

    def parts(self, name: str, world: int = 0) -> Parts | None:
        """Return sizes and type of each element of a sequence, None when their number or any size is not known."""
        found = self._sweep.sequences.get(name)
        if found is None or not found.counted:
            return None
        parts: list[tuple[tuple[int, ...], np.dtype[np.generic] | None]] = []
        for fact in found.facts:
            sizes = [None] if fact.shape is None else [sample_of(dim, world) for dim in fact.shape]
            if None in sizes:
                return None
            parts.append((tuple(size or 0 for size in sizes), fact.dtype))
        return tuple(parts)

    def dtype(self, name: str) -> np.dtype[np.generic] | None:
        """Return a tensor's element type (ml_dtypes for bf16, fp8 and the sub-byte types)."""
        return self._sweep.dtypes.get(name)

    def value(self, name: str) -> Array | None:
        """Return the value of at most 4096 elements of a tensor that does not hang on the contents of inputs.

        Elements that vary with the sizes of the inputs are Syms (integers) or Reals (floats); the array then has dtype
        object. None when the value is long, or when any element hangs on contents.
        """
        found = self._value(name)
        if found is None or found.dtype != object:
            return found
        for item in found.reshape(-1).tolist():
            if isinstance(item, (Sym, Real)) and None in item.sample:
                return None
        return found

    def sizes(self, name: str, world: int = 0) -> tuple[int, ...] | None:
        """Return a tensor's shape as numbers, in sample world 0 or 1; None when any of them is unknown."""
        shape = self._sweep.shapes.get(name)
        if shape is None:
            return None
        sizes = []
        for dim in shape:
            size = dim if isinstance(dim, int) else dim.sample[world]
            if size is None or size < 0:
                return None
            sizes.append(size)
        return tuple(sizes)

    def numbers(self, name: str, world: int = 0) -> Array | None:
        """Return a tensor's value as numbers, in sample world 0 or 1."""
        found = self._value(name)
        return None if found is None else in_world(found, world, self._sweep.dtypes.get(name))

    def sample_shapes(self, world: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the graph inputs in sample world 0 or 1; inputs of unknown rank are left out."""
        shapes = {}
        for name, shape in self._inputs.items():
            if shape is not None:
                shapes[name] = tuple(size or 0 for size in (sample_of(dim, world) for dim in shape))
        return shapes

    def _value(self, name: str) -> Array | None:
        sweep = self._sweep
        found = sweep.values.get(name)
        if found is None and name in sweep.stored:
            count = 1
            for dim in sweep.shapes[name]:
                count *= dim  # type: ignore[assignment]
            if count <= VALUE_LIMIT:
                found = sweep.values[name] = sweep.read(name)
        return found
