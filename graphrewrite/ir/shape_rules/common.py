"""What two facts about one tensor have in common: two rounds of a loop, two branches, two elements of a sequence."""

from functools import reduce
from typing import TYPE_CHECKING

from graphrewrite.ir.shape_rules.call import Elements, Fact
from graphrewrite.ir.symbols import Dim
from graphrewrite.ir.values import Array

if TYPE_CHECKING:
    from graphrewrite.ir.shape_rules.sweep import Sweep


def in_common(sweep: "Sweep", a: Fact, b: Fact) -> Fact:
    """Return what holds for a tensor that is either of two."""
    shape = None
    if a.shape is not None and b.shape is not None and len(a.shape) == len(b.shape):
        shape = tuple(
            x if same(x, y) else sweep.symbols.unknown() for x, y in zip(a.shape, b.shape, strict=True)
        )
    elements = either_elements(sweep, a.elements, b.elements)
    value = a.value if _equal(a.value, b.value) else None
    return Fact(shape, a.dtype if a.dtype == b.dtype else None, value, elements)


def either_elements(sweep: "Sweep", a: Elements | None, b: Elements | None) -> Elements | None:
    """Return what holds for a sequence that is either of two; None when one of them is not known."""
    if a is None or b is None:
        return None
    if a.counted and b.counted and len(a.facts) == len(b.facts):
        return Elements(tuple(in_common(sweep, x, y) for x, y in zip(a.facts, b.facts, strict=True)))
    return uncounted(sweep, Elements((*a.facts, *b.facts)))


def uncounted(sweep: "Sweep", elements: Elements) -> Elements:
    """Forget how many elements there are: one fact that holds for all of them, none while there never was any."""
    if not elements.facts:
        return Elements((), counted=False)
    return Elements((reduce(lambda x, y: in_common(sweep, x, y), elements.facts),), counted=False)


def same(x: Dim, y: Dim) -> bool:
    """Tell whether two sizes are certainly the same."""
    return x is y or (isinstance(x, int) and isinstance(y, int) and x == y)


def _equal(a: Array | None, b: Array | None) -> bool:
    """Whether two values are known to be the same, element by element."""
    if a is None or b is None or a is b:
        return a is b
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype != object:
        return bool((a == b).all())
    pairs = zip(a.reshape(-1).tolist(), b.reshape(-1).tolist(), strict=True)
    return all(x is y or (type(x) is type(y) is int and x == y) for x, y in pairs)
