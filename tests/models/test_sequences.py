"""The sequence tasks: what is shown, what is asked, and what a cell without memory reaches."""

import numpy as np
import pytest

from graphrewrite.errors import InvalidConfig
from graphrewrite.models.sequences import ADDING_FLOOR, adding, copying, copying_floor


def test_symbols_are_shown_then_blanks_a_signal_and_room_to_answer() -> None:
    inputs, said = copying(3, delay=5, seed=1)

    assert inputs["x"].shape == (3, 25, 10) and said.shape == (3, 25)
    shown = inputs["x"].argmax(axis=2)
    assert (inputs["x"].sum(axis=2) == 1).all()
    assert (shown[:, :10] < 8).all()
    assert (shown[:, 10:14] == 8).all() and (shown[:, 14] == 9).all() and (shown[:, 15:] == 8).all()
    np.testing.assert_array_equal(said[:, -10:], shown[:, :10])
    assert (said[:, :15] == 8).all()
    assert not np.array_equal(copying(3, 5, seed=2)[1], said)
    np.testing.assert_array_equal(copying(3, 5, seed=1)[1], said)


def test_guessing_symbols_costs_the_floor() -> None:
    _, said = copying(200, delay=7)
    # Sure of the blank, and an eighth for each symbol in the last ten steps.
    shares = np.where(np.arange(27) < 17, 1.0, 1 / 8)
    assert copying_floor(7) == pytest.approx(-np.log(shares).mean())
    assert (said[:, :17] == 8).all() and (said[:, 17:] < 8).all()


def test_two_numbers_are_marked_one_in_each_half() -> None:
    inputs, sums = adding(50, length=9, seed=3)

    x = inputs["x"]
    assert x.shape == (50, 9, 2) and x.dtype == np.float32
    assert (x[:, :4, 1].sum(axis=1) == 1).all() and (x[:, 4:, 1].sum(axis=1) == 1).all()
    np.testing.assert_allclose((x[..., 0] * x[..., 1]).sum(axis=1), sums, rtol=1e-6)


def test_saying_one_costs_the_floor_of_adding() -> None:
    _, sums = adding(20_000, length=4)

    assert float(((sums - 1) ** 2).mean()) == pytest.approx(ADDING_FLOOR, rel=0.03)


def test_tasks_that_cannot_be_are_refused() -> None:
    for make in (lambda: copying(0), lambda: copying(1, 0), lambda: adding(1, 1), lambda: adding(0)):
        with pytest.raises(InvalidConfig):
            make()
