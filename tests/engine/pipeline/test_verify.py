"""The measure of error, by hand, and what it lets pass."""

import math

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from graphrewrite.ir import Builder
from graphrewrite.pipeline.verify import compare, is_random, not_finite, relative_error, tolerance

NAN, INF = math.nan, math.inf


def floats(*values: float) -> npt.NDArray[np.float32]:
    return np.array(values, np.float32)


CASES = [
    ("equal", floats(1, 2), floats(1, 2), 0.0),
    ("largest difference over largest value", floats(1, -4), floats(1.5, -3), 1 / 4),
    ("small values do not count relative to themselves", floats(1e-9, 4), floats(2e-9, 4), 2.5e-10),
    ("a reference of zeros is compared absolutely", floats(0, 0), floats(0, 0.5), 0.5),
    ("nothing to compare", floats(), floats(), 0.0),
    ("NaN at the same place", floats(NAN, 2), floats(NAN, 1), 0.5),
    ("NaN at another place", floats(NAN, 2), floats(2, NAN), INF),
    ("a new NaN", floats(1, 2), floats(1, NAN), INF),
    ("a lost NaN", floats(1, NAN), floats(1, 2), INF),
    ("the same infinity", floats(INF, 2), floats(INF, 2), 0.0),
    ("the other infinity", floats(INF, 2), floats(-INF, 2), INF),
    ("infinity is not NaN", floats(INF, 2), floats(NAN, 2), INF),
    ("nothing finite", floats(NAN, INF), floats(NAN, INF), 0.0),
    ("another shape", floats(1, 2), floats(1), INF),
    ("another type", floats(1, 2), np.array([1, 2], np.float64), INF),
    ("equal integers", np.array([1, 2]), np.array([1, 2]), 0.0),
    ("integers off by one", np.array([1000, 2]), np.array([1001, 2]), INF),
    ("booleans", np.array([True]), np.array([False]), INF),
    ("texts", np.array(["a"], object), np.array(["a"], object), 0.0),
    ("other texts", np.array(["a"], object), np.array(["b"], object), INF),
    (
        "bfloat16 is a float",
        floats(1, 2).astype(ml_dtypes.bfloat16),
        floats(1, 1).astype(ml_dtypes.bfloat16),
        0.5,
    ),
    ("complex", np.array([3 + 4j]), np.array([3 + 3j]), 0.2),
    ("a scalar", np.float32(2).reshape(()), np.float32(1).reshape(()), 0.5),
    ("float16 does not overflow", np.array([6e4, -6e4], np.float16), np.array([6e4, 6e4], np.float16), 2.0),
]


@pytest.mark.parametrize(
    ("one", "two", "error"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_relative_error(one: npt.NDArray[np.generic], two: npt.NDArray[np.generic], error: float) -> None:
    assert relative_error(one, two) == pytest.approx(error, rel=1e-6)


def test_an_output_only_one_side_has_is_infinitely_wrong() -> None:
    assert compare({"a": floats(1), "b": floats(1)}, {"a": floats(1)}) == {"a": 0.0, "b": INF}
    assert compare({"a": floats(1)}, {"a": floats(1), "b": floats(1)}) == {"a": 0.0, "b": INF}


def test_outputs_with_nan_or_infinity_are_named() -> None:
    outputs = {
        "good": floats(1),
        "bad": floats(1, NAN),
        "whole": np.array([1]),
        "text": np.array(["a"], object),
    }
    outputs["half"] = floats(INF).astype(ml_dtypes.bfloat16)

    assert not_finite(outputs) == {"bad", "half"}


@pytest.mark.parametrize(
    ("dtype", "allowed"), [(np.float32, 1e-4), (np.float16, 16 / 1024), (ml_dtypes.bfloat16, 16 / 128)]
)
def test_coarse_floats_get_a_few_units_of_their_last_place(dtype: npt.DTypeLike, allowed: float) -> None:
    b = Builder()
    model = b.model(b.relu(b.input(["N", 2], dtype=dtype)), dtypes=[dtype])

    assert tolerance(1e-4, model) == allowed


def test_a_cast_to_a_coarse_float_counts() -> None:
    b = Builder()
    half = b.op("Cast", b.input(["N", 2]), to=10)
    model = b.model(b.op("Cast", half, to=1))

    assert tolerance(1e-4, model) == 16 / 1024


def test_models_that_draw_numbers_are_recognised() -> None:
    b = Builder()
    x = b.input(["N", 2])
    assert not is_random(b.model(b.relu(x)))
    assert is_random(b.model(b.op("RandomNormalLike", x)))
