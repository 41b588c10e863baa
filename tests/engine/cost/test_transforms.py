"""What wavelet and Hadamard layers cost: counted by hand, not by their function bodies."""

import numpy as np
import pytest

from graphrewrite import cost
from graphrewrite.ir import Builder, Model
from graphrewrite.ir.custom import custom_node


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def layer(op: str, constants: list[np.ndarray], attributes: dict[str, int], rows: int) -> Model:
    b = Builder(opset=18)
    x = b.input([rows, len(constants[0])], "x")
    y = b.op("Identity", x)
    model = b.model(y)
    inputs = [x, *(b.constant(values) for values in constants)]
    made = custom_node(model, op, inputs, [y], attributes, "layer")
    model.graph.nodes[0].outputs.clear()
    model.graph.nodes = [made]
    return model


@pytest.mark.parametrize("rows", [1, 3])
def test_a_hadamard_layer_adds_and_subtracts(rows: int) -> None:
    constants = [ones(6), np.arange(8), ones(8), ones(5), ones(5)]
    table = cost.of(layer("HadamardLinear", constants, {}, rows))

    assert table.total("macs") == rows * (6 + 8 + 5)
    assert table.total("ops") == rows * 2 * 8 * 3


@pytest.mark.parametrize("rows", [1, 3])
def test_a_wavelet_layer_multiplies_by_its_filters(rows: int) -> None:
    # Two levels of four numbers: halves of 2 and 1, four coefficients. Down: 2 filters x 2 taps x 2 and x 1. Up: 2 taps
    # for each of 4 and of 2 numbers.
    constants = [ones(4), ones(2, 2), np.arange(4), ones(4), ones(2, 2), ones(3), ones(3)]
    table = cost.of(layer("WaveletLinear", constants, {"size": 4, "levels": 2}, rows))

    assert table.total("macs") == rows * (4 + 4 + 3 + 8 + 8 + 4 + 4)
