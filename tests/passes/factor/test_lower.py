"""Written-out layers become one node; what only resembles one stays."""

from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphrewrite.ir import Builder, Model, constant_value
from graphrewrite.passes.factor import Factorize, LowerWavelet
from graphrewrite.passes.factor.factorizations import factorizations
from graphrewrite.pipeline import Context, Pipeline

OPS = {"wavelet": "WaveletLinear", "hadamard": "HadamardLinear"}
SHAPES = [
    (["N", 32], 32, 32),
    (["N", "T", 24], 24, 32),
    (["N", 40], 40, 17),
    ([2, "T", 3, 33], 33, 33),
    ([20], 20, 20),
]


def written(name: str, shape: list[int | str], width: int, out: int, bias: bool = True) -> Model:
    """A layer as `Factorize` writes it, with a node behind it."""
    b = Builder(opset=18, seed=7)
    product = b.op("MatMul", b.input(shape, "x"), b.weight(width, out), name="layer")
    if bias:
        product = b.op("Add", product, b.constant(b.rng.standard_normal(out).astype(np.float32)), name="sum")
    model = b.model(b.relu(product))
    return Pipeline([Factorize(factorizations.make(name), smallest=0)]).run(model).model


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize(("shape", "width", "out"), SHAPES)
@pytest.mark.parametrize("bias", [True, False])
def test_a_written_out_layer_becomes_one_node(
    name: str, shape: list[int | str], width: int, out: int, bias: bool
) -> None:
    result = Pipeline([LowerWavelet()]).run(written(name, shape, width, out, bias))

    assert [node.op for node in result.model.nodes()] == [OPS[name], "Relu"]
    assert result.report.steps[0].verified.how == "same"
    node = result.model.nodes(OPS[name])[0]
    stored = constant_value(node.inputs[len(node.inputs) - 1])
    assert stored is not None and stored.shape == (out,) and bool(np.any(stored)) == bias


def test_a_bias_that_others_need_the_product_of_stays_outside() -> None:
    model = written("wavelet", ["N", 32], 32, 32)
    product = next(node for node in model.nodes("Add") if node.name == "sum").inputs[0]
    product.name = "seen"
    model.graph.outputs.append(product)
    product.dtype = np.dtype(np.float32)

    result = Pipeline([LowerWavelet()]).run(model)

    assert [node.op for node in result.model.nodes()] == ["WaveletLinear", "Add", "Relu"]


def _attribute(op: str, name: str, value: object) -> Callable[[Model], None]:
    def change(model: Model) -> None:
        model.nodes(op)[0].attrs[name] = value

    return change


def _numbers(op: str, index: int, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Model], None]:
    def apply(model: Model) -> None:
        node = model.nodes(op)[0]
        stored = constant_value(node.inputs[index])
        assert stored is not None
        node.inputs[index] = gs.Constant(f"{op}_changed", change(np.array(stored)))
        model.graph.initializers[f"{op}_changed"] = node.inputs[index]

    return apply


def _repeated(values: np.ndarray) -> np.ndarray:
    return np.where(values == 3, 4, values)


def _negated(values: np.ndarray) -> np.ndarray:
    values[0] = -values[0]
    return values


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("wavelet", _attribute("Conv", "pads", [5, 4])),
        ("wavelet", _attribute("ConvTranspose", "pads", [3, 3])),
        ("wavelet", _attribute("ConvTranspose", "pads", [4, 3])),
        ("wavelet", _numbers("Conv", 1, lambda values: values * 2)),
        ("wavelet", _numbers("ConvTranspose", 1, lambda values: values * 2)),
        ("wavelet", _numbers("Gather", 1, _repeated)),
        ("wavelet", _numbers("Slice", 1, lambda values: values * 0 + 1)),
        ("hadamard", _numbers("Gather", 1, _repeated)),
        ("hadamard", _numbers("MatMul", 1, _negated)),
    ],
)
def test_what_only_resembles_a_layer_stays(name: str, change: Callable[[Model], None]) -> None:
    model = written(name, ["N", 32], 32, 32)
    change(model)

    assert not LowerWavelet().run(model, Context()).changed


def test_an_old_operator_set_is_left_alone() -> None:
    b = Builder(opset=11)
    model = b.model(b.op("Mul", b.input(["N", 8], "x"), b.constant(np.ones(8, np.float32))))

    assert not Pipeline([LowerWavelet()]).run(model).changed
