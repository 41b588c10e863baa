"""Errors of rounded products against numbers worked out by hand, and against onnxruntime's integer kernels."""

from math import log10

import numpy as np
import pytest

from graphrewrite.data import ArraySource
from graphrewrite.data.accumulators import Extremes
from graphrewrite.ir import Builder
from graphrewrite.passes.quant import InsertQdq, products
from graphrewrite.passes.quant.calibrators.percentile import Percentile
from graphrewrite.passes.quant.grid import Floats
from graphrewrite.passes.quant.products import Products
from graphrewrite.pipeline import Context, Pipeline
from graphrewrite.runtime import run
from tests.passes.quant.nets import only


def weight(rows: list[list[float]]) -> Floats:
    """View [outputs, inputs] as one group of one position."""
    return np.array(rows)[None, :, None, :]


def test_the_error_is_what_a_coarse_step_takes_away() -> None:
    # The step is 255 / 255 = 1, so 0.5 becomes 0 and 2.25 becomes 2; weights of 127 steps are exact.
    known = np.array([[255.0, 0.5], [0.0, 2.25]])
    given = Products(known, [weight([[0.0, 127.0]])], InsertQdq())

    assert given.error(known, known, np.ones(2)) == pytest.approx(
        (127 * 0.5) ** 2 + (127 * 0.25) ** 2, rel=1e-6
    )
    # Divided by 255, the first channel leaves a step of 2.25 / 255: 0.5 is 56.67 steps, a third of one away.
    step = 2.25 / 255
    away = 127 * (57 * step - 0.5)
    assert given.error(known, known, np.array([255.0, 1.0])) == pytest.approx(away**2, rel=1e-4)


def test_a_row_beyond_the_range_is_clipped() -> None:
    known, held = np.array([[255.0]]), np.array([[300.0]])

    assert Products(known, [weight([[127.0]])], InsertQdq()).error(known, held, np.ones(1)) == pytest.approx(
        (127 * 45) ** 2, rel=1e-6
    )


def test_weights_are_rounded_as_the_step_says() -> None:
    known = np.array([[255.0, 0.0], [0.0, 255.0]])  # exact on the grid
    matrix = weight([[127.0, 0.5], [0.0, 0.75]])

    def error(step: InsertQdq) -> float:
        return Products(known, [matrix], step).error(known, known, np.ones(2))

    # 127 codes of 1: 0.5 becomes 0. With a scale for both rows, 0.75 becomes 1.
    assert error(InsertQdq()) == pytest.approx((255 * 0.5) ** 2, rel=1e-6)
    assert error(InsertQdq(per_channel=False)) == pytest.approx(255**2 * (0.5**2 + 0.25**2), rel=1e-6)
    few = Products(known, [weight([[127.0, 60.0]])], InsertQdq(weight_bits=2))
    assert few.error(known, known, np.ones(2)) > (255 * 20) ** 2  # three codes cannot hold both


def test_the_range_is_that_of_the_calibrator() -> None:
    rows = np.concatenate([np.linspace(0, 1, 2000), [100.0]])[:, None]
    given = rows[:-1], np.ones(1)

    def error(step: InsertQdq) -> float:
        return Products(rows, [weight([[1.0]])], step).error(rows, *given)

    assert error(InsertQdq(calibrator=Percentile(99.0))) < error(InsertQdq()) / 100


def test_errors_are_those_of_the_integer_kernels() -> None:
    b = Builder(opset=17, seed=1)
    x = np.random.default_rng(0).standard_normal((64, 12)).astype(np.float32)
    x[:, 5] *= 20
    matrix = b.rng.standard_normal((12, 7)).astype(np.float32)
    model = b.model(b.op("MatMul", b.input(["N", 12], "x"), b.constant(matrix)))
    step = InsertQdq(correct_bias=False)
    rounded = Pipeline((step,)).run(model, Context(data=ArraySource({"x": x}))).model

    exact, other = only(run(model, {"x": x})), only(run(rounded, {"x": x}))
    told = Products(x.astype(np.float64), [matrix.T.astype(np.float64)[None, :, None, :]], step)

    assert told.error(told.rows, told.rows, np.ones(12)) == pytest.approx(
        float(np.square(other - exact).sum()), rel=1e-3
    )


def test_the_smaller_gain_of_both_halves_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.array([[1.0], [2.0]])
    errors = {(1.0, 1.0): 100.0, (1.0, 2.0): 1.0, (2.0, 1.0): 80.0, (2.0, 2.0): 8.0}  # by range, by factor

    def error(self: Products, known: Floats, held: Floats, factors: Floats) -> float:
        assert known[0, 0] != held[0, 0]
        return errors[float(known[0, 0]), float(factors[0])]

    monkeypatch.setattr(products.Products, "error", error)

    def double(ends: Extremes) -> Floats:
        return np.full(len(ends.high), 2.0)

    assert Products(rows, [], InsertQdq()).gain(double) == pytest.approx(10 * log10(10))


def test_a_group_reads_its_own_channels() -> None:
    x = np.random.default_rng(0).standard_normal((32, 6))
    split = np.random.default_rng(1).standard_normal((3, 4, 5, 2))  # 3 groups of 2 channels, 5 positions

    whole = Products(x, [split], InsertQdq()).error(x, x, np.ones(6))

    by_hand = 0.0
    step = float(np.float32((x.max() - x.min()) / 255))
    zero = np.rint(-x.min() / step)
    kept = (np.clip(np.rint(x / step) + zero, 0, 255) - zero) * step
    for group in range(3):
        for output in range(4):
            filter_ = split[group, output]  # [positions, inputs]
            size = np.abs(filter_).max() / 127
            for position in range(5):
                part = slice(2 * group, 2 * group + 2)
                codes = np.rint(filter_[position] / size) * size
                by_hand += float(np.square(kept[:, part] @ codes - x[:, part] @ filter_[position]).sum())
    assert whole == pytest.approx(by_hand, rel=1e-3)
