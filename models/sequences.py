"""Two synthetic tasks on which recurrent cells show what they remember, made from a seed.

`copying`: some symbols, a long blank, and a signal behind which the symbols are to be said again. `adding`: of a long
row of numbers two are marked, and their sum is asked for (Hochreiter and Schmidhuber, 1997; in the form of Arjovsky et
al. 2016). Each comes with what a cell without memory reaches at best.

    --data graphrewrite.models.sequences:copying        (inputs, labels) of 2000 rows with a blank of 30
    --data graphrewrite.models.sequences:adding         2000 rows of 50 numbers

The input is called `x`, [n, time, width], batch first.
"""

import math

import numpy as np
import numpy.typing as npt

from graphrewrite.errors import InvalidConfig

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]
SYMBOLS, SAID = 8, 10
"""How many symbols there are, and how many are to be remembered."""
ENTRIES = SYMBOLS + 2
"""Width of an input of `copying`: one hot, the symbols, then the blank, then the signal."""
BLANK = SYMBOLS


def copying(rows: int = 2000, delay: int = 30, seed: int = 0) -> tuple[dict[str, Floats], Numbers]:
    """Rows of symbols to repeat: inputs [n, delay + 20, 10] one hot, labels [n, delay + 20] of 9 classes.

    Ten of eight symbols, `delay` - 1 blanks, the signal, ten blanks; said is blank until the last ten steps.

    Raises:
        InvalidConfig: there is not a row, or no room for the signal.
    """
    if rows < 1 or delay < 1:
        raise InvalidConfig(
            f"copying(rows={rows}, delay={delay}) cannot be; both must be 1 or more; correct it"
        )
    rng = np.random.default_rng(seed)
    symbols = rng.integers(0, SYMBOLS, (rows, SAID))
    shown = np.full((rows, delay + 2 * SAID), BLANK)
    shown[:, :SAID] = symbols
    shown[:, SAID + delay - 1] = BLANK + 1
    said = np.full_like(shown, BLANK)
    said[:, -SAID:] = symbols
    return {"x": np.eye(ENTRIES, dtype=np.float32)[shown]}, said


def copying_floor(delay: int = 30) -> float:
    """Return the cross-entropy per step of always being sure of the blank, and guessing symbols: no memory."""
    return SAID * math.log(SYMBOLS) / (delay + 2 * SAID)


def adding(rows: int = 2000, length: int = 50, seed: int = 0) -> tuple[dict[str, Floats], Floats]:
    """Rows of numbers in [0, 1) beside marks: inputs [n, length, 2], labels [n] the sum of the two marked numbers.

    One mark is in each half.

    Raises:
        InvalidConfig: there is not a row, or no two halves.
    """
    if rows < 1 or length < 2:
        raise InvalidConfig(
            f"adding(rows={rows}, length={length}) cannot be; expected a row, of 2 or more; correct it"
        )
    rng = np.random.default_rng(seed)
    numbers, marks = rng.random((rows, length)), np.zeros((rows, length))
    half = length // 2
    places = np.stack([rng.integers(0, half, rows), rng.integers(half, length, rows)], axis=1)
    np.put_along_axis(marks, places, 1.0, axis=1)
    sums = (numbers * marks).sum(axis=1)
    return {"x": np.stack([numbers, marks], axis=2).astype(np.float32)}, sums.astype(np.float32)


ADDING_FLOOR = 1 / 6
"""The mean squared error of always saying 1: twice the variance of one number, 1/12."""
