"""Codes laid into bits, by hand and back through the operators that take them out."""

import numpy as np
import pytest

from graphrewrite.ir import Builder, Model
from graphrewrite.passes.factor.writer import Names, Writer
from graphrewrite.passes.quant.pack import pack, planes_of, unpacked
from graphrewrite.runtime import run


def test_a_code_of_four_bits_is_half_a_byte_the_first_in_front() -> None:
    (plane,) = pack(np.array([-8, 7, 0, -1, 1]), 4)

    np.testing.assert_array_equal(plane, [[0x0F], [0x87], [0x90]])


def test_three_bits_are_a_plane_of_two_and_one_of_one() -> None:
    assert planes_of(3) == [2, 1]

    high, low = pack(np.array([-4, -1, 0, 3]), 3)  # 000, 011, 100, 111

    np.testing.assert_array_equal(high, [[0b00_01_10_11]])
    np.testing.assert_array_equal(low, [[0b0101_0000]])


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7])
@pytest.mark.parametrize("shape", [(2, 8), (3, 5, 1, 7), (1,)])
def test_codes_come_back_as_they_were(bits: int, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(bits)
    codes = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), shape).astype(np.int8)

    np.testing.assert_array_equal(_through_a_graph(codes, bits), codes)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_odd_codes_come_back_too_in_as_many_bits(bits: int) -> None:
    codes = np.arange(1 - (1 << bits), 1 << bits, 2, dtype=np.int8)  # all there are
    planes = pack(codes, bits, apart=2)

    assert len(codes) == 1 << bits
    assert sum(map(len, planes)) == sum(map(len, pack(np.zeros(len(codes)), bits)))
    np.testing.assert_array_equal(_through_a_graph(codes, bits, planes, apart=2), codes)


def test_another_bit_gives_another_code() -> None:
    codes = np.arange(-8, 8, dtype=np.int8)
    planes = pack(codes, 4)
    planes[0][3, 0] ^= 1

    assert np.flatnonzero(_through_a_graph(codes, 4, planes) != codes).tolist() == [7]


def _through_a_graph(
    codes: np.ndarray, bits: int, planes: list[np.ndarray] | None = None, apart: int = 1
) -> np.ndarray:
    b = Builder(opset=13)
    x = b.input([1], "x", np.int8)
    model: Model = b.model(b.op("Identity", x), dtypes=[np.int8])
    writer = Writer(model, model.graph, "w", Names(model))
    made = unpacked(writer, pack(codes, bits) if planes is None else planes, bits, codes.shape, apart)
    made.dtype = np.dtype(np.int8)
    model.graph.nodes.extend(writer.made)
    model.graph.outputs.append(made)
    return np.asarray(run(model, {"x": np.zeros(1, np.int8)})[made.name])
