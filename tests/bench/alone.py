"""Measurements on a shared machine: taken in moments in which nobody else wants a core."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tests.bench.common import tell

T = TypeVar("T")

_LOAD = Path("/proc/loadavg")
_NAP = 0.005  # seconds


class Patience:
    """So many seconds that may be spent on waiting for others, and on measurements that were spoilt by them."""

    def __init__(self, seconds: float = 3.0) -> None:
        self._left = seconds

    def alone(self, measure: Callable[[], T]) -> T:
        """Return a measurement before and after which no other process wanted a core; without patience left, any."""
        while True:
            while self._left > 0 and others():
                time.sleep(_NAP)
                self._left -= _NAP
            start = time.perf_counter()
            measured = measure()
            if self._left <= 0 or not others():
                return measured
            self._left -= time.perf_counter() - start
            if self._left <= 0:
                tell("others are at work, and patience is at its end: what follows is spoilt by them")


def others() -> bool:
    """Say whether another process is running or wants to right now; where the system does not tell, nobody is."""
    return _LOAD.is_file() and int(_LOAD.read_text().split()[3].partition("/")[0]) > 1
