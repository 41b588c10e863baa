"""Rows that layers read, drawn from a sweep: times the weights they are what the layers give at the same places."""

from typing import Any

import numpy as np
import pytest

from graphrewrite.data import ArraySource, collect
from graphrewrite.errors import InvalidData
from graphrewrite.ir import Builder, Model
from graphrewrite.match.view import View
from graphrewrite.passes.quant import rows
from graphrewrite.passes.quant.grid import stored_weight
from graphrewrite.passes.quant.rows import Draw, Values
from graphrewrite.passes.quant.sites import Site, sites_of
from graphrewrite.passes.quant.write import Operand, Plan

CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "pads that differ, strides": {"pads": [1, 0, 2, 1], "strides": [2, 1]},
    "dilations, groups": {"dilations": [2, 3], "group": 2, "pads": [3, 3, 3, 3]},
    "depthwise": {"group": 4, "pads": [1, 1, 1, 1]},
    "same, odd pixel behind": {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    "same, odd pixel before": {"auto_pad": "SAME_LOWER", "strides": [2, 3]},
    "none": {"auto_pad": "VALID"},
}


def layer(attrs: dict[str, Any], sizes: tuple[int, ...] = (9, 8)) -> Model:
    b = Builder(opset=17, seed=5)
    x = b.input(["N", 4, *sizes], "x")
    group = attrs.get("group", 1)
    weight = b.weight(6 if group < 4 else 8, 4 // group, 3, *([2] if len(sizes) == 2 else []))
    return b.model(b.op("Conv", x, weight, b.weight(weight.shape[0]), **attrs))


def product(b: Builder, op: str) -> Model:
    x = b.input(["N", 5, 4] if op == "MatMul" else ["N", 4], "x")
    if op == "MatMul":
        return b.model(b.op("MatMul", x, b.weight(4, 7)))
    return b.model(b.op("Gemm", x, b.weight(7, 4), b.weight(7), transB=1))


def site_of(model: Model, axis: int) -> Site:
    """Return the one layer, its weight at the nearest codes."""
    view = View(model)
    weight = view.constant(view.graph.nodes[0].inputs[1])
    assert weight is not None
    (site,) = sites_of(view, Plan([Operand(0, 1, stored_weight(weight, axis, 4))], []))
    return site


def check(model: Model, axis: int, shape: tuple[int, ...]) -> None:
    """Compare rows times weights with what onnxruntime gives at the same places, in batches of 3, 3 and 2."""
    site, draw = site_of(model, axis), Draw(50, 3, seed=1)
    data = ArraySource({"x": np.random.default_rng(2).standard_normal((8, *shape)).astype(np.float32)})

    found = collect(
        model, data, {"x": site.reader.rows(draw), site.output: Values(draw, site.axis_of_outputs)}, batch=3
    )

    read = found["x"].result().reshape(-1, site.groups, site.in_steps.shape[2])
    given = found[site.output].result()
    weight = site.in_steps * site.steps[..., None]
    computed = np.einsum("rgi,goi->rgo", read, weight) + site.bias
    np.testing.assert_allclose(computed.reshape(given.shape), given, atol=1e-5)
    assert len(given) >= 40 or len(given) == 8 * np.prod(shape[:-1], initial=1)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_windows_of_a_convolution(name: str) -> None:
    check(layer(CONVOLUTIONS[name]), 0, (4, 9, 8))


def test_windows_over_one_axis() -> None:
    check(layer({"strides": [2], "pads": [1, 1]}, sizes=(11,)), 0, (4, 11))


@pytest.mark.parametrize("op", ["MatMul", "Gemm"])
def test_rows_of_a_product(op: str) -> None:
    check(
        product(Builder(opset=17, seed=5), op), 1 if op == "MatMul" else 0, (5, 4) if op == "MatMul" else (4,)
    )


def test_windows_that_begin_a_pixel_off_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = rows.Sliding.along

    def wrong(self: rows.Sliding, axis: int, size: int) -> tuple[int, int]:
        before, windows = right(self, axis, size)
        return before + 1, windows

    monkeypatch.setattr(rows.Sliding, "along", wrong)
    with pytest.raises(AssertionError):
        check(layer({}), 0, (4, 9, 8))


def test_codes_go_back_where_they_came_from() -> None:
    model = layer({"group": 2})
    site = site_of(model, 0)
    nearest = np.rint(site.in_steps)

    plan = site.replaced(Plan([Operand(0, 1, site.stored)], []), nearest, np.zeros_like(site.bias))

    steps = site.stored.steps[:, None, None, None]
    expected = np.rint(site.weight.astype(np.float32) / steps)
    np.testing.assert_array_equal(plan.operands[0].stored.codes, expected)


def test_the_same_places_are_drawn_every_time_and_others_from_another_batch() -> None:
    draw = Draw(40, 4, seed=3)

    assert draw.places(0, 100).tolist() == draw.places(0, 100).tolist() != draw.places(1, 100).tolist()
    assert len(set(draw.places(0, 100).tolist())) == 10 and len(draw.places(0, 7)) == 7


def test_a_sweep_without_data_has_no_rows() -> None:
    with pytest.raises(InvalidData, match="without data"):
        Values(Draw(1, 1, 0), -1).result()
