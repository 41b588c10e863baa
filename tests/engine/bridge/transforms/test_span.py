"""Grids over a span: codes by hand, zero kept, running spans, and the gradient that passes."""

import numpy as np
import pytest
import torch

from graphrewrite.bridge.transforms import SpanQuantize
from graphrewrite.bridge.transforms.span import Watched
from graphrewrite.errors import InvalidConfig


def test_codes_are_those_worked_out_by_hand() -> None:
    # Two bits over [-1, 2]: step 1, zero is code 1. 0.4 and 0.6 go to 0 and 1.
    weight = np.array([-1.0, 0.4, 0.6, 2.0], np.float32)
    made = SpanQuantize(2)

    found = made.module(torch.tensor(weight))(torch.tensor(weight))

    assert found.tolist() == [-1.0, 0.0, 1.0, 2.0]
    lowered = made.lower(weight, {})
    assert lowered.weight is not None
    assert lowered.weight.tolist() == [0, 1, 2, 3] and lowered.weight.dtype == np.uint8


def test_zero_is_always_on_the_grid() -> None:
    weight = torch.tensor([[1.0, 2.0, 3.0], [-5.0, -4.0, -3.0], [0.0, 0.0, 0.0]])

    found = SpanQuantize(2, axis=0).module(weight)(torch.cat([weight, torch.zeros(3, 1)], dim=1))

    assert found.tolist() == [
        [1.0, 2.0, 3.0, 0.0],
        [-5.0, pytest.approx(-10 / 3), pytest.approx(-10 / 3), 0.0],
        [0.0] * 4,
    ]


def test_a_running_span_starts_with_the_first_batch_and_stands_still_after_its_share_of_steps() -> None:
    grid = SpanQuantize(4, watch=0.5).module(None)
    assert isinstance(grid, Watched)

    grid.advance(0.0)
    grid(torch.tensor([-1.0, 2.0]))
    assert (float(grid.low), float(grid.high)) == (-1.0, 2.0)
    grid(torch.tensor([0.0, 4.0]))
    assert (float(grid.low), float(grid.high)) == pytest.approx((-0.9, 2.2))
    for still in (lambda: grid.advance(0.5), grid.eval):
        still()
        grid(torch.tensor([-9.0, 9.0]))
        assert (float(grid.low), float(grid.high)) == pytest.approx((-0.9, 2.2))


def test_the_gradient_passes_also_where_something_is_cut_off() -> None:
    grid = SpanQuantize(2).module(None)
    grid(torch.tensor([0.0, 1.0]))
    grid.eval()
    x = torch.tensor([-3.0, 0.3, 7.0], requires_grad=True)

    y = grid(x)
    y.sum().backward()

    assert y.tolist() == pytest.approx([0.0, 1 / 3, 1.0])
    assert x.grad is not None and x.grad.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("fields", [{"bits": 1}, {"watch": 2.0}, {"kept": 1.0}], ids=str)
def test_settings_that_cannot_be_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(InvalidConfig):
        SpanQuantize(**fields)  # type: ignore[arg-type]
