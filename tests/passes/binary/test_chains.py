"""Where signs turn, read off a table of all sums."""

import numpy as np
import pytest

from graphrewrite.passes.binary.chains import Turn, turn

SUMS = np.arange(-3, 4)
ZERO = np.zeros(1, np.float32)
LOW, HIGH = np.iinfo(np.int32).min, np.iinfo(np.int32).max


def column(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None]


@pytest.mark.parametrize(
    ("values", "threshold", "flipped"),
    [
        (column(-3, -2, -1, 0, 1, 2, 3), 0, False),
        (column(-3, -2, -1, -0.5, 1, 2, 3), 1, False),
        (column(-1, 1, 1, 1, 1, 1, 1), -2, False),
        (column(-1, -1, -1, -1, -1, -1, 0), 3, False),
        (column(3, 2, 1, 0, -1, -2, -3), 0, True),  # reached by sums up to 0, so by negated sums from 0 up
        (column(3, 2, -1, -1, -1, -2, -3), 2, True),  # up to -2
        (column(1, 1, 1, 1, 1, 1, 1), LOW, False),
        (column(-1, -1, -1, -1, -1, -1, -1), HIGH, False),
        (column(np.nan, np.nan, -1, 0, 1, 1, 1), 0, False),
    ],
    ids=["up", "later", "first", "last", "down", "earlier-down", "always", "never", "no-number"],
)
def test_a_turn(values: np.ndarray, threshold: int, flipped: bool) -> None:
    found = turn(values, SUMS, ZERO)

    assert isinstance(found, Turn)
    assert (found.threshold.tolist(), found.flipped.tolist()) == ([threshold], [flipped])
    signs = np.where(flipped, -SUMS, SUMS) >= found.threshold[0]
    np.testing.assert_array_equal(signs, (values >= 0)[:, 0])


def test_more_than_one_turn_is_refused() -> None:
    assert turn(column(1, -1, -1, 1, 1, 1, 1), SUMS, ZERO) == "the sign behind it turns more than once"


def test_a_level_per_output() -> None:
    values = np.repeat(SUMS.astype(np.float32)[:, None], 3, axis=1)

    found = turn(values, SUMS, np.array([-1, 0.5, 9], np.float32))

    assert isinstance(found, Turn)
    assert found.threshold.tolist() == [-1, 1, HIGH]
