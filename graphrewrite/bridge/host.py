"""Arithmetic on sizes, done with Python's numbers instead of tensors.

Exported graphs compute shapes inside the graph: Shape, Gather, Mul, Concat, Reshape. As tensors these would wait for
the device and keep `torch.compile` from seeing through; as numbers they cost nothing and stay symbolic while tracing.
A number here is an int or a bool, a vector a tuple of them; nothing else is computed on the host.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias, cast

import numpy as np
import torch

from graphrewrite.ir import Array

Number: TypeAlias = int | bool
Numbers: TypeAlias = Number | tuple[Number, ...]


def shape(x: torch.Tensor, start: int = 0, end: int | None = None) -> tuple[int, ...]:
    """Return a tensor's sizes, or a run of them."""
    return tuple(x.shape)[start:end]


def size(x: torch.Tensor) -> int:
    """Return the number of elements."""
    return x.numel()


def gather(data: Numbers, indices: Numbers) -> Numbers:
    """Pick from a vector."""
    assert isinstance(data, tuple)
    return tuple(data[i] for i in indices) if isinstance(indices, tuple) else data[indices]


def concat(*parts: Numbers) -> Numbers:
    """Join vectors."""
    return tuple(number for part in parts for number in vector(part))


def slice_(
    data: Numbers, starts: Numbers, ends: Numbers, axes: Numbers | None = None, steps: Numbers = 1
) -> Numbers:
    """Cut a vector."""
    assert isinstance(data, tuple)
    (start,), (end,), (step,) = vector(starts), vector(ends), vector(steps)
    if step < 0 and end < -len(data):
        return data[start::step]
    return data[start:end:step]


def unsqueeze(data: Numbers, axes: Numbers = 0) -> Numbers:
    """Make a vector of one number."""
    return (data,) if not isinstance(data, tuple) else data


def squeeze(data: Numbers, axes: Numbers | None = None) -> Numbers:
    """Take the one number out of a vector."""
    return data[0] if isinstance(data, tuple) and len(data) == 1 else data


def reshape(data: Numbers, wanted: Numbers) -> Numbers:
    """Turn a number into a vector of one, or back."""
    sizes = vector(wanted)
    return vector(data) if sizes else vector(data)[0]


def same(data: Numbers) -> Numbers:
    """Return what came in."""
    return data


def add(a: Numbers, b: Numbers) -> Numbers:
    """Return a + b."""
    return _each(lambda x, y: x + y, a, b)


def sub(a: Numbers, b: Numbers) -> Numbers:
    """Return a - b."""
    return _each(lambda x, y: x - y, a, b)


def mul(a: Numbers, b: Numbers) -> Numbers:
    """Return a * b."""
    return _each(lambda x, y: x * y, a, b)


def div(a: Numbers, b: Numbers) -> Numbers:
    """Return a / b, cut towards zero as integers are divided in ONNX."""
    return _each(_quotient, a, b)


def mod(a: Numbers, b: Numbers) -> Numbers:
    """Return the remainder with the sign of b."""
    return _each(lambda x, y: x % y, a, b)


def largest(*values: Numbers) -> Numbers:
    """Return the largest of each place."""
    return _fold(lambda x, y: torch.sym_max(x, y), values)


def smallest(*values: Numbers) -> Numbers:
    """Return the smallest of each place."""
    return _fold(lambda x, y: torch.sym_min(x, y), values)


def negative(data: Numbers) -> Numbers:
    """Return -data."""
    return tuple(-x for x in data) if isinstance(data, tuple) else -data


def equal(a: Numbers, b: Numbers) -> Numbers:
    """Tell where two vectors agree."""
    return _each(lambda x, y: x == y, a, b)


def where(condition: Numbers, a: Numbers, b: Numbers) -> Numbers:
    """Choose between two vectors, number by number."""
    length = max(len(vector(value)) for value in (condition, a, b))
    chosen = tuple(
        x if c else y
        for c, x, y in zip(*(_spread(value, length) for value in (condition, a, b)), strict=True)
    )
    return chosen if any(isinstance(value, tuple) for value in (condition, a, b)) else chosen[0]


def product(data: Numbers, keepdims: bool) -> Numbers:
    """Multiply all numbers of a vector."""
    result = 1
    for number in vector(data):
        result = result * number
    return (result,) if keepdims else result


def total(data: Numbers, keepdims: bool) -> Numbers:
    """Add up all numbers of a vector."""
    result = sum(vector(data))
    return (result,) if keepdims else result


def filled(sizes: Numbers, value: Number = 0) -> Numbers:
    """Return a vector of one value; `sizes` is its length."""
    (length,) = vector(sizes)
    return (value,) * length


def part(data: Numbers, start: int, end: int) -> Numbers:
    """Return a run of a vector."""
    assert isinstance(data, tuple)
    return data[start:end]


def to_numbers(value: torch.Tensor) -> Numbers:
    """Read a tensor's numbers; this waits for the device."""
    return _nested(value.tolist())


def literal(array: Array) -> Numbers:
    """Return an array as nested tuples of Python numbers."""
    wide = array.astype(np.float64) if array.dtype.kind == "V" or array.dtype.name == "bfloat16" else array
    return _nested(wide.tolist())


def single(value: Numbers) -> Number:
    """Return the one number there is, which graphs give as a number or in vectors of one."""
    while isinstance(value, tuple):
        (value,) = value
    return value


def from_numbers(value: Numbers, dtype: torch.dtype, like: torch.Tensor) -> torch.Tensor:
    """Return numbers as a tensor on the device of `like`."""
    return torch.tensor(value, dtype=dtype, device=like.device)


def _nested(found: object) -> Numbers:
    return cast(Numbers, tuple(map(_nested, found)) if isinstance(found, list) else found)


def vector(value: Numbers) -> tuple[Number, ...]:
    """Return numbers as a vector; some graphs give one number where a vector is due."""
    return value if isinstance(value, tuple) else (value,)


def _spread(value: Numbers, length: int) -> tuple[Number, ...]:
    numbers = vector(value)
    return numbers * length if len(numbers) == 1 and length != 1 else numbers


def _each(what: Callable[[int, int], Number], a: Numbers, b: Numbers) -> Numbers:
    if not isinstance(a, tuple) and not isinstance(b, tuple):
        return what(a, b)
    length = max(len(vector(a)), len(vector(b)))
    return tuple(what(x, y) for x, y in zip(_spread(a, length), _spread(b, length), strict=True))


def _fold(what: Callable[[int, int], Number], values: tuple[Numbers, ...]) -> Numbers:
    result = values[0]
    for value in values[1:]:
        result = _each(what, result, value)
    return result


def _quotient(x: int, y: int) -> int:
    return x // y if (x >= 0) == (y > 0) else -(-x // y)


# Operators that may be computed on numbers when at least one input is made of numbers and the others are small
# constants: operator -> function of the inputs in order. Attributes are settled where the table is used.
HOST: Mapping[str, Callable[..., Numbers]] = {
    "Gather": gather,
    "Concat": concat,
    "Slice": slice_,
    "Unsqueeze": unsqueeze,
    "Squeeze": squeeze,
    "Reshape": reshape,
    "Identity": same,
    "Cast": same,
    "Add": add,
    "Sub": sub,
    "Mul": mul,
    "Div": div,
    "Mod": mod,
    "Max": largest,
    "Min": smallest,
    "Neg": negative,
    "Equal": equal,
    "Where": where,
    "ReduceProd": product,
    "ReduceSum": total,
    "ConstantOfShape": filled,
}
