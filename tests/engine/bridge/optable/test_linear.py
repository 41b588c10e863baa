"""Products of integers, all settings of Gemm, sums over named axes, patches, and tensors made from numbers."""

import itertools

import ml_dtypes
import numpy as np
import pytest
import torch
from onnx import numpy_helper

from graphrewrite.bridge import GraphModule
from graphrewrite.bridge.optable.fill import run_of
from graphrewrite.bridge.optable.linear import det
from graphrewrite.ir import Array, Builder
from tests.engine.bridge.nodes import agrees, by_reference

RNG = np.random.default_rng(0)


def drawn(*shape: int, dtype: object = np.float32) -> Array:
    return (RNG.standard_normal(shape) * 4).astype(dtype)  # type: ignore[call-overload]


@pytest.mark.parametrize("bias", [None, (), (1,), (4,), (3, 1), (3, 4)])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.5, 1.0), (1.0, -2.0), (2.0, 3.0)])
def test_gemm(bias: tuple[int, ...] | None, alpha: float, beta: float) -> None:
    for across, along, opset in itertools.product([0, 1], [0, 1], [7, 9, 13]):
        if bias is None and opset < 11:
            continue
        given = [drawn(*((5, 3) if across else (3, 5))), drawn(*((4, 5) if along else (5, 4)))]
        if bias is not None:
            given.append(drawn(*bias))
        settings = {"alpha": alpha, "beta": beta, "transA": across, "transB": along}
        assert agrees("Gemm", given, 1, settings, opset=opset)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.uint64])
def test_products_of_integers(dtype: type) -> None:
    rng = np.random.default_rng(1)
    given: list[Array] = [rng.integers(0, 200, shape).astype(dtype) for shape in ((3, 5), (5, 4), (4,))]
    a, b, c = given
    assert agrees("MatMul", [a, b], judge=by_reference)
    assert agrees("Gemm", [a, b.T, c], 1, {"transB": 1, "alpha": 2.0, "beta": 3.0}, judge=by_reference)
    assert agrees("Gemm", [a.T, b], 1, {"transA": 1}, judge=by_reference)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("bij, bjk -> bik", [(2, 3, 4), (2, 4, 5)]),
        ("ij,kj", [(3, 4), (2, 4)]),
        ("...ii->...i", [(2, 3, 3)]),
        ("bA,Ab->b", [(3, 4), (4, 3)]),
        ("i,j->ij", [(3,), (2,)]),
    ],
)
def test_einsum(equation: str, shapes: list[tuple[int, ...]]) -> None:
    assert agrees("Einsum", [drawn(*shape) for shape in shapes], 1, {"equation": equation}, opset=12)


def test_determinants_of_half_precision_are_computed_in_single() -> None:
    matrix = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float16, requires_grad=True)
    found = det(matrix)
    assert found.dtype == torch.float16 and abs(found.item() + 2) < 1e-2
    found.backward()
    assert matrix.grad is not None
    torch.testing.assert_close(
        matrix.grad.float(), torch.tensor([[4.0, -3.0], [-2.0, 1.0]]), atol=0.01, rtol=0
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"pads": [1, 0, 2, 1]},
        {"strides": [2, 1]},
        {"dilations": [1, 2], "pads": [0, 1, 0, 1], "strides": [1, 2]},
    ],
)
def test_patches_against_torch(settings: dict[str, list[int]], dtype: type) -> None:
    image, block = np.array([5, 6]), np.array([2, 3])
    pads = settings.get("pads", [0] * 4)
    steps = [
        (image[i] + pads[i] + pads[2 + i] - settings.get("dilations", [1, 1])[i] * (block[i] - 1) - 1)
        // settings.get("strides", [1, 1])[i]
        + 1
        for i in range(2)
    ]
    columns = drawn(2, 3 * 6, int(np.prod(steps)), dtype=dtype)
    assert agrees("Col2Im", [columns, image, block], 1, settings, opset=18, judge=by_reference)


@pytest.mark.parametrize(
    ("start", "limit", "delta", "dtype"),
    [
        (1, 10, 3, np.int64),
        (10, 1, -3, np.int32),
        (5, 5, 1, np.int16),
        (3, 0, 1, np.int64),
        (0.5, 3.0, 0.25, np.float32),
        (1.0, -1.0, -0.5, np.float64),
    ],
)
def test_runs_of_numbers(start: float, limit: float, delta: float, dtype: type) -> None:
    assert agrees("Range", [np.array(value, dtype) for value in (start, limit, delta)], opset=11)


def test_long_runs_of_half_precision_are_rounded_once() -> None:
    found = run_of(0, 2100, 1, torch.bfloat16, torch.zeros(0))
    assert len(found) == 2100 and found[-1] == torch.tensor(2099.0).bfloat16()
    assert run_of((0,), (3,), (1,), None, torch.zeros(0, dtype=torch.int32)).dtype == torch.int32


@pytest.mark.parametrize(
    "dtype", [np.float32, np.bool_, np.int8, np.uint16, np.float16, ml_dtypes.bfloat16, None]
)
@pytest.mark.parametrize("shape", [(2, 3), (0,), ()])
def test_tensors_of_one_value(dtype: type | None, shape: tuple[int, ...]) -> None:
    value = {} if dtype is None else {"value": numpy_helper.from_array(np.array([1]).astype(dtype))}
    sizes = np.asarray(shape, np.int64)
    assert agrees("ConstantOfShape", [sizes], 1, value, opset=20, judge=by_reference)


def test_what_is_made_from_sizes_follows_the_input() -> None:
    b = Builder(seed=0)
    x = b.input(["N", 3], "x")
    sizes = b.op("Shape", x)
    count = b.op("Gather", sizes, b.constant(np.array(0)))
    run = b.op("Range", b.constant(np.array(0)), count, b.constant(np.array(1)))
    ones = b.op("ConstantOfShape", sizes, value=np.ones(1, np.float32))
    module = GraphModule(b.model(run, ones))
    for size in (2, 5, 0):
        numbers, filled = module(torch.zeros(size, 3))
        assert numbers.tolist() == list(range(size)) and tuple(filled.shape) == (size, 3)
    assert "to_numbers" not in module.code  # no tensor is read on the way
