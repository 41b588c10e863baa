"""The rules against a slow, obvious count: run the definition in loops and count every multiplication."""

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
import pytest

from graphrewrite import cost
from graphrewrite.ir import Builder


def conv_loops(
    sizes: tuple[int, int, int, int], out: int, kernel: int, group: int, stride: int, pad: int, dilation: int
) -> tuple[int, tuple[int, ...]]:
    """Count the products of a convolution tap by tap; padding is read like any other pixel."""
    batch, into, height, width = sizes
    reach = dilation * (kernel - 1) + 1
    high = (height + 2 * pad - reach) // stride + 1
    wide = (width + 2 * pad - reach) // stride + 1
    count = 0
    for _ in product(range(batch), range(out), range(high), range(wide)):
        for _ in product(range(into // group), range(kernel), range(kernel)):
            count += 1
    return count, (batch, out, high, wide)


CASES = [
    (sizes, out, kernel, group, stride, pad, dilation)
    for sizes in ((1, 4, 7, 6), (2, 6, 5, 5))
    for out in (6, 12)
    for kernel in (1, 3)
    for group in (1, 2)
    for stride in (1, 2)
    for pad in (0, 1)
    for dilation in (1, 2)
]


def modelled(case: tuple[tuple[int, int, int, int], int, int, int, int, int, int]) -> int:
    """Return what the table says about a one-node model of the same convolution."""
    sizes, out, kernel, group, stride, pad, dilation = case
    b = Builder()
    x = b.input(sizes)
    y = b.op(
        "Conv",
        x,
        b.weight(out, sizes[1] // group, kernel, kernel),
        group=group,
        strides=[stride] * 2,
        pads=[pad] * 4,
        dilations=[dilation] * 2,
    )
    return cost.of(b.model(y)).macs


@pytest.mark.parametrize("case", CASES, ids=str)
def test_convolutions_agree_with_loops(
    case: tuple[tuple[int, int, int, int], int, int, int, int, int, int],
) -> None:
    assert modelled(case) == conv_loops(*case)[0]


def test_the_loops_would_catch_a_rule_that_forgets_groups_or_strides() -> None:
    wrong: dict[str, Callable[[tuple[int, ...], int, int, int, tuple[int, ...]], int]] = {
        "groups": lambda sizes, out, kernel, group, shape: int(np.prod(shape)) * sizes[1] * kernel**2,
        "strides": lambda sizes, out, kernel, group, shape: (
            sizes[0] * out * sizes[2] * sizes[3] * sizes[1] // group * kernel**2
        ),
    }
    for rule in wrong.values():
        found = [rule(c[0], c[1], c[2], c[3], conv_loops(*c)[1]) == conv_loops(*c)[0] for c in CASES]
        assert not all(found)


class Counting:
    """A number that counts, in a shared tally, how often two of its kind are multiplied."""

    def __init__(self, tally: list[int]) -> None:
        self.tally = tally

    def __mul__(self, other: "Counting") -> "Counting":
        self.tally[0] += 1
        return self

    def __add__(self, other: object) -> "Counting":
        return self

    __radd__ = __add__


def counting(tally: list[int], *shape: int) -> np.ndarray:
    """Return an array of counting numbers."""
    array = np.empty(shape, dtype=object)
    for index in np.ndindex(*shape):
        array[index] = Counting(tally)
    return array


def transposed_loops() -> Iterator[tuple[int, int, int, int]]:
    """Yield (in, out, kernel, group) of small transposed convolutions."""
    yield from ((4, 6, 3, 1), (4, 6, 3, 2), (3, 5, 2, 1), (4, 4, 2, 4))


@pytest.mark.parametrize(("into", "out", "kernel", "group"), list(transposed_loops()))
def test_transposed_convolutions_agree_with_loops(into: int, out: int, kernel: int, group: int) -> None:
    count = 0
    for channel, _row, _column in product(range(into), range(3), range(4)):
        part = channel // (into // group)
        for target in range(out):
            if target // (out // group) == part:
                count += kernel * kernel
    b = Builder()
    x = b.input([1, into, 3, 4])
    y = b.op("ConvTranspose", x, b.weight(into, out // group, kernel, kernel), group=group, strides=[2, 2])
    assert cost.of(b.model(y)).macs == count


@pytest.mark.parametrize(
    ("left", "right"),
    [((2, 3), (3, 4)), ((2, 2, 3), (3, 4)), ((2, 1, 1, 3), (3, 3, 2)), ((3,), (3, 2)), ((4, 3), (3,))],
)
def test_matmul_agrees_with_counting_numbers(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    tally = [0]
    np.matmul(counting(tally, *left), counting(tally, *right))
    b = Builder()
    y = b.op("MatMul", b.input(left), b.input(right))
    assert cost.of(b.model(y)).macs == tally[0]


def test_an_lstm_agrees_with_counting_numbers() -> None:
    steps, batch, into, hidden = 3, 2, 4, 5
    tally = [0]
    w, r = counting(tally, 4 * hidden, into), counting(tally, 4 * hidden, hidden)
    for _ in range(steps):
        np.matmul(counting(tally, batch, into), w.T)
        np.matmul(counting(tally, batch, hidden), r.T)
    b = Builder()
    x = b.input([steps, batch, into])
    y = b.op("LSTM", x, b.weight(1, 4 * hidden, into), b.weight(1, 4 * hidden, hidden), hidden_size=hidden)
    assert cost.of(b.model(y)).macs == tally[0]


def test_attention_agrees_with_counting_numbers() -> None:
    batch, heads, queries, keys, width, out = 2, 2, 3, 4, 5, 6
    tally = [0]
    np.matmul(counting(tally, batch, heads, queries, width), counting(tally, batch, heads, width, keys))
    np.matmul(counting(tally, batch, heads, queries, keys), counting(tally, batch, heads, keys, out))
    b = Builder(opset=23, ir_version=11)
    shapes = [(batch, heads, queries, width), (batch, heads, keys, width), (batch, heads, keys, out)]
    y = b.op("Attention", *(b.input(shape) for shape in shapes))
    assert cost.of(b.model(y)).macs == tally[0]
